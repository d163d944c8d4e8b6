//! Things that people change while others talk.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::{
    World,
    fault::{group, recovered},
    install::{OPERATOR_PODS, wish},
};
use crate::{
    irc::Connection,
    room::{NAME, NAMESPACE, SYSTEM, Wish},
};

const WITHIN: Duration = Duration::from_secs(90);
/// Memory limit of the room after it was edited while it rolled.
const LAST_LIMIT: &str = "320Mi";

/// The wish as the last change left it.
pub(super) fn changed(world: &World) -> Wish {
    Wish { topic: "Changed".into(), replicas: Some(1), ..wish(world) }
}

pub(super) async fn settings_change(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    world.cluster.apply(&changed(world).manifest()).await?;
    let found = recovered(world, before).await?;
    let address = world.lounge().irc_addresses(&[]).await?[0];
    let mut connection = Connection::open(address, WITHIN).await?;
    connection.send("NICK curious").await?;
    connection.send("USER curious 0 * :Curious").await?;
    connection.wait_for(WITHIN, |line| line.verb == "376").await?;
    connection.send("TOPIC #lounge").await?;
    let topic = connection.wait_for(WITHIN, |line| matches!(line.verb.as_str(), "332" | "331")).await?;
    ensure!(topic.param(2) == "Changed", "the declared topic did not arrive: {topic:?}");
    Ok(found)
}

/// The same program with another file beside it: another image.
async fn another_image(world: &World, mark: &str) -> Result<String> {
    let file = std::env::temp_dir().join(format!("chatroom-e2e-{}-{mark}", std::process::id()));
    std::fs::write(&file, mark)?;
    let inside = format!("{}=/etc/mark", file.display());
    let image = world.cluster.image("chat-node", &world.programs.chat_node, &[inside]).await;
    std::fs::remove_file(&file)?;
    image
}

async fn runs(world: &World, image: &str) -> Result<()> {
    world
        .cluster
        .until("the pod runs the new image and is ready", WITHIN, || async {
            let pod = world.lounge().pod().await?;
            let now = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
            let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
            Ok(if now == image && ready { Ok(()) } else { Err(format!("{now}, ready: {ready}")) })
        })
        .await
}

pub(super) async fn image_is_rolled(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    world.node_image = another_image(world, "second").await?;
    world.cluster.apply(&changed(world).manifest()).await?;
    runs(world, &world.node_image).await?;
    recovered(world, before).await
}

pub(super) async fn operator_dies_in_a_roll(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    world.node_image = another_image(world, "third").await?;
    world.cluster.apply(&changed(world).manifest()).await?;
    // Soon enough that the roll has only begun.
    sleep(Duration::from_millis(300)).await;
    let selector = OPERATOR_PODS;
    world
        .cluster
        .kubectl(&[
            "delete",
            "pod",
            "--namespace",
            SYSTEM,
            "--selector",
            selector,
            "--grace-period=0",
            "--force",
        ])
        .await?;
    runs(world, &world.node_image).await?;
    recovered(world, before).await
}

/// Waits until the roll is under way: the old pod stops, or the new one is not ready yet.
async fn in_the_middle_of_a_roll(world: &World, image: &str) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while Instant::now() < deadline {
        let Ok(pod) = world.lounge().pod().await else { return Ok(()) };
        let stops = !pod["metadata"]["deletionTimestamp"].is_null();
        let comes = pod["spec"]["containers"][0]["image"] == image
            && pod["status"]["containerStatuses"][0]["ready"] != true;
        if stops || comes {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("no roll to {image} was seen: the edit would not have been in the middle of one")
}

pub(super) async fn edited_while_it_rolls(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    let first = another_image(world, "fourth").await?;
    let last = another_image(world, "fifth").await?;
    let uid = |pod: &serde_json::Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let old = uid(&world.lounge().pod().await?);
    world.cluster.apply(&Wish { image: first.clone(), ..changed(world) }.manifest()).await?;
    in_the_middle_of_a_roll(world, &first).await?;
    let limited = Wish { image: first.clone(), memory_limit: "300Mi", ..changed(world) };
    world.cluster.apply(&limited.manifest()).await?;
    in_the_middle_of_a_roll(world, &first).await?;
    world.node_image = last.clone();
    world.cluster.apply(&Wish { memory_limit: LAST_LIMIT, ..changed(world) }.manifest()).await?;
    runs(world, &last).await?;
    let found = recovered(world, before).await?;
    let pod = world.lounge().pod().await?;
    let limit = &pod["spec"]["containers"][0]["resources"]["limits"]["memory"];
    ensure!(limit == LAST_LIMIT, "the pod runs with the memory limit {limit}, not the last one");
    ensure!(uid(&pod) != old, "the pod was not replaced");
    Ok(found)
}

pub(super) async fn bad_image_is_undone(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    let bad = Wish { image: "localhost/chat/chat-node:no-such-tag".into(), ..changed(world) };
    world.cluster.apply(&bad.manifest()).await?;
    world.lounge().wait_condition("Ready", "False", &["no-such-tag"], WITHIN).await?;
    world.cluster.apply(&changed(world).manifest()).await?;
    recovered(world, before).await
}

pub(super) async fn scale_operator(world: &World, to: &str) -> Result<()> {
    let replicas = format!("--replicas={to}");
    let args = ["scale", "deployment/chatroom-operator", "--namespace", SYSTEM, &replicas];
    world.cluster.kubectl(&args).await.map(drop)
}

pub(super) async fn operator_is_not_needed(world: &mut World) -> Result<String> {
    scale_operator(world, "0").await?;
    let group = group(world)?;
    group.progress(WITHIN).await?;
    let found = group.check(WITHIN).await?;
    scale_operator(world, "1").await?;
    world.lounge().wait_ready(WITHIN).await?;
    Ok(found)
}

pub(super) async fn room_is_deleted(world: &mut World) -> Result<String> {
    world.group = None;
    delete_leaves_nothing(world, NAME).await
}

/// Deletes the last room of the namespace.
pub(super) async fn delete_leaves_nothing(world: &World, room: &str) -> Result<String> {
    world
        .cluster
        .kubectl(&["delete", "chatroom", room, "--namespace", NAMESPACE, "--wait", "--timeout=60s"])
        .await?;
    let kinds = "statefulsets,deployments,replicasets,pods,services,configmaps,serviceaccounts,networkpolicies,\
                 poddisruptionbudgets,persistentvolumeclaims,secrets,leases,horizontalpodautoscalers";
    world
        .cluster
        .until("nothing of the room is left", WITHIN, || async {
            let left =
                world.cluster.kubectl(&["get", kinds, "--namespace", NAMESPACE, "--output", "name"]).await?;
            // What Kubernetes itself puts into every namespace.
            let ours: Vec<&str> = left
                .lines()
                .filter(|name| !matches!(*name, "configmap/kube-root-ca.crt" | "serviceaccount/default"))
                .collect();
            Ok(if ours.is_empty() { Ok(()) } else { Err(ours.join(", ")) })
        })
        .await?;
    Ok(String::new())
}
