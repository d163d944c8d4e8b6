//! Rolls: that work, that cannot, and that nobody watches over.

use anyhow::{Context, Result, ensure};

use super::{WITHIN, World, act::Act, square, wish};
use crate::{
    room::{Log, NAMESPACE, SYSTEM, Wish},
    scenarios::{change::scale_operator, install::OPERATOR_PODS},
};

pub(in crate::scenarios) async fn roll_moves_everybody_once(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    world.cluster.apply(&Wish { memory_limit: "192Mi", ..wish(world) }.manifest()).await?;
    rolled(world, "192Mi").await?;
    let (gone, nodes) = (act.gone(world).await?.len() as u64, world.square.nodes);
    ensure!(gone == nodes, "{gone} of {nodes} pods were replaced");
    act.end(world, "a roll of all nodes").await
}

/// Waits until all pods have this memory limit and serve.
async fn rolled(world: &World, limit: &str) -> Result<()> {
    world
        .cluster
        .until("all pods are of the new spec", WITHIN, || async {
            let pods = square(world).pods().await?;
            let new = |pod: &&serde_json::Value| {
                pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == limit
            };
            let (new, all) = (pods.iter().filter(new).count(), pods.len());
            Ok(if new == all && all as u64 == world.square.nodes {
                Ok(())
            } else {
                Err(format!("{new} of {all}"))
            })
        })
        .await?;
    square(world).wait_nodes(world.square.nodes, WITHIN).await
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
            let conditions = square(world).get().await?["status"]["conditions"].to_string();
            Ok(if conditions.contains("no-such-tag") { Ok(()) } else { Err(conditions) })
        })
        .await?;
    let room = square(world).get().await?;
    for condition in room["status"]["conditions"].as_array().context("no conditions")? {
        if condition["message"].as_str().is_some_and(|message| message.contains("no-such-tag")) {
            said = format!("{}: {}", condition["type"], condition["message"]);
        }
    }
    world.cluster.apply(&good.manifest()).await?;
    square(world).wait_nodes(world.square.nodes, WITHIN).await?;
    let gone = act.gone(world).await?;
    // A Deployment has one pod more meanwhile; a StatefulSet loses the one that is tried first.
    let tried = usize::from(world.square.log == Log::Replicated);
    ensure!(gone.len() <= tried, "pods that served went: {gone:?}");
    let found = act.end(world, "a bad image, and its undoing").await?;
    Ok(format!("{said}; {found}"))
}

pub(in crate::scenarios) async fn operator_is_away_in_a_roll(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    world.cluster.apply(&Wish { memory_limit: "160Mi", ..wish(world) }.manifest()).await?;
    let cluster = world.cluster.clone();
    cluster
        .until("the operator has handed the new spec on", WITHIN, || async {
            let deployment =
                cluster.json(&["get", "deployment", world.square.name, "--namespace", NAMESPACE]).await?;
            let template = &deployment["spec"]["template"]["spec"]["containers"][0];
            let handed = template["resources"]["limits"]["memory"] == "160Mi";
            Ok(if handed { Ok(()) } else { Err("not yet".into()) })
        })
        .await?;
    scale_operator(world, "0").await?;
    let gone = ["wait", "pod", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--for=delete"];
    cluster.kubectl(&[&gone[..], &["--timeout=60s"]].concat()).await?;
    let old = act.gone(world).await?.len() as u64;
    ensure!(old < world.square.nodes, "the roll was over before the operator had gone");
    let rollout =
        ["rollout", "status", "deployment", world.square.name, "--namespace", NAMESPACE, "--timeout=90s"];
    cluster.kubectl(&rollout).await?;
    let operators = ["get", "pods", "--namespace", SYSTEM, "--selector", OPERATOR_PODS, "--output", "name"];
    let operators = cluster.kubectl(&operators).await?;
    ensure!(operators.is_empty(), "an operator ran in the meantime: {operators}");
    scale_operator(world, "1").await?;
    rolled(world, "160Mi").await?;
    let found = act.end(world, "a roll without the operator").await?;
    Ok(format!("{old} pods had gone when the operator had; {found}"))
}
