use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::{
    conditions::{self, find},
    events, nodes, status, worth_telling,
};
use crate::{
    nodes::NodeView,
    testing::{Model, NOW, pod, small_room},
};

fn started() -> Model {
    let mut model = Model::new(small_room());
    model.settle();
    model
}

fn hear(model: &mut Model, view: &NodeView) {
    for seen in model.observed.nodes.values_mut() {
        *seen = view.clone();
    }
}

fn ready(model: &Model) -> (&str, &str, &str) {
    let ready = find(&model.status().conditions, conditions::READY).unwrap();
    (&ready.status, &ready.reason, &ready.message)
}

#[test]
fn a_serving_room_says_where_to_join_and_what_it_promises() {
    let model = started();
    let status = model.status();
    assert_eq!(ready(&model).0, "True");
    assert_eq!(status.message, "clients can join at lounge.default:6667 (irc) and lounge.default:8080 (web)");
    assert_eq!((status.ready_replicas, status.replicas, status.connections), (1, 1, 3));
    assert_eq!(status.version.as_deref(), Some("0.1.0"));
    let guarantees = json!(status.guarantees);
    assert_eq!(
        guarantees,
        json!({"order": "TotalPerChannel", "durability": "QuorumFsync", "tolerates": {"declared": 0, "now": 0}})
    );
    assert_eq!(status.conditions.len(), 1, "Reconciling and Stalled only when true");
}

#[test]
fn ready_needs_the_node_the_probe_and_the_endpoint() {
    let mut model = started();
    let view = model.observed.nodes.values().next().unwrap().clone();
    hear(
        &mut model,
        &NodeView::Silent("http://10.0.0.1:9090/v1/status cannot be read: connection refused".into()),
    );
    model.reconcile();
    assert_eq!(
        ready(&model),
        (
            "False",
            "NodeSilent",
            "node lounge-0 on Kubernetes node (none) is silent: http://10.0.0.1:9090/v1/status cannot be read: connection refused"
        )
    );
    assert!(model.status().guarantees.as_ref().unwrap().redundancy_lost_since.is_some());
    assert_eq!(model.status().guarantees.as_ref().unwrap().tolerates.now, None);

    hear(&mut model, &view);
    let endpoints = std::mem::take(&mut model.observed.endpoints);
    model.reconcile();
    assert_eq!(ready(&model), ("False", "NoEndpoint", "Service lounge does not lead to pod lounge-0 yet"));

    model.observed.endpoints = endpoints;
    model.reconcile();
    assert_eq!(ready(&model).0, "True");
    assert!(model.status().guarantees.as_ref().unwrap().redundancy_lost_since.is_none());
}

#[test]
fn a_read_only_node_is_not_ready_and_says_why() {
    let mut model = started();
    let NodeView::Heard(mut status) = model.observed.nodes.values().next().unwrap().clone() else { panic!() };
    status.state = contract::status::NodeState::ReadOnly;
    status.reason = "the disk is full".into();
    hear(&mut model, &NodeView::Heard(status));
    model.reconcile();
    assert_eq!(ready(&model), ("False", "ReadOnly", "node lounge-0 takes no messages: the disk is full"));
    assert_eq!(model.status().summary, "ReadOnly");
}

#[test]
fn the_time_of_a_condition_moves_only_when_it_turns() {
    let mut model = started();
    let turned = |model: &Model| {
        find(&model.status().conditions, conditions::READY).unwrap().last_transition_time.clone()
    };
    let (before, view) = (turned(&model), model.observed.nodes.values().next().unwrap().clone());
    model.edit(|spec| spec.replicas = Some(0));
    model.reconcile();
    assert_eq!(turned(&model), before);
    hear(&mut model, &NodeView::Silent("gone".into()));
    model.reconcile();
    let lost = turned(&model);
    assert!(lost.0 > before.0);
    hear(&mut model, &NodeView::Silent("gone for long".into()));
    model.reconcile();
    assert_eq!(turned(&model), lost);
    hear(&mut model, &view);
    model.reconcile();
    assert!(turned(&model).0 > lost.0);
}

#[test]
fn a_room_that_is_not_ready_for_ten_minutes_is_stalled() {
    let mut model = started();
    hear(&mut model, &NodeView::Silent("gone".into()));
    model.reconcile();
    assert!(find(&model.status().conditions, conditions::RECONCILING).is_some());
    model.now += SignedDuration::from_mins(11);
    model.reconcile();
    let stalled = find(&model.status().conditions, conditions::STALLED).unwrap();
    assert_eq!(stalled.reason, conditions::DEADLINE_EXCEEDED);
    assert!(find(&model.status().conditions, conditions::RECONCILING).is_none());
    assert!(model.reconcile().none());
}

#[test]
fn counters_are_rewritten_by_tenths_and_not_within_half_a_minute() {
    let model = started();
    let old = model.status();
    let now = old.counters_at.as_ref().unwrap().0;
    let with = |connections| {
        let mut status = old.clone();
        status.connections = connections;
        status.nodes[0].connections = connections;
        status
    };
    let later = |seconds| now + SignedDuration::from_secs(seconds);
    assert_eq!(worth_telling(Some(old), with(3), later(99)), (None, None));
    let (told, again) = worth_telling(Some(old), with(50), later(10));
    assert_eq!((told, again.map(|wait| wait.as_secs())), (None, Some(20)));
    let (told, again) = worth_telling(Some(old), with(50), later(31));
    assert_eq!((told.unwrap().connections, again), (50, None));
    let busy = with(1_000);
    assert_eq!(worth_telling(Some(&busy), with(1_099), later(99)), (None, None));
    let mut turned = with(1_050);
    turned.summary = "Draining".into();
    assert_eq!(
        worth_telling(Some(&busy), turned, later(1)).0.unwrap().connections,
        1_050,
        "news carry counters along"
    );
}

#[test]
fn pods_in_trouble_are_named_with_what_to_do() {
    let waiting = |reason: &str, message: &str| {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "chat-node", "ready": false, "restartCount": 0, "image": "x", "imageID": "",
            "state": {"waiting": {"reason": reason, "message": message}},
        }]})
    };
    let cases = [
        (
            waiting("ImagePullBackOff", "manifest unknown"),
            "pod a-0 cannot get image nowhere/chat-node:2: set spec.node.image to one that exists (ImagePullBackOff: manifest unknown)",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{
                "name": "chat-node", "ready": false, "restartCount": 2, "image": "x", "imageID": "",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "start\nbad key `motdd`\n"}},
            }]}),
            "pod a-0 ended with code 2 (Error): bad key `motdd`; see `kubectl logs a-0 --previous`",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{
                "name": "chat-node", "ready": false, "restartCount": 2, "image": "x", "imageID": "",
                "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "wal-1 is damaged\n"}},
            }]}),
            "pod a-0 ended with code 1 (Error): wal-1 is damaged; see `kubectl logs a-0 --previous`",
        ),
        (
            json!({"phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
            }]}),
            "pod a-0 has no place on a Kubernetes node: 0/3 nodes are available",
        ),
        (json!({"phase": "Pending"}), "pod a-0 is starting"),
    ];
    for (status, words) in cases {
        let observed =
            crate::observe::Observed { pods: vec![pod("a-0", &status).into()], ..Default::default() };
        let looked = nodes::look("a", &small_room().spec.mode, &observed, NOW);
        assert_eq!(looked.trouble.unwrap().message, words);
        assert_eq!(looked.serving, 0);
    }
}

#[test]
fn a_pod_that_waits_for_certificates_names_the_secrets_once_and_no_secret_of_ours() {
    let store = json!({"stateless": {"store": {"managed": {}}}});
    for (mode, replicas) in [(json!({"stateful": {}}), 3), (store, 2)] {
        let mut model = Model::new(crate::testing::room(json!({
            "replicas": replicas,
            "mode": mode,
            "listeners": {
                "ircs": {"certificateSecret": "lounge-tls"},
                "webs": {"certificateSecret": "lounge-tls"},
            },
        })));
        model.settle();
        assert!(ready(&model).2.contains("lounge.default:6697 (ircs)"), "{}", ready(&model).2);
        let waits = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
        let pod = std::sync::Arc::make_mut(&mut model.observed.pods[0]);
        pod.status = Some(serde_json::from_value(waits).unwrap());
        let pod = pod.metadata.name.clone().unwrap();
        model.reconcile();
        let (status, _, message) = ready(&model);
        assert_eq!(status, "False");
        let words = format!(
            "pod {pod} is starting; it needs Secret lounge-tls with keys tls.crt and tls.key, see `kubectl describe pod {pod}`"
        );
        assert!(message.ends_with(&words), "{message}");
    }
}

#[test]
fn a_pod_lost_with_its_kubernetes_node_is_told_apart_from_one_that_stops() {
    let mut gone = pod("a-0", &json!({"phase": "Running"}));
    gone.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    gone.spec.as_mut().unwrap().node_name = Some("node7".into());
    let observed = crate::observe::Observed { pods: vec![gone.into()], ..Default::default() };
    let told = |now| nodes::look("a", &small_room().spec.mode, &observed, now).trouble.unwrap();
    assert_eq!(told(NOW).message, "pod a-0 is being stopped");
    let turns = status::turns_at(&Default::default(), &observed, NOW).unwrap();
    let lost = told(turns);
    assert_eq!(lost.reason, conditions::NODE_LOST);
    assert!(lost.message.contains("kubectl taint node node7"), "{}", lost.message);
}

#[test]
fn events_speak_of_what_turned_once() {
    let mut model = started();
    let before = model.status().clone();
    let told = events::of_status(None, &before);
    assert_eq!(told.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(), ["Serving"]);
    assert!(events::of_status(Some(&before), &before).is_empty());
    model.edit(|spec| spec.replicas = Some(0));
    model.reconcile();
    let told = events::of_status(Some(&before), model.status());
    assert_eq!(
        told.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(),
        [conditions::BELOW_TOLERANCE]
    );
}
