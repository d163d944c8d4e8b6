mod control;
mod stateless;

use proptest::prelude::*;
use serde_json::json;

use crate::{
    api::{Channel, DurationText, Retain},
    plan::Step,
    report::conditions::{self, find},
    testing::{Model, room, small_room},
};

fn started() -> Model {
    let mut model = Model::new(small_room());
    model.settle();
    model
}

fn stateful(model: &mut Model, change: impl FnOnce(&mut crate::api::Stateful)) {
    model.edit(|spec| match &mut spec.mode {
        crate::api::Mode::Stateful(stateful) => change(stateful),
        crate::api::Mode::Stateless(_) => panic!("the room is stateful"),
    });
}

fn size(model: &mut Model, size: &str) {
    stateful(model, |stateful| stateful.storage.size = size.into());
}

#[test]
fn a_new_room_gets_every_object_and_then_nothing_more() {
    let mut model = Model::new(small_room());
    let first = model.reconcile();
    assert_eq!(
        first.objects,
        [
            "Secret lounge-control-roomuid",
            "ServiceAccount lounge-node",
            "ConfigMap lounge-config",
            "Service lounge",
            "NetworkPolicy lounge",
            "Service lounge-nodes",
            "StatefulSet lounge",
            "replicas"
        ]
    );
    model.settle();
    assert_eq!(model.status().summary, "Serving");
    assert!(model.reconcile().none());
}

#[test]
fn a_change_of_settings_rolls_the_node_under_a_higher_revision() {
    let mut model = started();
    let config = |model: &Model| {
        let map = model.observed.objects.config_map.clone().unwrap();
        crate::build::read_config(&map).unwrap()
    };
    let (revision, pod) = (config(&model).revision, model.observed.pods[0].metadata.uid.clone());
    model.edit(|spec| spec.chat.motd = "Hello".into());
    model.settle();
    assert!(config(&model).revision > revision);
    assert_ne!(model.observed.pods[0].metadata.uid, pod);
    assert_eq!(config(&model).chat.motd, "Hello");
}

#[test]
fn scaling_and_service_changes_leave_the_node_alone() {
    let mut model = started();
    let (pod, map) = (model.observed.pods.clone(), model.observed.objects.config_map.clone());
    model.edit(|spec| spec.replicas = Some(5));
    model.edit(|spec| spec.service.annotations = [("lb".into(), "internal".into())].into());
    stateful(&mut model, |stateful| stateful.storage.retain = Retain::Delete);
    model.settle();
    assert_eq!(model.observed.pods, pod);
    assert_eq!(model.observed.objects.config_map, map);
    let limited = find(&model.status().conditions, conditions::SCALING_LIMITED).unwrap();
    assert!(limited.message.contains("spec.replicas is 5, 1 is run"), "{}", limited.message);
    model.edit(|spec| spec.replicas = Some(1));
    model.settle();
    assert!(find(&model.status().conditions, conditions::SCALING_LIMITED).is_none());
}

#[test]
fn a_room_made_anew_on_old_volumes_has_a_higher_revision() {
    let model = started();
    let revision = |model: &Model| {
        crate::build::read_config(model.observed.objects.config_map.as_ref().unwrap()).unwrap().revision
    };
    let before = revision(&model);
    let claims = model.observed.claims.clone();
    let mut again = Model::new(small_room());
    again.now = model.now;
    again.observed.claims = claims;
    again.settle();
    assert!(revision(&again) > before);
}

#[test]
fn a_bad_image_is_named_and_undone_by_the_spec_alone() {
    for waits_for_bad_pods in [false, true] {
        let mut model = started();
        model.waits_for_bad_pods = waits_for_bad_pods;
        model.edit(|spec| spec.node.image = Some("registry/bad:2".into()));
        model.settle();
        let ready = find(&model.status().conditions, conditions::READY).unwrap().clone();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ImagePullBackOff"));
        assert!(ready.message.contains("registry/bad:2"), "{}", ready.message);
        model.edit(|spec| spec.node.image = None);
        model.settle();
        assert_eq!(model.status().summary, "Serving");
    }
}

#[test]
fn a_hand_that_changes_an_object_is_undone() {
    let mut model = started();
    let mut set = model.observed.objects.stateful_set.as_deref().unwrap().clone();
    set.spec.replicas = Some(3);
    model.observed.objects.stateful_set = Some(set.into());
    assert_eq!(model.reconcile().objects, ["StatefulSet lounge"]);
    model.observed.objects.network_policy = None;
    assert_eq!(model.reconcile().objects, ["NetworkPolicy lounge"]);
}

#[test]
fn volumes_grow_claim_first_then_template_and_the_pod_stays() {
    let mut model = started();
    let pod = model.observed.pods.clone();
    size(&mut model, "2Gi");
    assert!(matches!(model.reconcile().step, Some(Step::GrowClaim { size, .. }) if size == "2Gi"));
    assert!(matches!(model.reconcile().step, Some(Step::ReplaceStatefulSet { .. })));
    model.settle();
    assert_eq!(model.status().volume_size.as_deref(), Some("2Gi"));
    assert_eq!(model.observed.pods, pod);
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn growth_that_is_refused_says_how_to_go_back_and_chat_goes_on() {
    let mut model = started();
    model.volumes_grow = false;
    size(&mut model, "2Gi");
    for _ in 0..3 {
        model.reconcile();
    }
    let stalled = find(&model.status().conditions, conditions::STALLED).unwrap();
    assert_eq!(stalled.reason, conditions::GROWTH_REFUSED);
    assert!(stalled.message.contains("back to status.volumeSize"), "{}", stalled.message);
    assert_eq!(find(&model.status().conditions, conditions::READY).unwrap().status, "True");
    size(&mut model, "1Gi");
    model.settle();
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn a_paused_room_is_told_of_and_not_touched() {
    let mut model = started();
    model.edit(|spec| spec.paused = true);
    model.edit(|spec| spec.chat.motd = "later".into());
    model.observed.objects.client_service = None;
    let writes = model.reconcile();
    assert!(writes.objects.is_empty() && writes.step.is_none() && writes.status);
    assert_eq!(model.status().summary, "Paused");
    assert_eq!(find(&model.status().conditions, conditions::READY).unwrap().status, "True");
}

#[test]
fn what_an_earlier_room_left_is_waited_for() {
    let mut model = Model::new(small_room());
    model.observed.leaving = vec!["Service default/lounge".into()];
    let writes = model.reconcile();
    assert!(writes.objects.is_empty());
    assert_eq!(model.status().summary, conditions::WAITING_FOR_DELETION);
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
    LosePod,
    LoseConfig,
    LoseStatefulSet,
    HandEdit,
    Kubernetes,
    Reconcile,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::option::of(0..9_i32).prop_map(Event::Replicas),
        proptest::sample::select(vec![None, Some("good:2"), Some("bad:1"), Some("bad:2")])
            .prop_map(Event::Image),
        any::<u8>().prop_map(Event::Motd),
        any::<u8>().prop_map(Event::Channel),
        (2..9_u8).prop_map(Event::Grow),
        any::<bool>().prop_map(Event::Web),
        any::<bool>().prop_map(Event::Paused),
        any::<u8>().prop_map(Event::Deadline),
        Just(Event::LosePod),
        Just(Event::LoseConfig),
        Just(Event::LoseStatefulSet),
        Just(Event::HandEdit),
        Just(Event::Kubernetes),
        Just(Event::Kubernetes),
        Just(Event::Reconcile),
        Just(Event::Reconcile),
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
        Event::LosePod => {
            model.observed.pods.clear();
            model.observed.nodes.clear();
            model.observed.endpoints.clear();
        }
        Event::LoseConfig => model.observed.objects.config_map = None,
        Event::LoseStatefulSet => model.observed.objects.stateful_set = None,
        Event::HandEdit => {
            if let Some(set) = &model.observed.objects.stateful_set {
                let mut set = set.as_ref().clone();
                set.spec.template.spec.as_mut().expect("the template has a pod").containers[0].image =
                    Some("bad:hand".into());
                model.observed.objects.stateful_set = Some(set.into());
            }
        }
        Event::Kubernetes => {
            model.kubernetes();
        }
        Event::Reconcile => {
            model.reconcile();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, once it stops the room comes to rest, and with a good image it serves.
    #[test]
    fn every_history_comes_to_rest(
        events in proptest::collection::vec(event(), 0..25),
        waits_for_bad_pods in any::<bool>(),
    ) {
        let mut model = Model::new(room(json!({"mode": {"stateful": {}}})));
        model.waits_for_bad_pods = waits_for_bad_pods;
        let mut gibibytes = 1;
        for event in events {
            happen(&mut model, &event, &mut gibibytes);
        }
        model.edit(|spec| {
            spec.paused = false;
            spec.node.image = None;
        });
        model.settle();
        prop_assert!(model.reconcile().none());
        prop_assert_eq!(model.status().ready_replicas, 1);
        prop_assert_eq!(model.status().observed_generation, model.room.metadata.generation.unwrap());
        prop_assert!(find(&model.status().conditions, conditions::RECONCILING).is_none());
        prop_assert!(find(&model.status().conditions, conditions::STALLED).is_none());
    }
}
