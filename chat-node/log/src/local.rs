//! The log of a node that stands alone: all shards in one write-ahead log on one disk. Synchronous; no thread, no
//! clock, no randomness.

use std::{collections::BTreeMap, io, sync::Arc};

use chat_state::{
    entry::{DecodeError, Entry, Proposal},
    ids::{Index, ShardId},
};

use crate::{
    disk::{DirectoryLock, Disk},
    identity::{Identity, IdentityError},
    log::{FollowError, ShardLogStatus},
    snapshot::{Loaded, NewSnapshot, Snapshot, SnapshotError, SnapshotStore},
    wal::{
        AppendError, Batch, Cursor, Expect, Kind, OwnedRecord, Reader, Report, Space, Wal, WalError,
        WalOptions,
    },
};

/// The term of all entries that were ordered by a lone node; a Raft log begins above it.
const TERM: u64 = 0;

#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The room and its shards as configured. Member and lineage are taken when the directory is new.
    pub identity: Identity,
    pub segment_bytes: u64,
    pub disk_reserve_bytes: u64,
    pub chore_reserve_bytes: u64,
}

impl LocalOptions {
    pub fn new(identity: Identity) -> Self {
        let WalOptions { segment_bytes, disk_reserve_bytes, chore_reserve_bytes, .. } = WalOptions::new(0);
        Self { identity, segment_bytes, disk_reserve_bytes, chore_reserve_bytes }
    }

    fn wal(&self, log_id: u64) -> WalOptions {
        WalOptions {
            log_id,
            segment_bytes: self.segment_bytes,
            disk_reserve_bytes: self.disk_reserve_bytes,
            chore_reserve_bytes: self.chore_reserve_bytes,
        }
    }
}

pub struct LocalLog {
    disk: Arc<dyn Disk>,
    identity: Identity,
    wal: Wal,
    batch: Batch,
    snapshots: SnapshotStore,
    /// Bytes of the last batch that found no space.
    refused_bytes: u64,
    _lock: Box<dyn DirectoryLock>,
}

/// What a directory held.
pub struct Recovered {
    pub identity: Identity,
    /// Every shard of the room, with its newest snapshot if there is one.
    pub snapshots: BTreeMap<ShardId, Option<Snapshot>>,
    /// All entries that are in no snapshot, in the order of the log: apply these before anything else, and before
    /// the log trims what they are read from.
    pub entries: Entries,
    pub report: Report,
    /// Snapshots that were damaged; older ones were taken in their place.
    pub passed_over: Vec<SnapshotError>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot lock {place}: {source}")]
    Lock { place: String, source: io::Error },
    #[error("{place} is in use by another process: stop it, or name another directory")]
    InUse { place: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("entry {index} of shard {shard}: {source}")]
    Entry { shard: ShardId, index: Index, source: DecodeError },
    #[error("entry {index} of shard {shard} says that it is entry {says}: the log is damaged")]
    Misnumbered { shard: ShardId, index: Index, says: Index },
    #[error(
        "the log of shard {shard} begins with entry {oldest}, but its newest usable snapshot ends at {snapshot}: \
         entries are missing between. Bring the data directory back from a backup, or remove it and let the node \
         join as a new member{}", damaged.as_ref().map(|what| format!(" ({what})")).unwrap_or_default()
    )]
    Gap { shard: ShardId, oldest: Index, snapshot: Index, damaged: Option<String> },
    #[error(
        "the snapshot of shard {shard} holds entries up to {snapshot}, but the log ends at {last}: its end was lost. \
         Bring the data directory back from a backup, or remove it and let the node join as a new member"
    )]
    LostEnd { shard: ShardId, snapshot: Index, last: Index },
    #[error("the log holds entries of shard {shard}, but the room has only {shards} shards")]
    UnknownShard { shard: ShardId, shards: u16 },
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Definite: none of these proposals is in the log or ever will be.
    #[error("the disk is full: free some space, or give the node a larger volume")]
    Full,
    /// Unknown fate; the process must end.
    #[error("{0}")]
    Fatal(#[source] WalError),
}

impl From<AppendError> for CommitError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::Full,
            AppendError::Fatal(error) => Self::Fatal(error),
        }
    }
}

impl LocalLog {
    /// Takes the directory, and finds out where its shards stand. Entries are read while they are iterated over.
    pub fn open(disk: Arc<dyn Disk>, options: &LocalOptions) -> Result<(Self, Recovered), OpenError> {
        let place = disk.place();
        let lock = disk.lock().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { place: place.clone() },
            _ => OpenError::Lock { place: place.clone(), source },
        })?;
        options.identity.check()?;
        let (identity, expect) = match Identity::read(&*disk)? {
            Some(found) => {
                found.check_against(&options.identity, &*disk)?;
                if found.cluster.is_some() {
                    return Err(IdentityError::OfCluster { place }.into());
                }
                (found, Expect::Log)
            }
            None => (options.identity.clone(), Expect::Nothing),
        };
        let snapshots = SnapshotStore::new(Arc::clone(&disk));
        if expect == Expect::Nothing {
            snapshots.refuse_strangers()?;
        }
        let (wal, report) = Wal::open(Arc::clone(&disk), options.wal(identity.member.0), expect)?;
        if expect == Expect::Nothing {
            // Last, so that a directory with an identity always has a log.
            identity.write(&*disk)?;
        }
        snapshots.remove_leftovers()?;
        let mut log =
            Self { disk, identity, wal, batch: Batch::default(), snapshots, refused_bytes: 0, _lock: lock };
        let recovered = log.recover(report)?;
        Ok((log, recovered))
    }

    fn recover(&mut self, report: Report) -> Result<Recovered, OpenError> {
        let shards = self.identity.shards;
        if let Some((group, _)) = self.wal.groups().find(|(group, _)| *group > shards) {
            return Err(OpenError::UnknownShard { shard: ShardId(group), shards });
        }
        let mut snapshots = BTreeMap::new();
        let mut passed_over = Vec::new();
        for shard in self.shards() {
            let loaded = self.snapshots.load(shard)?;
            self.check_covered(shard, loaded.as_ref())?;
            if let Some(Loaded { snapshot, passed_over: damaged }) = &loaded
                && !damaged.is_empty()
            {
                self.snapshots.remove_newer(shard, snapshot.meta.index)?;
            }
            let snapshot = loaded.map(|loaded| {
                passed_over.extend(loaded.passed_over);
                loaded.snapshot
            });
            snapshots.insert(shard, snapshot);
        }
        // From here on the log's end is proved by a mark; so damage that comes later is told from a torn write.
        match self.wal.mark() {
            Ok(()) | Err(AppendError::Full) => {}
            Err(AppendError::Fatal(error)) => return Err(error.into()),
        }
        let after: BTreeMap<_, _> = snapshots
            .iter()
            .map(|(shard, snapshot)| {
                (*shard, snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.meta.index))
            })
            .collect();
        for (shard, index) in &after {
            self.wal.release(shard.0, index.0)?;
        }
        let entries = Entries { reader: self.wal.reader(self.wal.start()), after };
        Ok(Recovered { identity: self.identity.clone(), snapshots, entries, report, passed_over })
    }

    /// That snapshot and log of a shard meet.
    fn check_covered(&self, shard: ShardId, loaded: Option<&Loaded>) -> Result<(), OpenError> {
        let snapshot = loaded.map_or(Index(0), |loaded| loaded.snapshot.meta.index);
        let Some((oldest, last)) =
            self.wal.group(shard.0).and_then(|group| Some((Index(group.first?), Index(group.last))))
        else {
            // The segments that held its entries are gone. They went for the newest snapshot.
            return match loaded.and_then(|loaded| loaded.passed_over.first()) {
                Some(damaged) => Err(OpenError::Gap {
                    shard,
                    oldest: Index(snapshot.0 + 1),
                    snapshot,
                    damaged: Some(damaged.to_string()),
                }),
                None => Ok(()),
            };
        };
        if oldest.0 > snapshot.0 + 1 {
            let damaged = loaded.and_then(|loaded| loaded.passed_over.first()).map(ToString::to_string);
            return Err(OpenError::Gap { shard, oldest, snapshot, damaged });
        }
        if last < snapshot {
            return Err(OpenError::LostEnd { shard, snapshot, last });
        }
        Ok(())
    }

    /// Gives each batch its place, as one entry, and returns the entries once all of them are on the disk: one write
    /// and one sync for all. A shard may be named more than once; a batch must not be empty.
    pub fn commit(
        &mut self,
        batches: Vec<(ShardId, Vec<Proposal>)>,
        space: Space,
        now_ms: u64,
    ) -> Result<Vec<(ShardId, Arc<Entry>)>, CommitError> {
        #[cfg(feature = "mutations")]
        if chat_state::mutation::is(chat_state::mutation::Mutation::AckAtAccept) {
            self.wal.append(&mut self.batch, space)?;
        }
        self.batch.clear();
        let mut next = BTreeMap::new();
        let mut entries = Vec::with_capacity(batches.len());
        for (shard, proposals) in batches {
            assert!(shard.0 <= self.identity.shards, "shard {shard} was checked by whoever asks");
            let index = next.entry(shard).or_insert_with(|| self.last(shard).0);
            *index += 1;
            let entry = Entry { index: Index(*index), time_ms: now_ms, proposals };
            self.batch.push(shard.0, Kind::Entry, TERM, *index, |out| entry.encode(out));
            entries.push((shard, Arc::new(entry)));
        }
        #[cfg(feature = "mutations")]
        if chat_state::mutation::is(chat_state::mutation::Mutation::AckAtAccept) {
            return Ok(entries);
        }
        let result = self.wal.append(&mut self.batch, space);
        if matches!(result, Err(AppendError::Full)) {
            self.refused_bytes = self.batch.len() as u64;
        }
        result?;
        Ok(entries)
    }

    /// Whether there is space again for what was refused last.
    pub fn probe_space(&mut self) -> Result<(), CommitError> {
        Ok(self.wal.probe_space(self.refused_bytes)?)
    }

    /// Proves the end of the log; for quiet moments and an orderly end. A full disk does not matter to it.
    pub fn mark(&mut self) -> Result<(), CommitError> {
        match self.wal.mark() {
            Err(AppendError::Full) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a snapshot and lets go of what it covers, all at once.
    pub fn install_snapshot(&mut self, snapshot: &NewSnapshot) -> Result<Snapshot, InstallError> {
        self.check_snapshot(snapshot)?;
        let stored = self.snapshots.save(snapshot)?;
        self.trim(stored.meta.shard, stored.meta.index)?;
        Ok(stored)
    }

    /// That a snapshot can be one of this log.
    pub fn check_snapshot(&self, snapshot: &NewSnapshot) -> Result<(), SnapshotError> {
        let (shard, given) = (snapshot.meta.shard, snapshot.meta.index);
        let last = self.last(shard);
        if given > last {
            return Err(SnapshotError::NotYet { shard, given, last });
        }
        Ok(())
    }

    /// Lets go of a shard's entries up to the index of a snapshot that is durable.
    pub fn trim(&mut self, shard: ShardId, index: Index) -> Result<(), WalError> {
        self.wal.release(shard.0, index.0)
    }

    /// Keeps segments from this one on, whatever snapshots cover: somebody still reads them.
    pub fn hold(&mut self, from: Option<Cursor>) -> Result<(), WalError> {
        self.wal.hold(from.map(|place| place.sequence))
    }

    /// Entries in the order of the log, from a place at or before the wanted ones on.
    pub fn entries(&self, from: Cursor, after: BTreeMap<ShardId, Index>) -> Entries {
        Entries { reader: self.wal.reader(from), after }
    }

    /// Where a follower begins that wants these entries and all later ones, and what it has already.
    pub fn place_for(
        &self,
        from: &BTreeMap<ShardId, Index>,
    ) -> Result<(Cursor, BTreeMap<ShardId, Index>), FollowError> {
        if let Some(shard) = from.keys().find(|shard| shard.0 > self.identity.shards) {
            return Err(FollowError::NoSuchShard { shard: *shard });
        }
        let mut place = self.wal.end();
        let mut after = BTreeMap::new();
        for (shard, status) in self.status() {
            let wanted = from.get(&shard).copied().unwrap_or(status.first);
            if wanted < status.first {
                return Err(FollowError::Gone { shard, wanted, oldest: status.first });
            }
            if wanted.0 > status.last.0 + 1 {
                return Err(FollowError::NotYet { shard, wanted, last: status.last });
            }
            if wanted <= status.last {
                place = place.min(self.wal.place_of(shard.0, wanted.0));
            }
            after.insert(shard, Index(wanted.0 - 1));
        }
        Ok((place, after))
    }

    /// Where the next entry will be.
    pub fn end(&self) -> Cursor {
        self.wal.end()
    }

    /// The shard whose snapshot would let go of the oldest segment.
    pub fn pinning(&self) -> Option<ShardId> {
        self.wal.pinning_group().map(ShardId)
    }

    /// The oldest segment; changes when one is let go of or, by [`LocalLog::segments`], begun.
    pub fn oldest_segment(&self) -> u64 {
        self.wal.start().sequence
    }

    pub fn segments(&self) -> usize {
        self.wal.segments()
    }

    pub fn bytes(&self) -> u64 {
        self.wal.bytes()
    }

    /// Bytes of the newest batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch.len()
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    /// The newest entry of a shard.
    pub fn last(&self, shard: ShardId) -> Index {
        Index(self.wal.group(shard.0).map_or(0, |group| group.last))
    }

    pub fn status(&self) -> BTreeMap<ShardId, ShardLogStatus> {
        let status = |shard: ShardId| {
            let group = self.wal.group(shard.0).cloned().unwrap_or_default();
            ShardLogStatus {
                first: Index(group.first.unwrap_or(group.last + 1)),
                last: Index(group.last),
                snapshot: Index(group.released),
            }
        };
        self.shards().map(|shard| (shard, status(shard))).collect()
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..=self.identity.shards).map(ShardId)
    }
}

/// Why a snapshot was not taken. An error of the log itself is final.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Entries as they stand in the log, all shards together.
pub struct Entries {
    reader: Reader,
    /// What is left out: per shard, everything up to this.
    after: BTreeMap<ShardId, Index>,
}

impl Entries {
    /// Where reading would go on, and what was read or left out so far.
    pub fn place(&self) -> (Option<Cursor>, &BTreeMap<ShardId, Index>) {
        (self.reader.cursor(), &self.after)
    }
}

impl Iterator for Entries {
    type Item = Result<(ShardId, Arc<Entry>), OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.reader.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error.into())),
            };
            let shard = ShardId(record.group);
            let after = self.after.entry(shard).or_default();
            if record.kind == Kind::Entry && record.index > after.0 {
                *after = Index(record.index);
                return Some(decode(shard, &record));
            }
        }
    }
}

fn decode(shard: ShardId, record: &OwnedRecord) -> Result<(ShardId, Arc<Entry>), OpenError> {
    let index = Index(record.index);
    let entry = Entry::decode(&record.payload).map_err(|source| OpenError::Entry { shard, index, source })?;
    if entry.index != index {
        return Err(OpenError::Misnumbered { shard, index, says: entry.index });
    }
    Ok((shard, Arc::new(entry)))
}

#[cfg(test)]
mod tests;
