//! First stage, the only reader: what exists of a room, from caches that watches keep.
//!
//! It asks the API server itself only about objects that its caches do not hold, before they are created:
//! an object of that name that is somebody else's must be left alone.

mod caches;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::reflector::{self, ObjectRef},
};

use crate::{
    api::{ChatRoom, Mode, Stateless, Store},
    build::Objects,
    error::Error,
    names,
    nodes::NodeView,
};

pub use caches::{Caches, StoredRoom, Watches, room_of};

/// What exists of a room. The objects are the room's own; others are in `strangers`.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub objects: Found,
    /// Pods of the nodes.
    pub pods: Vec<Arc<Pod>>,
    /// Pods of the store that the operator runs.
    pub store_pods: Vec<Arc<Pod>>,
    /// Claims of the nodes.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub endpoints: Vec<Arc<EndpointSlice>>,
    /// What the nodes say of themselves, by uid of their pods.
    pub nodes: BTreeMap<String, NodeView>,
    /// Kind and name of objects that have a name the room needs and belong to somebody else.
    pub strangers: Vec<String>,
    /// Objects of an earlier room of this name, which the garbage collector is about to delete.
    pub leaving: Vec<String>,
}

type Cached<K> = Option<Arc<K>>;

/// The room's objects as they are.
pub type Found = Objects<
    Cached<ServiceAccount>,
    Cached<ConfigMap>,
    Cached<Service>,
    Cached<NetworkPolicy>,
    Cached<StatefulSet>,
    Cached<Deployment>,
    Cached<PodDisruptionBudget>,
>;

impl Default for Found {
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

/// Why this operator has to leave the rooms of a namespace alone, if so: it is claimed by an operator of its own.
pub async fn claimed_by_another(caches: &Caches, namespace: &str) -> Option<String> {
    caches.wait_until_ready().await;
    let lease = caches.namespace_leases.get(&ObjectRef::new(names::NAMESPACE_LEASE).within(namespace))?;
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    let holder = holder.map_or_else(|| "nobody just now".to_owned(), str::to_owned);
    Some(format!(
        "namespace {namespace} has an operator of its own: its Lease {} is held by {holder}; delete the Lease if that \
         operator is gone for good",
        names::NAMESPACE_LEASE
    ))
}

/// Reads everything about a room.
pub async fn observe(client: &Client, caches: &Caches, room: &ChatRoom) -> Result<Observed, Error> {
    caches.wait_until_ready().await;
    let name = room.name_any();
    let mut lookup = Lookup { client, room, strangers: Vec::new(), leaving: Vec::new() };
    let found = Found {
        service_account: lookup.own(&caches.service_accounts, &names::service_account(&name)).await?,
        config_map: lookup.own(&caches.config_maps, &names::config_map(&name)).await?,
        client_service: lookup.own(&caches.services, &names::client_service(&name)).await?,
        network_policy: lookup.own(&caches.network_policies, &names::network_policy(&name)).await?,
        disruption_budget: lookup.own(&caches.disruption_budgets, &names::disruption_budget(&name)).await?,
        ..Found::default()
    };
    let objects = match &room.spec.mode {
        Mode::Stateful(_) => Found {
            stateful_set: lookup.own(&caches.stateful_sets, &names::stateful_set(&name)).await?,
            peer_service: lookup.own(&caches.services, &names::peer_service(&name)).await?,
            ..found
        },
        Mode::Stateless(Stateless { store, .. }) => {
            let found = Found {
                deployment: lookup.own(&caches.deployments, &names::deployment(&name)).await?,
                ..found
            };
            match store {
                Store::Valkey(_) => found,
                Store::Managed(_) => lookup.store(caches, &names::store(&name), found).await?,
            }
        }
    };
    let Lookup { strangers, leaving, .. } = lookup;
    let of_room = |meta: &ObjectMeta| {
        meta.namespace == room.metadata.namespace
            && meta.labels.as_ref().and_then(|labels| labels.get(names::ROOM_LABEL)) == Some(&name)
    };
    let mut pods = caches.pods.state_filter(|pod| of_room(&pod.metadata));
    pods.sort_by_key(|pod| pod.name_any());
    let (store_pods, pods) = pods.into_iter().partition::<Vec<_>, _>(|pod| names::is_of_store(pod.as_ref()));
    let mut claims =
        caches.claims.state_filter(|claim| of_room(&claim.metadata) && !names::is_of_store(claim));
    claims.sort_by_key(|claim| claim.name_any());
    let endpoints = caches.endpoints.state_filter(|slice| of_room(&slice.metadata));
    let nodes = pods
        .iter()
        .filter_map(|pod| pod.uid())
        .map(|uid| (uid.clone(), caches.followers.view(&uid)))
        .collect();
    Ok(Observed { objects, pods, store_pods, claims, endpoints, nodes, strangers, leaving })
}

struct Lookup<'a> {
    client: &'a Client,
    room: &'a ChatRoom,
    strangers: Vec<String>,
    leaving: Vec<String>,
}

impl Lookup<'_> {
    /// The objects of the store that the operator runs, put to the others.
    async fn store(&mut self, caches: &Caches, name: &str, found: Found) -> Result<Found, Error> {
        Ok(Found {
            store_service: self.own(&caches.services, name).await?,
            store_network_policy: self.own(&caches.network_policies, name).await?,
            store_stateful_set: self.own(&caches.stateful_sets, name).await?,
            ..found
        })
    }

    /// The room's object of that name, if there is one.
    async fn own<K>(&mut self, cache: &reflector::Store<K>, name: &str) -> Result<Cached<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: serde::de::DeserializeOwned + 'static,
    {
        let namespace = self.room.metadata.namespace.as_deref().unwrap_or_default();
        let found = match cache.get(&ObjectRef::new(name).within(namespace)) {
            Some(object) => Some(object),
            None => Api::<K>::namespaced(self.client.clone(), namespace)
                .get_opt(name)
                .await
                .map_err(|source| Error::read(&K::kind(&()), name, source))?
                .map(Arc::new),
        };
        let Some(object) = found else { return Ok(None) };
        let owners = object.owner_references();
        if owners.iter().any(|owner| Some(&owner.uid) == self.room.metadata.uid.as_ref()) {
            return Ok(Some(object));
        }
        let text = format!("{} {namespace}/{name}", K::kind(&()));
        let of_a_room = |owner: &OwnerReference| {
            owner.kind == ChatRoom::kind(&()) && Some(&owner.name) == self.room.metadata.name.as_ref()
        };
        if owners.iter().any(of_a_room) {
            self.leaving.push(text);
        } else {
            self.strangers.push(text);
        }
        Ok(None)
    }
}
