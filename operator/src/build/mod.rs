//! Pure builders of the objects of a room, one file per kind.

mod client_service;
mod config_map;
mod metadata;
mod network_policy;
mod peer_service;
mod service_account;
mod stateful_set;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::validate::Room;

pub use config_map::read as read_config;

/// Every object of a room. Whoever handles them names each, so that a new kind cannot be forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects<A = ServiceAccount, C = ConfigMap, S = Service, N = NetworkPolicy, W = StatefulSet> {
    pub service_account: A,
    pub config_map: C,
    pub peer_service: S,
    pub client_service: S,
    pub network_policy: N,
    pub stateful_set: W,
}

/// What the builders need besides the room, because it depends on what exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Circumstances {
    /// Revision of the chat settings.
    pub revision: u64,
    /// Volume size in the claim template, which Kubernetes does not let change in place.
    pub template_size: Quantity,
}

/// How many nodes a room has until its log is replicated.
pub const NODES: i32 = 1;

pub fn objects(room: &Room, circumstances: &Circumstances) -> Objects {
    Objects {
        service_account: service_account::build(room),
        config_map: config_map::build(room, circumstances.revision),
        peer_service: peer_service::build(room),
        client_service: client_service::build(room),
        network_policy: network_policy::build(room),
        stateful_set: stateful_set::build(room, &circumstances.template_size),
    }
}

/// Short hash of a value's JSON, for annotations.
pub fn hash(value: &impl serde::Serialize) -> String {
    use sha2::{Digest, Sha256};
    let json = serde_json::to_vec(value).expect("objects and configurations have string keys");
    Sha256::digest(&json).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}
