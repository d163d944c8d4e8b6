mod control;
mod stateful;
mod stateless;

use crate::{
    api::Retain,
    plan::Step,
    report::conditions::{self, find},
    testing::{Model, small_room},
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
            "Secret lounge-peers-roomuid",
            "ServiceAccount lounge-node",
            "ConfigMap lounge-config",
            "Service lounge",
            "NetworkPolicy lounge",
            "Service lounge-peers",
            "PodDisruptionBudget lounge",
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
    model.edit(|spec| spec.replicas = Some(0));
    model.edit(|spec| spec.service.annotations = [("lb".into(), "internal".into())].into());
    stateful(&mut model, |stateful| stateful.storage.retain = Retain::Delete);
    model.settle();
    assert_eq!(model.observed.pods, pod);
    assert_eq!(model.observed.objects.config_map, map);
    let limited = find(&model.status().conditions, conditions::SCALING_LIMITED).unwrap();
    assert!(limited.message.contains("spec.replicas is 0, 1 is run"), "{}", limited.message);
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
