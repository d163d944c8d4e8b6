//! From what the data directory held to a worker's replicas of every shard.

use std::collections::BTreeMap;

use chat_log::{
    local::Recovered,
    shared::store::Snapshots,
    snapshot::{Snapshot, SnapshotError, SnapshotStore},
};
use chat_state::{
    channels::ChannelShard,
    directory::Directory,
    ids::{Index, Lineage, ShardId},
    snapshot::RestoreError,
};

/// Where recovery begins: the newest snapshots. The entries after them come through the log's follower.
pub(crate) struct StartingPoint {
    history: History,
    snapshots: BTreeMap<ShardId, Option<Snapshot>>,
    shards: u16,
    lineage: Lineage,
}

/// Where the messages are that snapshots refer to.
enum History {
    OnDisk(SnapshotStore),
    /// Of each shard, as they came from a store.
    Loaded(BTreeMap<ShardId, Vec<Vec<u8>>>),
}

/// A worker's own copy of the state.
pub(crate) struct Replicas {
    pub(crate) directory: Directory,
    /// Shards 1..=S.
    pub(crate) channels: Vec<ChannelShard>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("snapshot of shard {shard}: {source}")]
    Restore { shard: ShardId, source: RestoreError },
    #[error(transparent)]
    Chunk(#[from] SnapshotError),
}

impl StartingPoint {
    pub(crate) fn new(recovered: Recovered, store: SnapshotStore) -> Self {
        let Recovered { identity, snapshots, entries: _, report, passed_over } = recovered;
        for damaged in &passed_over {
            tracing::warn!(error = %damaged, "a damaged snapshot was passed over for an older one");
        }
        if report.cut_bytes > 0 {
            tracing::warn!(
                bytes = report.cut_bytes,
                "the last batch of the log was cut short, as a crash during a write leaves it; it was removed. \
                 Nothing of it had been acknowledged, if the disk keeps what it says that it has flushed"
            );
        }
        tracing::debug!(?report, "the log was recovered");
        Self {
            history: History::OnDisk(store),
            snapshots,
            shards: identity.shards,
            lineage: identity.lineage,
        }
    }

    /// From what a shared store holds.
    pub(crate) fn of_store(found: Snapshots, shards: u16, lineage: Lineage) -> Self {
        let mut snapshots: BTreeMap<_, _> = (0..=shards).map(|shard| (ShardId(shard), None)).collect();
        let mut history = BTreeMap::new();
        for (shard, (snapshot, chunks)) in found.of {
            snapshots.insert(shard, Some(snapshot));
            history.insert(shard, chunks);
        }
        Self { history: History::Loaded(history), snapshots, shards, lineage }
    }

    /// The first entry of each shard that is in no snapshot.
    pub(crate) fn follow_from(&self) -> BTreeMap<ShardId, Index> {
        let next =
            |snapshot: &Option<Snapshot>| snapshot.as_ref().map_or(1, |snapshot| snapshot.meta.index.0 + 1);
        self.snapshots.iter().map(|(shard, snapshot)| (*shard, Index(next(snapshot)))).collect()
    }

    /// Snapshots as they are on disk, for whoever writes the next ones.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.values().flatten()
    }

    /// Restores every shard.
    pub(crate) fn replicas(&self) -> Result<Replicas, RecoverError> {
        let directory = match self.snapshot(ShardId::DIRECTORY) {
            None => Directory::new(self.lineage),
            Some(snapshot) => Directory::restore(&snapshot.state)
                .map_err(|source| RecoverError::Restore { shard: ShardId::DIRECTORY, source })?,
        };
        let channels = (1..=self.shards).map(|n| self.channel_shard(ShardId(n))).collect::<Result<_, _>>()?;
        Ok(Replicas { directory, channels })
    }

    fn channel_shard(&self, shard: ShardId) -> Result<ChannelShard, RecoverError> {
        let Some(snapshot) = self.snapshot(shard) else {
            return Ok(ChannelShard::new(shard, self.shards, self.lineage));
        };
        let read: Vec<_>;
        let chunks = match &self.history {
            History::OnDisk(store) => {
                read = snapshot
                    .chunks
                    .iter()
                    .map(|chunk| store.read_chunk(shard, chunk))
                    .collect::<Result<_, _>>()?;
                &read
            }
            History::Loaded(of) => of.get(&shard).unwrap_or(const { &Vec::new() }),
        };
        ChannelShard::restore(&snapshot.state, chunks.iter().map(Vec::as_slice))
            .map_err(|source| RecoverError::Restore { shard, source })
    }

    fn snapshot(&self, shard: ShardId) -> Option<&Snapshot> {
        self.snapshots.get(&shard)?.as_ref()
    }
}
