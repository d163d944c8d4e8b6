//! What a log is to the rest of a node, wherever it lives.
//!
//! Workers hand in [`Request`]s and get [`Delivery`]s, each worker over a [`Follower`] of its own. There is no answer
//! to an append: a request that got its place comes back in an entry, to every follower; one that was refused comes
//! back to the follower that handed it in; one whose fate is unknown is resent by the log itself, in order, until it
//! is one of the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use chat_state::entry::Request;
use chat_state::{
    entry::Entry,
    ids::{Incarnation, Index, ShardId},
};
pub use contract::status::Durability;
use tokio::sync::oneshot;

pub use crate::follower::{Follower, FollowerId};
use crate::snapshot::{NewSnapshot, Snapshot, SnapshotError};

pub trait Log: Send + Sync {
    /// What it means that an entry was delivered.
    fn durability(&self) -> Durability;

    /// A stream of everything that happens from now on, and of all entries from the given indexes on: per shard in
    /// order, without a gap. A shard that is not named is followed from the oldest entry that is kept.
    fn follow(&self, from: BTreeMap<ShardId, Index>) -> Result<Follower, FollowError>;

    /// Hands in requests of one shard, in order. Cheap: puts them into a queue. `Err` gives all of them back; none got
    /// into the log.
    fn append(&self, from: FollowerId, shard: ShardId, requests: Vec<Request>) -> Result<(), AppendError>;

    /// This node was registered: from now on its requests carry this life's number. Requests handed in before are
    /// refused as [`Reason::NotRegistered`], but for the registration itself.
    fn begin(&self, incarnation: Incarnation);

    /// Stores a snapshot of a shard, then lets go of the entries that it covers. The answer comes when it is durable.
    /// An error leaves the previous snapshot in force.
    fn save_snapshot(&self, snapshot: NewSnapshot) -> oneshot::Receiver<Result<Snapshot, SnapshotError>>;

    fn status(&self) -> LogStatus;

    /// This node among the nodes of its room; a part of the status that is asked for often.
    fn standing(&self) -> Standing;

    /// Takes nothing more, finishes what was taken, and ends. Waits for the disk or the store, within bounds.
    fn stop(&self);

    /// Whether a node that stops should hand in snapshots of everything first, so that its next start is quick.
    fn wants_last_snapshots(&self) -> bool {
        true
    }
}

/// Entries that became durable together, in the order of the log; those of a shard are in order of their index.
pub type CommittedBatch = Arc<[(ShardId, Arc<Entry>)]>;

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// These have the durability that the log promises: it may be acknowledged.
    Committed(CommittedBatch),
    /// Never got into the log and never will; told only to the follower that handed it in.
    Refused { shard: ShardId, request: Request, reason: Reason },
    /// Why the log refuses what clients ask for, if it does. It does not until said otherwise.
    ReadOnly(Option<Reason>),
    /// The log grows too long for want of a snapshot of this shard. Said to every follower; whoever owns the shard's
    /// state answers by [`Log::save_snapshot`].
    SnapshotWanted { shard: ShardId },
    /// The log is broken; nothing more will be acknowledged. The process must end, with this as the reason.
    Fatal(Arc<str>),
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the disk is full: free some space, or give the node a larger volume")]
    DiskFull,
    #[error("the store of this room is full: give it more memory, or keep less history")]
    StoreFull,
    #[error("the store of this room cannot save to its disk: see its log")]
    StoreBroken,
    #[error("the store of this room takes no writes: it is a replica, or its user may not write")]
    StoreReadOnly,
    #[error("the store of this room cannot be reached")]
    StoreUnreachable,
    #[error("most of the nodes that keep this room's log cannot be reached")]
    NoQuorum,
    #[error("this node is not registered yet")]
    NotRegistered,
    #[error("the request is larger than an entry may be")]
    TooLarge,
    #[error("there is no such shard in this room")]
    NoSuchShard,
    #[error("the node is stopping")]
    Stopping,
}

/// Why requests were not even taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(
        "more requests wait for the log than may wait: it stands still, or more is asked than it can bear"
    )]
    Overloaded(Vec<Request>),
    #[error("the log has stopped")]
    Stopped(Vec<Request>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    #[error(
        "the entries of shard {shard} are kept from {oldest} on, {wanted} was asked for: start from the snapshot"
    )]
    Gone { shard: ShardId, wanted: Index, oldest: Index },
    #[error("shard {shard} ends at entry {last}, {wanted} was asked for")]
    NotYet { shard: ShardId, wanted: Index, last: Index },
    #[error("there is no shard {shard} in this room")]
    NoSuchShard { shard: ShardId },
    #[error("the log has stopped")]
    Stopped,
}

/// How the log is, for status, metrics and the watchdog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    pub shards: BTreeMap<ShardId, ShardLogStatus>,
    /// Bytes of the log's files.
    pub bytes: u64,
    /// The shard whose missing snapshot keeps the oldest of them.
    pub pinning: Option<ShardId>,
    pub read_only: Option<Reason>,
    pub standing: Standing,
    /// Monotonic milliseconds of the running disk operation's start; `None` when none runs.
    pub disk_busy_since_ms: Option<u64>,
    pub commits: u64,
    /// Proposals that got their place.
    pub proposals: u64,
    /// Requests that wait.
    pub waiting: usize,
    pub fatal: Option<Arc<str>>,
}

/// A node among the nodes of its room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// This node does the chores of the room.
    pub leads: bool,
    /// Lives of nodes that were heard of lately; `None` where the log is this node's own.
    pub alive: Option<Arc<BTreeSet<Incarnation>>>,
}

impl Standing {
    /// The log belongs to this node alone.
    pub const ALONE: Self = Self { leads: true, alive: None };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardLogStatus {
    /// Oldest entry that can be followed from; last + 1 when none is kept.
    pub first: Index,
    /// Newest entry.
    pub last: Index,
    /// Up to where the newest snapshot covers it.
    pub snapshot: Index,
}
