use proptest::prelude::*;
use serde_json::json;

use crate::{
    plan::Step,
    report::conditions::{self, find},
    testing::{Model, busiest_first, stateless_room},
};

fn managed(replicas: i32) -> Model {
    Model::new(stateless_room(replicas, &json!({"managed": {}})))
}

fn valkey() -> serde_json::Value {
    json!({"valkey": {"urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}})
}

fn started(replicas: i32) -> Model {
    let mut model = Model::new(stateless_room(replicas, &valkey()));
    model.settle();
    assert_eq!(model.status().summary, "Serving", "{:#?}", model.status());
    model
}

fn scale(model: &mut Model, replicas: i32) {
    model.edit(|spec| spec.replicas = Some(replicas));
}

#[test]
fn a_room_with_a_store_of_its_own_gets_every_object_and_then_nothing_more() {
    let mut model = managed(2);
    assert_eq!(
        model.reconcile().objects,
        [
            "Secret lounge-control-roomuid",
            "Secret",
            "ServiceAccount lounge-node",
            "ConfigMap lounge-config",
            "Service lounge",
            "NetworkPolicy lounge",
            "PodDisruptionBudget lounge",
            "Service lounge-store",
            "NetworkPolicy lounge-store",
            "StatefulSet lounge-store",
            "Deployment lounge",
        ]
    );
    model.settle();
    assert_eq!((model.status().summary.as_str(), model.status().ready_replicas), ("Serving", 2));
    assert!(model.reconcile().none());
}

#[test]
fn a_store_of_the_user_s_gets_no_object_of_ours() {
    let mut model = Model::new(stateless_room(2, &valkey()));
    let written = model.reconcile().objects;
    assert!(!written.iter().any(|object| object.contains("store") || object == "Secret"), "{written:?}");
}

#[test]
fn up_and_down_again_takes_the_emptiest() {
    let mut model = started(2);
    scale(&mut model, 8);
    model.settle();
    assert_eq!((model.status().ready_replicas, model.live().count()), (8, 8));
    model.connect(&[5, 80, 7, 60, 5, 5, 5, 5]);
    scale(&mut model, 2);
    assert!(matches!(model.reconcile().step, Some(Step::RankPods { ranks }) if ranks.len() == 8));
    let lowered = model.reconcile();
    assert_eq!((lowered.objects, lowered.step), (vec!["Deployment lounge".to_owned()], None));
    model.settle();
    assert_eq!(busiest_first(&model), [80, 60]);
    assert!(model.reconcile().none());
    assert!(find(&model.status().conditions, conditions::SCALING_LIMITED).is_none());
}

#[test]
fn nodes_on_their_way_out_are_told_apart() {
    let mut model = started(3);
    scale(&mut model, 2);
    model.reconcile();
    model.reconcile();
    model.kubernetes();
    model.reconcile();
    let status = model.status();
    assert_eq!((status.replicas, status.terminating_replicas, status.nodes.len()), (2, 1, 3));
    assert_eq!(status.nodes.iter().filter(|row| json!(row.state) == "Draining").count(), 1);
    assert_eq!(find(&status.conditions, conditions::READY).unwrap().status, "True");
    assert!(find(&status.conditions, conditions::RECONCILING).is_some());
}

#[test]
fn ranks_that_are_old_are_made_anew() {
    let mut model = started(4);
    model.connect(&[1, 2, 3, 4]);
    scale(&mut model, 3);
    model.settle();
    assert_eq!(busiest_first(&model), [4, 3, 2]);
    model.now += k8s_openapi::jiff::SignedDuration::from_secs(60);
    model.connect(&[9, 1, 1]);
    scale(&mut model, 1);
    model.settle();
    assert_eq!(busiest_first(&model), [9]);
}

#[test]
fn a_hand_that_scales_the_deployment_is_undone_in_order() {
    let mut model = started(2);
    let mut deployment = model.observed.objects.deployment.as_deref().unwrap().clone();
    deployment.spec.replicas = Some(5);
    model.observed.objects.deployment = Some(deployment.into());
    model.kubernetes();
    model.kubernetes();
    assert!(matches!(model.reconcile().step, Some(Step::RankPods { .. })));
    model.settle();
    assert_eq!(model.live().count(), 2);
}

#[test]
fn no_nodes_at_all_is_a_wish_like_another() {
    let mut model = started(2);
    scale(&mut model, 0);
    model.settle();
    let ready = find(&model.status().conditions, conditions::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", conditions::SCALED_TO_ZERO));
    assert_eq!(model.status().conditions.len(), 2, "{:#?}", model.status().conditions);
    scale(&mut model, 1);
    model.settle();
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn a_bad_image_stops_at_one_pod_and_the_room_goes_on() {
    let mut model = started(3);
    model.edit(|spec| spec.node.image = Some("registry/bad:2".into()));
    model.settle();
    let status = model.status();
    assert_eq!(find(&status.conditions, conditions::READY).unwrap().status, "True");
    let reconciling = find(&status.conditions, conditions::RECONCILING).unwrap();
    assert_eq!(
        (reconciling.reason.as_str(), status.summary.as_str()),
        ("ImagePullBackOff", "ImagePullBackOff")
    );
    assert!(reconciling.message.contains("registry/bad:2"), "{}", reconciling.message);
    assert!(status.nodes.iter().any(|row| row.reason.contains("registry/bad:2")), "{:#?}", status.nodes);
    assert_eq!((status.ready_replicas, status.nodes.len()), (3, 4));
    model.edit(|spec| spec.node.image = None);
    model.settle();
    assert_eq!((model.status().summary.as_str(), model.status().nodes.len()), ("Serving", 3));
}

#[test]
fn a_password_that_was_lost_is_made_anew() {
    let mut model = managed(1);
    model.settle();
    model.secret = false;
    assert!(model.reconcile().none(), "nobody waits for it");
    model.observed.store_pods.clear();
    model.kubernetes();
    model.kubernetes();
    assert_eq!(model.reconcile().objects, ["Secret"]);
    model.settle();
    assert_eq!(model.status().summary, "Serving");
}

/// What users and accidents do.
#[derive(Clone, Debug)]
enum Event {
    Replicas(Option<i32>),
    Image(Option<&'static str>),
    Motd(u8),
    Connect(Vec<u32>),
    Store(bool),
    Paused(bool),
    LosePod(usize),
    LoseStorePod,
    LoseSecret,
    LoseDeployment,
    HandScale(i32),
    Kubernetes,
    Reconcile,
    Later,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::option::of(0..9_i32).prop_map(Event::Replicas),
        (1..9_i32).prop_map(|replicas| Event::Replicas(Some(replicas))),
        proptest::sample::select(vec![None, Some("good:2"), Some("bad:1"), Some("bad:2")])
            .prop_map(Event::Image),
        any::<u8>().prop_map(Event::Motd),
        proptest::collection::vec(0..1_000_u32, 0..9).prop_map(Event::Connect),
        any::<bool>().prop_map(Event::Store),
        any::<bool>().prop_map(Event::Paused),
        any::<usize>().prop_map(Event::LosePod),
        Just(Event::LoseStorePod),
        Just(Event::LoseSecret),
        Just(Event::LoseDeployment),
        (0..9_i32).prop_map(Event::HandScale),
        Just(Event::Kubernetes),
        Just(Event::Kubernetes),
        Just(Event::Reconcile),
        Just(Event::Reconcile),
        Just(Event::Later),
    ]
}

fn happen(model: &mut Model, event: &Event) {
    match event {
        Event::Replicas(replicas) => model.edit(|spec| spec.replicas = *replicas),
        Event::Image(image) => model.edit(|spec| spec.node.image = image.map(Into::into)),
        Event::Motd(text) => model.edit(|spec| spec.chat.motd = text.to_string()),
        Event::Connect(connections) => model.connect(connections),
        Event::Store(reachable) => {
            model.store_away = (!reachable).then(|| "the store does not answer".into());
        }
        Event::Paused(paused) => model.edit(|spec| spec.paused = *paused),
        Event::LosePod(number) => model.lose_pod(*number),
        Event::LoseStorePod => model.observed.store_pods.clear(),
        Event::LoseSecret => model.secret = false,
        Event::LoseDeployment => {
            model.observed.objects.deployment = None;
            while !model.observed.pods.is_empty() {
                model.lose_pod(0);
            }
        }
        Event::HandScale(replicas) => {
            if let Some(deployment) = &model.observed.objects.deployment {
                let mut deployment = deployment.as_ref().clone();
                deployment.spec.replicas = Some(*replicas);
                model.observed.objects.deployment = Some(deployment.into());
            }
        }
        Event::Kubernetes => {
            model.kubernetes();
        }
        Event::Reconcile => {
            model.reconcile();
        }
        Event::Later => model.now += k8s_openapi::jiff::SignedDuration::from_secs(45),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, once it stops the room comes to rest with as many serving nodes as wished. The
    /// model panics if pods are to go before they are ranked.
    #[test]
    fn every_history_of_a_stateless_room_comes_to_rest(
        events in proptest::collection::vec(event(), 0..30),
        managed in any::<bool>(),
        wish in 1..9_i32,
    ) {
        let store = if managed { json!({"managed": {}}) } else { valkey() };
        let mut model = Model::new(stateless_room(2, &store));
        for event in &events {
            happen(&mut model, event);
        }
        model.store_away = None;
        model.edit(|spec| {
            spec.paused = false;
            spec.node.image = None;
            spec.replicas = Some(wish);
        });
        model.settle();
        prop_assert!(model.reconcile().none());
        let status = model.status();
        prop_assert_eq!((status.ready_replicas, status.replicas), (wish, wish));
        prop_assert_eq!(status.summary.as_str(), "Serving");
        prop_assert!(find(&status.conditions, conditions::RECONCILING).is_none());
        prop_assert!(find(&status.conditions, conditions::STALLED).is_none());
        let store = find(&status.conditions, conditions::STORE_REACHABLE).unwrap();
        prop_assert_eq!(store.status.as_str(), "True");
    }
}
