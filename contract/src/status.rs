//! The admin API of a chat node: paths and JSON bodies.

use serde::{Deserialize, Serialize};

/// 200 while the node's loops turn and its storage thread lives; never a statement about quorum.
pub const LIVEZ: &str = "/livez";
/// 200 when a client can join and talk here; 503 with a reason in the body otherwise.
pub const READYZ: &str = "/readyz";
/// Prometheus text format.
pub const METRICS: &str = "/metrics";
/// [`NodeStatus`] as JSON. With `?watch`, one JSON document a line: at once, on change, and at least every second.
pub const STATUS: &str = "/v1/status";

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Version of the program.
    pub version: String,
    /// Random number, hexadecimal. Where the node keeps its log itself it is in the data directory, and another one
    /// means another (or an emptied) disk; else each life of the process has its own. Empty before the log is open.
    pub member: String,
    pub state: NodeState,
    /// Why `state` is what it is, for people; empty when serving.
    pub reason: String,
    /// Open client connections, registered or not.
    pub connections: u32,
    /// Sessions in the state, attached or within their resume window.
    pub sessions: u32,
    /// Sessions without a connection, within their resume window.
    pub detached: u32,
    pub users: u32,
    pub channels: u32,
    /// Revision of the chat settings that every shard has applied.
    pub settings_revision: u64,
    /// What an acknowledgement of this node means.
    pub durability: Durability,
    pub shards: Vec<ShardStatus>,
    /// Clients still to be moved away while draining.
    pub draining_remaining: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Reading its log; no client yet.
    Recovering,
    /// Clients can join and talk.
    Serving,
    /// Reading goes on, writing does not; `reason` says why.
    ReadOnly,
    /// Clients are being moved away.
    Draining,
}

/// What was true of a message when its sender saw the acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Durability {
    Memory,
    BestEffort,
    /// Flushed to the disk of one node.
    LocalFsync,
    /// Flushed to the disks of a majority.
    QuorumFsync,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// 0 is the directory.
    pub shard: u16,
    /// Last applied entry.
    pub index: u64,
    /// Last event.
    pub position: u64,
    /// Last entry covered by a snapshot on disk.
    pub snapshot_index: u64,
}
