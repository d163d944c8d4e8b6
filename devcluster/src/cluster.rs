//! The cluster as a whole: starting, stopping, and breaking it on purpose.
//!
//! Every call blocks; from asynchronous code use a blocking task. Calls that change the cluster exclude each other,
//! across processes too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::addons::{self, Images};
use crate::cgroup::Cgroups;
use crate::layout::{
    CONTROL_PLANE, CONTROL_PLANE_ADDRESS, LAN, LOCK, MAX_NODES, STATE, kubeconfig, machine_dir, node_address,
    node_name, own_program, state,
};
use crate::lock::Lock;
use crate::machine::{self, MachineSpec};
use crate::process::{run, run_with_input, wait_until};
use crate::tools::Programs;
use crate::{control_plane, network, node, nodes, requirements};

/// What a wish for a cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// How many Kubernetes nodes, 1 to [`MAX_NODES`].
    pub nodes: usize,
    pub timings: Timings,
}

/// How soon Kubernetes notices and mends failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timings {
    /// A lost node is noticed after 8 s, its pods leave after 10 s more.
    Tuned,
    /// What Kubernetes does when nobody tells it: 50 s and 300 s.
    Defaults,
}

/// A cluster on this machine. Dropping it changes nothing; it runs until it is stopped.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) cgroups: Cgroups,
    pub(crate) programs: Programs,
}

impl Cluster {
    /// Starts a cluster, or repairs and completes the one that is there; returns when everything in it works.
    ///
    /// # Errors
    /// When something is missing on this machine, a build fails, or the cluster does not become ready in time; what
    /// was started stays for a look at the logs, and another start or stop goes on from there.
    pub fn start(options: Options) -> Result<Self> {
        ensure!(
            (1..=MAX_NODES).contains(&options.nodes),
            "a cluster has 1 to {MAX_NODES} nodes, not {}",
            options.nodes
        );
        requirements::ensure()?;
        let _lock = Lock::acquire()?;
        let programs = Programs::ensure()?;
        let images = addons::ensure_images(&programs)?;
        let cluster = Self { options, cgroups: Cgroups::detect()?, programs };
        if let Some(old) = saved_options()
            && old.nodes > options.nodes
        {
            bail!(
                "the cluster has {} nodes and cannot shrink to {}; stop it first",
                old.nodes,
                options.nodes
            );
        }
        cluster.install()?;
        cluster.start_machines(&images)?;
        info!("waiting for the API server");
        cluster.wait_for_api(Duration::from_secs(120))?;
        cluster.kubectl_with_input(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &addons::manifests(&images, options.nodes)?,
        )?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The cluster that runs on this machine.
    ///
    /// # Errors
    /// When there is none.
    pub fn running() -> Result<Self> {
        let options =
            saved_options().context("no cluster runs on this machine; start one with: devcluster up")?;
        Ok(Self { options, cgroups: Cgroups::detect()?, programs: Programs::cached()? })
    }

    /// Ends the cluster and removes everything that was made for it, also what a crash left.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn stop() -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("only root can stop a cluster");
        }
        let lock = Lock::acquire()?;
        let cgroups = Cgroups::detect()?;
        destroy_machines(&cgroups)?;
        cgroups.remove_root()?;
        network::disconnect_host()?;
        if state().exists() {
            fs::remove_dir_all(state()).with_context(|| format!("cannot remove {STATE}"))?;
        }
        lock.remove()
    }

    /// How many Kubernetes nodes the cluster has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.options.nodes
    }

    /// The administrator's kubeconfig file.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig()
    }

    /// The directories of kubectl, helm and ctr.
    #[must_use]
    pub fn path(&self) -> Vec<PathBuf> {
        let programs = ["kubectl", "helm", "ctr"].map(|name| self.programs.path(name));
        programs.iter().filter_map(|program| Some(program.parent()?.to_owned())).collect()
    }

    /// Runs kubectl as the administrator and returns what it printed.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "")
    }

    /// [`Self::kubectl`] with something to read, such as manifests.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.programs.path("kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig()).args(arguments);
        run_with_input(&mut command, input, Duration::from_secs(180))
    }

    /// Cuts a node's network, for everything but what runs on the node itself.
    ///
    /// # Errors
    /// When there is no such node or it is powered off.
    pub fn cut(&self, node: usize) -> Result<()> {
        self.set_link(node, false)
    }

    /// Undoes [`Self::cut`].
    ///
    /// # Errors
    /// When there is no such node or it is powered off.
    pub fn heal(&self, node: usize) -> Result<()> {
        self.set_link(node, true)
    }

    /// Stops every process of a node where it is; the network stays.
    ///
    /// # Errors
    /// When there is no such node or it is powered off.
    pub fn freeze(&self, node: usize) -> Result<()> {
        let _lock = Lock::acquire()?;
        self.cgroups.set_frozen(&self.running_node(node)?, true)
    }

    /// Undoes [`Self::freeze`].
    ///
    /// # Errors
    /// When there is no such node or it is powered off.
    pub fn thaw(&self, node: usize) -> Result<()> {
        let _lock = Lock::acquire()?;
        self.cgroups.set_frozen(&self.running_node(node)?, false)
    }

    /// Ends everything on a node at once. What it wrote to its disk stays, its mounts and its network go.
    ///
    /// # Errors
    /// When there is no such node, or its processes do not end.
    pub fn power_off(&self, node: usize) -> Result<()> {
        let _lock = Lock::acquire()?;
        self.cgroups.destroy(&self.known_node(node)?)
    }

    /// Boots a node that is powered off and returns when its daemons are started; Kubernetes needs a moment more,
    /// see [`Self::wait_ready`].
    ///
    /// # Errors
    /// When there is no such node or it does not boot.
    pub fn power_on(&self, node: usize) -> Result<()> {
        let _lock = Lock::acquire()?;
        self.known_node(node)?;
        let images = addons::ensure_images(&self.programs)?;
        let lan = machine::running(&self.cgroups, LAN)
            .context("the cluster's network is down; run: devcluster up")?;
        self.ensure_node(lan, node, &images)
    }

    /// A command that enters a node, to which the program and its arguments are added: it sees the node's network,
    /// processes and mounts, and what it mounts ends with the node.
    ///
    /// # Errors
    /// When there is no such node or it is powered off.
    pub fn command_on(&self, node: usize) -> Result<Command> {
        let name = self.running_node(node)?;
        let pid = machine::running(&self.cgroups, &name).with_context(|| format!("{name} went off"))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net", "--mount", "--pid", "--"]);
        Ok(command)
    }

    /// Whether a node's machine runs.
    #[must_use]
    pub fn is_powered(&self, node: usize) -> bool {
        machine::running(&self.cgroups, &node_name(node)).is_some()
    }

    /// Kills the API server; it stays down until [`Self::start_api_server`].
    ///
    /// # Errors
    /// When the control plane does not run or the process does not end.
    pub fn kill_api_server(&self) -> Result<()> {
        let _lock = Lock::acquire()?;
        machine::running(&self.cgroups, CONTROL_PLANE).context("the control plane does not run")?;
        machine::hold(CONTROL_PLANE, control_plane::API_SERVER)?;
        let pause = Duration::from_millis(20);
        wait_until("the end of the API server", Duration::from_secs(10), pause, || {
            ensure!(!api_port_answers(), "its port still answers");
            Ok(())
        })
    }

    /// Starts the API server again and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub fn start_api_server(&self) -> Result<()> {
        let _lock = Lock::acquire()?;
        machine::unhold(CONTROL_PLANE, control_plane::API_SERVER)?;
        self.wait_for_api(Duration::from_secs(60))
    }

    /// Gives an image archive (OCI layout or `docker save`) to every node, also to those that come later.
    ///
    /// # Errors
    /// When the archive cannot be read or a node refuses it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let _lock = Lock::acquire()?;
        nodes::keep_image(archive)?;
        self.on_every_node(|index| {
            if self.is_powered(index) { nodes::import_images(&self.programs, index) } else { Ok(()) }
        })
    }

    /// Waits until every powered node is Ready by fresh word of its kubelet, and DNS, storage and metrics work.
    ///
    /// # Errors
    /// With what is still missing, when that takes too long.
    pub fn wait_ready(&self) -> Result<()> {
        info!("waiting for {} nodes", self.options.nodes);
        self.wait_nodes_ready()?;
        let pause = Duration::from_millis(300);
        info!("waiting for DNS and storage");
        let [dns, storage, metrics] = addons::DEPLOYMENTS;
        self.wait_rolled_out(dns)?;
        self.wait_rolled_out(storage)?;
        wait_until("NetworkPolicies", Duration::from_secs(60), pause, || nodes::check_policies(self))?;
        wait_until("DNS", Duration::from_secs(30), pause, addons::check_dns)?;
        info!("waiting for metrics");
        self.wait_rolled_out(metrics)?;
        wait_until("metrics", Duration::from_secs(90), pause, || nodes::check_metrics(self))
    }

    fn wait_rolled_out(&self, (namespace, deployment): (&str, &str)) -> Result<()> {
        let name = format!("deployment/{deployment}");
        self.kubectl(&["-n", namespace, "rollout", "status", &name, "--timeout=120s"])
            .map(drop)
            .with_context(|| format!("the add-on {deployment} does not become ready"))
    }

    /// Waits until every powered node is Ready by fresh word of its kubelet.
    ///
    /// # Errors
    /// With the nodes that are not, when that takes too long.
    pub fn wait_nodes_ready(&self) -> Result<()> {
        let pause = Duration::from_millis(300);
        wait_until("all nodes Ready", Duration::from_secs(120), pause, || nodes::check_ready(self))
    }

    fn wait_for_api(&self, deadline: Duration) -> Result<()> {
        let pause = Duration::from_millis(100);
        wait_until("the API server", deadline, pause, || {
            ensure!(
                api_port_answers(),
                "its port does not answer; its logs are in {}",
                machine_dir(CONTROL_PLANE).join("log").display()
            );
            self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]).map(drop)
        })
    }

    /// Writes what the cluster is before anything of it runs, so that a crash finds its way back.
    fn install(&self) -> Result<()> {
        for dir in ["bin", "machines", "images", "pki"] {
            let dir = state().join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(state().join("pki"), fs::Permissions::from_mode(0o700))?;
        fs::write(state().join("cluster.json"), serde_json::to_string_pretty(&self.options)?)?;
        let program = program_file()?;
        if fs::canonicalize(&program)? != own_program() {
            // A running program cannot be overwritten, but its name can be given to another file.
            let part = own_program().with_extension("new");
            fs::copy(&program, &part).with_context(|| format!("cannot copy {}", program.display()))?;
            fs::rename(&part, own_program())?;
        }
        control_plane::ensure_credentials()?;
        for index in 0..self.options.nodes {
            node::ensure_credentials(index)?;
        }
        Ok(())
    }

    fn start_machines(&self, images: &Images) -> Result<()> {
        machine::load_kernel_modules();
        let lan = MachineSpec::bare(LAN, self.programs.root());
        let lan = match machine::running(&self.cgroups, LAN) {
            Some(pid) if machine::runs_spec(&lan) && network::host_link_exists() => {
                network::route_host(self.options.nodes)?;
                pid
            }
            _ => {
                // Every link of every machine ended with the bridge.
                destroy_machines(&self.cgroups)?;
                info!("starting the network, the control plane and {} nodes", self.options.nodes);
                let pid = machine::boot(&own_program(), &self.cgroups, &lan)?;
                network::connect_host(pid, self.options.nodes)?;
                pid
            }
        };
        let control_plane = control_plane::spec(&self.programs, self.options.timings);
        self.ensure_machine(lan, &control_plane, &CONTROL_PLANE_ADDRESS.to_string())?;
        for image in images.values() {
            nodes::keep_image(&image.archive)?;
        }
        self.on_every_node(|index| self.ensure_node(lan, index, images))
    }

    fn ensure_node(&self, lan: i32, index: usize, images: &Images) -> Result<()> {
        let pause = &images.get("pause").context("there is no pause image")?.reference;
        let spec = node::spec(&self.programs, index, self.options.timings, pause);
        self.ensure_machine(lan, &spec, &node_address(index).to_string())?;
        nodes::import_images(&self.programs, index)
    }

    /// Boots a machine, or undoes what was done to a running one.
    fn ensure_machine(&self, lan: i32, spec: &MachineSpec, address: &str) -> Result<()> {
        let name = &spec.name;
        if machine::running(&self.cgroups, name).is_some() && machine::runs_spec(spec) {
            self.cgroups.set_frozen(name, false)?;
            network::set_link(lan, name, true)?;
        } else {
            let pid = machine::boot(&own_program(), &self.cgroups, spec)?;
            network::connect(lan, name, pid, address)?;
        }
        for daemon in &spec.daemons {
            machine::unhold(name, &daemon.name)?;
        }
        machine::release(name)
    }

    fn on_every_node(&self, action: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let action = &action;
            let threads: Vec<_> =
                (0..self.options.nodes).map(|index| scope.spawn(move || action(index))).collect();
            for (index, thread) in threads.into_iter().enumerate() {
                let result = thread.join().unwrap_or_else(|_| bail!("a thread panicked"));
                result.with_context(|| format!("on {}", node_name(index)))?;
            }
            Ok(())
        })
    }

    fn set_link(&self, node: usize, up: bool) -> Result<()> {
        let _lock = Lock::acquire()?;
        let name = self.running_node(node)?;
        let lan = machine::running(&self.cgroups, LAN)
            .context("the cluster's network is down; run: devcluster up")?;
        network::set_link(lan, &name, up)
    }

    fn known_node(&self, node: usize) -> Result<String> {
        ensure!(
            node < self.options.nodes,
            "there is no node{node}; the cluster has node0 to node{}",
            self.options.nodes - 1
        );
        Ok(node_name(node))
    }

    fn running_node(&self, node: usize) -> Result<String> {
        let name = self.known_node(node)?;
        ensure!(self.is_powered(node), "{name} is powered off; start it with: devcluster power-on {node}");
        Ok(name)
    }
}

fn destroy_machines(cgroups: &Cgroups) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            cgroups.machines().into_iter().map(|name| scope.spawn(move || cgroups.destroy(&name))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

fn saved_options() -> Option<Options> {
    serde_json::from_str(&fs::read_to_string(state().join("cluster.json")).ok()?).ok()
}

fn api_port_answers() -> bool {
    let address = std::net::SocketAddr::from((CONTROL_PLANE_ADDRESS, crate::layout::API_PORT));
    std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
}

/// The `devcluster` program, which the machines run; this process may be a test or another command.
fn program_file() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let places = [Some(own.clone()), sibling(own.parent()), sibling(own.parent().and_then(Path::parent))];
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name == "devcluster") && path.is_file();
    places.into_iter().flatten().find(named).with_context(|| {
        format!(
            "the program devcluster is not beside {}; build it with: cargo build -p devcluster",
            own.display()
        )
    })
}

fn sibling(directory: Option<&Path>) -> Option<PathBuf> {
    directory.map(|directory| directory.join("devcluster"))
}

/// Everything of a cluster that is on this machine now; nothing after [`Cluster::stop`].
///
/// # Errors
/// When the machine cannot be asked.
pub fn leftovers() -> Result<Vec<String>> {
    let cgroups = Cgroups::detect()?;
    let mut found: Vec<String> =
        cgroups.leftovers().iter().map(|dir| format!("cgroup {}", dir.display())).collect();
    for path in [state(), Path::new(LOCK)] {
        if path.exists() {
            found.push(format!("file {}", path.display()));
        }
    }
    if network::host_link_exists() {
        found.push(format!("link {}", crate::layout::HOST_LINK));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    found.extend(mounts.lines().filter(|line| line.contains(STATE)).map(|line| format!("mount {line}")));
    let routes = run(Command::new("ip").args(["-4", "-o", "route", "show"]), crate::process::SHORT)?;
    found.extend(
        routes.lines().filter(|line| line.starts_with("10.244.")).map(|line| format!("route {line}")),
    );
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        // An ended process that waits to be reaped has no command any more.
        if command.contains(STATE) || command.contains(machine::TOOLS_MOUNT) {
            found.push(format!("process {} {command}", entry.file_name().display()));
        }
    }
    Ok(found)
}
