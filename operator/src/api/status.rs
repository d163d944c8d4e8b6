//! `ChatRoom.status`: the user's window.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the room is right now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ChatRoomStatus {
    /// Generation of the spec that this status speaks of.
    pub observed_generation: i64,

    /// The room's state in a word: Serving, Starting, Rolling, ReadOnly, Invalid, Paused and the like.
    pub summary: String,

    /// What is waited for and where to look, or that all is well.
    pub message: String,

    /// Where the log lives: stateful or stateless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,

    /// Nodes that exist and are not being stopped (for `kubectl scale` and autoscalers).
    pub replicas: i32,

    /// Nodes that are being stopped; their clients are moved away.
    pub terminating_replicas: i32,

    /// Label selector of the nodes' pods (for autoscalers).
    pub selector: String,

    /// Nodes that clients can join and talk on.
    pub ready_replicas: i32,

    /// Open client connections. Rewritten when it changed by a tenth, at most every 30 s.
    pub connections: u32,

    /// When the live counters (connections) were last rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters_at: Option<Time>,

    /// Version of the nodes; several while they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Smallest volume size that `spec.mode.stateful.storage.size` may be set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,

    /// Who begins a stateful room; there from the decision until a node says that it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub founding: Option<Founding>,

    /// The stateful room that the nodes' volumes hold; there since it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterIdentity>,

    /// One row a node.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub nodes: Vec<NodeRow>,

    /// What the room promises, next to what holds right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarantees: Option<Guarantees>,

    /// Ready always, StoreReachable for a stateless room; Reconciling, Stalled and ScalingLimited only when true.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Who begins a room. It is written down before that member is told, so that no other ever is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Founding {
    /// Member id: it is that of a volume.
    pub member: String,
}

/// A room as its volumes know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentity {
    /// Random number of its founding.
    pub id: String,
}

/// A node as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// Name of its pod.
    pub pod: String,

    /// What it is doing.
    pub state: MemberState,

    /// Member id. Where it is kept on a volume, another one means another, or an emptied, volume; a node of a stateless
    /// room has another one in each life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,

    /// What it is to the nodes that keep the log together; only in a stateful room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,

    /// Shards that it leads, the directory among them; only in a stateful room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads: Option<u16>,

    /// Version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Its open client connections.
    #[serde(default)]
    pub connections: u32,

    /// Why it is not serving; empty when it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// Its pod does not run yet, or the operator cannot reach it.
    Unknown,
    /// It reads its log.
    Recovering,
    /// Clients can join and talk.
    Serving,
    /// Clients can read; its reason says why they cannot write.
    ReadOnly,
    /// Its clients are being moved away.
    Draining,
}

/// What a node is to the others that keep the log with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Membership {
    /// Its volume is empty, and nobody has let it in.
    Waiting,
    /// Let in, and getting what the others have.
    Joining,
    Member,
    /// Giving its shards to others.
    Leaving,
    /// Not one of them any more.
    Removed,
}

impl From<contract::status::Membership> for Membership {
    fn from(membership: contract::status::Membership) -> Self {
        use contract::status::Membership as Node;
        match membership {
            Node::Waiting => Self::Waiting,
            Node::Joining => Self::Joining,
            Node::Member => Self::Member,
            Node::Leaving => Self::Leaving,
            Node::Removed => Self::Removed,
        }
    }
}

/// What the room promises, next to what holds right now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guarantees {
    /// TotalPerChannel: everybody sees the messages of a channel in one order.
    pub order: Order,

    /// What is true of a message once its sender saw the acknowledgement; absent until a node has said it of its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,

    /// Failures that chat survives without a pause: of nodes, or, in a stateful room, of the Kubernetes nodes that they run on,
    /// since those take all chat nodes on them along.
    pub tolerates: Tolerates,

    /// Since when fewer failures are tolerated than declared, or none can be because nobody serves; absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy_lost_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    TotalPerChannel,
}

/// What is true of a message once its sender saw the acknowledgement, from the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Durability {
    /// In the store's memory alone.
    Memory,
    /// On a disk within about a second.
    BestEffort,
    /// On the disk of one machine.
    LocalFsync,
    /// On the disks of a majority.
    QuorumFsync,
}

impl From<contract::status::Durability> for Durability {
    fn from(durability: contract::status::Durability) -> Self {
        use contract::status::Durability as Node;
        match durability {
            Node::Memory => Self::Memory,
            Node::BestEffort => Self::BestEffort,
            Node::LocalFsync => Self::LocalFsync,
            Node::QuorumFsync => Self::QuorumFsync,
        }
    }
}

/// Simultaneous failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tolerates {
    /// What the spec declares.
    pub declared: i32,

    /// What holds right now; absent while nobody serves, or not every shard has a leader that was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<i32>,
}
