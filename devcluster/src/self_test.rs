//! A whole life of a cluster: it works, it is broken in every way, it mends, it leaves nothing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tracing::info;

use crate::addons;
use crate::cluster::{Cluster, Options, Timings, leftovers};
use crate::layout::{node_address, node_name};
use crate::machine::memory;
use crate::process::wait_until;

const WORKLOADS: &str = include_str!("self_test/workloads.yaml");
const INGRESS_POLICY: &str = include_str!("self_test/ingress-policy.yaml");
const EGRESS_POLICY: &str = include_str!("self_test/egress-policy.yaml");
/// The port of every node under which the test's service is reachable from outside.
const NODE_PORT: u16 = 30080;
/// Enough for whatever Kubernetes has to notice or mend here.
const PATIENCE: Duration = Duration::from_secs(120);

/// One test cluster and what was measured in it.
struct SelfTest {
    cluster: Cluster,
    times: Vec<(&'static str, Duration)>,
}

/// Runs the test on a machine without a cluster; takes minutes.
pub(crate) fn run(nodes: usize) -> Result<()> {
    ensure!(nodes >= 2, "the test needs two nodes at least, to part them");
    let before = leftovers()?;
    ensure!(before.is_empty(), "a cluster is on this machine; stop it first (devcluster down): {before:?}");
    let options = Options { nodes, timings: Timings::Tuned };
    let started = Instant::now();
    let cluster = Cluster::start(options)?;
    let mut test = SelfTest { cluster, times: vec![("up", started.elapsed())] };
    test.workloads()?;
    test.idempotence(options)?;
    test.policies()?;
    test.network_cut()?;
    test.frozen()?;
    test.power()?;
    test.api_server()?;
    test.crash(options)?;
    let at_rest = test.memory_bytes();
    test.down()?;
    println!("\nAll of it works. Seen times:");
    for (what, time) in &test.times {
        println!("  {what:<44} {:>6.1} s", time.as_secs_f32());
    }
    println!("  memory of everything (proportional set size)  {} MiB", at_rest >> 20);
    Ok(())
}

impl SelfTest {
    /// A pod on every node; names, services, logs, storage and metrics from inside and outside.
    fn workloads(&mut self) -> Result<()> {
        self.timed("a pod on every node, a volume, all Ready", |test| {
            let image = addons::busybox_image()?.reference;
            test.cluster.kubectl_with_input(&["apply", "-f", "-"], &WORKLOADS.replace("${IMAGE}", &image))?;
            for workload in ["daemonset/web", "statefulset/store", "deployment/friend", "deployment/stranger"]
            {
                test.kubectl(&["rollout", "status", workload, "--timeout=120s"])?;
            }
            Ok(())
        })?;
        let pods = self.pods("app=web")?;
        ensure!(pods.len() == self.cluster.nodes(), "expected a web pod on every node, got {pods:?}");
        for pod in &pods {
            self.exec(pod, "nslookup web.self-test.svc.cluster.local").context("DNS from a pod")?;
            self.exec(pod, "timeout 5 wget -qO- http://web:8080/").context("a service from a pod")?;
            let log = self.kubectl(&["logs", pod])?;
            ensure!(log.contains("serving"), "the log of {pod} is {log:?}");
        }
        for index in 0..self.cluster.nodes() {
            let url = format!("http://{}:{NODE_PORT}/", node_address(index));
            fetch(&url).context("a node port from the host")?;
        }
        self.exec("store-0", "echo kept > /data/file")?;
        let pause = Duration::from_secs(1);
        wait_until("metrics of pods", PATIENCE, pause, || self.kubectl(&["top", "pods"]).map(drop))
    }

    /// A second start changes nothing.
    fn idempotence(&mut self, options: Options) -> Result<()> {
        let before = self.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?;
        self.timed("up of a running cluster", |_| Cluster::start(options).map(drop))?;
        let after = self.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?;
        ensure!(before == after, "a second start replaced pods");
        Ok(())
    }

    /// Policies allow what they say and deny the rest, on one node and between two, and probes go on.
    fn policies(&mut self) -> Result<()> {
        let ask = "timeout 3 wget -qO- http://store:8080/";
        for who in ["friend", "stranger"] {
            for pod in self.pods(&format!("app={who}"))? {
                self.exec(&pod, ask).with_context(|| format!("{pod} before there is a policy"))?;
            }
        }
        self.timed("a policy denies", |test| {
            test.cluster.kubectl_with_input(&["apply", "-f", "-"], INGRESS_POLICY)?;
            for pod in test.pods("app=stranger")? {
                test.wait_denied(&pod, ask)?;
            }
            Ok(())
        })?;
        for pod in self.pods("app=friend")? {
            self.exec(&pod, ask).with_context(|| format!("{pod} is allowed"))?;
        }
        ensure!(
            fetch_pod(&self.pod_address("store-0")?).is_err(),
            "the host's address is not allowed, but answers"
        );
        self.cluster.kubectl_with_input(&["apply", "-f", "-"], EGRESS_POLICY)?;
        for pod in self.pods("app=friend")? {
            self.wait_denied(&pod, ask)?;
            self.exec(&pod, "nslookup web.self-test.svc.cluster.local").context("DNS is allowed")?;
            self.exec(&pod, "timeout 3 wget -qO- http://web:8080/")
                .context("the named port of web is allowed")?;
        }
        let ready =
            self.kubectl(&["get", "pod", "store-0", "-o", "jsonpath={.status.containerStatuses[0].ready}"])?;
        ensure!(ready == "true", "kubelet's probes of the isolated pod fail");
        self.kubectl(&["delete", "networkpolicy", "--all"])?;
        for pod in self.pods("app in (friend, stranger)")? {
            let pause = Duration::from_millis(200);
            wait_until("the end of the policies", PATIENCE, pause, || self.exec(&pod, ask).map(drop))?;
        }
        Ok(())
    }

    fn network_cut(&mut self) -> Result<()> {
        let last = self.cluster.nodes() - 1;
        self.cluster.cut(last)?;
        self.timed("NotReady after a cut", |test| test.wait_node(last, "Unknown"))?;
        self.cluster.heal(last)?;
        self.timed("Ready after it is healed", |test| test.wait_node(last, "True"))
    }

    fn frozen(&mut self) -> Result<()> {
        let last = self.cluster.nodes() - 1;
        self.cluster.freeze(last)?;
        self.timed("NotReady after a freeze", |test| test.wait_node(last, "Unknown"))?;
        self.cluster.thaw(last)?;
        self.timed("Ready after the thaw", |test| test.wait_node(last, "True"))
    }

    /// A node with a volume loses its power; the pod comes back there with its data.
    fn power(&mut self) -> Result<()> {
        let home = self.kubectl(&["get", "pod", "store-0", "-o", "jsonpath={.spec.nodeName}"])?;
        let node = (0..self.cluster.nodes())
            .find(|&index| node_name(index) == home)
            .with_context(|| format!("store-0 is on {home:?}"))?;
        self.timed("power off", |test| test.cluster.power_off(node))?;
        self.timed("NotReady after power off", |test| test.wait_node(node, "Unknown"))?;
        self.timed("power on until Ready", |test| {
            test.cluster.power_on(node)?;
            test.cluster.wait_nodes_ready()
        })?;
        self.timed("its pod with its volume", Self::wait_store)?;
        self.cluster.wait_ready()
    }

    fn api_server(&mut self) -> Result<()> {
        let running = "jsonpath={.items[*].status.containerStatuses[*].containerID}";
        let before = self.kubectl(&["get", "pods", "-l", "app=web", "-o", running])?;
        self.cluster.kill_api_server()?;
        ensure!(
            self.kubectl(&["get", "pods", "--request-timeout=2s"]).is_err(),
            "a killed API server answers"
        );
        self.timed("API server started again", |test| test.cluster.start_api_server())?;
        self.cluster.wait_ready()?;
        let after = self.kubectl(&["get", "pods", "-l", "app=web", "-o", running])?;
        ensure!(before == after, "pods were touched: {before} became {after}");
        Ok(())
    }

    /// Every process dies at once; a start brings all of it back, with what was stored.
    fn crash(&mut self, options: Options) -> Result<()> {
        self.kill_everything();
        self.timed("up after a crash of everything", |_| Cluster::start(options).map(drop))?;
        self.wait_store()
    }

    fn down(&mut self) -> Result<()> {
        self.kill_everything();
        self.timed("down", |_| Cluster::stop())?;
        // The kernel takes dead namespaces apart a little later.
        let pause = Duration::from_millis(100);
        wait_until("nothing is left", Duration::from_secs(10), pause, || {
            let left = leftovers()?;
            ensure!(left.is_empty(), "left: {left:#?}");
            Ok(())
        })?;
        Cluster::stop().context("a stop without a cluster")
    }

    fn kill_everything(&self) {
        for machine in self.cluster.cgroups.machines() {
            for pid in self.cluster.cgroups.processes(&machine) {
                let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
        }
    }

    fn wait_store(&mut self) -> Result<()> {
        wait_until("the pod with the volume", PATIENCE, Duration::from_millis(300), || {
            let text = self.exec("store-0", "cat /data/file")?;
            ensure!(text.trim() == "kept", "its file says {text:?}");
            Ok(())
        })
    }

    /// Waits for what the API server says of a node's readiness.
    fn wait_node(&self, node: usize, wanted: &str) -> Result<()> {
        let name = node_name(node);
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        wait_until(&format!("{name} Ready={wanted}"), PATIENCE, Duration::from_millis(200), || {
            let status = self.kubectl(&["get", "node", &name, "-o", path])?;
            ensure!(status == wanted, "it is {status}");
            Ok(())
        })
    }

    fn wait_denied(&self, pod: &str, command: &str) -> Result<()> {
        wait_until(&format!("{pod} is denied"), PATIENCE, Duration::from_millis(100), || {
            match self.exec(pod, command) {
                Ok(answer) => bail!("it got {answer:?}"),
                Err(_) => Ok(()),
            }
        })
    }

    fn pods(&self, selector: &str) -> Result<Vec<String>> {
        let names =
            self.kubectl(&["get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"])?;
        ensure!(!names.trim().is_empty(), "there are no pods {selector}");
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    fn pod_address(&self, pod: &str) -> Result<String> {
        self.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
    }

    fn exec(&self, pod: &str, command: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", command])
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", "self-test"], arguments].concat())
    }

    fn memory_bytes(&self) -> u64 {
        let machines = self.cluster.cgroups.machines();
        machines.iter().map(|name| memory(&self.cluster.cgroups, name)).sum()
    }

    fn timed(&mut self, what: &'static str, action: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let started = Instant::now();
        action(self).context(what)?;
        info!("ok: {what} ({:.1} s)", started.elapsed().as_secs_f32());
        self.times.push((what, started.elapsed()));
        Ok(())
    }
}

fn fetch_pod(address: &str) -> Result<String> {
    fetch(&format!("http://{address}:8080/"))
}

/// A page from the host, tried a few times: a new service reaches the nodes a moment late.
fn fetch(url: &str) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let rest = url.strip_prefix("http://").context("only http")?;
    let (authority, path) = rest.split_once('/').context("a URL has a path")?;
    let address = authority.parse().with_context(|| format!("{authority} is not an address"))?;
    let mut last = None;
    for _ in 0..3 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                ensure!(text.contains(" 200 "), "{url} answers {text:?}");
                return Ok(text);
            }
            Err(error) => last = Some(error),
        }
        thread::sleep(Duration::from_millis(300));
    }
    bail!("{url} does not answer: {last:?}")
}
