//! What the nodes of a running cluster have and say: their images, their readiness, their metrics.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::core::ObjectList;
use serde_json::Value;

use crate::addons::fingerprint;
use crate::cluster::Cluster;
use crate::layout::{machine_dir, node_name, state};
use crate::machine::{MachineFiles, in_network, running};
use crate::node::socket;
use crate::policy::TABLE;
use crate::process::{SHORT, run, wait_until};
use crate::tools::Programs;

/// Keeps an archive for the nodes that are off or not there yet.
pub(crate) fn keep_image(archive: &Path) -> Result<()> {
    let name = archive.file_name().with_context(|| format!("{} is not a file", archive.display()))?;
    let kept = state().join("images").join(name);
    if kept.exists() && fingerprint(&kept)? == fingerprint(archive)? {
        return Ok(());
    }
    if kept.exists() {
        fs::remove_file(&kept)?;
    }
    // A second name costs nothing; across file systems there is none.
    if fs::hard_link(archive, &kept).is_err() {
        fs::copy(archive, &kept).with_context(|| format!("cannot read {}", archive.display()))?;
        fs::File::open(&kept)?.set_modified(fs::metadata(archive)?.modified()?)?;
    }
    Ok(())
}

/// Gives a node every kept image that it does not have.
pub(crate) fn import_images(programs: &Programs, index: usize) -> Result<()> {
    let node = node_name(index);
    let pause = Duration::from_millis(20);
    wait_until("containerd", Duration::from_secs(30), pause, || {
        UnixStream::connect(socket(&node)).map(drop).with_context(|| {
            format!("it does not answer; its log is {}", MachineFiles::of(&node).log("containerd").display())
        })
    })?;
    let imported = machine_dir(&node).join("imported");
    fs::create_dir_all(&imported)?;
    let mut archives: Vec<PathBuf> =
        fs::read_dir(state().join("images"))?.flatten().map(|entry| entry.path()).collect();
    archives.sort();
    for archive in archives {
        let marker = imported.join(archive.file_name().unwrap_or_default());
        let fingerprint = fingerprint(&archive)?;
        if fs::read_to_string(&marker).is_ok_and(|known| known == fingerprint) {
            continue;
        }
        let mut ctr = Command::new(programs.path("ctr"));
        ctr.arg("--address").arg(socket(&node)).args(["--namespace", "k8s.io", "images", "import"]);
        run(ctr.arg(&archive), Duration::from_secs(120))
            .with_context(|| format!("cannot load the image {}", archive.display()))?;
        fs::write(&marker, fingerprint)?;
    }
    Ok(())
}

/// Whether every powered node says that it is Ready, and has said so since its machine was booted.
pub(crate) fn check_ready(cluster: &Cluster) -> Result<()> {
    let nodes: ObjectList<Node> = get(cluster, &["get", "nodes", "-o", "json"])?;
    let leases: ObjectList<Lease> = get(cluster, &["get", "leases", "-n", "kube-node-lease", "-o", "json"])?;
    let mut waiting = Vec::new();
    for index in (0..cluster.nodes()).filter(|&index| cluster.is_powered(index)) {
        let name = node_name(index);
        let ready = nodes.iter().find(|node| node.name_any() == name).is_some_and(is_ready);
        let renewed = leases
            .iter()
            .find(|lease| lease.name_any() == name)
            .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref())
            .map(|time| SystemTime::from(time.0));
        // An object may still praise a node that has died since.
        let booted = fs::metadata(MachineFiles::of(&name).pid())?.modified()?;
        if !ready || renewed.is_none_or(|renewed| renewed < booted) {
            waiting.push(name);
        }
    }
    ensure!(
        waiting.is_empty(),
        "not Ready: {}; see `kubectl describe nodes` and {}",
        waiting.join(", "),
        state().join("machines/*/log").display()
    );
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether every powered node has the rules that make its NetworkPolicies true.
pub(crate) fn check_policies(cluster: &Cluster) -> Result<()> {
    for index in (0..cluster.nodes()).filter(|&index| cluster.is_powered(index)) {
        let name = node_name(index);
        let pid = running(&cluster.cgroups, &name).with_context(|| format!("{name} went off"))?;
        let log = MachineFiles::of(&name).log("policy-enforcer");
        run(in_network(pid, "nft").args(["list", "table"]).args(TABLE.split(' ')), SHORT).with_context(
            || format!("the enforcer of {name} loaded no rules; its log is {}", log.display()),
        )?;
    }
    Ok(())
}

/// Whether the metrics API knows every powered node.
pub(crate) fn check_metrics(cluster: &Cluster) -> Result<()> {
    let answer =
        cluster.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", "--request-timeout=5s"])?;
    let list: Value = serde_json::from_str(&answer)?;
    let names: Vec<_> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    let missing = (0..cluster.nodes()).filter(|&index| cluster.is_powered(index)).map(node_name);
    match missing.into_iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => bail!("there are no metrics of {name} yet"),
        None => Ok(()),
    }
}

fn get<T: serde::de::DeserializeOwned>(cluster: &Cluster, arguments: &[&str]) -> Result<T> {
    serde_json::from_str(&cluster.kubectl(arguments)?).context("kubectl printed something else than JSON")
}
