//! What a shared store has to do to hold a log. One implementation per kind of store.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
};

use chat_state::ids::{Incarnation, Index, ShardId};

use crate::{
    log::{Durability, Reason},
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
};

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It answered that it will not; nothing was changed.
    #[error("{1}")]
    Refused(Reason, String),
    /// No answer, or one that says nothing: whether it was done is unknown. It may help to ask again.
    #[error("{0}")]
    Unavailable(String),
    /// It does not hold what this node knows that it held, or is not for this node to use: the node must end.
    #[error("{0}")]
    Broken(String),
}

/// An entry as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    pub shard: ShardId,
    pub index: Index,
    /// By the store's clock, when it was appended.
    pub time_ms: u64,
    pub payload: Vec<u8>,
}

/// What the store holds of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Oldest entry that is kept; last + 1 when none is.
    pub first: Index,
    pub last: Index,
    /// Up to where the newest snapshot covers it.
    pub snapshot: Index,
}

/// Which nodes are there, as the store heard of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// This node does the chores of the room.
    pub leads: bool,
    /// Lives that were heard of lately, this one among them.
    pub alive: BTreeSet<Incarnation>,
}

pub trait Store: Send + Sync + 'static {
    type Reader: Reader;

    /// What an append's success means, as the store is configured now.
    fn durability(&self) -> Durability;

    /// Each shard as it is now, the directory first.
    fn extents(&self) -> impl Future<Output = Result<Vec<Extent>, StoreError>> + Send;

    /// Appends one entry; gives its index.
    fn append(
        &self,
        shard: ShardId,
        payload: Arc<[u8]>,
    ) -> impl Future<Output = Result<Index, StoreError>> + Send;

    /// Follows all shards, from behind these entries on (the directory's first).
    fn reader(&self, after: Vec<Index>) -> Self::Reader;

    /// Entries of a shard behind `after`, in order, as many as there are up to about `bytes`, at least one.
    fn range(
        &self,
        shard: ShardId,
        after: Index,
        bytes: usize,
    ) -> impl Future<Output = Result<Vec<StoredEntry>, StoreError>> + Send;

    /// Stores a snapshot unless there is a newer one, then lets go of what it makes needless; both in one step, so
    /// that whoever comes late changes nothing.
    fn save(&self, snapshot: &NewSnapshot) -> impl Future<Output = Result<Snapshot, SnapshotError>> + Send;

    /// Tells the store, about every second, that this node lives.
    fn beat(&self, incarnation: Incarnation) -> impl Future<Output = Result<Beat, StoreError>> + Send;

    /// The shard whose missing snapshot keeps the store from letting go of what is old, if there is one.
    fn pinning(&self) -> Option<ShardId> {
        None
    }

    /// Bytes of the log on this node's disk.
    fn bytes(&self) -> u64 {
        0
    }

    /// Since when, by this node's monotonic clock, an operation of its disk runs.
    fn disk_busy_since_ms(&self) -> Option<u64> {
        None
    }

    /// This node ends in good order: nobody has to wait until it is taken for dead.
    fn leave(&self, incarnation: Incarnation) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A stream of everything that is appended.
pub trait Reader: Send + 'static {
    /// Waits until there is something, or the store cannot be reached.
    fn next(&mut self) -> impl Future<Output = Result<Vec<StoredEntry>, StoreError>> + Send;
}

/// The newest snapshot of each shard, with its chunks; for a node that starts.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    pub of: BTreeMap<ShardId, (Snapshot, Vec<Vec<u8>>)>,
}
