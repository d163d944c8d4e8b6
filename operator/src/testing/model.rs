//! A model of the API server, and of the operator between it and the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1::Secret, discovery::v1::EndpointSlice},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::{
    NOW,
    cluster::Nodes,
    defaults,
    stateful::{Revisions, claim_of},
};
use crate::{
    api::{ChatRoom, ChatRoomStatus, Mode},
    apply::{Outcome, Refusal},
    build::Objects,
    names,
    observe::Observed,
    plan::{Certificates, Change, Plan, Step, plan},
    report::{
        status::{self, status},
        worth_telling,
    },
    validate::{Stateful, validate},
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
    /// The Secrets with certificates.
    pub certificates: Option<Vec<Secret>>,
    /// Why the nodes do not reach their store, if they do not.
    pub store_away: Option<String>,
    /// The nodes of a stateful room.
    pub cluster: Nodes,
    /// Kubernetes nodes that are off.
    pub hosts_down: BTreeSet<String>,
    /// Pods whose process runs on each volume, by claim.
    pub(super) processes: BTreeMap<String, String>,
    pub(super) revisions: Revisions,
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
        let cluster = Stateful::of(&room)
            .map_or_else(Nodes::default, |stateful| Nodes::new(stateful.voters(), stateful.shards));
        Self {
            room,
            observed: Observed::default(),
            now: NOW,
            volumes_grow: true,
            waits_for_bad_pods: false,
            secret: false,
            certificates: None,
            store_away: None,
            cluster,
            hosts_down: BTreeSet::new(),
            processes: BTreeMap::new(),
            revisions: Revisions::new(),
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
        for _ in 0..200 {
            let wrote = !self.reconcile().none();
            let acted = self.kubernetes();
            if !wrote && !acted {
                return;
            }
        }
        panic!("no end of writes; the last status: {:#?}", self.room.status);
    }

    fn apply(&mut self, plan: Plan) -> Outcome {
        let Plan { offer_secret, certificates, objects, seed, step } = plan;
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
        match certificates {
            Some(Certificates::Offer(_)) if self.certificates.is_some() => {}
            Some(Certificates::Apply(secrets) | Certificates::Offer(secrets)) => {
                outcome.written.extend(secrets.iter().map(|secret| format!("Secret {}", secret.name_any())));
                self.certificates = Some(secrets);
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
            let kept = new.spec.replicas.unwrap_or_default();
            let going = |member: &&contract::status::Member| {
                let ordinal = names::ordinal("lounge", &member.name);
                ordinal >= Some(kept) && ordinal < old.spec.replicas
            };
            let member = self.cluster.members.iter().find(going);
            assert!(member.is_none(), "a member's pod is taken away: {member:?}");
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
                self.observed.nodes.remove(&target.uid);
            }
            Step::TellFounder { pod, uid, member } => {
                let found = self.observed.pods.iter().find(|pod| pod.uid().as_ref() == Some(uid));
                let name = found.expect("the pod was seen").name_any();
                assert_eq!(&name, pod);
                let recorded = self.room.status.as_ref().and_then(|status| status.founding.as_ref());
                assert_eq!(
                    recorded.map(|founding| &founding.member),
                    Some(member),
                    "it is written down first"
                );
                if let Err(why) = self.cluster.found(&names::claim(&name), &name, "host-0", member) {
                    outcome.disobeyed = Some(Refusal { object: name, message: why });
                    return;
                }
            }
            Step::RemoveMember { member, .. } => {
                let running = self.running();
                self.cluster.remove(member, &running);
            }
            Step::RestartRemoved { target } => {
                let pod =
                    self.observed.pods.iter().find(|pod| pod.uid().as_ref() == Some(&target.uid)).cloned();
                let pod = pod.expect("the pod was seen");
                let member = &self.cluster.disks[&names::claim(&pod.name_any())].member;
                assert!(!self.cluster.members.iter().any(|found| found.id == *member), "it is a member");
                self.end_pod(&pod);
            }
            Step::DeleteClaim { target } => {
                let disk = self.cluster.disks.remove(&target.name);
                let member = disk.map(|disk| disk.member);
                assert!(
                    !self.cluster.members.iter().any(|found| Some(&found.id) == member.as_ref()),
                    "a volume of a member is never deleted"
                );
                self.observed.claims.retain(|claim| claim.uid().as_ref() != Some(&target.uid));
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
                        *claim = Arc::new(claim_of(&target.name, &target.uid, size));
                    }
                }
            }
            Step::RankPods { ranks } => self.rank(ranks),
        }
        outcome.stepped = Some(step);
    }

    /// What Kubernetes does of itself; says whether it did something.
    pub(crate) fn kubernetes(&mut self) -> bool {
        match self.room.spec.mode {
            Mode::Stateful(_) => self.stateful_kubernetes(),
            Mode::Stateless(_) => self.stateless_kubernetes(),
        }
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

pub(super) fn endpoint(uid: &str) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"labels": {names::SERVICE_NAME_LABEL: "lounge"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"uid": uid}}],
    }))
    .expect("a slice")
}
