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

/// On every object of a room; its value is the room's name. Watches and selectors use it.
pub const ROOM_LABEL: &str = "chatroom.dev/room";

/// On every object of a room: hash of what was applied. Another hash means that it must be applied again.
pub const APPLIED_ANNOTATION: &str = "chatroom.dev/applied";

/// On pods: hash of the configuration they were started for. Another hash rolls them.
pub const CONFIG_ANNOTATION: &str = "chatroom.dev/config";

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

/// Service that clients connect to.
pub fn client_service(room: &str) -> String {
    room.into()
}

/// Headless Service that gives nodes their names.
pub fn peer_service(room: &str) -> String {
    format!("{room}-nodes")
}

/// StatefulSet of a room; its pods are `<room>-<ordinal>`.
pub fn stateful_set(room: &str) -> String {
    room.into()
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

/// What selects the pods of a room. It never changes, so it never holds a version.
pub fn selector(room: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name".into(), "chat-node".into()), (ROOM_LABEL.into(), room.into())].into()
}

/// [`selector`] in the form that `/scale` wants.
pub fn selector_text(room: &str) -> String {
    selector(room).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels of every object of a room.
pub fn labels(room: &str) -> BTreeMap<String, String> {
    let mut labels = selector(room);
    labels.insert("app.kubernetes.io/instance".into(), room.into());
    labels.insert("app.kubernetes.io/part-of".into(), "chatroom".into());
    labels.insert("app.kubernetes.io/managed-by".into(), OPERATOR.into());
    labels
}
