//! The thread around the log: the contract on a real disk and on the simulated one, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chat_state::{
    command::{Command, DirectoryCommand},
    ids::{Generation, Lineage, MemberId, Position, SessionId},
};

use super::*;
use crate::{
    clock::SystemClock,
    contract_tests::{self, Factory, Opened, SHARDS},
    disk::{Disk, FileDisk, memory::MemoryDisk},
    identity::Identity,
    local::{LocalLog, LocalOptions},
    log::{Delivery, Reason},
};

fn options(segment_bytes: u64) -> LocalOptions {
    let identity = Identity {
        member: MemberId(9),
        room: "lounge".to_owned(),
        shards: SHARDS,
        lineage: Lineage(0),
        cluster: None,
    };
    LocalOptions {
        segment_bytes,
        disk_reserve_bytes: 0,
        chore_reserve_bytes: 4096,
        ..LocalOptions::new(identity)
    }
}

fn handle_options() -> HandleOptions {
    HandleOptions {
        follower_bytes: 256 << 10,
        mark_after: Duration::from_millis(5),
        probe_every: Duration::from_millis(5),
        ..HandleOptions::default()
    }
}

fn start(disk: Arc<dyn Disk>, on_fatal: OnFatal) -> Opened<LocalLogHandle> {
    let (log, recovered) = LocalLog::open(disk, &options(1 << 20)).expect("opens");
    let snapshots =
        recovered.snapshots.into_iter().filter_map(|(shard, found)| Some((shard, found?))).collect();
    let log = LocalLogHandle::start(log, Arc::new(SystemClock::new()), &handle_options(), on_fatal);
    Opened { log: log.expect("threads"), snapshots }
}

fn not_fatal() -> OnFatal {
    Box::new(|reason| panic!("{reason}"))
}

struct OnFiles {
    directory: tempfile::TempDir,
}

impl Factory for OnFiles {
    type Log = LocalLogHandle;

    fn open(&mut self) -> Opened<LocalLogHandle> {
        let disk = FileDisk::open(self.directory.path().join("data")).expect("a directory");
        start(Arc::new(disk), not_fatal())
    }

    fn close(&mut self, log: LocalLogHandle) {
        drop(log);
    }

    fn fill(&mut self) -> bool {
        false
    }

    fn drain(&mut self) {}
}

struct Simulated {
    disk: MemoryDisk,
}

impl Factory for Simulated {
    type Log = LocalLogHandle;

    fn open(&mut self) -> Opened<LocalLogHandle> {
        start(Arc::new(self.disk.clone()), not_fatal())
    }

    fn close(&mut self, log: LocalLogHandle) {
        drop(log);
    }

    fn fill(&mut self) -> bool {
        self.disk.set_capacity(Some((1 << 20) + 5000));
        true
    }

    fn drain(&mut self) {
        self.disk.set_capacity(None);
    }
}

#[test]
fn keeps_the_contract_on_files() {
    contract_tests::run_all(|| OnFiles { directory: tempfile::tempdir().expect("a directory") });
}

#[test]
fn keeps_the_contract_on_the_simulated_disk() {
    contract_tests::run_all(|| Simulated { disk: MemoryDisk::new() });
}

#[test]
fn two_processes_cannot_have_one_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || {
        let disk = FileDisk::open(directory.path()).expect("a directory");
        LocalLog::open(Arc::new(disk), &options(1 << 20))
    };
    // A lock of another file description stands for the other process: flock tells them apart the same way.
    let first = open().expect("free");
    let error = open().err().expect("taken").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(first);
    open().expect("free again");
}

fn detach(n: u64) -> Request {
    let (session, generation) = (SessionId(n), Generation(1));
    let command = DirectoryCommand::Detach { session, generation, reason: "gone".to_owned() };
    Request { origin: None, dir_at: Position(0), command: Command::Directory(command) }
}

fn next(follower: &mut Follower) -> Delivery {
    follower.blocking_next().expect("the log runs")
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_says_why() {
    let disk = MemoryDisk::new();
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    let on_fatal = Box::new(move |reason: &str| *tell.lock().expect("a test") = Some(reason.to_owned()));
    let Opened { log, .. } = start(Arc::new(disk.clone()), on_fatal);
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    disk.fail_syncs();
    log.append(follower.id(), ShardId::DIRECTORY, vec![detach(1)]).expect("room");
    match next(&mut follower) {
        Delivery::Fatal(reason) => assert!(reason.contains("cannot sync wal-0000000000000001"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(follower.blocking_next().is_none(), "nothing comes after it");
    log.stop();
    assert_eq!(told.lock().expect("a test").as_deref(), log.status().fatal.as_deref());
    let refused = log.append(follower.id(), ShardId::DIRECTORY, vec![detach(2)]);
    assert!(matches!(refused, Err(AppendError::Stopped(back)) if back == [detach(2)]));
    assert!(matches!(log.follow(BTreeMap::new()), Err(FollowError::Stopped)));
}

#[test]
fn detaching_goes_on_when_the_disk_is_full() {
    let disk = MemoryDisk::new();
    let Opened { log, .. } = start(Arc::new(disk.clone()), not_fatal());
    disk.set_capacity(Some((1 << 20) + 5000));
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    let away = |n: u64| Request {
        command: Command::Directory(DirectoryCommand::Away {
            message: Some(format!("{n}{}", "z".repeat(9000))),
        }),
        ..detach(n)
    };
    let mut n = 0;
    while log.status().read_only.is_none() {
        log.append(follower.id(), ShardId::DIRECTORY, vec![away(n)]).expect("room");
        n += 1;
        while log.status().waiting > 0 {
            std::thread::yield_now();
        }
        assert!(n < 1000, "the disk never filled");
    }
    log.append(follower.id(), ShardId::DIRECTORY, vec![detach(7), away(8)]).expect("room");
    let (mut detached, mut refused) = (false, false);
    while !(detached && refused) {
        match next(&mut follower) {
            Delivery::Committed(batch) => {
                let mut proposals = batch.iter().flat_map(|(_, entry)| &entry.proposals);
                detached |= proposals.any(|proposal| proposal.command == detach(7).command);
            }
            Delivery::Refused { request, reason, .. } => {
                assert_eq!(reason, Reason::DiskFull);
                refused |= request == away(8);
            }
            _ => {}
        }
    }
}

#[test]
fn requests_that_arrive_during_a_sync_share_the_next_one() {
    let disk = MemoryDisk::new();
    let Opened { log, .. } = start(Arc::new(disk.clone()), not_fatal());
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    // While the status is held, the storage thread cannot begin a disk operation.
    let held = log.shared.status();
    for n in 0..1000 {
        log.append(follower.id(), ShardId((n % 3) as u16), vec![detach(n)]).expect("room");
    }
    drop(held);
    let (mut batches, mut requests) = (0, 0);
    while requests < 1000 {
        let Delivery::Committed(batch) = next(&mut follower) else { continue };
        batches += 1;
        requests += batch.iter().map(|(_, entry)| entry.proposals.len()).sum::<usize>();
    }
    assert!(batches <= 3, "{batches} commits for 1000 requests");
}

#[test]
fn a_queue_that_is_full_gives_the_requests_back() {
    let disk = MemoryDisk::new();
    let (log, _) = LocalLog::open(Arc::new(disk), &options(1 << 20)).expect("opens");
    let options = HandleOptions { queue_requests: 10, ..handle_options() };
    let log =
        LocalLogHandle::start(log, Arc::new(SystemClock::new()), &options, not_fatal()).expect("threads");
    let held = log.shared.status();
    let mut overloaded = None;
    for n in 0..100 {
        if let Err(error) = log.append(FollowerId(1), ShardId(0), vec![detach(n)]) {
            overloaded = Some((n, error));
            break;
        }
    }
    drop(held);
    let (n, error) = overloaded.expect("the queue is bounded");
    assert!(matches!(error, AppendError::Overloaded(back) if back == [detach(n)]));
}

#[test]
fn a_snapshot_is_asked_for_and_lets_go_of_segments() {
    let disk = MemoryDisk::new();
    let Opened { log, .. } = start(Arc::new(disk.clone()), not_fatal());
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    let away = |n: u64| Request {
        command: Command::Directory(DirectoryCommand::Away { message: Some("z".repeat(9000)) }),
        ..detach(n)
    };
    let mut last = Index(0);
    let wanted = loop {
        log.append(follower.id(), ShardId(2), vec![away(1)]).expect("room");
        match next(&mut follower) {
            Delivery::Committed(batch) => last = batch[0].1.index,
            Delivery::SnapshotWanted { shard } => break shard,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((wanted, log.status().pinning), (ShardId(2), Some(ShardId(2))));
    let before = log.status().bytes;
    let meta = crate::snapshot::SnapshotMeta {
        shard: wanted,
        lineage: Lineage(0),
        index: last,
        position: Position(1),
    };
    let new = NewSnapshot {
        meta,
        state: vec![1],
        kept_chunks: Vec::new(),
        new_chunks: Vec::new(),
        place: Vec::new(),
    };
    log.save_snapshot(new).blocking_recv().expect("an answer").expect("stored");
    assert!(log.status().bytes < before);
    assert_eq!(log.status().pinning, None);
    let gone = log.follow([(ShardId(2), Index(1))].into()).map(|_| ());
    assert!(matches!(gone, Err(FollowError::Gone { .. })), "{gone:?}");
}

#[test]
fn a_follower_wakes_a_runtime_that_waits() {
    let disk = MemoryDisk::new();
    let Opened { log, .. } = start(Arc::new(disk), not_fatal());
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let from = follower.id();
    runtime.block_on(async {
        let asked = async {
            tokio::task::yield_now().await;
            log.append(from, ShardId(0), vec![detach(1)]).expect("room");
        };
        let (delivery, ()) = tokio::join!(follower.next(), asked);
        assert!(matches!(delivery, Some(Delivery::Committed(_))), "{delivery:?}");
    });
}

/// A clock that stands still until it is told.
struct Still(AtomicU64, AtomicBool);

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        self.1.store(true, Ordering::SeqCst);
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn entries_bear_the_time_of_their_commit() {
    let (log, _) = LocalLog::open(Arc::new(MemoryDisk::new()), &options(1 << 20)).expect("opens");
    let clock = Arc::new(Still(AtomicU64::new(1234), AtomicBool::new(false)));
    let shared_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let log = LocalLogHandle::start(log, shared_clock, &handle_options(), not_fatal()).expect("threads");
    log.begin(Incarnation(1));
    let mut follower = log.follow(BTreeMap::new()).expect("follows");
    log.append(follower.id(), ShardId(0), vec![detach(1)]).expect("room");
    let Delivery::Committed(batch) = next(&mut follower) else { panic!("a commit comes first") };
    assert_eq!(batch[0].1.time_ms, 1234);
    assert!(clock.1.load(Ordering::SeqCst));
}
