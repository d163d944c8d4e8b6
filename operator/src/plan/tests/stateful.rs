//! Stateful rooms of several nodes: beginning, growing, shrinking, rolling, losing.

use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

use super::{size, stateful};
use crate::{
    api::{Channel, DurationText, Retain},
    plan::Step,
    report::conditions::{self, find},
    testing::{Model, stateful_room},
};

fn started(replicas: i32) -> Model {
    let mut model = Model::new(stateful_room(replicas, 1));
    model.settle();
    assert_eq!(model.status().summary, "Serving", "{:#?}", model.status());
    model
}

fn scale(model: &mut Model, replicas: i32) {
    model.edit(|spec| spec.replicas = Some(replicas));
}

/// Pods that were not told to stop.
fn pods(model: &Model) -> Vec<String> {
    model.live().map(|pod| pod.metadata.name.clone().unwrap()).collect()
}

fn uids(model: &Model) -> Vec<String> {
    model.live().map(|pod| pod.metadata.uid.clone().unwrap()).collect()
}

fn members(model: &Model) -> Vec<String> {
    let mut names: Vec<_> = model.cluster.members.iter().map(|member| member.name.clone()).collect();
    names.sort();
    names
}

fn reason<'a>(model: &'a Model, type_: &str) -> Option<&'a str> {
    find(&model.status().conditions, type_).map(|condition| condition.reason.as_str())
}

fn message<'a>(model: &'a Model, type_: &str) -> &'a str {
    find(&model.status().conditions, type_).map_or("", |condition| condition.message.as_str())
}

#[test]
fn a_room_is_begun_by_the_first_of_its_nodes_once_all_are_there_and_it_is_written_down() {
    let mut model = Model::new(stateful_room(3, 1));
    model.reconcile();
    assert_eq!(model.room.spec.replicas, Some(3), "seeded with what its tolerance needs");
    model.kubernetes();
    let recorded = model.reconcile();
    assert_eq!((recorded.step, recorded.status), (None, true));
    let member = model.status().founding.as_ref().unwrap().member.clone();
    assert_eq!(member, model.cluster.disks["data-lounge-0"].member);
    assert!(model.status().cluster.is_none());
    let told = model.reconcile().step;
    assert!(
        matches!(told, Some(Step::TellFounder { pod, member: told, .. }) if pod == "lounge-0" && told == member)
    );
    model.settle();
    let status = model.status();
    assert_eq!(status.summary, "Serving");
    assert!(status.founding.is_none() && status.cluster.is_some());
    assert_eq!(members(&model), ["lounge-0", "lounge-1", "lounge-2"]);
    assert_eq!(
        json!(status.guarantees),
        json!({"order": "TotalPerChannel", "durability": "QuorumFsync", "tolerates": {"declared": 1, "now": 1}})
    );
    assert_eq!(status.nodes.iter().map(|row| row.leads.unwrap()).sum::<u16>(), 5);
    assert!(model.reconcile().none());
}

#[test]
fn a_node_that_is_silent_may_hold_the_room_and_is_waited_for() {
    let mut model = Model::new(stateful_room(3, 1));
    model.hosts_down = ["host-2".to_owned()].into();
    for _ in 0..5 {
        model.reconcile();
        model.kubernetes();
    }
    assert!(model.status().founding.is_none());
    assert_eq!(reason(&model, conditions::READY), Some(conditions::NODE_WAITING));
    model.hosts_down.clear();
    model.settle();
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn a_lost_status_is_found_again_in_the_volumes() {
    let mut model = started(3);
    let cluster = model.status().cluster.clone();
    model.room.status = None;
    model.settle();
    assert_eq!(model.status().cluster, cluster);
}

#[test]
fn a_room_made_anew_on_the_volumes_of_a_larger_one_has_its_nodes_back_before_they_leave() {
    let mut model = started(5);
    model.room.status = None;
    model.observed.objects.stateful_set = None;
    for pod in model.observed.pods.clone() {
        model.end_pod(&pod);
    }
    scale(&mut model, 3);
    model.settle();
    assert_eq!((pods(&model).len(), members(&model).len()), (3, 3));
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn a_room_whose_volumes_are_all_gone_is_not_begun_again() {
    let mut model = started(3);
    for ordinal in 0..3 {
        model.lose_disk(ordinal);
    }
    model.settle();
    assert_eq!(reason(&model, conditions::STALLED), Some(conditions::VOLUMES_LOST));
    let words = message(&model, conditions::READY);
    assert!(words.contains("all disks of the room") && words.contains("create it again"), "{words}");
    assert!(model.status().cluster.is_some() && model.status().founding.is_none());
}

#[test]
fn a_founder_that_is_gone_with_its_volume_is_not_replaced_by_another() {
    let mut model = Model::new(stateful_room(3, 1));
    model.reconcile();
    model.kubernetes();
    model.reconcile();
    assert!(model.status().founding.is_some());
    model.lose_disk(0);
    model.settle();
    assert_eq!(reason(&model, conditions::STALLED), Some(conditions::VOLUMES_LOST));
}

#[test]
fn a_room_whose_status_is_lost_while_all_are_silent_keeps_its_pods() {
    let mut model = started(5);
    model.hosts_down = (0..4).map(|host| format!("host-{host}")).collect();
    model.kubernetes();
    model.room.status = None;
    scale(&mut model, 3);
    model.reconcile();
    assert_eq!(model.observed.objects.stateful_set.as_ref().unwrap().spec.replicas, Some(5));
    model.hosts_down.clear();
    model.settle();
    assert_eq!((pods(&model).len(), model.status().summary.as_str()), (3, "Serving"));
}

#[test]
fn volumes_of_another_room_are_named() {
    let mut model = started(3);
    model.cluster.disks.get_mut("data-lounge-1").unwrap().cluster = "another".into();
    model.settle();
    assert_eq!(reason(&model, conditions::STALLED), Some(conditions::VOLUMES_MIXED));
    assert!(message(&model, conditions::READY).contains("another"), "{}", message(&model, conditions::READY));
}

#[test]
fn growing_is_done_when_every_node_is_a_member() {
    let mut model = started(3);
    let before = uids(&model);
    scale(&mut model, 5);
    model.reconcile();
    assert_eq!(reason(&model, conditions::READY), Some(conditions::SCALING));
    model.settle();
    assert_eq!((members(&model).len(), model.status().ready_replicas), (5, 5));
    assert_eq!(uids(&model)[..3], before);
}

#[test]
fn shrinking_orders_the_highest_out_one_after_the_other_and_pods_follow_their_members() {
    let mut model = started(5);
    scale(&mut model, 3);
    let mut ordered = Vec::new();
    for _ in 0..20 {
        if let Some(Step::RemoveMember { name, .. }) = model.reconcile().step {
            ordered.push(name);
        }
        model.kubernetes();
    }
    assert_eq!(ordered, ["lounge-4", "lounge-3"]);
    model.settle();
    assert_eq!(pods(&model), ["lounge-0", "lounge-1", "lounge-2"]);
    assert_eq!(model.observed.claims.len(), 5, "retained");
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn volumes_of_nodes_that_left_go_when_they_are_not_to_be_kept() {
    let mut model = started(5);
    stateful(&mut model, |stateful| stateful.storage.retain = Retain::Delete);
    scale(&mut model, 3);
    model.settle();
    assert_eq!(model.observed.claims.len(), 3);
}

#[test]
fn shrinking_waits_while_a_shard_is_not_whole_and_says_for_whom() {
    let mut model = started(5);
    model.hosts_down = ["host-1".to_owned()].into();
    model.kubernetes();
    model.kubernetes();
    scale(&mut model, 3);
    assert_eq!(model.reconcile().step, None);
    let words = message(&model, conditions::RECONCILING);
    assert!(words.contains("lounge-4 stays until it can be missed") && words.contains("lounge-1"), "{words}");
    model.hosts_down.clear();
    model.settle();
    assert_eq!(pods(&model).len(), 3);
}

#[test]
fn a_wish_that_is_taken_back_brings_back_who_was_leaving() {
    let mut model = started(5);
    scale(&mut model, 3);
    model.reconcile();
    model.kubernetes();
    scale(&mut model, 5);
    model.settle();
    assert_eq!((members(&model).len(), model.status().ready_replicas), (5, 5));
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn fewer_than_the_tolerance_needs_is_no_number() {
    let mut model = started(3);
    scale(&mut model, 1);
    model.settle();
    assert_eq!(pods(&model).len(), 3);
    let words = message(&model, conditions::SCALING_LIMITED);
    assert!(words.contains("spec.replicas is 1, 3 are run") && words.contains("nodeFailures 1"), "{words}");
}

#[test]
fn a_hand_that_takes_pods_away_is_undone_with_their_volumes() {
    let mut model = started(5);
    let mut set = model.observed.objects.stateful_set.as_deref().unwrap().clone();
    set.spec.replicas = Some(2);
    model.observed.objects.stateful_set = Some(set.into());
    model.kubernetes();
    model.kubernetes();
    model.settle();
    assert_eq!((pods(&model).len(), members(&model).len()), (5, 5));
}

#[test]
fn a_roll_takes_one_node_after_the_other_and_waits_until_each_is_back() {
    let mut model = started(3);
    let before = uids(&model);
    model.edit(|spec| spec.chat.motd = "Hello".into());
    // The model panics if a node is rolled while a shard is not whole.
    model.settle();
    assert!(uids(&model).iter().all(|uid| !before.contains(uid)));
    assert_eq!(model.status().summary, "Serving");
    let set = model.observed.objects.stateful_set.as_deref().unwrap();
    assert_eq!(crate::plan::rollout::partition(set), 3, "a hand on the template rolls nothing");
}

#[test]
fn a_bad_template_stops_at_one_node_and_is_undone_by_the_spec_alone() {
    for waits_for_bad_pods in [false, true] {
        let mut model = started(3);
        model.waits_for_bad_pods = waits_for_bad_pods;
        let before = uids(&model);
        model.edit(|spec| spec.node.image = Some("registry/bad:2".into()));
        model.settle();
        assert_eq!(uids(&model)[..2], before[..2]);
        let words = message(&model, conditions::RECONCILING);
        assert!(words.contains("registry/bad:2"), "{words}");
        assert_eq!(model.status().guarantees.as_ref().unwrap().tolerates.now, Some(0));
        assert!(model.status().guarantees.as_ref().unwrap().redundancy_lost_since.is_some());
        // A third one, which is good.
        model.edit(|spec| spec.node.image = Some("registry/good:3".into()));
        model.settle();
        assert_eq!(model.status().summary, "Serving");
        assert_eq!(members(&model).len(), 3);
    }
}

#[test]
fn a_room_that_began_with_a_bad_image_begins_with_a_good_one() {
    let mut model = Model::new(stateful_room(3, 1));
    model.waits_for_bad_pods = true;
    model.edit(|spec| spec.node.image = Some("bad:1".into()));
    model.settle();
    model.edit(|spec| spec.node.image = None);
    model.settle();
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn a_member_whose_volume_is_gone_makes_room_for_the_one_that_came_instead() {
    let mut model = started(3);
    let old = model.cluster.disks["data-lounge-1"].member.clone();
    model.lose_disk(1);
    model.settle();
    assert!(!model.cluster.members.iter().any(|member| member.id == old));
    assert_eq!((members(&model).len(), model.status().summary.as_str()), (3, "Serving"));
}

#[test]
fn a_node_on_a_kubernetes_node_that_is_off_is_replaced_after_a_minute_and_takes_its_place_again() {
    let mut model = started(3);
    model.hosts_down = ["host-1".to_owned()].into();
    model.settle();
    assert_eq!(members(&model).len(), 3, "it may be back in a moment");
    assert_eq!(model.status().guarantees.as_ref().unwrap().tolerates.now, Some(0));
    model.now += SignedDuration::from_secs(61);
    model.settle();
    assert_eq!(members(&model), ["lounge-0", "lounge-2", "lounge-3"]);
    let status = model.status();
    assert_eq!(status.guarantees.as_ref().unwrap().tolerates.now, Some(1), "whole again");
    assert_eq!(reason(&model, conditions::READY), Some(conditions::SERVING));
    model.hosts_down.clear();
    model.settle();
    assert_eq!(members(&model), ["lounge-0", "lounge-1", "lounge-2"]);
    assert_eq!((pods(&model).len(), model.status().summary.as_str()), (3, "Serving"));
}

#[test]
fn a_node_that_finds_no_place_because_of_its_volume_is_replaced_too() {
    let mut model = started(3);
    model.hosts_down = ["host-1".to_owned()].into();
    model.settle();
    model.delete_host("host-1");
    model.settle();
    assert!(message(&model, conditions::READY).contains("lounge-1 has no place"), "{:#?}", model.status());
    model.now += SignedDuration::from_secs(61);
    model.settle();
    assert_eq!(members(&model), ["lounge-0", "lounge-2", "lounge-3"]);
    assert_eq!(reason(&model, conditions::READY), Some(conditions::SERVING));
    let words = message(&model, conditions::RECONCILING);
    assert!(words.contains("lounge-3 stays until it can be missed: 2 of 3 other nodes"), "{words}");
}

#[test]
fn nobody_is_taken_out_of_a_room_that_can_decide_nothing() {
    let mut model = started(3);
    model.hosts_down = ["host-2".to_owned()].into();
    model.settle();
    model.lose_disk(1);
    model.settle();
    assert_eq!(members(&model).len(), 3, "the third is off, and one of three is no majority");
    model.hosts_down.clear();
    model.settle();
    assert_eq!((members(&model).len(), model.status().summary.as_str()), (3, "Serving"));
}

#[test]
fn nodes_on_one_kubernetes_node_fail_together_and_that_is_told() {
    let mut model = started(3);
    for member in &mut model.cluster.members {
        member.host = "the only one".into();
    }
    model.settle();
    let guarantees = model.status().guarantees.as_ref().unwrap();
    assert_eq!((guarantees.tolerates.declared, guarantees.tolerates.now), (1, Some(0)));
    assert!(guarantees.redundancy_lost_since.is_some());
}

#[test]
fn a_node_that_does_not_do_what_it_is_told_is_told_of() {
    let mut model = Model::new(stateful_room(3, 1));
    model.reconcile();
    model.kubernetes();
    model.reconcile();
    model.cluster.disks.get_mut("data-lounge-0").unwrap().member = "another".into();
    assert_eq!(model.reconcile().step, None);
    assert_eq!(reason(&model, conditions::RECONCILING), Some(conditions::NODE_REFUSES));
    let words = message(&model, conditions::RECONCILING);
    assert!(words.contains("lounge-0 does not do what it is told: another member is meant"), "{words}");
}

/// What users and accidents do.
#[derive(Clone, Debug)]
enum Event {
    Replicas(Option<i32>),
    Image(Option<&'static str>),
    Motd(u8),
    Channel(u8),
    Grow(u8),
    Web(bool),
    Paused(bool),
    Deadline(u8),
    Retain(bool),
    LosePod(usize),
    LoseDisk(i32),
    HostDown(i32),
    HostDeleted(i32),
    HostsUp,
    LoseStatus,
    LoseConfig,
    LoseStatefulSet,
    HandEdit,
    HandScale(i32),
    Kubernetes,
    Reconcile,
    /// Both, so many times.
    Rounds(u8),
    Later,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::option::of(0..8_i32).prop_map(Event::Replicas),
        (0..8_i32).prop_map(|replicas| Event::Replicas(Some(replicas))),
        proptest::sample::select(vec![None, Some("good:2"), Some("bad:1"), Some("bad:2")])
            .prop_map(Event::Image),
        any::<u8>().prop_map(Event::Motd),
        any::<u8>().prop_map(Event::Channel),
        (2..9_u8).prop_map(Event::Grow),
        any::<bool>().prop_map(Event::Web),
        any::<bool>().prop_map(Event::Paused),
        any::<u8>().prop_map(Event::Deadline),
        any::<bool>().prop_map(Event::Retain),
        any::<usize>().prop_map(Event::LosePod),
        (0..8_i32).prop_map(Event::LoseDisk),
        (0..4_i32).prop_map(Event::HostDown),
        (0..4_i32).prop_map(Event::HostDeleted),
        Just(Event::HostsUp),
        Just(Event::LoseStatus),
        Just(Event::LoseConfig),
        Just(Event::LoseStatefulSet),
        Just(Event::HandEdit),
        (0..8_i32).prop_map(Event::HandScale),
        Just(Event::Kubernetes),
        Just(Event::Kubernetes),
        Just(Event::Reconcile),
        Just(Event::Reconcile),
        (1..9_u8).prop_map(Event::Rounds),
        (1..9_u8).prop_map(Event::Rounds),
        Just(Event::Later),
    ]
}

fn happen(model: &mut Model, event: &Event, gibibytes: &mut u8) {
    match *event {
        Event::Replicas(replicas) => model.edit(|spec| spec.replicas = replicas),
        Event::Image(image) => model.edit(|spec| spec.node.image = image.map(Into::into)),
        Event::Motd(text) => model.edit(|spec| spec.chat.motd = text.to_string()),
        Event::Channel(number) => model.edit(|spec| {
            spec.chat.channels = vec![Channel { name: format!("#{number}"), topic: String::new() }];
        }),
        Event::Grow(to) => {
            *gibibytes = to.max(*gibibytes);
            size(model, &format!("{gibibytes}Gi"));
        }
        Event::Web(enabled) => model.edit(|spec| spec.listeners.web.enabled = enabled),
        Event::Paused(paused) => model.edit(|spec| spec.paused = paused),
        Event::Deadline(seconds) => model.edit(|spec| {
            spec.node.drain_deadline = DurationText(format!("{seconds}s"));
        }),
        Event::Retain(keep) => stateful(model, |stateful| {
            stateful.storage.retain = if keep { Retain::Retain } else { Retain::Delete };
        }),
        Event::LosePod(number) => model.lose_pod(number),
        // More than a room survives is no room's to mend.
        Event::LoseDisk(ordinal) => {
            if model.can_lose(ordinal) && !model.cluster.groups.is_empty() {
                model.lose_disk(ordinal);
            }
        }
        Event::HostDown(host) => {
            model.hosts_down.insert(format!("host-{host}"));
        }
        Event::HostDeleted(host) => model.delete_host(&format!("host-{host}")),
        Event::HostsUp => model.hosts_down.clear(),
        Event::LoseStatus => model.room.status = None,
        Event::LoseConfig => model.observed.objects.config_map = None,
        Event::LoseStatefulSet => model.observed.objects.stateful_set = None,
        Event::HandEdit => edit_set(model, |set| {
            set.spec.template.spec.as_mut().expect("the template has a pod").containers[0].image =
                Some("bad:hand".into());
        }),
        Event::HandScale(replicas) => edit_set(model, |set| set.spec.replicas = Some(replicas)),
        Event::Kubernetes => {
            model.kubernetes();
        }
        Event::Reconcile => {
            model.reconcile();
        }
        Event::Rounds(rounds) => {
            for _ in 0..rounds {
                model.reconcile();
                model.kubernetes();
            }
        }
        Event::Later => model.now += SignedDuration::from_secs(75),
    }
}

/// Changes the StatefulSet, as a hand does.
fn edit_set(model: &mut Model, change: impl FnOnce(&mut k8s_openapi::api::apps::v1::StatefulSet)) {
    if let Some(set) = &model.observed.objects.stateful_set {
        let mut set = set.as_ref().clone();
        change(&mut set);
        model.observed.objects.stateful_set = Some(set.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, once it stops the room comes to rest with as many members as wished, and serves.
    /// The model panics if a second room is begun, a shard is to lose its majority, a member's pod or volume is taken away,
    /// or a node is rolled while a shard is not whole.
    #[test]
    fn every_history_comes_to_rest(
        events in proptest::collection::vec(event(), 0..40),
        failures in 0..3_u16,
        waits_for_bad_pods in any::<bool>(),
        wish in 0..8_i32,
    ) {
        let mut model = Model::new(stateful_room(2 * i32::from(failures) + 1, failures));
        model.waits_for_bad_pods = waits_for_bad_pods;
        let mut gibibytes = 1;
        for event in &events {
            happen(&mut model, event, &mut gibibytes);
        }
        model.hosts_down.clear();
        model.edit(|spec| {
            spec.paused = false;
            spec.node.image = None;
            spec.replicas = Some(wish);
        });
        model.settle();
        prop_assert!(model.reconcile().none());
        let status = model.status();
        let wanted = wish.max(2 * i32::from(failures) + 1);
        prop_assert_eq!(status.summary.as_str(), "Serving", "{:#?}", status);
        prop_assert_eq!((status.ready_replicas, status.replicas), (wanted, wanted));
        prop_assert_eq!(model.cluster.members.len(), usize::try_from(wanted).unwrap());
        prop_assert_eq!(status.observed_generation, model.room.metadata.generation.unwrap());
        prop_assert!(find(&status.conditions, conditions::RECONCILING).is_none());
        prop_assert!(find(&status.conditions, conditions::STALLED).is_none());
        prop_assert_eq!(status.guarantees.as_ref().unwrap().tolerates.declared, i32::from(failures));
    }
}
