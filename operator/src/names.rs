//! Names that the operator gives: labels, annotations, objects of a room.

use std::collections::BTreeMap;

/// Who the operator is to the API server: field manager, event source, `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "chatroom-operator";

/// Lease of a namespace that has an operator of its own. Its existence is the claim: the operator of all namespaces
/// leaves the rooms there alone, also while the other one is down for a moment.
pub const NAMESPACE_LEASE: &str = "chatroom-operator";

/// Lease of the operator of all namespaces, where each such operator looks: a cluster has one of them.
pub const CLUSTER_LEASE: &str = "chatroom-operator-cluster";

/// It exists in every cluster, and no provider keeps it for itself.
pub const CLUSTER_LEASE_NAMESPACE: &str = "default";

/// What an object is of: nodes or store.
const APP_LABEL: &str = "app.kubernetes.io/name";

/// On every object of a room; its value is the room's name. Watches and selectors use it.
pub const ROOM_LABEL: &str = "chatroom.dev/room";

/// Image of stores that the operator runs, unless it is told another.
pub const STORE_IMAGE: &str = "docker.io/valkey/valkey:8-alpine";

/// On every object of a room: hash of what was applied. Another hash means that it must be applied again.
pub const APPLIED_ANNOTATION: &str = "chatroom.dev/applied";

/// On the nodes' StatefulSet: hash of its template. Another one means that the pods are about to be rolled.
pub const TEMPLATE_ANNOTATION: &str = "chatroom.dev/template";

/// On pods: hash of the configuration they were started for. Another hash rolls them.
pub const CONFIG_ANNOTATION: &str = "chatroom.dev/config";

/// On the ConfigMap of a room: hash of the Secrets with certificates that its nodes were last given.
pub const CONTROL_ANNOTATION: &str = "chatroom.dev/control";

/// On pods with a control port: uid of the room whose authority they know.
pub const ROOM_UID_ANNOTATION: &str = "chatroom.dev/room-uid";

/// On pods, read by the ReplicaSet controller when it has to stop some: lower ones go first.
pub const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// On pods: when their deletion cost was set, in seconds since 1970. An old rank says nothing of today's clients.
pub const RANKED_ANNOTATION: &str = "chatroom.dev/ranked-at";

/// Value of `app.kubernetes.io/name` on nodes, and on whatever belongs to them.
pub const NODE_APP: &str = "chat-node";

/// Value of `app.kubernetes.io/name` on the store that the operator runs.
pub const STORE_APP: &str = "chat-store";

/// Tells the ReplicaSets of a Deployment apart; set on pods by its controller.
pub const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// Zone of a Kubernetes node, and of the pods on it (Kubernetes 1.35 or newer).
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Set by the StatefulSet controller on pods.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// Set by the endpoint slice controller.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Key of the configuration file in the ConfigMap.
pub const CONFIG_FILE: &str = "config.yaml";

/// Name of the volume claim template; a pod's claim is `data-<pod>`.
pub const DATA_VOLUME: &str = "data";

/// Name of the container in a node's pod.
pub const NODE_CONTAINER: &str = "chat-node";

/// Name of the container in the pod of a store that the operator runs.
pub const STORE_CONTAINER: &str = "store";

/// Port of a node's container for those who look after it.
pub const ADMIN_PORT: &str = "admin";

/// Port of a node's container for the operator alone. Nodes of an earlier version have none.
pub const CONTROL_PORT: &str = "control";

/// Port of a stateful node's container for the other nodes.
pub const PEER_PORT: &str = "peer";

/// Keys of a Secret with a certificate, as Kubernetes' own type of such Secrets has them.
pub const CERTIFICATE_KEY: &str = "tls.crt";
pub const PRIVATE_KEY_KEY: &str = "tls.key";
pub const AUTHORITIES_KEY: &str = "ca.crt";

/// Key of a store's Secret that holds its URL.
pub const STORE_URL_KEY: &str = "url";

/// Key of a store's Secret that holds the server's password, as a line of its configuration.
pub const STORE_AUTH_KEY: &str = "auth.conf";

/// Service that clients connect to.
pub fn client_service(room: &str) -> String {
    room.into()
}

/// Headless Service that gives nodes of a stateful room their names: `<pod>.<room>-peers.<namespace>.svc`.
pub fn peer_service(room: &str) -> String {
    format!("{room}-peers")
}

/// StatefulSet of a room; its pods are `<room>-<ordinal>`.
pub fn stateful_set(room: &str) -> String {
    room.into()
}

/// Ordinal of a pod of a room's StatefulSet, by its name.
pub fn ordinal(room: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(&stateful_set(room))?.strip_prefix('-')?.parse().ok().filter(|&ordinal| ordinal >= 0)
}

/// Pod of a room's StatefulSet.
pub fn pod(room: &str, ordinal: i32) -> String {
    format!("{}-{ordinal}", stateful_set(room))
}

/// Claim of a pod.
pub fn claim(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// Deployment of a stateless room.
pub fn deployment(room: &str) -> String {
    room.into()
}

pub fn disruption_budget(room: &str) -> String {
    room.into()
}

/// StatefulSet, Service and NetworkPolicy of the store that the operator runs.
pub fn store(room: &str) -> String {
    format!("{room}-store")
}

/// Secret of the store that the operator runs. It is never read, so that its name alone must tell that it is the room's
/// and not that of an earlier room of the same name: it holds a part of the room's uid.
pub fn store_secret(room: &str, uid: &str) -> String {
    format!("{room}-store-{}", part_of(uid))
}

/// Secret with what a room's nodes need for their control ports. As for [`store_secret`], its name alone tells whose it is.
pub fn control_secret(room: &str, uid: &str) -> String {
    format!("{room}-control-{}", part_of(uid))
}

/// Secret with what the nodes of a stateful room need to know each other by. As for [`store_secret`].
pub fn peer_secret(room: &str, uid: &str) -> String {
    format!("{room}-peers-{}", part_of(uid))
}

/// Secret of an installation of the operator, in its own namespace, that the keys of all control ports follow from.
pub fn control_root(installation: &str) -> String {
    format!("{installation}-control")
}

fn part_of(uid: &str) -> String {
    let part: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    part.to_ascii_lowercase()
}

pub fn config_map(room: &str) -> String {
    format!("{room}-config")
}

pub fn service_account(room: &str) -> String {
    format!("{room}-node")
}

pub fn network_policy(room: &str) -> String {
    room.into()
}

/// What selects the nodes' pods of a room. It never changes, so it never holds a version.
pub fn selector(room: &str) -> BTreeMap<String, String> {
    app(room, NODE_APP)
}

/// What selects the pod of the room's store.
pub fn store_selector(room: &str) -> BTreeMap<String, String> {
    app(room, STORE_APP)
}

fn app(room: &str, app: &str) -> BTreeMap<String, String> {
    [(APP_LABEL.into(), app.into()), (ROOM_LABEL.into(), room.into())].into()
}

/// [`selector`] in the form that `/scale` wants.
pub fn selector_text(room: &str) -> String {
    selector(room).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels of what belongs to the operator itself.
pub fn own_labels() -> BTreeMap<String, String> {
    [(APP_LABEL.into(), OPERATOR.into())].into()
}

/// Labels of every object of a room's nodes.
pub fn labels(room: &str) -> BTreeMap<String, String> {
    labelled(selector(room), room)
}

/// Labels of every object of a room's store.
pub fn store_labels(room: &str) -> BTreeMap<String, String> {
    labelled(store_selector(room), room)
}

fn labelled(mut labels: BTreeMap<String, String>, room: &str) -> BTreeMap<String, String> {
    labels.insert("app.kubernetes.io/instance".into(), room.into());
    labels.insert("app.kubernetes.io/part-of".into(), "chatroom".into());
    labels.insert("app.kubernetes.io/managed-by".into(), OPERATOR.into());
    labels
}

/// Whether an object of a room belongs to its store.
pub fn is_of_store(object: &impl kube::ResourceExt) -> bool {
    object.labels().get(APP_LABEL).is_some_and(|app| app == STORE_APP)
}
