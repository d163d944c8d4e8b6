//! Things that break while people talk.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::World;
use crate::{
    group::Group,
    room::{NAME, NAMESPACE},
};

const RECOVERS_WITHIN: Duration = Duration::from_secs(90);

pub(super) fn group(world: &mut World) -> Result<&mut Group> {
    world.group.as_mut().context("nobody talks; an earlier scenario starts them")
}

/// After a fault: everybody reconnected, talks on, and every promise was kept.
pub(super) async fn recovered(world: &mut World, reconnects_before: usize) -> Result<String> {
    world.lounge().wait_ready(RECOVERS_WITHIN).await?;
    let group = group(world)?;
    group.progress(RECOVERS_WITHIN).await?;
    let found = group.check(RECOVERS_WITHIN).await?;
    ensure!(group.reconnects() > reconnects_before, "nobody lost a connection: the fault did not happen");
    Ok(found)
}

pub(super) async fn process_is_killed(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    let pod = world.lounge().pod().await?;
    let uid = pod["metadata"]["uid"].as_str().context("the pod has no uid")?.to_owned();
    let restarts = restarts(&pod);
    kill(&uid, "chat-node")?;
    world
        .cluster
        .until("the kubelet restarts the container", RECOVERS_WITHIN, || async {
            let pod = world.lounge().pod().await?;
            Ok(if self::restarts(&pod) > restarts { Ok(()) } else { Err("not restarted".into()) })
        })
        .await?;
    recovered(world, before).await
}

pub(super) fn restarts(pod: &serde_json::Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default()
}

/// Kills a program in a pod: the process that is called so and whose cgroup names the pod.
pub(super) fn kill(pod_uid: &str, program: &str) -> Result<()> {
    let process = process_of(pod_uid, program)?;
    let killed = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status()?;
    ensure!(killed.success(), "cannot kill process {process}");
    Ok(())
}

fn process_of(pod_uid: &str, program: &str) -> Result<u32> {
    let uid = pod_uid.replace('-', "_");
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let cgroup = read("cgroup");
        if (cgroup.contains(pod_uid) || cgroup.contains(&uid)) && read("comm").trim() == program {
            return Ok(process);
        }
    }
    anyhow::bail!("no process `{program}` of pod {pod_uid} runs")
}

pub(super) async fn pod_is_deleted(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    world.cluster.kubectl(&["delete", "pod", &format!("{NAME}-0"), "--namespace", NAMESPACE]).await?;
    recovered(world, before).await
}

pub(super) async fn kubernetes_node_is_powered_off(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    let node = world.lounge().pod_node().await?;
    world.cluster.devcluster(&["power-off", &node.to_string()]).await?;
    world
        .lounge()
        .wait_condition("Ready", "False", &[], RECOVERS_WITHIN)
        .await
        .context("the room says that it is not Ready while its only Kubernetes node is off")?;
    sleep(Duration::from_secs(2)).await;
    world.cluster.devcluster(&["power-on", &node.to_string()]).await?;
    recovered(world, before).await
}
