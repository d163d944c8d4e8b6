//! Rooms of many nodes, over one store or with the log in the nodes, and what is done to them while people talk. Whoever's pod
//! stays must not notice more than a pause; whoever's pod goes comes back on another, and nothing is lost or doubled.

mod act;
mod change;
mod fault;
mod forum;
mod own_store;
mod scale;
mod store;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    World,
    fault::group,
    install,
    visitor::{End, visit},
};
use crate::{
    client::{Habits, PACE},
    group::Group,
    places::Places,
    room::{Log, NAMESPACE, Room, Wish, condition},
};

pub use act::Pauses;
pub(super) use change::{bad_image_harms_nobody, operator_is_away_in_a_roll, roll_moves_everybody_once};
pub(super) use fault::{
    api_server_is_down, kubernetes_node_is_cut_off, kubernetes_node_loses_power, pods_are_killed,
};
pub(super) use forum::{
    forum_becomes_ready, forum_is_deleted, forum_is_rolled, forum_loses_a_kubernetes_node, forum_loses_pods,
    forum_outlives_a_bad_image, forum_scales, forum_without_the_api_server,
};
pub(super) use own_store::room_has_its_own_store;
pub(super) use scale::{autoscaler_scales, scaled_up_and_down};
pub(super) use store::{store_is_killed, strangers_are_kept_from_the_store};

/// A room of many nodes that people are in.
#[derive(Clone, Copy, Debug)]
pub struct Square {
    pub name: &'static str,
    pub log: Log,
    /// That it has between the scenarios; and at least and at most.
    pub nodes: u64,
    pub least: u64,
    pub most: u64,
    /// What coming to the most, and from there to the least, is called.
    pub growth: &'static str,
    pub shrinking: &'static str,
}

/// The room with the store that the operator runs.
pub const PLAZA: Square = Square {
    name: "plaza",
    log: Log::ManagedStore,
    nodes: 4,
    least: 2,
    most: 8,
    growth: "2 → 8 nodes",
    shrinking: "8 → 2 nodes",
};
/// The room whose nodes keep the log.
pub(super) const FORUM: Square = Square {
    name: "forum",
    log: Log::Replicated,
    nodes: 3,
    least: 3,
    most: 5,
    growth: "3 → 5 nodes",
    shrinking: "5 → 3 nodes",
};

const WITHIN: Duration = Duration::from_secs(90);

/// How clients behave, by the first part of their names.
const WRITER: Habits = Habits { sends_every: Some(PACE), resumes: true };
const READER: Habits = Habits { sends_every: None, resumes: true };
const STOCK: Habits = Habits { sends_every: Some(PACE), resumes: false };

fn square(world: &World) -> Room<'_> {
    world.room(NAMESPACE, world.square.name)
}

fn wish(world: &World) -> Wish {
    let Square { name, log, .. } = world.square;
    Wish { name, replicas: None, log, ..install::wish(world) }
}

async fn scale(world: &World, nodes: u64) -> Result<()> {
    let room = format!("chatroom/{}", world.square.name);
    let replicas = format!("--replicas={nodes}");
    world.cluster.kubectl(&["scale", &room, "--namespace", NAMESPACE, &replicas]).await.map(drop)
}

/// People of all kinds: led straight to pods, through the Service, with clients that resume and with such that do not.
async fn gather(world: &World, room: Room<'_>) -> Result<Group> {
    let pods = Places::behind(&world.cluster, room.namespace, room.name);
    let service = Places::fixed(room.irc_addresses(&[]).await?);
    let mut group = Group::empty(pods.clone());
    group.join("reader", 2, &pods, READER);
    group.join("writer", 6, &pods, WRITER);
    group.join("stock", 3, &pods, STOCK);
    group.join("through", 2, &service, WRITER);
    group.progress(Duration::from_secs(30)).await?;
    Ok(group)
}

pub(super) async fn plaza_becomes_ready(world: &mut World) -> Result<String> {
    world.square = PLAZA;
    world.group = None;
    let cluster = world.cluster.clone();
    cluster.apply(&wish(world).manifest()).await?;
    scale(world, 2).await?;
    square(world).wait_nodes(2, WITHIN).await?;
    let room = square(world).get().await?;
    let durability = &room["status"]["guarantees"]["durability"];
    ensure!(durability == "LocalFsync", "the room over a managed store promises {durability}");
    let reached = condition(&room, "StoreReachable").map(|condition| condition.status);
    ensure!(reached.as_deref() == Some("True"), "StoreReachable is {reached:?}");
    visit(
        world,
        "strollers",
        &[&format!("{}.{NAMESPACE}:6667", PLAZA.name), "--channel", "#strollers"],
        End::Succeeded,
    )
    .await?;
    let mut people = gather(world, square(world)).await?;
    let found = people.check(Duration::from_secs(30)).await?;
    world.group = Some(people);
    Ok(found)
}

pub(super) async fn plaza_is_deleted(world: &mut World) -> Result<String> {
    world.group = None;
    super::change::delete_leaves_nothing(world, PLAZA.name).await
}
