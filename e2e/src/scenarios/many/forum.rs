//! The room whose nodes keep the log: what is done to every room of many nodes, and what only such a room promises.

use anyhow::{Context, Result, ensure};

use super::{FORUM, WITHIN, World, gather, square, wish};
use crate::{
    room::{NAMESPACE, Wish},
    scenarios::change::delete_leaves_nothing,
};

/// The room is where people are from now on.
fn enter(world: &mut World) {
    if world.square.name != FORUM.name {
        world.square = FORUM;
        world.group = None;
    }
}

pub(in crate::scenarios) async fn forum_becomes_ready(world: &mut World) -> Result<String> {
    world.square = FORUM;
    world.group = None;
    let cluster = world.cluster.clone();
    cluster.apply(&Wish { replicas: Some(3), ..wish(world) }.manifest()).await?;
    square(world).wait_nodes(FORUM.nodes, WITHIN).await?;
    promises(world, 1).await?;
    let mut people = gather(world, square(world)).await?;
    let found = people.check(std::time::Duration::from_secs(30)).await?;
    world.group = Some(people);
    Ok(found)
}

/// What the room says that it promises.
async fn promises(world: &World, tolerates: u64) -> Result<()> {
    let what = format!("the room outlives {tolerates} nodes, and says so");
    world
        .cluster
        .until(&what, WITHIN, || async {
            let room = square(world).get().await?;
            let guarantees = &room["status"]["guarantees"];
            let now = guarantees["tolerates"]["now"].as_u64();
            let kept = guarantees["durability"] == "QuorumFsync" && now == Some(tolerates);
            Ok(if kept { Ok(()) } else { Err(guarantees.to_string()) })
        })
        .await
}

pub(in crate::scenarios) async fn forum_loses_pods(world: &mut World) -> Result<String> {
    enter(world);
    let found = super::fault::pods_are_killed(world).await?;
    promises(world, 1).await?;
    Ok(found)
}

pub(in crate::scenarios) async fn forum_scales(world: &mut World) -> Result<String> {
    enter(world);
    let found = super::scale::scaled_up_and_down(world).await?;
    promises(world, 1).await?;
    let room = square(world).get().await?;
    let nodes = room["status"]["nodes"].as_array().context("no nodes in the status")?;
    ensure!(nodes.len() as u64 == FORUM.nodes, "the status tells of {} nodes", nodes.len());

    // Fewer than it needs to outlive one are not run; whoever wished for them is told, and not refused.
    let few = FORUM.nodes - 1;
    super::scale(world, few).await?;
    square(world).wait_condition("ScalingLimited", "True", &["3"], WITHIN).await?;
    let scale = ["get", "chatroom", FORUM.name, "--namespace", NAMESPACE, "--subresource=scale"];
    let scale = world.cluster.json(&scale).await?;
    ensure!(scale["spec"]["replicas"] == few, "the wish of {few} nodes is not what /scale says: {scale}");
    super::scale(world, FORUM.nodes).await?;
    square(world).wait_nodes(FORUM.nodes, WITHIN).await?;
    Ok(found)
}

pub(in crate::scenarios) async fn forum_is_rolled(world: &mut World) -> Result<String> {
    enter(world);
    super::change::roll_moves_everybody_once(world).await
}

pub(in crate::scenarios) async fn forum_outlives_a_bad_image(world: &mut World) -> Result<String> {
    enter(world);
    super::change::bad_image_harms_nobody(world).await
}

pub(in crate::scenarios) async fn forum_loses_a_kubernetes_node(world: &mut World) -> Result<String> {
    enter(world);
    let found = super::fault::kubernetes_node_loses_power(world).await?;
    promises(world, 1).await?;
    Ok(found)
}

pub(in crate::scenarios) async fn forum_without_the_api_server(world: &mut World) -> Result<String> {
    enter(world);
    super::fault::api_server_is_down(world).await
}

pub(in crate::scenarios) async fn forum_is_deleted(world: &mut World) -> Result<String> {
    world.group = None;
    delete_leaves_nothing(world, FORUM.name).await
}
