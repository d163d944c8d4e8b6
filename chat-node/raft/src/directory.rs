//! A node's data directory: who it is, what its groups have written, and their snapshots.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use chat_log::{
    disk::{DirectoryLock, Disk},
    identity::{ClusterId, Identity, IdentityError},
    snapshot::{Snapshot, SnapshotError, SnapshotStore},
    wal::{AppendError, Batch, Expect, Kind, Report, Space, Wal, WalError, WalOptions},
};
use chat_state::ids::ShardId;
use openraft::EntryPayload;

use crate::{
    group_log::Held,
    machine::Place,
    record::{Record, RecordError, decode_entry, decode_vote, log_id, raft_index},
    types::{Entry, LogId, Membership, PeerNode},
};

/// What was found in the directory.
pub struct Directory {
    pub identity: Identity,
    /// Of each group, the directory's first.
    pub held: Vec<Held>,
    /// The newest snapshot of each, with its place.
    pub snapshots: Vec<Option<(Snapshot, Place)>>,
    pub store: SnapshotStore,
    pub report: Report,
    /// Snapshots that were damaged; older ones were taken in their place.
    pub passed_over: Vec<SnapshotError>,
    wal: Wal,
    disk: Arc<dyn Disk>,
    lock: Box<dyn DirectoryLock>,
}

/// What was found of a group.
pub struct GroupFound {
    pub held: Held,
    /// The newest, with its place.
    pub snapshot: Option<(Snapshot, Place)>,
}

/// What is needed of it while the node runs.
pub struct Opened {
    pub wal: Wal,
    pub lock: Box<dyn DirectoryLock>,
}

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot lock {place}: {source}")]
    Lock { place: String, source: io::Error },
    #[error("{place} is in use by another process: stop it, or name another directory")]
    InUse { place: String },
    #[error("cannot remove what a former member left in {place}: {source}")]
    Clear { place: String, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("{what} of shard {shard} cannot be read: {source}")]
    Record { shard: ShardId, what: String, source: RecordError },
    #[error("the place of the snapshot of shard {shard} cannot be read: {source}")]
    Place { shard: ShardId, source: postcard::Error },
    #[error(
        "the log of shard {shard} begins behind entry {purged}, but its newest usable snapshot ends at {snapshot}: entries \
         are missing between{}. Remove the data directory and let the node join as a new member; the others have it all",
        damaged.as_ref().map(|what| format!(" ({what})")).unwrap_or_default()
    )]
    Gap { shard: ShardId, purged: u64, snapshot: u64, damaged: Option<String> },
    #[error(
        "{place} holds what the member {present:?} of the room keeps, and this node is {name:?}: two nodes must not be one member. \
         Give this one its own directory, or an empty one"
    )]
    OtherMember { place: String, present: String, name: String },
    #[error("the log holds entries of shard {shard}, but the room has only {shards} shards")]
    UnknownShard { shard: ShardId, shards: u16 },
    #[error("the disk is full: free some space, or give the node a larger volume")]
    Full,
}

impl Directory {
    /// Takes the directory. `wanted` is the identity that one without gets; of one with, room and shards must fit.
    pub fn open(disk: Arc<dyn Disk>, wanted: &Identity, wal: &WalOptions) -> Result<Self, DirectoryError> {
        let place = disk.place();
        let lock = disk.lock().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => DirectoryError::InUse { place: place.clone() },
            _ => DirectoryError::Lock { place: place.clone(), source },
        })?;
        wanted.check()?;
        let (identity, expect) = match Identity::read(&*disk)? {
            Some(found) => {
                found.check_against(wanted, &*disk)?;
                (found, Expect::Log)
            }
            None => (wanted.clone(), Expect::Nothing),
        };
        let store = SnapshotStore::new(Arc::clone(&disk));
        if expect == Expect::Nothing {
            store.refuse_strangers()?;
        }
        let (wal, report) =
            Wal::open(Arc::clone(&disk), WalOptions { log_id: identity.member.0, ..wal.clone() }, expect)?;
        if expect == Expect::Nothing {
            // Last, so that a directory with an identity always has a log.
            identity.write(&*disk)?;
        }
        store.remove_leftovers()?;
        let mut directory = Self {
            identity,
            held: Vec::new(),
            snapshots: Vec::new(),
            store,
            report,
            passed_over: Vec::new(),
            wal,
            disk,
            lock,
        };
        directory.read_log()?;
        directory.read_snapshots()?;
        Ok(directory)
    }

    /// This node begins the room: it is the only voter of every group. What a lone node's log holds stays, and is the beginning
    /// of the groups' logs.
    pub fn found(&mut self, me: &PeerNode, cluster: ClusterId) -> Result<(), DirectoryError> {
        let member = self.identity.member.0;
        let nodes = BTreeMap::from([(member, me.clone())]);
        let membership =
            Membership::new(vec![BTreeSet::from([member])], nodes).expect("the one voter is a node of it");
        let mut batch = Batch::default();
        let mut founded = Vec::new();
        for (group, held) in (0..).zip(&self.held) {
            let began = held.entries.iter().any(|entry| matches!(entry.payload, EntryPayload::Membership(_)));
            if began {
                // An earlier try got so far.
                continue;
            }
            let index = held.last().map_or(0, |last| last.index + 1);
            let payload = EntryPayload::Membership(membership.clone());
            let entry = Entry { log_id: log_id(0, index), payload };
            Record::Entry(entry.clone()).write(group, &mut batch);
            founded.push((group, entry));
        }
        self.write(&mut batch)?;
        for (group, entry) in founded {
            self.held[usize::from(group)].push(entry);
        }
        self.belong_to(cluster)
    }

    /// The room let this node in.
    pub fn belong_to(&mut self, cluster: ClusterId) -> Result<(), DirectoryError> {
        self.identity.cluster = Some(cluster);
        self.identity.write(&*self.disk)?;
        Ok(())
    }

    /// Refuses a directory that is another node's: a vote that is cast twice breaks the promises of all.
    pub fn check_name(&self, name: &str) -> Result<(), DirectoryError> {
        let directory = self.held.first();
        let logged =
            directory.into_iter().flat_map(|held| held.entries.iter().rev()).filter_map(|entry| match &entry
                .payload
            {
                EntryPayload::Membership(membership) => Some(membership.clone()),
                EntryPayload::Blank | EntryPayload::Normal(_) => None,
            });
        let kept = self
            .snapshots
            .first()
            .into_iter()
            .flatten()
            .map(|(_, place)| place.membership.membership().clone());
        let present = logged.chain(kept).find_map(|membership| {
            membership.get_node(&self.identity.member.0).map(|node| node.name.clone())
        });
        match present {
            Some(present) if present != name => {
                Err(DirectoryError::OtherMember { place: self.disk.place(), present, name: name.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// What the node's groups are started with.
    pub fn into_opened(self) -> (Opened, Vec<GroupFound>) {
        let Self { held, snapshots, wal, lock, .. } = self;
        let groups = held.into_iter().zip(snapshots);
        let groups = groups.map(|(held, snapshot)| GroupFound { held, snapshot }).collect();
        (Opened { wal, lock }, groups)
    }

    /// Throws away what a member left that the room has let go of, so that the node can join as a new one.
    pub fn clear(self) -> Result<(), DirectoryError> {
        let Self { identity, disk, lock, .. } = self;
        let place = disk.place();
        let clear = || {
            // The identity last: as long as it is there, the next start knows what this was about.
            for file in disk.list()?.into_iter().filter(|file| file.name != "identity" && file.name != "lock")
            {
                disk.remove(&file.name)?;
            }
            disk.sync_dir()?;
            disk.remove("identity")?;
            disk.sync_dir()
        };
        clear().map_err(|source| DirectoryError::Clear { place, source })?;
        tracing::info!(member = %identity.member, "the data of a member that had left the room was removed");
        drop(lock);
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch) -> Result<(), DirectoryError> {
        match self.wal.append(batch, Space::Ordinary) {
            Ok(()) => Ok(()),
            Err(AppendError::Full) => Err(DirectoryError::Full),
            Err(AppendError::Fatal(error)) => Err(error.into()),
        }
    }

    /// Every entry that is kept goes into memory.
    fn read_log(&mut self) -> Result<(), DirectoryError> {
        let shards = self.identity.shards;
        if let Some((group, _)) = self.wal.groups().find(|(group, _)| *group > shards) {
            return Err(DirectoryError::UnknownShard { shard: ShardId(group), shards });
        }
        self.held = (0..=shards).map(|_| Held::default()).collect();
        for (group, found) in self.wal.groups() {
            let shard = ShardId(group);
            let held = &mut self.held[usize::from(group)];
            let unreadable = |source| DirectoryError::Record { shard, what: "the vote".to_owned(), source };
            held.vote = match &found.vote {
                Some(vote) => Some(decode_vote(&vote.payload).map_err(unreadable)?),
                None => None,
            };
            let kept = |kept: &chat_log::wal::Kept| log_id(kept.term, raft_index(kept.index));
            held.committed = found.committed.as_ref().map(kept);
            held.purged = found.purged.as_ref().map(kept);
        }
        for record in self.wal.reader(self.wal.start()) {
            let record = record?;
            let held = &mut self.held[usize::from(record.group)];
            let index = raft_index(record.index);
            match record.kind {
                Kind::Entry => {
                    let shard = ShardId(record.group);
                    if held.purged.is_some_and(|purged| index <= purged.index) {
                        continue;
                    }
                    let entry = decode_entry(&record).map_err(|source| DirectoryError::Record {
                        shard,
                        what: format!("entry {}", record.index),
                        source,
                    })?;
                    if held.entries.is_empty() && held.purged.is_none() && index > 0 {
                        // A lone node lets go of what its snapshots cover without a word in the log.
                        held.purged = Some(log_id(0, index - 1));
                    }
                    held.push(entry);
                }
                Kind::Truncate => {
                    held.truncate(record.index.checked_sub(1).map(|index| log_id(record.term, index)));
                }
                // Of these the newest counts, and was read above.
                Kind::Purge | Kind::Vote | Kind::Committed | Kind::Mark => {}
            }
        }
        Ok(())
    }

    fn read_snapshots(&mut self) -> Result<(), DirectoryError> {
        for group in 0..=self.identity.shards {
            let shard = ShardId(group);
            let loaded = self.store.load(shard)?;
            let mut damaged = None;
            let snapshot = match loaded {
                None => None,
                Some(loaded) => {
                    if let Some(first) = loaded.passed_over.first() {
                        damaged = Some(first.to_string());
                        self.store.remove_newer(shard, loaded.snapshot.meta.index)?;
                    }
                    self.passed_over.extend(loaded.passed_over);
                    let place = Place::of(&loaded.snapshot)
                        .map_err(|source| DirectoryError::Place { shard, source })?;
                    Some((loaded.snapshot, place))
                }
            };
            self.meet(group, snapshot.as_ref().map(|(_, place)| place.last), damaged)?;
            self.snapshots.push(snapshot);
        }
        Ok(())
    }

    /// That log and snapshot of a group meet.
    fn meet(
        &mut self,
        group: u16,
        snapshot: Option<LogId>,
        damaged: Option<String>,
    ) -> Result<(), DirectoryError> {
        let shard = ShardId(group);
        let held = &self.held[usize::from(group)];
        if let Some(purged) = held.purged
            && snapshot.is_none_or(|snapshot| snapshot.index < purged.index)
        {
            let snapshot = snapshot.map_or(0, |snapshot| snapshot.index + 1);
            return Err(DirectoryError::Gap { shard, purged: purged.index + 1, snapshot, damaged });
        }
        // A snapshot that another node sent is written before the log hears of it. What it says was committed; what the log has
        // instead never was.
        if let Some(snapshot) = snapshot
            && held.last() < Some(snapshot)
        {
            let mut batch = Batch::default();
            Record::Truncate(None).write(group, &mut batch);
            Record::Purge(snapshot).write(group, &mut batch);
            self.write(&mut batch)?;
            let held = &mut self.held[usize::from(group)];
            held.entries = VecDeque::new();
            held.purged = Some(snapshot);
        }
        if let Some(purged) = self.held[usize::from(group)].purged {
            self.wal.release(group, purged.index + 1)?;
        }
        Ok(())
    }
}
