//! From what the data directory held to a worker's replicas of every shard.

use std::collections::BTreeMap;

use chat_log::{
    local::Recovered,
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
    store: SnapshotStore,
    snapshots: BTreeMap<ShardId, Option<Snapshot>>,
    shards: u16,
    lineage: Lineage,
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
        Self { store, snapshots, shards: identity.shards, lineage: identity.lineage }
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
        let chunks: Vec<_> = snapshot
            .chunks
            .iter()
            .map(|chunk| self.store.read_chunk(shard, chunk))
            .collect::<Result<_, _>>()?;
        ChannelShard::restore(&snapshot.state, chunks.iter().map(Vec::as_slice))
            .map_err(|source| RecoverError::Restore { shard, source })
    }

    fn snapshot(&self, shard: ShardId) -> Option<&Snapshot> {
        self.snapshots.get(&shard)?.as_ref()
    }
}
