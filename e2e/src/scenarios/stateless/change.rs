//! Rolls: that work, that cannot, and that nobody watches over.

use anyhow::{Context, Result, ensure};

use super::{NODES, PLAZA, WITHIN, World, act::Act, plaza, wish};
use crate::{
    room::{NAMESPACE, SYSTEM, Wish},
    scenarios::{change::scale_operator, install::OPERATOR_PODS},
};

pub(in crate::scenarios) async fn roll_moves_everybody_once(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    world.cluster.apply(&Wish { memory_limit: "192Mi", ..wish(world) }.manifest()).await?;
    rolled(world, "192Mi").await?;
    let gone = act.gone(world).await?.len() as u64;
    ensure!(gone == NODES, "{gone} of {NODES} pods were replaced");
    act.end(world, "a roll of 4 nodes").await
}

/// Waits until all pods have this memory limit and serve.
async fn rolled(world: &World, limit: &str) -> Result<()> {
    world
        .cluster
        .until("all pods are of the new spec", WITHIN, || async {
            let pods = plaza(world).pods().await?;
            let new = |pod: &&serde_json::Value| {
                pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == limit
            };
            let (new, all) = (pods.iter().filter(new).count(), pods.len());
            Ok(if new == all && all as u64 == NODES { Ok(()) } else { Err(format!("{new} of {all}")) })
        })
        .await?;
    plaza(world).wait_nodes(NODES, WITHIN).await
}

pub(in crate::scenarios) async fn bad_image_harms_nobody(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    let good = Wish { memory_limit: "192Mi", ..wish(world) };
    let bad = Wish { image: "localhost/chat/chat-node:no-such-tag".into(), ..good.clone() };
    world.cluster.apply(&bad.manifest()).await?;
    let mut said = String::new();
    world
        .cluster
        .until("the room says which image is missing", WITHIN, || async {
            let conditions = plaza(world).get().await?["status"]["conditions"].to_string();
            Ok(if conditions.contains("no-such-tag") { Ok(()) } else { Err(conditions) })
        })
        .await?;
    let room = plaza(world).get().await?;
    for condition in room["status"]["conditions"].as_array().context("no conditions")? {
        if condition["message"].as_str().is_some_and(|message| message.contains("no-such-tag")) {
            said = format!("{}: {}", condition["type"], condition["message"]);
        }
    }
    world.cluster.apply(&good.manifest()).await?;
    plaza(world).wait_nodes(NODES, WITHIN).await?;
    let gone = act.gone(world).await?;
    ensure!(gone.is_empty(), "pods that served went: {gone:?}");
    let found = act.end(world, "a bad image, and its undoing").await?;
    Ok(format!("{said}; {found}"))
}

pub(in crate::scenarios) async fn operator_is_away_in_a_roll(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    world.cluster.apply(&Wish { memory_limit: "160Mi", ..wish(world) }.manifest()).await?;
    let cluster = world.cluster.clone();
    cluster
        .until("the operator has handed the new spec on", WITHIN, || async {
            let deployment = cluster.json(&["get", "deployment", PLAZA, "--namespace", NAMESPACE]).await?;
            let template = &deployment["spec"]["template"]["spec"]["containers"][0];
            let handed = template["resources"]["limits"]["memory"] == "160Mi";
            Ok(if handed { Ok(()) } else { Err("not yet".into()) })
        })
        .await?;
    scale_operator(world, "0").await?;
    let gone = ["wait", "pod", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--for=delete"];
    cluster.kubectl(&[&gone[..], &["--timeout=60s"]].concat()).await?;
    let old = act.gone(world).await?.len() as u64;
    ensure!(old < NODES, "the roll was over before the operator had gone");
    let rollout = ["rollout", "status", "deployment", PLAZA, "--namespace", NAMESPACE, "--timeout=90s"];
    cluster.kubectl(&rollout).await?;
    let operators = ["get", "pods", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--output", "name"];
    let operators = cluster.kubectl(&operators).await?;
    ensure!(operators.is_empty(), "an operator ran in the meantime: {operators}");
    scale_operator(world, "1").await?;
    rolled(world, "160Mi").await?;
    let found = act.end(world, "a roll without the operator").await?;
    Ok(format!("{old} pods had gone when the operator had; {found}"))
}
