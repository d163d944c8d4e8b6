//! Pure builders of the objects of a room, one file per kind.

mod certificate_secret;
mod client_service;
mod config_map;
mod deployment;
mod disruption_budget;
mod metadata;
mod network_policy;
mod node_pod;
mod peer_service;
mod security;
mod service_account;
mod stateful_set;
mod store;
mod volumes;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    names,
    validate::{ManagedStore, Room, Shape, Volume},
};

pub use config_map::{control_hash, read as read_config};
pub use node_pod::{CERTIFICATE_VOLUMES, STORE_URL_VOLUME};

/// Where a node finds the URL of its store.
pub const STORE_URL_FILE: &str = "/etc/chat-store/url";

/// Where a node finds the certificates that its store's is checked against.
pub const STORE_CA_FILE: &str = "/etc/chat-store-ca/ca.crt";

/// Where a node finds what its control port needs.
pub const CONTROL_DIRECTORY: &str = "/etc/chat-control";

/// Where a node finds what it needs to know other nodes by.
pub const PEER_DIRECTORY: &str = "/etc/chat-peers";

/// Where a node finds the certificate for IRC over TLS.
pub const IRCS_DIRECTORY: &str = "/etc/chat-ircs";

/// Where a node finds the certificate for page and WebSocket over TLS.
pub const WEBS_DIRECTORY: &str = "/etc/chat-webs";

/// Every object of a room. Whoever handles them names each, so that a new kind cannot be forgotten. Its Secrets are
/// none of them, because they are never read.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects<A, C, S, N, W, D, B> {
    pub service_account: A,
    pub config_map: C,
    pub client_service: S,
    pub network_policy: N,
    /// The nodes of a stateful room.
    pub stateful_set: W,
    pub peer_service: S,
    /// The nodes of a stateless room.
    pub deployment: D,
    pub disruption_budget: B,
    /// The store that the operator runs.
    pub store_service: S,
    pub store_network_policy: N,
    pub store_stateful_set: W,
}

/// The objects that a room should have.
pub type Wanted = Objects<
    ServiceAccount,
    ConfigMap,
    Option<Service>,
    Option<NetworkPolicy>,
    Option<StatefulSet>,
    Option<Deployment>,
    Option<PodDisruptionBudget>,
>;

/// What the builders need besides the room, because it depends on what exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Circumstances {
    /// Revision of the chat settings.
    pub revision: u64,
    /// Hash of the Secrets with certificates.
    pub control: String,
    /// Volume size in the claim template, which Kubernetes does not let change in place.
    pub template_size: Option<Quantity>,
    /// Replicas of the Deployment or StatefulSet.
    pub replicas: i32,
    /// Ordinal from which on the StatefulSet's pods are of the newest template.
    pub partition: i32,
}

pub fn objects(room: &Room, circumstances: &Circumstances) -> Wanted {
    let stateful = room.volume();
    let stateless = matches!(room.shape, Shape::Stateless(_)).then_some(());
    let store = room.managed_store();
    let size = |volume: &Volume| circumstances.template_size.clone().unwrap_or_else(|| volume.size.clone());
    Objects {
        service_account: service_account::build(room),
        config_map: config_map::build(room, circumstances),
        client_service: Some(client_service::build(room)),
        network_policy: Some(network_policy::build(room)),
        stateful_set: stateful.map(|volume| stateful_set::build(room, volume, &size(volume), circumstances)),
        peer_service: stateful.map(|_| peer_service::build(room)),
        deployment: stateless.map(|()| deployment::build(room, circumstances.replicas)),
        disruption_budget: Some(disruption_budget::build(room)),
        store_service: store.map(|_| store::service::build(room)),
        store_network_policy: store.map(|_| store::network_policy::build(room)),
        store_stateful_set: store.map(|store| store::stateful_set::build(room, store)),
    }
}

/// The Secret of a store that the operator runs, under that password: letters and digits.
pub fn store_secret(room: &Room, store: &ManagedStore, password: &str) -> Secret {
    store::secret::build(room, store, password)
}

/// The Secrets with certificates that the operator signs, as of now: for control ports, and for stateful nodes among each
/// other.
pub fn certificate_secrets(room: &Room, now: Timestamp) -> Vec<Secret> {
    let uid = &room.owner.uid;
    let control = certificate_secret::build(
        room,
        names::control_secret(&room.name, uid),
        &room.authority.node_files(now),
    );
    let peers = room.stateful().map(|_| {
        certificate_secret::build(room, names::peer_secret(&room.name, uid), &room.authority.peer_files(now))
    });
    [Some(control), peers].into_iter().flatten().collect()
}

/// Hash of what a room's pods are to be made from.
pub fn node_template_hash(room: &Room) -> String {
    hash(&node_pod::template(room))
}

/// Hash of what a StatefulSet's pods are made from.
pub fn template_hash(set: &StatefulSet) -> Option<&str> {
    set.metadata.annotations.as_ref()?.get(names::TEMPLATE_ANNOTATION).map(String::as_str)
}

/// Short hash of a value's JSON, for annotations.
pub fn hash(value: &impl serde::Serialize) -> String {
    use sha2::{Digest, Sha256};
    let json = serde_json::to_vec(value).expect("objects and configurations have string keys");
    Sha256::digest(&json).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
