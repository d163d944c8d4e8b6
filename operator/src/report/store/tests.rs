use std::sync::Arc;

use contract::status::Durability;
use serde_json::json;

use crate::{
    nodes::NodeView,
    report::{
        conditions::{self, find},
        events,
    },
    testing::{Model, stateless_room},
};

fn managed() -> Model {
    Model::new(stateless_room(2, &json!({"managed": {}})))
}

fn valkey() -> Model {
    Model::new(stateless_room(
        2,
        &json!({"valkey": {"urlFrom": {"secretKeyRef": {"name": "cred", "key": "u"}}}}),
    ))
}

fn started(mut model: Model) -> Model {
    model.settle();
    assert_eq!(model.status().summary, "Serving");
    model
}

/// Status, reason and message of a condition.
fn condition<'a>(model: &'a Model, type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = find(&model.status().conditions, type_).expect("the condition is there");
    (&condition.status, &condition.reason, &condition.message)
}

fn durable(model: &mut Model, durability: Durability) {
    for view in model.observed.nodes.values_mut() {
        if let NodeView::Heard(status) = view {
            status.durability = durability;
        }
    }
    model.reconcile();
}

#[test]
fn a_room_that_serves_says_that_its_store_answers_and_what_it_promises() {
    let model = started(valkey());
    assert_eq!(condition(&model, "StoreReachable"), ("True", "StoreAnswers", "the nodes reach the store"));
    let status = model.status();
    assert_eq!(status.message, "clients can join at lounge.default:6667 (irc) and lounge.default:8080 (web)");
    assert_eq!(status.mode.as_deref(), Some("stateless"));
    assert_eq!(
        json!(status.guarantees),
        json!({"order": "TotalPerChannel", "durability": "LocalFsync", "tolerates": {"declared": 1, "now": 1}})
    );
}

#[test]
fn a_store_for_trying_out_is_called_so() {
    let model = started(managed());
    assert!(
        model.status().message.ends_with("; its store is one small server, for trying out"),
        "{}",
        model.status().message
    );
}

#[test]
fn what_an_acknowledgement_is_worth_is_told_with_the_way_to_more() {
    let mut model = started(valkey());
    durable(&mut model, Durability::BestEffort);
    for text in [&model.status().message, condition(&model, "StoreReachable").2] {
        assert!(
            text.contains("acknowledged in the last second") && text.contains("appendfsync always"),
            "{text}"
        );
    }
    assert_eq!(json!(model.status().guarantees)["durability"], "BestEffort");
    durable(&mut model, Durability::Memory);
    assert!(model.status().message.contains("keeps nothing on disk"), "{}", model.status().message);
    durable(&mut model, Durability::LocalFsync);
    assert!(!model.status().message.contains("acknowledged"), "{}", model.status().message);
}

#[test]
fn a_store_that_goes_and_comes_back_is_told_once_each() {
    let mut model = started(valkey());
    let reasons = |old: &crate::api::ChatRoomStatus, model: &Model| {
        events::of_status(Some(old), model.status())
            .into_iter()
            .filter(|event| event.reason.starts_with("Store"))
            .map(|event| (event.reason, event.type_ == kube::runtime::events::EventType::Warning))
            .collect::<Vec<_>>()
    };
    let before = model.status().clone();
    model.store_away = Some("the store at db:6379 does not answer".into());
    model.settle();
    let (status, reason, message) = condition(&model, "StoreReachable");
    assert_eq!((status, reason), ("False", "StoreUnreachable"));
    assert!(message.contains("the store at db:6379 does not answer"), "{message}");
    assert_eq!(condition(&model, "Ready").0, "False");
    assert_eq!(json!(model.status().guarantees)["durability"], "LocalFsync", "the nodes know what it was");
    assert_eq!(reasons(&before, &model), [("StoreUnreachable".to_owned(), true)]);
    let away = model.status().clone();
    model.store_away = None;
    model.settle();
    assert_eq!(reasons(&away, &model), [("StoreAnswers".to_owned(), false)]);
    assert_eq!(model.status().summary, "Serving");
}

#[test]
fn nodes_that_never_had_the_store_say_so_and_promise_nothing() {
    let mut model = valkey();
    model.store_away = Some("connection refused".into());
    model.settle();
    let (status, reason, message) = condition(&model, "StoreReachable");
    assert_eq!((status, reason), ("False", "StoreUnreachable"));
    assert!(message.ends_with("waiting for the store: connection refused"), "{message}");
    assert!(model.status().guarantees.as_ref().unwrap().durability.is_none());
    assert!(model.status().nodes.iter().all(|row| row.member.is_none()));
    let message = condition(&model, "Ready").2;
    assert!(message.starts_with("0 of 2 nodes serve: node lounge-"), "{message}");
}

#[test]
fn what_keeps_the_room_s_own_store_from_running_is_named() {
    let mut model = managed();
    model.reconcile();
    model.kubernetes();
    model.observed.store_pods = vec![Arc::new(crate::testing::pod(
        "lounge-store-0",
        &json!({"phase": "Pending", "containerStatuses": [{
            "name": "store", "ready": false, "restartCount": 0, "image": "x", "imageID": "",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
        }]}),
    ))];
    model.reconcile();
    let (status, _, message) = condition(&model, "StoreReachable");
    assert_eq!(status, "False");
    assert!(
        message.contains("pod lounge-store-0 cannot get image") && message.contains("--store-image"),
        "{message}"
    );
}

/// The first node ended with that code, and waits for its next life.
fn ended(model: &mut Model, code: i32, words: &str) {
    let pod = Arc::make_mut(&mut model.observed.pods[0]);
    pod.status = Some(
        serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{
            "name": "chat-node", "ready": false, "restartCount": 3, "image": "x", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": code, "reason": "Error", "message": words}},
        }]}))
        .unwrap(),
    );
    let uid = pod.metadata.uid.clone().unwrap();
    model.observed.nodes.insert(uid, NodeView::Silent("connection refused".into()));
    model.reconcile();
}

#[test]
fn a_store_that_the_nodes_refuse_stalls_the_room_with_their_words() {
    let mut model = started(valkey());
    ended(&mut model, 2, "chat-node: the store at db:6379 drops keys: set maxmemory-policy noeviction\n");
    for (type_, status) in [("Stalled", "True"), ("StoreReachable", "False"), ("Ready", "False")] {
        let found = condition(&model, type_);
        assert_eq!((found.0, found.1), (status, "StoreRefused"), "{type_}");
        assert!(found.2.contains("set maxmemory-policy noeviction"), "{}", found.2);
    }
    assert!(find(&model.status().conditions, conditions::RECONCILING).is_none());
    // In its next life it is about to look again: no news.
    model.observed.pods[0] = {
        let mut pod = model.observed.pods[0].as_ref().clone();
        let container = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
        container.state = Some(serde_json::from_value(json!({"running": {}})).unwrap());
        Arc::new(pod)
    };
    let uid = model.observed.pods[0].metadata.uid.clone().unwrap();
    let about_to_look = contract::status::NodeStatus {
        state: contract::status::NodeState::Recovering,
        member: String::new(),
        reason: "waiting for the store: ".into(),
        ..crate::testing::serving_node()
    };
    model.observed.nodes.insert(uid.clone(), NodeView::Heard(about_to_look.clone()));
    let told = model.status().conditions.clone();
    model.reconcile();
    assert_eq!(model.status().conditions, told);
    // What it found then is what counts.
    let reason = "waiting for the store: connection refused".to_owned();
    model
        .observed
        .nodes
        .insert(uid, NodeView::Heard(contract::status::NodeStatus { reason, ..about_to_look }));
    model.reconcile();
    assert_eq!(condition(&model, "StoreReachable").1, "StoreUnreachable");
    assert!(find(&model.status().conditions, conditions::STALLED).is_none());
}

#[test]
fn another_end_of_a_node_does_not_speak_of_the_store() {
    for (code, words) in [
        (1, "chat-node: out of threads\n"),
        (2, "chat-node: listeners.ircs.keyFile: /etc/chat-ircs/tls.key: is not the key of the certificate\n"),
    ] {
        let mut model = started(valkey());
        ended(&mut model, code, words);
        assert_eq!(condition(&model, "StoreReachable").0, "True");
        assert_eq!(condition(&model, "Ready").1, "Crashed");
        assert!(condition(&model, "Ready").2.contains(words.trim()), "{}", condition(&model, "Ready").2);
        assert!(find(&model.status().conditions, conditions::STALLED).is_none());
    }
}

#[test]
fn a_secret_that_is_missing_is_named_while_pods_wait_for_it() {
    let mut model = valkey();
    model.reconcile();
    model.kubernetes();
    for pod in &mut model.observed.pods {
        Arc::make_mut(pod).status = Some(
            serde_json::from_value(
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
            )
            .unwrap(),
        );
    }
    model.observed.nodes.clear();
    model.reconcile();
    let message = condition(&model, "Ready").2;
    assert!(message.contains("it needs Secret cred with key u"), "{message}");
}

#[test]
fn a_deployment_that_gave_up_stalls_the_room_though_it_serves() {
    let mut model = started(valkey());
    model.edit(|spec| spec.node.image = Some("bad:1".into()));
    model.settle();
    let mut deployment = model.observed.objects.deployment.as_deref().unwrap().clone();
    deployment.status.as_mut().unwrap().conditions = Some(vec![
        serde_json::from_value(
            json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}),
        )
        .unwrap(),
    ]);
    model.observed.objects.deployment = Some(deployment.into());
    model.reconcile();
    let (_, reason, message) = condition(&model, "Stalled");
    assert_eq!(reason, "ProgressDeadlineExceeded");
    assert!(message.contains("cannot get image bad:1"), "{message}");
    assert_eq!(condition(&model, "Ready").0, "True");
}
