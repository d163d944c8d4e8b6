//! What every log must keep to, whatever it lives in. Each function is one test; a factory makes the logs.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chat_state::{
    command::{ChannelCommand, Command, DirectoryCommand, Message, MessageKind, Target},
    entry::{Entry, Origin},
    ids::{
        FeatureLevel, Generation, Incarnation, Index, Lineage, MemberId, Position, SessionId, ShardId, UserId,
    },
};

use crate::{
    log::{CommittedBatch, Delivery, FollowError, Follower, FollowerId, Log, Reason, Request},
    snapshot::{NewChunk, NewSnapshot, Snapshot, SnapshotMeta},
};

/// Channel shards of the rooms that the tests use.
pub const SHARDS: u16 = 2;

/// Anything that takes longer than this is taken for a standstill.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes logs for one test.
pub trait Factory {
    type Log: Log + 'static;

    /// Opens the log; the same one each time. Entries that it holds are followed from, not applied before.
    fn open(&mut self) -> Opened<Self::Log>;

    /// Ends a log that was opened, as a process does that is asked to.
    fn close(&mut self, log: Self::Log);

    /// Makes the log refuse what clients ask for, as its medium would; false if there is no way to.
    fn fill(&mut self) -> bool;

    /// Undoes `fill`.
    fn drain(&mut self);
}

pub struct Opened<L> {
    pub log: L,
    /// The newest snapshot of each shard that has one.
    pub snapshots: BTreeMap<ShardId, Snapshot>,
}

/// All of them, each on a factory of its own.
pub fn run_all<F: Factory>(mut factory: impl FnMut() -> F) {
    entries_come_back_in_order(&mut factory());
    many_producers_keep_their_order(&mut factory());
    what_was_delivered_is_there_after_opening_again(&mut factory());
    followers_begin_anywhere(&mut factory());
    slow_followers_miss_nothing(&mut factory());
    requests_before_registration_are_refused(&mut factory());
    requests_to_unknown_shards_are_refused(&mut factory());
    a_snapshot_comes_back(&mut factory());
    a_full_log_refuses_definitely_and_recovers(&mut factory());
}

fn registered<L: Log>(log: &L) {
    log.begin(Incarnation(1));
}

/// Tells the requests of a test apart: `who` is the producer, `n` its own counter.
fn request(who: u64, n: u32, text: &str) -> Request {
    let message = Message {
        kind: MessageKind::Privmsg,
        prefix: "ann!a@host".into(),
        to_nick: String::new(),
        text: text.to_owned(),
        tags: String::new(),
        id: None,
    };
    let target = Target::User { user: UserId(who) };
    Request {
        origin: Some(Origin {
            user: UserId(who),
            session: SessionId(who),
            generation: Generation(1),
            request: n,
        }),
        dir_at: Position(0),
        command: Command::Channel(ChannelCommand::Message { target, message: Arc::new(message) }),
    }
}

fn follow_all<L: Log>(log: &L) -> Follower {
    log.follow(BTreeMap::new()).expect("from the oldest on")
}

/// The next delivery, or a panic when none comes.
fn next(follower: &mut Follower) -> Delivery {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(delivery) = follower.try_next() {
            return delivery;
        }
        assert!(Instant::now() < deadline, "nothing was delivered for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn next_batch(follower: &mut Follower) -> CommittedBatch {
    loop {
        match next(follower) {
            Delivery::Committed(batch) => return batch,
            Delivery::SnapshotWanted { .. } | Delivery::ReadOnly(_) => {}
            other => panic!("expected entries, got {other:?}"),
        }
    }
}

/// Follows until so many requests of producers have come.
struct Seen {
    entries: BTreeMap<ShardId, Vec<Arc<Entry>>>,
    requests: usize,
}

impl Seen {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), requests: 0 }
    }

    fn take(&mut self, batch: &CommittedBatch) {
        for (shard, entry) in batch.iter() {
            let entries = self.entries.entry(*shard).or_default();
            if let Some(last) = entries.last() {
                assert_eq!(entry.index.0, last.index.0 + 1, "a gap in shard {shard}");
            }
            assert!(!entry.proposals.is_empty(), "an entry without proposals");
            self.requests += entry.proposals.iter().filter(|proposal| proposal.origin.is_some()).count();
            entries.push(Arc::clone(entry));
        }
    }

    fn until(&mut self, requests: usize, follower: &mut Follower) {
        while self.requests < requests {
            self.take(&next_batch(follower));
        }
    }

    /// Who asked and the number, in the order of a shard.
    fn order(&self, shard: ShardId) -> Vec<(u64, u32)> {
        let entries = self.entries.get(&shard).into_iter().flatten();
        entries
            .flat_map(|entry| &entry.proposals)
            .filter_map(|proposal| proposal.origin.map(|origin| (origin.user.0, origin.request)))
            .collect()
    }

    fn last(&self, shard: ShardId) -> Index {
        self.entries.get(&shard).and_then(|entries| entries.last()).map_or(Index(0), |entry| entry.index)
    }
}

/// Appends, and waits until all of it came back.
fn append_and_wait<L: Log>(
    log: &L,
    follower: &mut Follower,
    shard: ShardId,
    numbers: std::ops::Range<u32>,
) -> Seen {
    let mut seen = Seen::new();
    for n in numbers {
        log.append(follower.id(), shard, vec![request(1, n, "hello")]).expect("room in the queue");
        let so_far = seen.requests;
        seen.until(so_far + 1, follower);
    }
    seen
}

pub fn entries_come_back_in_order<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut follower = follow_all(&log);
    for n in 0..500 {
        let shard = ShardId(1 + (n % 2) as u16);
        log.append(follower.id(), shard, vec![request(1, n, "hello")]).expect("room in the queue");
    }
    let mut seen = Seen::new();
    seen.until(500, &mut follower);
    for shard in [1, 2] {
        let numbers: Vec<_> = seen.order(ShardId(shard)).into_iter().map(|(_, n)| n).collect();
        let expected: Vec<_> = (0..500).filter(|n| n % 2 == u32::from(shard) - 1).collect();
        assert_eq!(numbers, expected);
        let stamps: Vec<_> = seen.entries[&ShardId(shard)]
            .iter()
            .flat_map(|entry| entry.proposals.iter().map(|proposal| proposal.producer))
            .collect();
        assert!(stamps.iter().all(|stamp| stamp.incarnation == Incarnation(1)));
        let sequences: Vec<_> = stamps.iter().map(|stamp| stamp.sequence).collect();
        assert_eq!(sequences, (1..=250).collect::<Vec<_>>(), "the producer's stream has no hole");
    }
    factory.close(log);
}

pub fn many_producers_keep_their_order<F: Factory>(factory: &mut F) {
    const PRODUCERS: u64 = 8;
    const EACH: u32 = 300;
    let Opened { log, .. } = factory.open();
    registered(&log);
    let log = Arc::new(log);
    let threads: Vec<_> = (1..=PRODUCERS)
        .map(|who| {
            let log = Arc::clone(&log);
            let mut follower = follow_all(&*log);
            std::thread::spawn(move || {
                for n in 0..EACH {
                    let shard = ShardId(1 + (n % 2) as u16);
                    log.append(follower.id(), shard, vec![request(who, n, "hi")]).expect("room in the queue");
                }
                let mut seen = Seen::new();
                seen.until(PRODUCERS as usize * EACH as usize, &mut follower);
                [1, 2].map(|shard| seen.order(ShardId(shard)))
            })
        })
        .collect();
    let orders: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a producer")).collect();
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "followers saw different orders");
    for who in 1..=PRODUCERS {
        for order in &orders[0] {
            let own: Vec<_> = order.iter().filter(|(of, _)| *of == who).map(|(_, n)| *n).collect();
            assert_eq!(own.len(), EACH as usize / 2);
            assert!(own.is_sorted(), "producer {who} was reordered: {own:?}");
        }
    }
    let log = Arc::into_inner(log).expect("the threads have ended");
    factory.close(log);
}

pub fn what_was_delivered_is_there_after_opening_again<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut follower = follow_all(&log);
    let before = append_and_wait(&log, &mut follower, ShardId(1), 0..20);
    drop(follower);
    factory.close(log);
    let Opened { log, .. } = factory.open();
    let mut follower = follow_all(&log);
    let mut after = Seen::new();
    after.until(20, &mut follower);
    assert_eq!(after.entries, before.entries);
    // And it goes on at the next index, under a new life.
    log.begin(Incarnation(2));
    let more = append_and_wait(&log, &mut follower, ShardId(1), 20..21);
    let first = &more.entries[&ShardId(1)][0];
    assert_eq!(first.index.0, after.last(ShardId(1)).0 + 1);
    let stamp = first.proposals[0].producer;
    assert_eq!((stamp.incarnation, stamp.sequence), (Incarnation(2), 1));
    factory.close(log);
}

pub fn followers_begin_anywhere<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut first = follow_all(&log);
    let seen = append_and_wait(&log, &mut first, ShardId(1), 0..30);
    let last = seen.last(ShardId(1));
    for from in 1..=last.0 + 1 {
        let from = Index(from);
        let mut follower = log.follow([(ShardId(1), from)].into()).expect("kept");
        // One more, so that something comes even to who follows from the end.
        log.append(first.id(), ShardId(2), vec![request(2, 0, "x")]).expect("room in the queue");
        let mut got = Seen::new();
        while got.entries.get(&ShardId(1)).map_or(0, Vec::len) < (last.0 + 1 - from.0) as usize
            || !got.entries.contains_key(&ShardId(2))
        {
            got.take(&next_batch(&mut follower));
        }
        let expected = &seen.entries[&ShardId(1)][from.0 as usize - 1..];
        assert_eq!(got.entries.get(&ShardId(1)).map_or(&[][..], Vec::as_slice), expected);
    }
    let beyond = log.follow([(ShardId(1), Index(last.0 + 2))].into()).map(|_| ());
    assert!(matches!(beyond, Err(FollowError::NotYet { .. })), "{beyond:?}");
    let nowhere = log.follow([(ShardId(SHARDS + 1), Index(1))].into()).map(|_| ());
    assert!(matches!(nowhere, Err(FollowError::NoSuchShard { .. })), "{nowhere:?}");
    factory.close(log);
}

pub fn slow_followers_miss_nothing<F: Factory>(factory: &mut F) {
    const REQUESTS: u32 = 4000;
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut slow = follow_all(&log);
    let mut quick = follow_all(&log);
    let text = "x".repeat(2000);
    let mut seen = Seen::new();
    for n in 0..REQUESTS {
        log.append(quick.id(), ShardId(1), vec![request(1, n, &text)]).expect("room in the queue");
        if n % 100 == 99 {
            // Nobody waits for who does not read.
            seen.until(n as usize + 1, &mut quick);
        }
    }
    // Nor does a snapshot take from it what it has yet to be told.
    let index = seen.last(ShardId(1));
    let meta = SnapshotMeta { shard: ShardId(1), lineage: Lineage(0), index, position: Position(1) };
    let new = NewSnapshot {
        meta,
        state: Vec::new(),
        kept_chunks: Vec::new(),
        new_chunks: Vec::new(),
        place: Vec::new(),
    };
    log.save_snapshot(new).blocking_recv().expect("an answer").expect("stored");
    let mut late = Seen::new();
    late.until(REQUESTS as usize, &mut slow);
    assert_eq!(late.entries, seen.entries);
    // Live again.
    append_and_wait(&log, &mut slow, ShardId(2), 0..5);
    factory.close(log);
}

fn refusal(follower: &mut Follower) -> (ShardId, Request, Reason) {
    loop {
        match next(follower) {
            Delivery::Refused { shard, request, reason } => return (shard, request, reason),
            Delivery::Committed(_) | Delivery::ReadOnly(_) | Delivery::SnapshotWanted { .. } => {}
            Delivery::Fatal(reason) => panic!("{reason}"),
        }
    }
}

pub fn requests_before_registration_are_refused<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    let mut asker = follow_all(&log);
    let mut other = follow_all(&log);
    log.append(asker.id(), ShardId(1), vec![request(1, 7, "early")]).expect("room in the queue");
    let expected = (ShardId(1), request(1, 7, "early"), Reason::NotRegistered);
    assert_eq!(refusal(&mut asker), expected);
    let command = Command::Directory(DirectoryCommand::RegisterNode {
        member: MemberId(1),
        nonce: 5,
        level: FeatureLevel::SUPPORTED,
    });
    let registration = Request { origin: None, dir_at: Position(0), command: command.clone() };
    log.append(asker.id(), ShardId::DIRECTORY, vec![registration]).expect("room in the queue");
    // The first that the other hears of is the registration: refusals are for who asked.
    match next(&mut other) {
        Delivery::Committed(batch) => {
            assert_eq!(batch[0].1.proposals[0].command, command);
            assert_eq!(batch[0].1.proposals[0].producer.sequence, 0);
        }
        unexpected => panic!("{unexpected:?}"),
    }
    factory.close(log);
}

pub fn requests_to_unknown_shards_are_refused<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut follower = follow_all(&log);
    let nowhere = ShardId(SHARDS + 1);
    log.append(follower.id(), nowhere, vec![request(1, 1, "x")]).expect("room in the queue");
    assert_eq!(refusal(&mut follower), (nowhere, request(1, 1, "x"), Reason::NoSuchShard));
    // Who is not known (any more) hurts nobody.
    log.append(FollowerId(u64::MAX), nowhere, vec![request(1, 2, "x")]).expect("room in the queue");
    append_and_wait(&log, &mut follower, ShardId(1), 0..1);
    factory.close(log);
}

pub fn a_snapshot_comes_back<F: Factory>(factory: &mut F) {
    let Opened { log, snapshots } = factory.open();
    assert!(snapshots.is_empty());
    registered(&log);
    let mut follower = follow_all(&log);
    let seen = append_and_wait(&log, &mut follower, ShardId(1), 0..10);
    let at = Index(seen.last(ShardId(1)).0 - 2);
    let meta = SnapshotMeta { shard: ShardId(1), lineage: Lineage(0), index: at, position: Position(at.0) };
    let chunk = NewChunk { first: Position(1), last: Position(5), bytes: b"old messages".to_vec() };
    let new = NewSnapshot {
        meta,
        state: b"state".to_vec(),
        kept_chunks: Vec::new(),
        new_chunks: vec![chunk],
        place: Vec::new(),
    };
    let saved = log.save_snapshot(new.clone()).blocking_recv().expect("an answer").expect("stored");
    assert_eq!((saved.meta, saved.chunks.len()), (meta, 1));
    assert_eq!(log.status().shards[&ShardId(1)].snapshot, at);
    let future = SnapshotMeta { index: Index(1000), ..meta };
    let refused = log.save_snapshot(NewSnapshot { meta: future, ..new }).blocking_recv().expect("an answer");
    assert!(refused.is_err(), "a snapshot of what never happened");
    drop(follower);
    factory.close(log);

    let Opened { log, snapshots } = factory.open();
    let snapshot = &snapshots[&ShardId(1)];
    assert_eq!((snapshot.meta, snapshot.state.as_slice()), (meta, b"state".as_slice()));
    assert_eq!(snapshot.chunks, saved.chunks);
    let mut follower = log.follow([(ShardId(1), Index(at.0 + 1))].into()).expect("what follows is kept");
    let mut rest = Seen::new();
    rest.until(2, &mut follower);
    assert_eq!(rest.entries[&ShardId(1)], seen.entries[&ShardId(1)][at.0 as usize..]);
    factory.close(log);
}

pub fn a_full_log_refuses_definitely_and_recovers<F: Factory>(factory: &mut F) {
    let Opened { log, .. } = factory.open();
    registered(&log);
    let mut follower = follow_all(&log);
    append_and_wait(&log, &mut follower, ShardId(1), 0..1);
    if !factory.fill() {
        factory.close(log);
        return;
    }
    let text = "x".repeat(8000);
    let (mut asked, mut kept, mut refused) = (0, Vec::new(), Vec::new());
    let mut read_only = false;
    while refused.len() < 3 {
        log.append(follower.id(), ShardId(1), vec![request(1, asked, &text)]).expect("room in the queue");
        asked += 1;
        assert!(asked < 100_000, "the log never filled");
        // Each request has one fate.
        while kept.len() + refused.len() < asked as usize {
            match next(&mut follower) {
                Delivery::Committed(batch) => {
                    kept.extend(batch.iter().flat_map(|(_, entry)| entry.proposals.iter().map(|p| p.origin)));
                }
                Delivery::Refused { request, reason, .. } => {
                    assert!(matches!(reason, Reason::DiskFull | Reason::StoreFull), "{reason}");
                    refused.push(request.origin);
                }
                Delivery::ReadOnly(now) => read_only = now.is_some(),
                Delivery::SnapshotWanted { .. } => {}
                Delivery::Fatal(reason) => panic!("{reason}"),
            }
        }
    }
    assert!(read_only && log.status().read_only.is_some(), "the followers were told");
    factory.drain();
    while !matches!(next(&mut follower), Delivery::ReadOnly(None)) {}
    append_and_wait(&log, &mut follower, ShardId(1), 100_000..100_001);
    // Nothing that was refused is there, and the stream has no hole.
    let mut again = follow_all(&log);
    let mut seen = Seen::new();
    seen.until(kept.len() + 2, &mut again);
    let origins: Vec<_> = seen.entries[&ShardId(1)]
        .iter()
        .flat_map(|entry| entry.proposals.iter().map(|proposal| proposal.origin))
        .collect();
    assert_eq!(&origins[1..=kept.len()], kept);
    let sequences: Vec<_> = seen.entries[&ShardId(1)]
        .iter()
        .flat_map(|entry| entry.proposals.iter().map(|proposal| proposal.producer.sequence))
        .collect();
    assert_eq!(sequences, (1..=kept.len() as u64 + 2).collect::<Vec<_>>());
    factory.close(log);
}
