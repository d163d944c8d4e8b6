//! `ChatRoom.spec.mode`: where the log lives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the log lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.stateful) == has(oldSelf.stateful)",
    "message": "a room cannot move between stateful and stateless: set mode back, or create another ChatRoom"
}]))]
pub enum Mode {
    /// The nodes keep the log on volumes of their own, each entry on those of a majority.
    Stateful(Stateful),
    /// The log is in a store that all nodes share. They hold nothing that matters: any number of them runs, and any client
    /// may be on any of them.
    Stateless(Stateless),
}

/// A room whose nodes keep the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Stateful {
    /// Logs that the channels are spread over. Fixed once the room exists.
    #[schemars(range(min = 1, max = 256))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "shards cannot change once the room exists: set it back, or create another ChatRoom"
    }]))]
    pub shards: u16,

    /// Failures that the room is to survive.
    pub tolerate: Tolerate,

    /// The volume of each node.
    pub storage: Storage,
}

impl Default for Stateful {
    fn default() -> Self {
        Self { shards: default_shards(), tolerate: Tolerate::default(), storage: Storage::default() }
    }
}

/// Failures that a room is to survive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tolerate {
    /// Nodes that may fail at a time without a pause, f. Every message is on the disks of f + 1 nodes before its sender sees
    /// it acknowledged, and the room has at least 2f + 1 nodes; 0 is a room that one node can be. Fixed once the room exists.
    #[schemars(range(min = 0, max = 3))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "nodeFailures cannot change once the room exists: set it back, or create another ChatRoom"
    }]))]
    pub node_failures: u16,
}

impl Default for Tolerate {
    fn default() -> Self {
        Self { node_failures: 1 }
    }
}

/// The volume of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)",
    "message": "className cannot change once the room exists: set it back, or create another ChatRoom"
}]))]
pub struct Storage {
    /// Size of each volume, such as 1Gi. It may only grow, and only where the StorageClass allows expansion.
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "isQuantity(self) && quantity(self).compareTo(quantity('16Mi')) >= 0",
        "message": "write a size of at least 16Mi, such as 1Gi"
    }]))]
    pub size: String,

    /// StorageClass of the volumes; the cluster's default when left out. Fixed once the room exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,

    /// What becomes of the volumes when the room is deleted, and of those of nodes that a smaller room gave up. A room of the
    /// same name finds retained ones again.
    pub retain: Retain,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: "1Gi".into(), class_name: None, retain: Retain::Retain }
    }
}

/// What becomes of volumes that are not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retain {
    Retain,
    Delete,
}

/// A room whose log is in a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stateless {
    /// Logs that the channels are spread over. Fixed once the room exists.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 256))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "shards cannot change once the room exists: set it back, or create another ChatRoom"
    }]))]
    pub shards: u16,

    /// The store: exactly one of the keys, and the same one as long as the room exists.
    pub store: Store,
}

/// Where a stateless room's log is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.managed) == has(oldSelf.managed)",
    "message": "another store would not hold this room's log: set store back, or create another ChatRoom"
}]))]
pub enum Store {
    /// For trying out: one small Valkey server that the operator runs, with a volume and a password of its own. Nobody
    /// talks while it restarts, and its volume is deleted with the room. Use `{}`.
    Managed(ManagedStore),
    /// A Valkey (7.2 or newer) or Redis (6.2 or newer) of yours: one server, or a primary with replicas, not a cluster of
    /// shards. It must have `maxmemory-policy noeviction`; with `appendonly yes` and `appendfsync always` an acknowledged
    /// message is on its disk.
    Valkey(ValkeyStore),
}

/// The store that the operator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)",
    "message": "className cannot change once the room exists: set it back, or create another ChatRoom"
}]))]
pub struct ManagedStore {
    /// Size of its volume, such as 1Gi. Fixed once the room exists.
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "isQuantity(self) && quantity(self).compareTo(quantity('16Mi')) >= 0",
            "message": "write a size of at least 16Mi, such as 1Gi"
        },
        {
            "rule": "self == oldSelf",
            "message": "the volume of a managed store keeps its size: set it back, or create another ChatRoom"
        }
    ]))]
    pub size: String,

    /// StorageClass of its volume; the cluster's default when left out. Fixed once the room exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
}

impl Default for ManagedStore {
    fn default() -> Self {
        Self { size: "1Gi".into(), class_name: None }
    }
}

/// A store of yours. The operator reads neither its Secret nor its certificates: the nodes mount them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValkeyStore {
    /// Where its URL is: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` for TLS. The nodes read it again when
    /// it changes, for a new password say; it must go on leading to the same data.
    pub url_from: UrlSource,

    /// Where the authorities' certificates (PEM) are that the store's own is checked against under `rediss://`; those of the
    /// node's image when left out, and ours has none. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_from: Option<CaSource>,
}

/// Where a URL is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlSource {
    /// A key of a Secret in the room's namespace.
    pub secret_key_ref: KeyRef,
}

/// Where certificates are: exactly one of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CaSource {
    /// A key of a Secret in the room's namespace.
    SecretKeyRef(KeyRef),
    /// A key of a ConfigMap in the room's namespace.
    ConfigMapKeyRef(KeyRef),
}

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^[-._a-zA-Z0-9]+$') && !self.startsWith('..') && self != '.'",
        "message": "a key of a Secret or ConfigMap is made of letters, digits, '-', '_' and '.'"
    }]))]
    pub key: String,
}

fn default_shards() -> u16 {
    4
}
