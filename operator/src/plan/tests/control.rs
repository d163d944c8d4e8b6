//! The Secrets with certificates: when they are written.

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use crate::{
    api::Mode,
    testing::{Model, small_room, stateless_room},
};

const WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);

fn rooms() -> [Model; 2] {
    [small_room(), stateless_room(2, &json!({"managed": {}}))].map(|room| {
        let mut model = Model::new(room);
        model.settle();
        model
    })
}

/// Nodes that keep the log know each other too.
fn secrets(model: &Model) -> Vec<String> {
    let peers = matches!(model.room.spec.mode, Mode::Stateful(_)).then_some("Secret lounge-peers-roomuid");
    ["Secret lounge-control-roomuid"].into_iter().chain(peers).map(str::to_owned).collect()
}

#[test]
fn certificates_are_renewed_in_time_and_no_pod_rolls_for_them() {
    for mut model in rooms() {
        let pods = |model: &Model| {
            model.observed.pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>()
        };
        let (before, secret) = (pods(&model), model.certificates.clone());
        model.now += WINDOW;
        assert_eq!(
            model.reconcile().objects,
            [secrets(&model), vec!["ConfigMap lounge-config".into()]].concat()
        );
        assert_ne!(model.certificates, secret);
        model.settle();
        assert_eq!(pods(&model), before);
        assert!(model.reconcile().none());
    }
}

#[test]
fn a_secret_that_is_gone_is_made_anew_when_a_pod_waits_for_it() {
    for mut model in rooms() {
        model.certificates = None;
        assert!(model.reconcile().none(), "nobody misses it");
        let waits = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
        let pod = Arc::make_mut(&mut model.observed.pods[0]);
        pod.status = Some(serde_json::from_value(waits).unwrap());
        assert_eq!(model.reconcile().objects, secrets(&model));
        assert!(model.reconcile().objects.is_empty(), "though it waits still");
    }
}

#[test]
fn a_paused_room_keeps_its_certificates() {
    for mut model in rooms() {
        model.edit(|spec| spec.paused = true);
        model.reconcile();
        model.now += WINDOW;
        assert!(model.reconcile().objects.is_empty());
    }
}
