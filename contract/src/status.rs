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
/// POST [`Found`]: this node, whose directory is empty, begins the room; those that come later ask it to let them in. 200 when
/// it did or had done so; 409 with a reason otherwise. Said once in the life of a room, or there are two of it.
pub const FOUND: &str = "/v1/found";
/// DELETE `/v1/members/ID` (hexadecimal): the member gives its shards to others, then leaves the room's nodes. 202 when that
/// is ordered; [`Cluster::members`] shows when it is done. 404 when there is no such member, 409 when it is the last that stays.
/// Any node takes it. It serves until its votes are given to others: that waits for a majority of those that stay.
pub const MEMBERS: &str = "/v1/members/";
/// POST, without a body: this node hands the shards that it leads to others, and for half a minute none are handed to it. 200
/// when it leads none that has another voter; 503 when nobody takes them.
pub const TRANSFER_LEADER: &str = "/v1/transfer-leader";

/// Body of [`FOUND`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Found {
    /// The member that is meant, as its status names it: another disk than was looked at does not found a room.
    pub member: String,
}

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
    /// Of a room with a `raft` log: the nodes that keep it, as this one knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// The nodes of a room that keep its log together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Random number of the room's founding, hexadecimal; empty as long as this node is no part of it.
    pub id: String,
    pub membership: Membership,
    /// Everybody in the committed membership of the directory, in order of their ids.
    pub members: Vec<Member>,
    /// Every shard, the directory first.
    pub groups: Vec<Group>,
}

/// What a node is to its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// Its directory is empty, and nobody has let it in.
    #[default]
    Waiting,
    /// Let in, and getting what the others have.
    Joining,
    Member,
    /// Giving its shards to others.
    Leaving,
    /// Not a part of the room any more; what its directory holds is of no use.
    Removed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// As in [`NodeStatus::member`].
    pub id: String,
    pub name: String,
    /// `HOST:PORT` of its peer listener.
    pub address: String,
    pub host: String,
    pub zone: String,
    pub leaving: bool,
    /// The directory's leader heard of it lately. Said by that leader; others repeat what it last told them.
    pub alive: bool,
}

/// A shard and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub shard: u16,
    /// Id of the member that leads it, as far as this node knows; empty when it knows of none.
    pub leader: String,
    pub term: u64,
    /// Ids.
    pub voters: Vec<String>,
    /// Ids of those who follow it without a vote.
    pub learners: Vec<String>,
    /// Voters and learners that have all that is committed, or nearly; known to the leader alone, empty elsewhere.
    pub current: Vec<String>,
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
