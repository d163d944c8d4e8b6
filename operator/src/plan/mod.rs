//! Third stage: what has to be done. Pure: the same room, observation and time give the same plan.
//!
//! A plan writes an object only if it differs from what exists, and takes at most one disruptive step.

mod difference;
pub mod rollout;
mod settings;
pub mod storage;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::Resource;

use crate::{
    build::{self, Objects},
    observe::{Found, Observed},
    validate::Room,
};

/// What has to be done for a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub objects: Changes,
    /// `spec.replicas` that the room is given because it has none.
    pub seed: Option<i32>,
    pub step: Option<Step>,
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
>;

impl Default for Changes {
    fn default() -> Self {
        Self {
            service_account: None,
            config_map: None,
            peer_service: None,
            client_service: None,
            network_policy: None,
            stateful_set: None,
        }
    }
}

/// A disruptive step. Each names the very object it was decided for, so that a stale view does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A pod of an outdated revision that cannot become ready holds up its replacement.
    DeleteStuckPod { target: Target, because: String },
    /// Ask for a larger volume.
    GrowClaim { target: Target, size: String },
    /// Delete the StatefulSet and leave its pods, so that it can be created with another claim template.
    ReplaceStatefulSet { target: Target },
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

/// Replicas of a room that names none and has no nodes yet.
const FIRST_REPLICAS: i32 = build::NODES;

pub fn plan(room: &Room, observed: &Observed, now: Timestamp) -> Plan {
    if room.paused || !observed.leaving.is_empty() {
        return Plan::default();
    }
    let circumstances = build::Circumstances {
        revision: settings::revision(room, observed.objects.config_map.as_deref(), now),
        template_size: storage::template_size(room, observed),
    };
    let wanted = build::objects(room, &circumstances);
    Plan {
        objects: changes(wanted, &observed.objects),
        seed: room.wish.is_none().then(|| existing_replicas(&observed.objects).unwrap_or(FIRST_REPLICAS)),
        step: rollout::step(observed).or_else(|| storage::step(room, observed)),
    }
}

fn existing_replicas(found: &Found) -> Option<i32> {
    found.stateful_set.as_ref().and_then(|set| set.spec.replicas)
}

fn changes(wanted: Objects, found: &Found) -> Changes {
    let Objects { service_account, config_map, peer_service, client_service, network_policy, stateful_set } =
        wanted;
    Objects {
        service_account: change(service_account, found.service_account.as_ref()),
        config_map: change(config_map, found.config_map.as_ref()),
        peer_service: change(peer_service, found.peer_service.as_ref()),
        client_service: change(client_service, found.client_service.as_ref()),
        network_policy: change(network_policy, found.network_policy.as_ref()),
        stateful_set: change(stateful_set, found.stateful_set.as_ref()),
    }
}

/// The object to write, if it differs from the one that exists. One that is being deleted is waited for.
fn change<K>(wanted: K, found: Option<&Arc<K>>) -> Change<K>
where
    K: Resource<DynamicType = ()> + serde::Serialize,
{
    let wanted = difference::stamped(wanted);
    match found {
        Some(found) if found.meta().deletion_timestamp.is_some() => None,
        Some(found) if !difference::differs(&wanted, found.as_ref()) => None,
        _ => Some(Box::new(wanted)),
    }
}

#[cfg(test)]
mod tests;
