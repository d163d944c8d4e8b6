//! A room of many nodes over one store, and what is done to it while people talk. Whoever's pod stays must not notice
//! more than a pause; whoever's pod goes comes back on another, and nothing is lost or doubled.

mod act;
mod change;
mod fault;
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
pub(super) use own_store::room_has_its_own_store;
pub(super) use scale::{autoscaler_scales, scaled_up_and_down};
pub(super) use store::{store_is_killed, strangers_are_kept_from_the_store};

/// The room with the store that the operator runs.
pub(super) const PLAZA: &str = "plaza";
/// Nodes that it has between the scenarios.
const NODES: u64 = 4;
const WITHIN: Duration = Duration::from_secs(90);

/// How clients behave, by the first part of their names.
const WRITER: Habits = Habits { sends_every: Some(PACE), resumes: true };
const READER: Habits = Habits { sends_every: None, resumes: true };
const STOCK: Habits = Habits { sends_every: Some(PACE), resumes: false };

fn plaza(world: &World) -> Room<'_> {
    world.room(NAMESPACE, PLAZA)
}

fn wish(world: &World) -> Wish {
    Wish { name: PLAZA, replicas: None, log: Log::ManagedStore, ..install::wish(world) }
}

async fn scale(world: &World, nodes: u64) -> Result<()> {
    let room = format!("chatroom/{PLAZA}");
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
    let cluster = world.cluster.clone();
    cluster.apply(&wish(world).manifest()).await?;
    scale(world, 2).await?;
    plaza(world).wait_nodes(2, WITHIN).await?;
    let room = plaza(world).get().await?;
    let durability = &room["status"]["guarantees"]["durability"];
    ensure!(durability == "LocalFsync", "the room over a managed store promises {durability}");
    let reached = condition(&room, "StoreReachable").map(|condition| condition.status);
    ensure!(reached.as_deref() == Some("True"), "StoreReachable is {reached:?}");
    visit(
        world,
        "strollers",
        &[&format!("{PLAZA}.{NAMESPACE}:6667"), "--channel", "#strollers"],
        End::Succeeded,
    )
    .await?;
    let mut people = gather(world, plaza(world)).await?;
    let found = people.check(Duration::from_secs(30)).await?;
    world.group = Some(people);
    Ok(found)
}

pub(super) async fn plaza_is_deleted(world: &mut World) -> Result<String> {
    world.group = None;
    super::change::delete_leaves_nothing(world, PLAZA).await
}
