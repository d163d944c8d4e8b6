//! What Raft asks of storage, by its own suite of tests, and what ours promises beyond it.

use std::{
    io,
    sync::{Arc, mpsc},
};

use chat_log::{
    clock::SystemClock,
    disk::{
        Disk,
        memory::{Loss, MemoryDisk},
    },
    identity::{ClusterId, Identity},
    local::{LocalLog, LocalOptions},
    wal::{Space, WalOptions},
};
use chat_raft::{
    directory::{Directory, GroupFound},
    group_log::GroupLog,
    journal::{Job, Journal, JournalThread},
    machine::{Machine, OnDisk},
    record::{Record, log_id},
    types::{Batch, Entry, LogId, PeerNode, SnapshotMeta, StoredMembership, Types},
};
use chat_state::{
    command::{Command, CommonCommand},
    entry::{Proposal, Stamp},
    ids::{FeatureLevel, Incarnation, Index, Lineage, MemberId, Position, ShardId},
};
use futures::Stream;
use openraft::{
    EntryPayload, StorageError,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    type_config::alias::SnapshotOf,
};
use openraft_rt_tokio::TokioRuntime;
use tempfile::TempDir;
use tokio::sync::Notify;

type Config = Types<TokioRuntime>;

fn identity() -> Identity {
    let (room, lineage) = ("lounge".to_owned(), Lineage(0));
    Identity { member: MemberId(7), room, shards: 1, lineage, cluster: None }
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(0) }
}

fn me() -> PeerNode {
    PeerNode { name: "lounge-0".to_owned(), address: "127.0.0.1:7000".to_owned(), ..PeerNode::default() }
}

struct Store {
    groups: Vec<GroupLog>,
    machines: Vec<Machine>,
    journal: Arc<JournalThread>,
}

fn start(directory: Directory) -> Store {
    let (opened, found) = directory.into_opened();
    let fatal = Box::new(|reason: &str| panic!("{reason}"));
    let journal =
        Arc::new(JournalThread::start(opened, Arc::new(SystemClock::new()), fatal).expect("a thread"));
    let news = Arc::new(Notify::new());
    let mut groups = Vec::new();
    let mut machines = Vec::new();
    for (group, GroupFound { held, snapshot }) in (0..).zip(found) {
        groups.push(GroupLog::new(group, held, Arc::clone(&journal) as Arc<dyn Journal>));
        let at = snapshot.map(|(snapshot, place)| (snapshot.meta.index, place));
        machines.push(Machine::new(ShardId(group), at, Arc::clone(&news)));
    }
    Store { groups, machines, journal }
}

fn open(disk: &Arc<dyn Disk>) -> Directory {
    Directory::open(Arc::clone(disk), &identity(), &options()).expect("the directory can be used")
}

struct OnARealDisk;

/// A machine whose worker makes a snapshot whenever Raft asks for one.
struct Worked(Machine);

impl RaftStateMachine<Config> for Worked {
    type SnapshotData = OnDisk;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        RaftStateMachine::<Config>::applied_state(&mut self.0).await
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + Send,
    {
        RaftStateMachine::<Config>::apply(&mut self.0, entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Self(self.0.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: OnDisk) -> Result<(), io::Error> {
        RaftStateMachine::<Config>::install_snapshot(&mut self.0, meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Config, OnDisk>>, io::Error> {
        RaftStateMachine::<Config>::get_current_snapshot(&mut self.0).await
    }
}

impl RaftSnapshotBuilder<Config> for Worked {
    type SnapshotData = OnDisk;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, OnDisk>, io::Error> {
        let Some((index, place)) = self.0.place() else {
            return Ok(SnapshotOf::<Config, OnDisk> {
                meta: SnapshotMeta::default(),
                snapshot: OnDisk(Index(0)),
            });
        };
        self.0.saved(index, place);
        RaftSnapshotBuilder::<Config>::build_snapshot(&mut self.0).await
    }
}

impl StoreBuilder<Config, GroupLog, Worked, TempDir> for OnARealDisk {
    async fn build(&self) -> Result<(TempDir, GroupLog, Worked), StorageError<Config>> {
        let place = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> =
            Arc::new(chat_log::disk::FileDisk::open(place.path()).expect("a directory"));
        let Store { mut groups, mut machines, journal: _ } = start(open(&disk));
        Ok((place, groups.remove(0), Worked(machines.remove(0))))
    }
}

#[tokio::test]
async fn the_suite_of_raft_passes() {
    Suite::<Config, _, _, _, _>::test_all(OnARealDisk).await.expect("the suite passes");
}

fn entry(term: u64, index: u64, text: &'static str) -> Entry {
    let batch = Batch { time_ms: 5, payload: text.as_bytes().into() };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(batch) }
}

/// Hands in and waits until it is on the disk.
fn write(store: &Store, group: u16, records: Vec<Record>) {
    let (done, written) = mpsc::channel();
    let on_done = Box::new(move |result: io::Result<()>| drop(done.send(result)));
    store.journal.submit(Job { group, records, done: Some(on_done) });
    written.recv().expect("an answer").expect("it is written");
}

async fn read(log: &GroupLog) -> Vec<Entry> {
    openraft::RaftLogReader::<Config>::try_get_log_entries(&mut log.clone(), ..).await.expect("in memory")
}

#[tokio::test]
async fn what_was_written_is_there_after_a_power_cut_and_what_was_cut_is_not() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let store = start(open(&disk));
    let entries = [entry(1, 0, "a"), entry(1, 1, "b"), entry(1, 2, "c")];
    write(&store, 1, entries.into_iter().map(Record::Entry).collect());
    write(&store, 1, vec![Record::Truncate(Some(log_id(1, 0))), Record::Entry(entry(2, 1, "B"))]);
    write(&store, 0, vec![Record::Entry(entry(1, 0, "x")), Record::Entry(entry(1, 1, "y"))]);
    let vote = openraft::impls::Vote::new(3, 7);
    write(&store, 0, vec![Record::Vote(vote)]);
    drop(store);

    memory.crash(Loss::All);
    let store = start(open(&disk));
    assert_eq!(read(&store.groups[1]).await, [entry(1, 0, "a"), entry(2, 1, "B")]);
    assert_eq!(read(&store.groups[0]).await, [entry(1, 0, "x"), entry(1, 1, "y")]);
    let read = openraft::RaftLogReader::<Config>::read_vote(&mut store.groups[0].clone()).await;
    assert_eq!(read.expect("in memory"), Some(vote));
}

fn proposal(sequence: u64) -> Proposal {
    Proposal {
        producer: Stamp { incarnation: Incarnation(1), sequence },
        origin: None,
        dir_at: Position(1),
        command: Command::Common(CommonCommand::RaiseLevel(FeatureLevel(1))),
    }
}

#[tokio::test]
async fn the_directory_of_a_lone_node_is_the_beginning_of_a_room_of_many() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let local = LocalOptions { segment_bytes: 1 << 20, ..LocalOptions::new(identity()) };
    let (mut log, _) = LocalLog::open(Arc::clone(&disk), &local).expect("an empty directory");
    for sequence in 1..=3 {
        let batches = vec![(ShardId(1), vec![proposal(sequence)])];
        log.commit(batches, Space::Ordinary, 1_000 + sequence).expect("written");
    }
    drop(log);

    let mut directory = open(&disk);
    directory.found(&me(), ClusterId(0xc0ffee)).expect("founded");
    drop(directory);
    let mut directory = open(&disk);
    directory.found(&me(), ClusterId(0xc0ffee)).expect("a second time changes nothing");
    assert_eq!(directory.identity.cluster, Some(ClusterId(0xc0ffee)));
    let store = start(directory);
    let entries = read(&store.groups[1]).await;
    let [first, .., founding] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entries.len(), 4);
    let EntryPayload::Normal(batch) = &first.payload else { panic!("{first:?}") };
    let decoded = chat_state::entry::Entry::decode_proposals(Index(1), batch.time_ms, &batch.payload);
    assert_eq!(decoded.expect("proposals").proposals, [proposal(1)]);
    assert_eq!(batch.time_ms, 1_001);
    let EntryPayload::Membership(membership) = &founding.payload else { panic!("{founding:?}") };
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [7]);
    drop(store);

    let refused = LocalLog::open(disk, &local).map(drop).expect_err("not a lone node's any more").to_string();
    assert!(refused.contains("configure log.raft"), "{refused}");
}

#[test]
fn the_directory_of_another_member_is_refused() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut directory = open(&disk);
    directory.check_name("lounge-1").expect("it is nobody's yet");
    directory.found(&me(), ClusterId(5)).expect("founded");
    drop(directory);
    let directory = open(&disk);
    directory.check_name("lounge-0").expect("its own");
    let refused = directory.check_name("lounge-1").expect_err("another one's").to_string();
    assert!(refused.contains("\"lounge-0\"") && refused.contains("\"lounge-1\""), "{refused}");
}
