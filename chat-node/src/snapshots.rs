//! Writes snapshots of shards: a worker takes one, which shares what does not change and costs little; this thread
//! turns it into bytes and waits for the disk.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use chat_log::{
    log::Log,
    snapshot::{ChunkRef, NewChunk, NewSnapshot, Snapshot, SnapshotError, SnapshotMeta},
};
use chat_session::Worker;
use chat_state::{
    channels, directory,
    ids::{Index, Position, ShardId},
};

/// Chunks of a shard after which its history is written anew as one.
const MAX_CHUNKS: usize = 32;

/// A shard's state at one position, on its way to the disk.
pub(crate) struct Taken {
    meta: SnapshotMeta,
    state: TakenState,
}

enum TakenState {
    Directory(directory::Snapshot),
    Channels(channels::Snapshot),
}

impl Taken {
    /// Takes a snapshot of a worker's replica; `None` when there is nothing to save yet.
    pub(crate) fn of(worker: &Worker, shard: ShardId) -> Option<Self> {
        let (lineage, index, position, state) = if shard.is_directory() {
            let directory = worker.directory();
            let state = TakenState::Directory(directory.snapshot());
            (directory.lineage(), directory.index(), directory.position(), state)
        } else {
            let channels = worker.channels().get(usize::from(shard.0) - 1)?;
            let state = TakenState::Channels(channels.snapshot());
            (channels.lineage(), channels.index(), channels.position(), state)
        };
        (index > Index(0)).then_some(Self { meta: SnapshotMeta { shard, lineage, index, position }, state })
    }
}

/// Where workers hand in what they took. The thread ends when all of these are gone.
pub(crate) type Desk = mpsc::SyncSender<Taken>;

/// Snapshots that may wait here; more than shards is never needed, fewer would make a worker wait at the end.
pub(crate) const DESK_PLACES: usize = 2 * (contract::config::MAX_SHARDS as usize + 1);

/// Starts the thread. `known` are the snapshots on disk.
pub(crate) fn start<'a>(
    log: Arc<dyn Log>,
    known: impl Iterator<Item = &'a Snapshot>,
) -> io::Result<(Desk, JoinHandle<()>)> {
    let (desk, taken) = mpsc::sync_channel(DESK_PLACES);
    let mut archive = Archive {
        log,
        newest: known
            .map(|snapshot| (snapshot.meta.shard, (snapshot.meta.index, snapshot.chunks.clone())))
            .collect(),
    };
    let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
        for taken in taken {
            archive.write(&taken);
        }
    })?;
    Ok((desk, thread))
}

struct Archive {
    log: Arc<dyn Log>,
    /// Of each shard: up to where it is covered, and the chunks of its history.
    newest: BTreeMap<ShardId, (Index, Vec<ChunkRef>)>,
}

impl Archive {
    fn write(&mut self, taken: &Taken) {
        let meta = taken.meta;
        if self.newest.get(&meta.shard).is_some_and(|(covered, _)| *covered >= meta.index) {
            return;
        }
        match self.save(taken) {
            Ok(saved) => {
                tracing::debug!(shard = meta.shard.0, index = meta.index.0, "snapshot written");
                self.newest.insert(meta.shard, (meta.index, saved.chunks));
            }
            // Another node wrote snapshots meanwhile, and let go of a chunk that this one knows: the next has all of the
            // history.
            Err(SnapshotError::UnknownChunk { .. }) => {
                self.newest.remove(&meta.shard);
            }
            // The one before stays in force, and the log asks again.
            Err(error) => tracing::warn!(shard = meta.shard.0, %error, "no snapshot could be written"),
        }
    }

    fn save(&self, taken: &Taken) -> Result<Snapshot, SnapshotError> {
        let new = match &taken.state {
            TakenState::Directory(directory) => NewSnapshot {
                meta: taken.meta,
                state: directory.encode_state(),
                kept_chunks: Vec::new(),
                new_chunks: Vec::new(),
                place: Vec::new(),
            },
            TakenState::Channels(channels) => self.with_history(taken.meta, channels),
        };
        self.log.save_snapshot(new).blocking_recv().unwrap_or(Err(SnapshotError::Stopped))
    }

    /// Chunks that hold nothing of today's history are left out; what came since the last one is a new chunk.
    fn with_history(&self, meta: SnapshotMeta, channels: &channels::Snapshot) -> NewSnapshot {
        let oldest = channels.oldest_history();
        let mut kept_chunks: Vec<ChunkRef> = match (self.newest.get(&meta.shard), oldest) {
            (Some((_, chunks)), Some(oldest)) => {
                chunks.iter().copied().filter(|chunk| chunk.last >= oldest).collect()
            }
            _ => Vec::new(),
        };
        if kept_chunks.len() >= MAX_CHUNKS {
            kept_chunks.clear();
        }
        let after = kept_chunks.iter().map(|chunk| chunk.last).max().unwrap_or(Position(0));
        let new_chunks = if oldest.is_some() && after < meta.position {
            let bytes = channels.encode_history(after);
            vec![NewChunk { first: Position(after.0 + 1), last: meta.position, bytes }]
        } else {
            Vec::new()
        };
        NewSnapshot { meta, state: channels.encode_state(), kept_chunks, new_chunks, place: Vec::new() }
    }
}
