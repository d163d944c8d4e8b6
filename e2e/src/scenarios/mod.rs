//! What is done to the product, in order. Each scenario says what a person would notice; together they are a life of
//! a room: installed, refused nonsense, talked in, broken in every way, changed, deleted.

mod change;
mod disk;
mod fault;
mod install;
mod many;
mod refuse;
mod scope;
mod tls;
mod visitor;

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};

use crate::{
    cluster::Cluster,
    group::Group,
    room::{NAME, NAMESPACE, Room},
};

pub use many::{PLAZA, Pauses, Square};

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    pub operator: PathBuf,
    pub chat_node: PathBuf,
    /// The server of Valkey or Redis, as the system has it.
    pub store: PathBuf,
    /// The project's own commands.
    pub xtask: PathBuf,
}

/// What the scenarios share.
pub struct World {
    pub cluster: Cluster,
    pub programs: Programs,
    pub operator_image: String,
    pub node_image: String,
    pub store_image: String,
    /// What operations on rooms of many nodes cost people so far.
    pub pauses: Vec<Pauses>,
    /// The room of many nodes that people are in.
    pub square: Square,
    /// Clients that talk through everything that happens to the room.
    pub group: Option<Group>,
}

impl World {
    /// The room that people talk in.
    pub fn lounge(&self) -> Room<'_> {
        self.room(NAMESPACE, NAME)
    }

    pub fn room<'a>(&'a self, namespace: &'a str, name: &'a str) -> Room<'a> {
        Room { cluster: &self.cluster, namespace, name }
    }
}

macro_rules! scenarios {
    ($($module:ident::$name:ident $text:literal,)*) => {
        /// Every scenario: its name and what it shows.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $text)),*];

        async fn run_one(name: &str, world: &mut World) -> Result<String> {
            match name {
                $(stringify!($name) => $module::$name(world).await,)*
                _ => unreachable!("names come from ALL"),
            }
        }
    };
}

scenarios! {
    install::operator_waits_for_the_crd "the operator starts before the CRD is there, says so, and waits",
    install::operator_comes_by_helm "helm installs CRDs and operator; both become ready",
    refuse::nonsense_is_refused "invalid rooms are refused with words that say the fix",
    install::room_becomes_ready "a room is applied, becomes Ready, and people inside and outside talk",
    install::neighbours_are_kept_out "other pods reach the chat ports and not the admin port",
    fault::process_is_killed "kill -9 of the node's process: clients resume, nothing is lost or doubled",
    fault::pod_is_deleted "the pod is deleted: it drains, clients come back",
    fault::kubernetes_node_is_powered_off "the Kubernetes node loses power and comes back",
    change::settings_change "the topic is edited: the room has the new one",
    change::image_is_rolled "a new image is rolled under load",
    change::operator_dies_in_a_roll "the operator is killed while it rolls",
    change::bad_image_is_undone "a bad image is reported and undone by fixing the spec alone",
    change::edited_while_it_rolls "image and limits are edited twice in the middle of a roll: the last spec wins",
    disk::log_is_broken "a byte of the log rots while the pod is down: the room says which, and the restored file heals it",
    disk::volume_is_full "the volume is full: writes are refused, reading goes on, with space it goes on",
    scope::second_operator_is_refused "a second operator for the same rooms is told off and touches nothing",
    scope::namespace_has_its_own_operator "an operator of one namespace runs its rooms and no others, by helm and by manifest",
    tls::room_serves_over_tls "a room over TLS: it names the Secret it waits for, then serves IRC and the page with it",
    change::operator_is_not_needed "with the operator stopped people go on talking",
    change::room_is_deleted "delete leaves nothing",
    many::plaza_becomes_ready "a stateless room with a store of the operator's: people on all nodes talk",
    many::scaled_up_and_down "scaled from 2 to 8 and back: only clients of pods that go come back elsewhere",
    many::roll_moves_everybody_once "a roll of four nodes under load",
    many::bad_image_harms_nobody "a bad image is reported while all talk on, and undone",
    many::operator_is_away_in_a_roll "the operator is away throughout a roll",
    many::pods_are_killed "pods are killed at random",
    many::kubernetes_node_loses_power "a Kubernetes node loses power: its clients go on elsewhere before it is back",
    many::kubernetes_node_is_cut_off "a Kubernetes node is cut off and comes back",
    many::store_is_killed "the store is killed twice: nobody is cut off, nothing acknowledged is lost",
    many::api_server_is_down "the API server is down while people talk",
    many::autoscaler_scales "an autoscaler adds a node through /scale",
    many::strangers_are_kept_from_the_store "other pods do not reach the store",
    many::room_has_its_own_store "a room over somebody's store, with a password in a Secret",
    many::plaza_is_deleted "delete leaves nothing, the store's volume included",
    many::forum_becomes_ready "a stateful room of three nodes: people on all of them talk, and it says what it outlives",
    many::forum_loses_pods "pods of the stateful room are killed at random",
    many::forum_scales "the stateful room is scaled from 3 to 5 and back: members come, shards move, members go; two are too few",
    many::forum_is_rolled "a roll of the stateful room, one node at a time",
    many::forum_outlives_a_bad_image "a bad image costs the stateful room one pod, and is undone by the spec alone",
    many::forum_loses_a_kubernetes_node "a Kubernetes node of the stateful room loses power, and comes back",
    many::forum_without_the_api_server "people talk in the stateful room while the API server is down",
    many::forum_is_deleted "delete leaves nothing, the nodes' volumes included",
    install::existing_cluster_is_used "`xtask up` uses a cluster that is there, by its context",
}

/// Those that take long for what they show; they run when everything is asked for.
const LONG: [&str; 5] = [
    "namespace_has_its_own_operator",
    "kubernetes_node_is_cut_off",
    "autoscaler_scales",
    "forum_outlives_a_bad_image",
    "forum_without_the_api_server",
];

/// Images, CRDs and operator, for who measures.
pub async fn install(world: &mut World) -> Result<()> {
    install::operator_comes_by_helm(world).await.map(drop)
}

/// Runs them, or those that are named; the long ones where they are named or `full` is wanted. Prints a line each. Returns
/// how many passed and failed; the rest is not run after a failure, since each builds on what the earlier ones left.
pub async fn run(world: &mut World, only: &[String], full: bool) -> Result<(usize, usize)> {
    let known = |name: &str| ALL.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        bail!("there is no scenario {unknown}; there are {}", names.join(", "));
    }
    let chosen = |name: &str| match only {
        [] => full || !LONG.contains(&name),
        only => only.iter().any(|chosen| chosen == name),
    };
    if !only.is_empty() {
        // Whatever is among them finds its images.
        install::build_images(world).await?;
    }
    let mut passed = 0;
    for (name, text) in ALL.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("--- {name}: {text}");
        let start = Instant::now();
        match run_one(name, world).await {
            Ok(found) => {
                let seconds = start.elapsed().as_secs_f64();
                eprintln!("    ok in {seconds:.1} s{}{found}", if found.is_empty() { "" } else { ": " });
                passed += 1;
            }
            Err(error) => {
                eprintln!("    FAILED: {error:#}");
                look_around(world).await;
                return Ok((passed, 1));
            }
        }
    }
    Ok((passed, 0))
}

/// What helps to find out why.
async fn look_around(world: &World) {
    for args in [
        &["get", "chatrooms,pods,services,pvc", "--all-namespaces", "--output", "wide"][..],
        &["describe", "chatrooms", "--namespace", "e2e"],
        &["get", "events", "--namespace", "e2e", "--sort-by", ".lastTimestamp"],
        &[
            "logs",
            "--namespace",
            "chatroom-system",
            "--selector",
            "app.kubernetes.io/name=chatroom-operator",
            "--tail",
            "40",
        ],
        &["logs", "--namespace", "e2e", "--selector", "chatroom.dev/room", "--prefix", "--tail", "15"],
        &["logs", "--namespace", "e2e", "lounge-0", "--previous", "--tail", "20"],
    ] {
        let text = world.cluster.kubectl(args).await.unwrap_or_else(|error| format!("{error:#}"));
        eprintln!("\n    $ kubectl {}\n{text}", args.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_long_ones_exist() {
        for (at, (name, _)) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|(other, _)| other != name), "{name} is there twice");
        }
        for long in LONG {
            assert!(ALL.iter().any(|(name, _)| *name == long), "there is no scenario {long}");
        }
    }
}
