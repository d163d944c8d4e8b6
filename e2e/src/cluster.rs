//! The cluster under test: the development cluster's command, kubectl, helm.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// A running development cluster.
#[derive(Clone)]
pub struct Cluster {
    devcluster: PathBuf,
    kubeconfig: String,
    path: String,
    pub nodes: usize,
}

impl Cluster {
    /// Starts the cluster, or goes on with the one that runs.
    pub async fn up(devcluster: &Path, nodes: usize) -> Result<Self> {
        let mut cluster = Self {
            devcluster: devcluster.to_owned(),
            kubeconfig: String::new(),
            path: env::var("PATH").unwrap_or_default(),
            nodes,
        };
        // The first start builds Kubernetes.
        cluster.devcluster_within(&["up", "--nodes", &nodes.to_string()], Duration::from_secs(3000)).await?;
        let script = r#"eval "$("$0" env)" && printf '%s\n%s\n' "$KUBECONFIG" "$PATH""#;
        let program = devcluster.to_string_lossy();
        let output = cluster.command("sh", &["-c", script, &program], "", Duration::from_secs(10)).await?;
        let mut lines = output.lines();
        cluster.kubeconfig = lines.next().context("`devcluster env` names no kubeconfig")?.to_owned();
        cluster.path = lines.next().context("`devcluster env` names no path")?.to_owned();
        Ok(cluster)
    }

    pub async fn devcluster(&self, args: &[&str]) -> Result<String> {
        self.devcluster_within(args, Duration::from_secs(180)).await
    }

    async fn devcluster_within(&self, args: &[&str], within: Duration) -> Result<String> {
        let program = self.devcluster.to_string_lossy().into_owned();
        self.command(&program, args, "", within).await
    }

    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.command("kubectl", args, "", Duration::from_secs(180)).await
    }

    /// A program of ours that talks to the cluster.
    pub async fn run(&self, program: &str, args: &[&str], within: Duration) -> Result<String> {
        self.command(program, args, "", within).await
    }

    /// kubectl with something to read, for as long as deleting may take.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        self.command("kubectl", args, input, Duration::from_secs(120)).await
    }

    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.command("kubectl", &["apply", "-f", "-"], manifest, Duration::from_secs(30)).await
    }

    /// What the API server says against a manifest.
    pub async fn refusal(&self, manifest: &str) -> Result<String> {
        match self.apply(manifest).await {
            Ok(_) => bail!("the API server took what it should refuse:\n{manifest}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.command("helm", args, "", Duration::from_secs(240)).await
    }

    pub async fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[args, &["--output", "json"]].concat()).await?;
        serde_json::from_str(&text).context("kubectl did not write JSON")
    }

    /// Builds an image from a static program and gives it to every node.
    pub async fn image(&self, name: &str, program: &Path, files: &[String]) -> Result<String> {
        let program = program.to_string_lossy();
        let mut args = vec!["image", "--name", name, "--binary", &program];
        for file in files {
            args.extend(["--file", file]);
        }
        let output = self.devcluster(&args).await?;
        Ok(output.lines().last().unwrap_or_default().trim().to_owned())
    }

    /// Builds the image of a store from the system's server and gives it to every node.
    pub async fn store_image(&self, server: &Path) -> Result<String> {
        let server = server.to_string_lossy();
        let args = ["image", "--name", "store", "--with-libraries", "--link", "bin/redis-server=/store"];
        let output = self.devcluster(&[&args[..], &["--binary", &server]].concat()).await?;
        Ok(output.lines().last().unwrap_or_default().trim().to_owned())
    }

    /// Asks again until the answer is yes; `what` is for the message when it does not come.
    pub async fn until<F>(&self, what: &str, within: Duration, mut ask: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<Result<(), String>>>,
    {
        let deadline = Instant::now() + within;
        loop {
            match ask().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(now)) if Instant::now() > deadline => {
                    bail!("{what}: not within {within:?}; now: {now}")
                }
                Err(error) if Instant::now() > deadline => return Err(error.context(what.to_owned())),
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Where a NodePort of this cluster answers: each Kubernetes node's address, those in `down` left out.
    pub fn node_ports(&self, port: u16, down: &[usize]) -> Vec<SocketAddr> {
        (0..self.nodes)
            .filter(|node| !down.contains(node))
            .map(|node| SocketAddr::new(node_address(node), port))
            .collect()
    }

    /// Starts a program of the cluster; it ends when it is dropped.
    pub fn spawn(&self, program: &str, args: &[&str]) -> Result<Child> {
        let found =
            env::split_paths(&self.path).map(|folder| folder.join(program)).find(|file| file.is_file());
        let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(program)));
        command.args(args).env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().with_context(|| format!("cannot start `{program} {}`", args.join(" ")))
    }

    async fn command(&self, program: &str, args: &[&str], input: &str, within: Duration) -> Result<String> {
        let text = || format!("{program} {}", args.join(" "));
        let mut child = self.spawn(program, args)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .await
                .with_context(|| format!("cannot write to `{}`", text()))?;
        }
        let output = timeout(within, child.wait_with_output())
            .await
            .with_context(|| format!("`{}` took longer than {within:?}", text()))?
            .with_context(|| format!("cannot wait for `{}`", text()))?;
        if !output.status.success() {
            bail!("`{}` failed: {}", text(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The development cluster's addresses (see its README).
fn node_address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 89, 0, u8::try_from(10 + node).expect("few nodes")))
}
