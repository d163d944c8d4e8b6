//! Snapshots: what a life begins with, and what it writes.

use std::collections::{BTreeMap, VecDeque};

use chat_log::{
    local::{LocalLog, Recovered},
    shared::store::Snapshots,
    snapshot::{ChunkRef, NewChunk, NewSnapshot, Snapshot, SnapshotError, SnapshotMeta, SnapshotStore},
    wal::WalError,
};
use chat_session::Worker;
use chat_state::{
    channels::ChannelShard,
    directory::Directory,
    ids::{Index, Lineage, Position, ShardId},
};

use crate::{
    local::LINEAGE,
    violation::{Checker, Violation},
};

/// Chunks of a shard after which its history is written anew as one.
const MOST_CHUNKS: usize = 4;

/// Of each shard: up to where its newest snapshot covers it, and the chunks of its history.
pub(crate) type Newest = BTreeMap<ShardId, (Index, Vec<ChunkRef>)>;

/// The newest snapshots of a room.
pub(crate) struct StartingPoint {
    history: History,
    snapshots: BTreeMap<ShardId, Option<Snapshot>>,
    shards: u16,
    lineage: Lineage,
}

/// Where the messages are that snapshots refer to.
enum History {
    OnDisk(SnapshotStore),
    Loaded(BTreeMap<ShardId, Vec<Vec<u8>>>),
}

impl StartingPoint {
    pub(crate) fn new(recovered: &Recovered, store: SnapshotStore) -> Self {
        Self {
            history: History::OnDisk(store),
            snapshots: recovered.snapshots.clone(),
            shards: recovered.identity.shards,
            lineage: LINEAGE,
        }
    }

    pub(crate) fn of_store(found: Snapshots, shards: u16) -> Self {
        let mut snapshots: BTreeMap<_, _> = (0..=shards).map(|shard| (ShardId(shard), None)).collect();
        let mut history = BTreeMap::new();
        for (shard, (snapshot, chunks)) in found.of {
            snapshots.insert(shard, Some(snapshot));
            history.insert(shard, chunks);
        }
        Self { history: History::Loaded(history), snapshots, shards, lineage: Lineage::default() }
    }

    /// The first entry of each shard that is in no snapshot.
    pub(crate) fn follow_from(&self) -> BTreeMap<ShardId, Index> {
        self.snapshots.keys().map(|shard| (*shard, Index(self.index(*shard).0 + 1))).collect()
    }

    /// The last entry that is in the snapshot.
    pub(crate) fn index(&self, shard: ShardId) -> Index {
        self.snapshot(shard).map_or(Index(0), |snapshot| snapshot.meta.index)
    }

    pub(crate) fn replicas(&self) -> Result<(Directory, Vec<ChannelShard>), Violation> {
        let directory = match self.snapshot(ShardId::DIRECTORY) {
            None => Directory::new(self.lineage),
            Some(snapshot) => Directory::restore(&snapshot.state).map_err(unusable)?,
        };
        let channels = (1..=self.shards).map(|n| self.channels(ShardId(n))).collect::<Result<_, _>>()?;
        Ok((directory, channels))
    }

    fn channels(&self, shard: ShardId) -> Result<ChannelShard, Violation> {
        let Some(snapshot) = self.snapshot(shard) else {
            return Ok(ChannelShard::new(shard, self.shards, self.lineage));
        };
        let read: Vec<_>;
        let chunks = match &self.history {
            History::OnDisk(store) => {
                let chunks = snapshot.chunks.iter().map(|chunk| store.read_chunk(shard, chunk));
                read = chunks.collect::<Result<_, _>>().map_err(unusable)?;
                &read
            }
            History::Loaded(of) => of.get(&shard).unwrap_or(const { &Vec::new() }),
        };
        ChannelShard::restore(&snapshot.state, chunks.iter().map(Vec::as_slice)).map_err(unusable)
    }

    fn snapshot(&self, shard: ShardId) -> Option<&Snapshot> {
        self.snapshots.get(&shard)?.as_ref()
    }

    pub(crate) fn newest(&self) -> Newest {
        let newest = self.snapshots.values().flatten();
        newest.map(|snapshot| (snapshot.meta.shard, (snapshot.meta.index, snapshot.chunks.clone()))).collect()
    }

    pub(crate) fn archive(&self, store: SnapshotStore) -> Archive {
        Archive { store, newest: self.newest(), trims: VecDeque::new() }
    }
}

fn unusable(error: impl std::fmt::Display) -> Violation {
    Violation::new(Checker::Recovery, format!("a snapshot cannot be used: {error}"))
}

/// Writes snapshots to a disk; the log lets go of what they cover some time later.
pub(crate) struct Archive {
    store: SnapshotStore,
    newest: Newest,
    trims: VecDeque<(ShardId, Index)>,
}

impl Archive {
    pub(crate) fn has_trims(&self) -> bool {
        !self.trims.is_empty()
    }

    /// False when there is nothing new to store.
    pub(crate) fn save(&mut self, worker: &Worker, shard: ShardId) -> Result<bool, SnapshotError> {
        let Some(new) = take(worker, shard, &self.newest) else { return Ok(false) };
        let index = new.meta.index;
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
}

/// A snapshot of a worker's replica, as the node's archive makes it; none when there is nothing new to store.
pub(crate) fn take(worker: &Worker, shard: ShardId, newest: &Newest) -> Option<NewSnapshot> {
    let covered = newest.get(&shard).map_or(Index(0), |(index, _)| *index);
    if shard.is_directory() {
        let directory = worker.directory();
        let (index, position) = (directory.index(), directory.position());
        return (index > covered).then(|| NewSnapshot {
            meta: SnapshotMeta { shard, lineage: directory.lineage(), index, position },
            state: directory.encode_state(),
            kept_chunks: Vec::new(),
            new_chunks: Vec::new(),
            place: Vec::new(),
        });
    }
    let channels = &worker.channels()[usize::from(shard.0) - 1];
    let (index, position) = (channels.index(), channels.position());
    if index <= covered {
        return None;
    }
    let meta = SnapshotMeta { shard, lineage: channels.lineage(), index, position };
    let oldest = channels.oldest_history();
    let mut kept_chunks: Vec<ChunkRef> = match (newest.get(&shard), oldest) {
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
    Some(NewSnapshot { meta, state: channels.encode_state(), kept_chunks, new_chunks, place: Vec::new() })
}
