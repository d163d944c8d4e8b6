//! A model of the API server, the StatefulSet controller and the kubelets, as far as a room meets them.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, Pod, Secret},
        discovery::v1::EndpointSlice,
    },
    jiff::{SignedDuration, Timestamp},
};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{NOW, defaults, serving_node};
use crate::{
    api::{ChatRoom, ChatRoomStatus},
    apply::{Outcome, Refusal},
    build::{self, Objects},
    names,
    nodes::NodeView,
    observe::Observed,
    plan::{Change, ControlSecret, Plan, Step, plan},
    report::{
        status::{self, status},
        worth_telling,
    },
    validate::validate,
};

/// Images whose name says so cannot be pulled.
pub(crate) const BAD_IMAGE: &str = "bad";

pub(crate) struct Model {
    pub room: ChatRoom,
    pub observed: Observed,
    pub now: Timestamp,
    pub volumes_grow: bool,
    /// Whether the StatefulSet controller waits for a pod that is not ready before it replaces it, as some do.
    pub waits_for_bad_pods: bool,
    /// Whether the Secret of the room's own store is there.
    pub secret: bool,
    /// The Secret for the nodes' control ports.
    pub control: Option<Secret>,
    /// Why the nodes do not reach their store, if they do not.
    pub store_away: Option<String>,
    pub(super) versions: u64,
}

/// What one reconcile wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    pub objects: Vec<String>,
    pub step: Option<Step>,
    pub status: bool,
}

impl Writes {
    pub(crate) fn none(&self) -> bool {
        *self == Self::default()
    }
}

impl Model {
    pub(crate) fn new(room: ChatRoom) -> Self {
        Self {
            room,
            observed: Observed::default(),
            now: NOW,
            volumes_grow: true,
            waits_for_bad_pods: false,
            secret: false,
            control: None,
            store_away: None,
            versions: 10,
        }
    }

    /// Changes the spec, as a user does.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut crate::api::ChatRoomSpec)) {
        change(&mut self.room.spec);
        *self.room.metadata.generation.as_mut().expect("a stored room has one") += 1;
    }

    pub(crate) fn status(&self) -> &ChatRoomStatus {
        self.room.status.as_ref().expect("the room was looked at")
    }

    /// One reconcile of the operator.
    pub(crate) fn reconcile(&mut self) -> Writes {
        self.now += SignedDuration::from_secs(1);
        let mut writes = Writes::default();
        let fresh = match validate(&self.room, &self.observed, &defaults()) {
            Err(errors) => status(&self.room, &self.observed, status::Result::Invalid(&errors), self.now),
            Ok(room) => {
                let plan = plan(&room, &self.observed, self.now);
                let outcome = self.apply(plan);
                writes.objects.clone_from(&outcome.written);
                writes.step.clone_from(&outcome.stepped);
                status(&self.room, &self.observed, status::Result::Applied(&room, &outcome), self.now)
            }
        };
        let (told, _) = worth_telling(self.room.status.as_ref(), fresh, self.now);
        writes.status = told.is_some();
        self.room.status = told.or(self.room.status.take());
        writes
    }

    /// Reconciles and lets Kubernetes act until neither does anything; panics if that takes too long.
    pub(crate) fn settle(&mut self) {
        for _ in 0..30 {
            let wrote = !self.reconcile().none();
            let acted = self.kubernetes();
            if !wrote && !acted {
                return;
            }
        }
        panic!("no end of writes; the last status: {:#?}", self.room.status);
    }

    fn apply(&mut self, plan: Plan) -> Outcome {
        let Plan { offer_secret, control_secret, objects, seed, step } = plan;
        let Objects {
            service_account,
            config_map,
            client_service,
            network_policy,
            stateful_set,
            peer_service,
            deployment,
            disruption_budget,
            store_service,
            store_network_policy,
            store_stateful_set,
        } = objects;
        let workload_written = stateful_set.is_some() || deployment.is_some();
        let mut outcome = Outcome { workload_written, ..Outcome::default() };
        match control_secret {
            Some(ControlSecret::Offer(_)) if self.control.is_some() => {}
            Some(ControlSecret::Apply(secret) | ControlSecret::Offer(secret)) => {
                outcome.written.push(format!("Secret {}", secret.name_any()));
                self.control = Some(*secret);
            }
            None => {}
        }
        if offer_secret && !std::mem::replace(&mut self.secret, true) {
            outcome.written.push("Secret".into());
        }
        if let (Some(new), Some(old)) = (&deployment, &self.observed.objects.deployment) {
            self.assert_ranked(new, old);
        }
        let found = &mut self.observed.objects;
        let versions = &mut self.versions;
        store(service_account, &mut found.service_account, versions, &mut outcome);
        store(config_map, &mut found.config_map, versions, &mut outcome);
        store(client_service, &mut found.client_service, versions, &mut outcome);
        store(network_policy, &mut found.network_policy, versions, &mut outcome);
        store(peer_service, &mut found.peer_service, versions, &mut outcome);
        store(disruption_budget, &mut found.disruption_budget, versions, &mut outcome);
        store(store_service, &mut found.store_service, versions, &mut outcome);
        store(store_network_policy, &mut found.store_network_policy, versions, &mut outcome);
        store(store_stateful_set, &mut found.store_stateful_set, versions, &mut outcome);
        store(deployment, &mut found.deployment, versions, &mut outcome);
        if let (Some(new), Some(old)) = (&stateful_set, &found.stateful_set) {
            assert_eq!(
                json!(new.spec.volume_claim_templates.as_ref().map(|claims| claims[0].spec.clone())),
                json!(old.spec.volume_claim_templates.as_ref().map(|claims| claims[0].spec.clone())),
                "the API server refuses a changed claim template"
            );
        }
        store(stateful_set, &mut found.stateful_set, versions, &mut outcome);
        if let Some(replicas) = seed {
            self.room.spec.replicas = Some(replicas);
            outcome.written.push("replicas".into());
        }
        if let Some(step) = step {
            self.step(step, &mut outcome);
        }
        outcome
    }

    fn step(&mut self, step: Step, outcome: &mut Outcome) {
        match &step {
            Step::DeleteStuckPod { target, .. } => {
                let pod = self.observed.pods.iter().find(|pod| pod.uid().as_ref() == Some(&target.uid));
                assert!(
                    !crate::pods::is_ready(pod.expect("the pod was seen")),
                    "a ready pod is never deleted"
                );
                self.observed.pods.retain(|pod| pod.uid().as_ref() != Some(&target.uid));
            }
            Step::ReplaceStatefulSet { target } => {
                let set = self.observed.objects.stateful_set.take();
                assert_eq!(set.and_then(|set| set.uid()), Some(target.uid.clone()));
            }
            Step::GrowClaim { target, size } => {
                if !self.volumes_grow {
                    let message = "the class does not allow it".into();
                    outcome.growth_refused = Some(Refusal { object: target.name.clone(), message });
                    return;
                }
                for claim in &mut self.observed.claims {
                    if claim.uid().as_ref() == Some(&target.uid) {
                        *claim = Arc::new(claim_of(size));
                    }
                }
            }
            Step::RankPods { ranks } => self.rank(ranks),
        }
        outcome.stepped = Some(step);
    }

    /// What Kubernetes does of itself; says whether it did something.
    pub(crate) fn kubernetes(&mut self) -> bool {
        if self.observed.objects.deployment.is_some() || self.observed.objects.store_stateful_set.is_some() {
            return self.stateless_kubernetes();
        }
        let Some(set) = self.observed.objects.stateful_set.clone() else { return false };
        let before = (self.observed.pods.len(), self.pod_state());
        let revision = build::hash(&set.spec.template);
        let mut acted = self.stateful_set_status(&set, &revision);
        if self.observed.claims.is_empty() {
            let template = set.spec.volume_claim_templates.as_ref().expect("a node has a volume");
            let size = crate::plan::storage::requested(&template[0]).expect("the volume has a size");
            self.observed.claims.push(Arc::new(claim_of(&size.0)));
            acted = true;
        }
        match self.observed.pods.first().cloned() {
            None => self.start_pod(&set, &revision),
            Some(pod) if pod.labels().get(names::REVISION_LABEL) != Some(&revision) => {
                if crate::pods::is_ready(&pod) || !self.waits_for_bad_pods {
                    self.observed.pods.clear();
                    self.observed.nodes.clear();
                    self.observed.endpoints.clear();
                } else {
                    self.kubelet(&pod);
                }
            }
            Some(pod) => self.kubelet(&pod),
        }
        acted || before != (self.observed.pods.len(), self.pod_state())
    }

    fn stateful_set_status(&mut self, set: &Arc<StatefulSet>, revision: &str) -> bool {
        let status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            update_revision: Some(revision.into()),
            replicas: 1,
            ..StatefulSetStatus::default()
        };
        if set.status.as_ref() == Some(&status) {
            return false;
        }
        let mut set = set.as_ref().clone();
        set.status = Some(status);
        self.observed.objects.stateful_set = Some(Arc::new(set));
        true
    }

    fn start_pod(&mut self, set: &StatefulSet, revision: &str) {
        self.versions += 1;
        let mut pod = Pod {
            metadata: set.spec.template.metadata.clone().expect("the template has labels"),
            spec: set.spec.template.spec.clone(),
            status: None,
        };
        pod.metadata.name = Some("lounge-0".into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some(format!("pod-{}", self.versions));
        pod.metadata.resource_version = Some(self.versions.to_string());
        pod.labels_mut().insert(names::REVISION_LABEL.into(), revision.into());
        self.observed.pods = vec![Arc::new(pod)];
    }

    fn kubelet(&mut self, pod: &Arc<Pod>) {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        let status = if image.contains(BAD_IMAGE) {
            json!({"phase": "Pending", "containerStatuses": [{
                "name": "chat-node", "ready": false, "restartCount": 0, "image": image, "imageID": "",
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            }]})
        } else {
            json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]})
        };
        let mut changed = pod.as_ref().clone();
        changed.status = Some(serde_json::from_value(status).expect("a pod's status"));
        let uid = changed.uid().expect("a stored pod has a uid");
        if crate::pods::is_ready(&changed) {
            self.observed.nodes = [(uid.clone(), NodeView::Heard(serving_node()))].into();
            self.observed.endpoints = vec![Arc::new(endpoint(&uid))];
        }
        self.observed.pods = vec![Arc::new(changed)];
    }

    fn pod_state(&self) -> String {
        json!(self.observed.pods.first().map(|pod| pod.as_ref().clone())).to_string()
    }
}

/// Stores an object as server-side apply does.
fn store<K>(change: Change<K>, found: &mut Option<Arc<K>>, versions: &mut u64, outcome: &mut Outcome)
where
    K: Resource<DynamicType = ()> + Clone,
{
    let Some(mut object) = change else { return };
    *versions += 1;
    outcome.written.push(format!("{} {}", K::kind(&()), object.name_any()));
    let uid = found.as_ref().and_then(|found| found.uid()).unwrap_or_else(|| format!("uid-{versions}"));
    object.meta_mut().uid = Some(uid);
    object.meta_mut().resource_version = Some(versions.to_string());
    object.meta_mut().generation = i64::try_from(*versions).ok();
    *found = Some(Arc::from(object));
}

fn claim_of(size: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "data-lounge-0", "namespace": "default", "uid": "claim", "resourceVersion": size},
        "spec": {"resources": {"requests": {"storage": size}}},
        "status": {"phase": "Bound"},
    }))
    .expect("a claim")
}

pub(super) fn endpoint(uid: &str) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"labels": {names::SERVICE_NAME_LABEL: "lounge"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"uid": uid}}],
    }))
    .expect("a slice")
}
