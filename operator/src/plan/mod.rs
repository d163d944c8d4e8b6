//! Third stage: what has to be done. Pure: the same room, observation and time give the same plan.
//!
//! A plan writes an object only if it differs from what exists, and takes at most one disruptive step.

mod difference;
pub mod founding;
pub mod membership;
pub mod rollout;
pub mod scale;
mod settings;
pub mod storage;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::Resource;

use crate::{
    build::{self, Circumstances, Objects, Wanted},
    members::ensemble,
    observe::{Found, Observed},
    pods,
    validate::{Room, Shape, Stateful},
};
use founding::{Founding, founding};
use rollout::Roll;

/// What has to be done for a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Whether the Secret of the room's own store is to be made if it is not there. It is never read, so it is tried when
    /// somebody may be waiting for it.
    pub offer_secret: bool,
    /// What has to be done about the Secrets with certificates.
    pub certificates: Option<Certificates>,
    pub objects: Changes,
    /// `spec.replicas` that the room is given because it has none.
    pub seed: Option<i32>,
    pub step: Option<Step>,
}

/// The Secrets with certificates. They are never read; the ConfigMap says which ones were applied last.
#[derive(Clone, Debug, PartialEq)]
pub enum Certificates {
    /// They are not those.
    Apply(Vec<Secret>),
    /// They are, but somebody may be waiting for them: each is made if it is not there.
    Offer(Vec<Secret>),
}

/// An object, if it has to be written.
pub type Change<K> = Option<Box<K>>;

/// The objects that have to be written.
pub type Changes = Objects<
    Change<ServiceAccount>,
    Change<ConfigMap>,
    Change<Service>,
    Change<NetworkPolicy>,
    Change<StatefulSet>,
    Change<Deployment>,
    Change<PodDisruptionBudget>,
>;

impl Default for Changes {
    fn default() -> Self {
        Self {
            service_account: None,
            config_map: None,
            client_service: None,
            network_policy: None,
            stateful_set: None,
            peer_service: None,
            deployment: None,
            disruption_budget: None,
            store_service: None,
            store_network_policy: None,
            store_stateful_set: None,
        }
    }
}

/// A disruptive step. Each names the very object it was decided for, so that a stale view does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member, already written down, is told to begin the room.
    TellFounder { pod: String, uid: String, member: String },
    /// The node of that pod is told that a member has to leave the room.
    RemoveMember { pod: String, uid: String, member: String, name: String, because: String },
    /// A node that is wanted was removed from the room; its next life joins it again.
    RestartRemoved { target: Target },
    /// Nobody is a member with that volume any more.
    DeleteClaim { target: Target },
    /// A pod of an outdated revision that cannot become ready holds up its replacement.
    DeleteStuckPod { target: Target, because: String },
    /// Tell Kubernetes which nodes to stop first; it is told to stop some only when it knows.
    RankPods { ranks: Vec<Rank> },
    /// Ask for a larger volume.
    GrowClaim { target: Target, size: String },
    /// Delete the StatefulSet and leave its pods, so that it can be created with another claim template.
    ReplaceStatefulSet { target: Target },
}

/// A pod's place in the order in which pods are stopped: lower ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    pub pod: Target,
    pub cost: i32,
    /// Seconds since 1970.
    pub at: i64,
}

/// An object at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

impl Target {
    fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// Replicas of a stateless room that names none and has no nodes yet.
const FIRST_REPLICAS: i32 = 1;

pub fn plan(room: &Room, observed: &Observed, now: Timestamp) -> Plan {
    if room.paused || !observed.leaving.is_empty() {
        return Plan::default();
    }
    let Size { replicas, partition, step } = match room.stateful() {
        Some(stateful) => stateful_size(room, stateful, observed, now),
        None => {
            let scaling = scale::scaling(room, observed, now);
            Size { replicas: scaling.replicas, partition: 0, step: scaling.step }
        }
    };
    let secrets = build::certificate_secrets(room, now);
    let control = build::hash(&secrets);
    let applied = observed.objects.config_map.as_deref().and_then(build::control_hash);
    let certificates = if applied != Some(control.as_str()) {
        Some(Certificates::Apply(secrets))
    } else {
        node_waits_for_volumes(observed).then_some(Certificates::Offer(secrets))
    };
    let circumstances = Circumstances {
        control,
        revision: settings::revision(room, observed.objects.config_map.as_deref(), now),
        template_size: storage::template_size(room, observed),
        replicas,
        partition,
    };
    let wanted = build::objects(room, &circumstances);
    let first = room.stateful().map_or(FIRST_REPLICAS, |stateful| i32::from(stateful.voters()));
    // First what brings the room forward; growth that is refused must not stand in its way.
    let (before, after) = match room.shape {
        Shape::Stateful(_) => (step, None),
        Shape::Stateless(_) => (None, step),
    };
    Plan {
        offer_secret: secret_may_be_missing(room, observed),
        certificates,
        objects: changes(wanted, &observed.objects),
        seed: room.wish.is_none().then(|| existing_replicas(&observed.objects).unwrap_or(first)),
        step: rollout::step(room, observed).or(before).or_else(|| storage::step(room, observed)).or(after),
    }
}

/// How many nodes there are, of which template, and the step that their number asks for.
struct Size {
    replicas: i32,
    partition: i32,
    step: Option<Step>,
}

fn stateful_size(room: &Room, stateful: &Stateful, observed: &Observed, now: Timestamp) -> Size {
    let course = membership::course(room, stateful, observed, now);
    let roll = roll(room, stateful, observed, &course);
    let template = build::node_template_hash(room);
    let set = observed.objects.stateful_set.as_deref();
    let partition = rollout::next_partition(set, &template, course.replicas, &roll);
    let tell = match founding(&room.name, stateful, observed) {
        Founding::Tell { pod, uid, member } => Some(Step::TellFounder { pod, uid, member }),
        _ => None,
    };
    Size { replicas: course.replicas, partition, step: tell.or(course.step) }
}

/// Where the roll of a stateful room stands; a change of its members goes first.
pub fn roll(room: &Room, stateful: &Stateful, observed: &Observed, course: &membership::Course) -> Roll {
    let ensemble = ensemble(&room.name, stateful.cluster.as_deref(), observed);
    let held = match (&course.step, &course.waits) {
        (Some(_), _) => Some("members change"),
        (None, waits) => waits.as_deref(),
    };
    rollout::roll(stateful, &ensemble, observed, held)
}

fn node_waits_for_volumes(observed: &Observed) -> bool {
    observed.pods.iter().any(|pod| pods::waits_for_volumes(pod))
}

/// Whether a pod may be waiting for the store's Secret, or is about to.
fn secret_may_be_missing(room: &Room, observed: &Observed) -> bool {
    let waits = || {
        node_waits_for_volumes(observed) || observed.store_pods.iter().any(|pod| pods::waits_for_volumes(pod))
    };
    room.managed_store().is_some() && (observed.objects.store_stateful_set.is_none() || waits())
}

fn existing_replicas(found: &Found) -> Option<i32> {
    let deployed = || found.deployment.as_ref().and_then(|deployment| deployment.spec.replicas);
    found.stateful_set.as_ref().and_then(|set| set.spec.replicas).or_else(deployed)
}

fn changes(wanted: Wanted, found: &Found) -> Changes {
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
    } = wanted;
    Objects {
        service_account: change(Some(service_account), found.service_account.as_ref()),
        config_map: change(Some(config_map), found.config_map.as_ref()),
        client_service: change(client_service, found.client_service.as_ref()),
        network_policy: change(network_policy, found.network_policy.as_ref()),
        stateful_set: change(stateful_set, found.stateful_set.as_ref()),
        peer_service: change(peer_service, found.peer_service.as_ref()),
        deployment: change(deployment, found.deployment.as_ref()),
        disruption_budget: change(disruption_budget, found.disruption_budget.as_ref()),
        store_service: change(store_service, found.store_service.as_ref()),
        store_network_policy: change(store_network_policy, found.store_network_policy.as_ref()),
        store_stateful_set: change(store_stateful_set, found.store_stateful_set.as_ref()),
    }
}

/// The object to write, if it differs from the one that exists. One that is being deleted is waited for.
fn change<K>(wanted: Option<K>, found: Option<&Arc<K>>) -> Change<K>
where
    K: Resource<DynamicType = ()> + serde::Serialize,
{
    let wanted = difference::stamped(wanted?);
    match found {
        Some(found) if found.meta().deletion_timestamp.is_some() => None,
        Some(found) if !difference::differs(&wanted, found.as_ref()) => None,
        _ => Some(Box::new(wanted)),
    }
}

#[cfg(test)]
mod tests;
