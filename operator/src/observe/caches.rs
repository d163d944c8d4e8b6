//! The caches of a leader and the watches that fill them.

use std::{collections::BTreeSet, sync::Arc};

use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    coordination::v1::Lease,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};

use crate::{api::ChatRoom, names, nodes::Followers};

/// A room as it was stored: one that cannot be understood must not hold up the others.
pub type StoredRoom = DeserializeGuard<ChatRoom>;

/// Everything that was seen of rooms.
pub struct Caches {
    pub rooms: Store<StoredRoom>,
    pub service_accounts: Store<ServiceAccount>,
    pub config_maps: Store<ConfigMap>,
    pub services: Store<Service>,
    pub network_policies: Store<NetworkPolicy>,
    pub stateful_sets: Store<StatefulSet>,
    pub deployments: Store<Deployment>,
    pub disruption_budgets: Store<PodDisruptionBudget>,
    pub pods: Store<Pod>,
    pub claims: Store<PersistentVolumeClaim>,
    pub endpoints: Store<EndpointSlice>,
    /// Leases of operators that watch one namespace each; empty for one of those.
    pub namespace_leases: Store<Lease>,
    pub followers: Arc<Followers>,
}

/// Rooms that something happened to. The caches are filled while it is polled.
pub type Watches = BoxStream<'static, Result<ObjectRef<StoredRoom>, watcher::Error>>;

impl Caches {
    /// Watches rooms and all that carries their label, in one namespace or everywhere.
    pub fn watch(client: &Client, namespace: Option<&str>, followers: Arc<Followers>) -> (Self, Watches) {
        let scope = Scope { client, namespace };
        let (rooms, room_changes) = {
            let (reader, events) = scope.cached::<StoredRoom>(watcher::Config::default());
            (reader, events.touched_objects().map_ok(|room| ObjectRef::from_obj(&room)).boxed())
        };
        let (namespace_leases, lease_changes) = scope.namespace_leases(rooms.clone());
        let (service_accounts, service_account_changes) = scope.labelled(|_| ());
        let (config_maps, config_map_changes) = scope.labelled(|_| ());
        let (services, service_changes) = scope.labelled(|_| ());
        let (network_policies, network_policy_changes) = scope.labelled(|_| ());
        let (stateful_sets, stateful_set_changes) = scope.labelled(|_| ());
        let (deployments, deployment_changes) = scope.labelled(|_| ());
        let (disruption_budgets, disruption_budget_changes) = scope.labelled(|_| ());
        let (claims, claim_changes) = scope.labelled(|_| ());
        let (endpoints, endpoint_changes) = scope.labelled(|_| ());
        let (pods, pod_changes) = {
            let followers = Arc::clone(&followers);
            scope.labelled(move |event| followers.pod_changed(event))
        };
        let changes = stream::select_all([
            room_changes,
            lease_changes,
            service_account_changes,
            config_map_changes,
            service_changes,
            network_policy_changes,
            stateful_set_changes,
            deployment_changes,
            disruption_budget_changes,
            claim_changes,
            endpoint_changes,
            pod_changes,
        ])
        .boxed();
        let caches = Self {
            rooms,
            service_accounts,
            config_maps,
            services,
            network_policies,
            stateful_sets,
            deployments,
            disruption_budgets,
            pods,
            claims,
            endpoints,
            namespace_leases,
            followers,
        };
        (caches, changes)
    }

    /// Returns once every cache has seen what there was at the start. A cache whose watch has ended counts as ready:
    /// the leader is then on its way out.
    pub async fn wait_until_ready(&self) {
        let Self {
            rooms,
            service_accounts,
            config_maps,
            services,
            network_policies,
            stateful_sets,
            deployments,
            disruption_budgets,
            pods,
            claims,
            endpoints,
            namespace_leases,
            followers: _,
        } = self;
        let _ = tokio::join!(
            rooms.wait_until_ready(),
            service_accounts.wait_until_ready(),
            config_maps.wait_until_ready(),
            services.wait_until_ready(),
            network_policies.wait_until_ready(),
            stateful_sets.wait_until_ready(),
            deployments.wait_until_ready(),
            disruption_budgets.wait_until_ready(),
            pods.wait_until_ready(),
            claims.wait_until_ready(),
            endpoints.wait_until_ready(),
            namespace_leases.wait_until_ready(),
        );
    }
}

struct Scope<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
}

impl Scope<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// A cache of these objects, and what happens to them.
    fn cached<K>(
        &self,
        which: watcher::Config,
    ) -> (Store<K>, impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        let watch = watcher(self.api::<K>(), which).modify(lighten);
        (reader, reflector::reflector(writer, watch).default_backoff())
    }

    /// A cache of the objects with the room label, and the rooms whose objects change. Deletions count too.
    fn labelled<K>(&self, on_event: impl Fn(&watcher::Event<K>) + Send + 'static) -> (Store<K>, Watches)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, events) = self.cached::<K>(watcher::Config::default().labels(names::ROOM_LABEL));
        let rooms = events
            .inspect_ok(on_event)
            .touched_objects()
            .try_filter_map(|object| futures::future::ready(Ok(room_of(&object))));
        (reader, rooms.boxed())
    }

    /// The Leases by which operators of single namespaces claim them, and the rooms of namespaces whose Lease comes or
    /// goes. Who watches one namespace itself looks for none.
    fn namespace_leases(&self, rooms: Store<StoredRoom>) -> (Store<Lease>, Watches) {
        if self.namespace.is_some() {
            return (reflector::store().0, stream::empty().boxed());
        }
        let which = watcher::Config::default().fields(&format!("metadata.name={}", names::NAMESPACE_LEASE));
        let (reader, events) = self.cached::<Lease>(which);
        let mut claimed = BTreeSet::new();
        let changes = events
            .map_ok(move |event| {
                let namespace = turned(&mut claimed, &event);
                let of_namespace =
                    |room: &Arc<StoredRoom>| namespace.is_some() && room.namespace() == namespace;
                let rooms = rooms.state().into_iter().filter(of_namespace);
                stream::iter(rooms.map(|room| Ok(ObjectRef::from_obj(room.as_ref()))).collect::<Vec<_>>())
            })
            .try_flatten();
        (reader, changes.boxed())
    }
}

/// Takes out what nobody here reads and is half of an object's size.
fn lighten(object: &mut impl Resource) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// The namespace that is claimed by this event, or set free. A renewal is neither.
fn turned(claimed: &mut BTreeSet<String>, event: &watcher::Event<Lease>) -> Option<String> {
    match event {
        watcher::Event::Apply(lease) | watcher::Event::InitApply(lease) => {
            lease.namespace().filter(|namespace| claimed.insert(namespace.clone()))
        }
        watcher::Event::Delete(lease) => lease.namespace().filter(|namespace| claimed.remove(namespace)),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// The room that an object's label names.
pub fn room_of(object: &impl Resource) -> Option<ObjectRef<StoredRoom>> {
    let namespace = object.meta().namespace.as_deref()?;
    let room = object.meta().labels.as_ref()?.get(names::ROOM_LABEL)?;
    Some(ObjectRef::new(room).within(namespace))
}
