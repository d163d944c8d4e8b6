//! The store that the operator runs: killed, and knocked at by strangers.

use anyhow::{Context, Result, ensure};

use super::{PLAZA, WITHIN, World, act::Act, group, square};
use crate::{
    room::NAMESPACE,
    scenarios::{
        fault::{kill, restarts},
        visitor::{End, visit},
    },
};

/// The server's name as a process.
const SERVER: &str = "redis-server";

pub(in crate::scenarios) async fn store_is_killed(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    let refused = group(world)?.refused();
    let pod = store_pod(world).await?;
    kill(pod["metadata"]["uid"].as_str().unwrap_or_default(), SERVER)?;
    is_another(world, &pod).await?;
    let process = act.end(world, "the store's process is killed").await?;
    let of_process = group(world)?.refused() - refused;

    let act = Act::begin(world).await?;
    let pod = store_pod(world).await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let delete = ["delete", "pod", name, "--namespace", NAMESPACE, "--grace-period=0", "--force"];
    world.cluster.kubectl(&delete).await?;
    is_another(world, &pod).await?;
    let whole = act.end(world, "the store's pod is killed").await?;
    let of_pod = group(world)?.refused() - refused - of_process;
    Ok(format!("process, {of_process} refusals: {process}; pod, {of_pod} refusals: {whole}"))
}

async fn store_pod(world: &World) -> Result<serde_json::Value> {
    let pods = square(world).pods_of("chat-store").await?;
    pods.into_iter().next().context("the store has no pod")
}

/// Waits until the store is another one than it was, and ready.
async fn is_another(world: &World, was: &serde_json::Value) -> Result<()> {
    let life = |pod: &serde_json::Value| (pod["metadata"]["uid"].to_string(), restarts(pod));
    world
        .cluster
        .until("the store runs again", WITHIN, || async {
            let pod = store_pod(world).await?;
            let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
            Ok(if ready && life(&pod) != life(was) { Ok(()) } else { Err(format!("ready: {ready}")) })
        })
        .await
}

pub(in crate::scenarios) async fn strangers_are_kept_from_the_store(world: &mut World) -> Result<String> {
    let store = format!("{}-store.{NAMESPACE}:6379", PLAZA.name);
    let said = visit(world, "stranger", &[&store, "--timeout", "5"], End::Failed).await?;
    ensure!(said.contains("cannot connect"), "the store answered a pod that is none of its room's:\n{said}");
    Ok(String::new())
}
