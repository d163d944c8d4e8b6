//! Snapshots of shards, with the history chunks beside them.
//!
//! A snapshot is one file, put in its place by a rename once it is durable. Bodies of old messages live in chunk
//! files that are written once and referenced from snapshots by name and CRC. What no kept snapshot references is
//! removed after a successful one.

use std::{io, sync::Arc};

use chat_state::ids::{Index, Lineage, Position, ShardId};

use crate::disk::{Disk, is_full};

mod format;

pub use format::{decode as decode_snapshot, encode as encode_snapshot};

/// Snapshots that are kept per shard.
pub const KEPT: usize = 2;

/// Written between two syncs, so that the log's own syncs beside it stay short.
const PIECE_BYTES: usize = 1 << 20;

/// Largest file that is read: a wrong length must not take all memory.
pub const MAX_STATE_BYTES: u64 = 4 << 30;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnapshotMeta {
    pub shard: ShardId,
    pub lineage: Lineage,
    /// The last entry that is in it.
    pub index: Index,
    /// The last event that is in it.
    pub position: Position,
}

/// A chunk of history: the events of a range of positions, as bytes of the state's own making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChunk {
    pub first: Position,
    pub last: Position,
    pub bytes: Vec<u8>,
}

/// A chunk that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ChunkRef {
    pub first: Position,
    pub last: Position,
    pub bytes: u64,
    pub crc: u32,
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSnapshot {
    pub meta: SnapshotMeta,
    pub state: Vec<u8>,
    /// Chunks of earlier snapshots that still belong to it.
    pub kept_chunks: Vec<ChunkRef>,
    pub new_chunks: Vec<NewChunk>,
    /// What the log has to remember of the place, in its own words; empty where the index says it all.
    pub place: Vec<u8>,
}

/// What is stored. The chunks' bytes are read by [`SnapshotStore::read_chunk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub meta: SnapshotMeta,
    /// Empty where it was handed in a moment ago, as in the answer to a save.
    pub state: Vec<u8>,
    /// In order of positions.
    pub chunks: Vec<ChunkRef>,
    /// As in [`NewSnapshot`].
    pub place: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot {action} {file}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
    #[error(
        "no space to store a snapshot of shard {shard}: free some, or give the node a larger volume; \
         the previous snapshot stays in force"
    )]
    Full { shard: ShardId },
    #[error("{file} is damaged: {what}")]
    Damaged { file: String, what: &'static str },
    #[error(
        "no snapshot of shard {shard} can be used ({newest}): bring this data directory back from a backup, or \
         remove it and let the node join as a new member"
    )]
    NoneUsable { shard: ShardId, newest: String },
    #[error("chunk {file} is not on the disk, but the snapshot that is to be stored refers to it")]
    UnknownChunk { file: String },
    #[error("a snapshot of shard {shard} at entry {given} would not be newer than the one at {present}")]
    NotNewer { shard: ShardId, given: Index, present: Index },
    #[error("shard {shard} ends at entry {last}; there cannot be a snapshot at {given}")]
    NotYet { shard: ShardId, given: Index, last: Index },
    #[error(
        "{file} is here, but the data directory has no identity: bring the file `identity` back, or start with an \
         empty directory"
    )]
    Stranger { file: String },
    #[error("cannot keep a snapshot in the store at {place}: {reason}")]
    Store { place: String, reason: String },
    #[error("too many snapshots wait to be stored: the disk is slower than they are made")]
    Busy,
    #[error("the log has stopped")]
    Stopped,
}

/// The snapshots in a data directory. Cheap to clone; calls for one shard must not overlap.
#[derive(Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
}

/// A shard's snapshots as they were found.
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// Newer ones that could not be used, and why.
    pub passed_over: Vec<SnapshotError>,
}

impl SnapshotStore {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// Stores a snapshot durably, then removes what is not needed any more.
    pub fn save(&self, new: &NewSnapshot) -> Result<Snapshot, SnapshotError> {
        let shard = new.meta.shard;
        if let Some(present) = self.indexes(shard)?.first().filter(|present| **present >= new.meta.index) {
            return Err(SnapshotError::NotNewer { shard, given: new.meta.index, present: *present });
        }
        let mut chunks = new.kept_chunks.clone();
        for chunk in &new.kept_chunks {
            self.check_chunk(shard, chunk)?;
        }
        for chunk in &new.new_chunks {
            chunks.push(self.write_chunk(shard, chunk)?);
        }
        chunks.sort();
        let bytes = format::encode(&new.meta, &chunks, &new.place, &new.state);
        self.write(shard, &format::snapshot_name(shard, new.meta.index), &bytes)?;
        self.remove_unneeded(shard)?;
        Ok(Snapshot { meta: new.meta, state: Vec::new(), chunks, place: new.place.clone() })
    }

    /// Stores a chunk of a snapshot that another node made, ahead of the snapshot itself.
    pub fn receive_chunk(
        &self,
        shard: ShardId,
        chunk: &ChunkRef,
        bytes: Vec<u8>,
    ) -> Result<(), SnapshotError> {
        let new = NewChunk { first: chunk.first, last: chunk.last, bytes };
        let written = self.write_chunk(shard, &new)?;
        if written == *chunk {
            return Ok(());
        }
        let file = format::chunk_name(shard, chunk);
        Err(SnapshotError::Damaged { file, what: "its bytes do not fit its checksum" })
    }

    /// Stores a snapshot that another node made; its chunks are here already.
    pub fn receive(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.save(&NewSnapshot {
            meta: snapshot.meta,
            state: snapshot.state.clone(),
            kept_chunks: snapshot.chunks.clone(),
            new_chunks: Vec::new(),
            place: snapshot.place.clone(),
        })
        .map(drop)
    }

    /// Whether a chunk is here, whole.
    pub fn has_chunk(&self, shard: ShardId, chunk: &ChunkRef) -> bool {
        self.read_chunk(shard, chunk).is_ok()
    }

    /// The newest snapshot of a shard that is whole. `None` when there never was one.
    pub fn load(&self, shard: ShardId) -> Result<Option<Loaded>, SnapshotError> {
        let mut passed_over = Vec::new();
        for index in self.indexes(shard)? {
            match self.load_at(shard, index) {
                Ok(snapshot) => return Ok(Some(Loaded { snapshot, passed_over })),
                Err(error @ SnapshotError::Io { .. }) => return Err(error),
                Err(error) => passed_over.push(error),
            }
        }
        match passed_over.first() {
            None => Ok(None),
            Some(newest) => Err(SnapshotError::NoneUsable { shard, newest: newest.to_string() }),
        }
    }

    /// Removes the snapshots newer than the one that is used: all of them are damaged, and the log makes up for them.
    pub fn remove_newer(&self, shard: ShardId, used: Index) -> Result<(), SnapshotError> {
        for index in self.indexes(shard)?.into_iter().filter(|index| *index > used) {
            self.remove(&format::snapshot_name(shard, index))?;
        }
        Ok(())
    }

    /// A chunk's bytes, checked.
    pub fn read_chunk(&self, shard: ShardId, chunk: &ChunkRef) -> Result<Vec<u8>, SnapshotError> {
        let file = format::chunk_name(shard, chunk);
        let bytes = self.disk.read(&file).map_err(|source| io_error("read", &file, source))?;
        if bytes.len() as u64 != chunk.bytes || crc32c::crc32c(&bytes) != chunk.crc {
            return Err(SnapshotError::Damaged { file, what: "its bytes do not fit its checksum" });
        }
        Ok(bytes)
    }

    /// Refuses snapshots in a directory that has no identity and so should have none.
    pub fn refuse_strangers(&self) -> Result<(), SnapshotError> {
        match self.names()?.into_iter().find(|name| format::parse_snapshot_name(name).is_some()) {
            None => Ok(()),
            Some(file) => Err(SnapshotError::Stranger { file }),
        }
    }

    /// Removes what an interrupted save left behind.
    pub fn remove_leftovers(&self) -> Result<(), SnapshotError> {
        for name in self.names()?.iter().filter(|name| format::is_temporary(name)) {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Indexes of a shard's snapshots, newest first.
    fn indexes(&self, shard: ShardId) -> Result<Vec<Index>, SnapshotError> {
        let names = self.names()?;
        let mut indexes: Vec<_> = names
            .iter()
            .filter_map(|name| format::parse_snapshot_name(name))
            .filter(|(of, _)| *of == shard)
            .map(|(_, index)| index)
            .collect();
        indexes.sort_by(|a, b| b.cmp(a));
        Ok(indexes)
    }

    fn load_at(&self, shard: ShardId, index: Index) -> Result<Snapshot, SnapshotError> {
        let file = format::snapshot_name(shard, index);
        let bytes = self.disk.read(&file).map_err(|source| io_error("read", &file, source))?;
        let damaged = |what| SnapshotError::Damaged { file: file.clone(), what };
        let snapshot = format::decode(&bytes).map_err(damaged)?;
        if snapshot.meta.shard != shard || snapshot.meta.index != index {
            return Err(damaged("it is of another shard or entry than its name says"));
        }
        for chunk in &snapshot.chunks {
            self.check_chunk(shard, chunk)?;
        }
        Ok(snapshot)
    }

    /// That a chunk is there in its full length; its bytes are checked when it is read.
    fn check_chunk(&self, shard: ShardId, chunk: &ChunkRef) -> Result<(), SnapshotError> {
        let file = format::chunk_name(shard, chunk);
        match self.length(&file)? {
            None => Err(SnapshotError::UnknownChunk { file }),
            Some(length) if length != chunk.bytes => {
                Err(SnapshotError::Damaged { file, what: "it is not as long as it was written" })
            }
            Some(_) => Ok(()),
        }
    }

    fn write_chunk(&self, shard: ShardId, chunk: &NewChunk) -> Result<ChunkRef, SnapshotError> {
        let written = ChunkRef {
            first: chunk.first,
            last: chunk.last,
            bytes: chunk.bytes.len() as u64,
            crc: crc32c::crc32c(&chunk.bytes),
        };
        // The name says the contents. One that is there is of an interrupted save, and was whole before it had its
        // name; but its bytes may have rotted since.
        if self.read_chunk(shard, &written).is_err() {
            self.write(shard, &format::chunk_name(shard, &written), &chunk.bytes)?;
        }
        Ok(written)
    }

    /// Writes a file so that it is there as a whole or not at all.
    fn write(&self, shard: ShardId, name: &str, bytes: &[u8]) -> Result<(), SnapshotError> {
        let temporary = format::temporary_name(name);
        match self.try_write(&temporary, name, bytes) {
            Ok(()) => Ok(()),
            Err(source) => {
                // Best effort: what stays is removed at the next start or before the next try.
                let _ = self.disk.remove(&temporary);
                if is_full(&source) {
                    return Err(SnapshotError::Full { shard });
                }
                Err(io_error("write", name, source))
            }
        }
    }

    fn try_write(&self, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.disk.remove(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.disk.create(temporary)?;
        let mut offset = 0;
        for piece in bytes.chunks(PIECE_BYTES) {
            file.write_at(offset, piece)?;
            file.sync_data()?;
            offset += piece.len() as u64;
        }
        if bytes.is_empty() {
            file.sync_data()?;
        }
        self.disk.rename(temporary, name)?;
        self.disk.sync_dir()
    }

    /// Keeps the newest snapshots and the chunks that they refer to.
    fn remove_unneeded(&self, shard: ShardId) -> Result<(), SnapshotError> {
        let indexes = self.indexes(shard)?;
        let (kept, old) = indexes.split_at(indexes.len().min(KEPT));
        for index in old {
            self.remove(&format::snapshot_name(shard, *index))?;
        }
        // A snapshot that cannot be read might refer to any chunk: then none is removed.
        let mut referenced = Vec::new();
        for index in kept {
            let file = format::snapshot_name(shard, *index);
            let bytes = self.disk.read(&file).map_err(|source| io_error("read", &file, source))?;
            let Ok(snapshot) = format::decode(&bytes) else { return Ok(()) };
            referenced.extend(snapshot.chunks.iter().map(|chunk| format::chunk_name(shard, chunk)));
        }
        for name in self.names()? {
            if format::is_chunk_of(&name, shard) && !referenced.contains(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        self.disk.remove(name).map_err(|source| io_error("remove", name, source))
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let files = self.disk.list().map_err(|source| io_error("list", "the data directory", source))?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    fn length(&self, name: &str) -> Result<Option<u64>, SnapshotError> {
        let files = self.disk.list().map_err(|source| io_error("list", "the data directory", source))?;
        Ok(files.iter().find(|file| file.name == name).map(|file| file.length))
    }
}

fn io_error(action: &'static str, file: &str, source: io::Error) -> SnapshotError {
    SnapshotError::Io { action, file: file.to_owned(), source }
}
