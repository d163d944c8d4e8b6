//! Snapshots: what a life begins with, and what it writes.

use std::collections::{BTreeMap, VecDeque};

use chat_log::{
    local::{LocalLog, Recovered},
    snapshot::{ChunkRef, NewChunk, NewSnapshot, Snapshot, SnapshotError, SnapshotMeta, SnapshotStore},
    wal::WalError,
};
use chat_session::Worker;
use chat_state::{
    channels::ChannelShard,
    directory::Directory,
    ids::{Index, Position, ShardId},
};

use crate::{
    node::LINEAGE,
    violation::{Checker, Violation},
};

/// Chunks of a shard after which its history is written anew as one.
const MOST_CHUNKS: usize = 4;

/// The newest snapshots of a data directory.
pub(crate) struct StartingPoint {
    store: SnapshotStore,
    snapshots: BTreeMap<ShardId, Option<Snapshot>>,
    shards: u16,
}

impl StartingPoint {
    pub(crate) fn new(recovered: &Recovered, store: SnapshotStore) -> Self {
        Self { store, snapshots: recovered.snapshots.clone(), shards: recovered.identity.shards }
    }

    /// The last entry that is in the snapshot.
    pub(crate) fn index(&self, shard: ShardId) -> Index {
        self.snapshot(shard).map_or(Index(0), |snapshot| snapshot.meta.index)
    }

    pub(crate) fn replicas(&self) -> Result<(Directory, Vec<ChannelShard>), Violation> {
        let directory = match self.snapshot(ShardId::DIRECTORY) {
            None => Directory::new(LINEAGE),
            Some(snapshot) => Directory::restore(&snapshot.state).map_err(unusable)?,
        };
        let channels = (1..=self.shards).map(|n| self.channels(ShardId(n))).collect::<Result<_, _>>()?;
        Ok((directory, channels))
    }

    fn channels(&self, shard: ShardId) -> Result<ChannelShard, Violation> {
        let Some(snapshot) = self.snapshot(shard) else {
            return Ok(ChannelShard::new(shard, self.shards, LINEAGE));
        };
        let chunks = snapshot.chunks.iter().map(|chunk| self.store.read_chunk(shard, chunk));
        let chunks: Vec<_> = chunks.collect::<Result<_, _>>().map_err(unusable)?;
        ChannelShard::restore(&snapshot.state, chunks.iter().map(Vec::as_slice)).map_err(unusable)
    }

    fn snapshot(&self, shard: ShardId) -> Option<&Snapshot> {
        self.snapshots.get(&shard)?.as_ref()
    }

    pub(crate) fn archive(self) -> Archive {
        let newest = self.snapshots.into_values().flatten();
        let newest = newest.map(|snapshot| (snapshot.meta.shard, (snapshot.meta.index, snapshot.chunks)));
        Archive { store: self.store, newest: newest.collect(), trims: VecDeque::new() }
    }
}

fn unusable(error: impl std::fmt::Display) -> Violation {
    Violation::new(Checker::Recovery, format!("a snapshot cannot be used: {error}"))
}

/// Writes snapshots; the log lets go of what they cover some time later.
pub(crate) struct Archive {
    store: SnapshotStore,
    /// Of each shard: up to where it is covered, and the chunks of its history.
    newest: BTreeMap<ShardId, (Index, Vec<ChunkRef>)>,
    trims: VecDeque<(ShardId, Index)>,
}

impl Archive {
    pub(crate) fn has_trims(&self) -> bool {
        !self.trims.is_empty()
    }

    /// False when there is nothing new to store.
    pub(crate) fn save(&mut self, worker: &Worker, shard: ShardId) -> Result<bool, SnapshotError> {
        let new = self.take(worker, shard);
        let (covered, index) =
            (self.newest.get(&shard).map_or(Index(0), |(index, _)| *index), new.meta.index);
        if index <= covered {
            return Ok(false);
        }
        let saved = self.store.save(&new)?;
        self.newest.insert(shard, (index, saved.chunks));
        self.trims.push_back((shard, index));
        Ok(true)
    }

    pub(crate) fn trim(&mut self, log: &mut LocalLog) -> Result<(), WalError> {
        match self.trims.pop_front() {
            Some((shard, index)) => log.trim(shard, index),
            None => Ok(()),
        }
    }

    fn take(&self, worker: &Worker, shard: ShardId) -> NewSnapshot {
        if shard.is_directory() {
            let directory = worker.directory();
            let (index, position) = (directory.index(), directory.position());
            return NewSnapshot {
                meta: SnapshotMeta { shard, lineage: directory.lineage(), index, position },
                state: directory.encode_state(),
                kept_chunks: Vec::new(),
                new_chunks: Vec::new(),
            };
        }
        let channels = &worker.channels()[usize::from(shard.0) - 1];
        let (index, position) = (channels.index(), channels.position());
        let meta = SnapshotMeta { shard, lineage: channels.lineage(), index, position };
        let oldest = channels.oldest_history();
        let mut kept_chunks: Vec<ChunkRef> = match (self.newest.get(&shard), oldest) {
            (Some((_, chunks)), Some(oldest)) => {
                chunks.iter().copied().filter(|chunk| chunk.last >= oldest).collect()
            }
            _ => Vec::new(),
        };
        if kept_chunks.len() >= MOST_CHUNKS {
            kept_chunks.clear();
        }
        let after = kept_chunks.iter().map(|chunk| chunk.last).max().unwrap_or(Position(0));
        let new_chunks = if oldest.is_some() && after < position {
            let first = Position(after.0 + 1);
            vec![NewChunk { first, last: position, bytes: channels.encode_history(after) }]
        } else {
            Vec::new()
        };
        NewSnapshot { meta, state: channels.encode_state(), kept_chunks, new_chunks }
    }
}
