//! Nodes as a store sees them: a log and a follower of it, without workers.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use chat_log::{
    log::{Delivery, Follower, Log, Reason, Request},
    shared::handle::{SharedLogHandle, SharedOptions},
    snapshot::{NewChunk, NewSnapshot, SnapshotMeta},
};
use chat_state::{
    command::{ChannelCommand, Command, Message, MessageKind, Target},
    entry::Origin,
    ids::{Generation, Incarnation, Lineage, Position, SessionId, ShardId, UserId},
};
use chat_valkey::{OpenError, Opened, Options, ValkeyStore};
use tokio::runtime::Runtime;

pub(crate) const SHARD: ShardId = ShardId(1);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Of a room that has one shard.
pub(crate) fn options(url_file: PathBuf) -> Options {
    Options {
        connect_within: Duration::from_millis(500),
        answer_within: Duration::from_secs(1),
        ..Options::new(url_file, "lounge".to_owned(), 1)
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn open(options: Options) -> Result<(Opened, Runtime), OpenError> {
    let runtime = runtime();
    let opened = runtime.block_on(ValkeyStore::open(options))?;
    Ok((opened, runtime))
}

pub(crate) struct Node {
    pub(crate) log: SharedLogHandle<ValkeyStore>,
    pub(crate) follower: Follower,
    pub(crate) incarnation: u64,
    /// Why it had to end.
    pub(crate) fatal: mpsc::Receiver<String>,
    asked: u32,
}

impl Node {
    pub(crate) fn start(options: Options, incarnation: u64) -> Self {
        Self::that_beats(options, incarnation, Duration::from_millis(100))
    }

    pub(crate) fn that_beats(options: Options, incarnation: u64, beat_every: Duration) -> Self {
        let (opened, runtime) = open(options).unwrap_or_else(|error| panic!("{error}"));
        let (told, fatal) = mpsc::channel();
        let options = SharedOptions {
            retry_every: Duration::from_millis(50),
            beat_every,
            patience: Duration::from_millis(500),
            ..SharedOptions::default()
        };
        let on_fatal = Box::new(move |reason: &str| {
            // The test may be over.
            let _ = told.send(reason.to_owned());
        });
        let log = SharedLogHandle::start(Arc::new(opened.store), opened.extents, runtime, options, on_fatal)
            .expect("a thread");
        let follower = log.follow(BTreeMap::new()).expect("from the oldest on");
        log.begin(Incarnation(incarnation));
        Self { log, follower, incarnation, fatal, asked: 0 }
    }

    /// Asks for the next message; gives its number.
    pub(crate) fn ask(&mut self) -> u32 {
        let number = self.asked;
        self.asked += 1;
        let request = request(self.incarnation, number);
        self.log.append(self.follower.id(), SHARD, vec![request]).expect("room in the queue");
        number
    }

    /// Until one is stored: what is refused is asked again.
    pub(crate) fn store_one(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut number = self.ask();
        loop {
            assert!(Instant::now() < deadline, "nothing is stored any more");
            match self.follower.try_next() {
                Some(Delivery::Committed(batch)) => {
                    let mut all = batch.iter().flat_map(|(_, entry)| &entry.proposals);
                    if all.any(|proposal| proposal.origin.is_some_and(|origin| origin.request == number)) {
                        return;
                    }
                }
                Some(Delivery::Refused { .. }) => {
                    std::thread::sleep(Duration::from_millis(100));
                    number = self.ask();
                }
                Some(Delivery::Fatal(reason)) => panic!("{reason}"),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Of the shard, at the entry that was read last.
    pub(crate) fn save_snapshot(&self) {
        let index = self.log.status().shards[&SHARD].last;
        let meta = SnapshotMeta { shard: SHARD, lineage: Lineage(0), index, position: Position(index.0) };
        let new_chunks = vec![NewChunk { first: Position(1), last: Position(1), bytes: b"a piece".to_vec() }];
        let state = b"what a replica holds".to_vec();
        let snapshot = NewSnapshot { meta, state, kept_chunks: Vec::new(), new_chunks, place: Vec::new() };
        self.log.save_snapshot(snapshot).blocking_recv().expect("answered").expect("saved");
    }

    /// Until it says that it takes nothing, for this reason; or that it takes requests again.
    pub(crate) fn wait_until_read_only(&mut self, reason: Option<Reason>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it never said so");
            match self.follower.try_next() {
                Some(Delivery::ReadOnly(now)) if now == reason => return,
                Some(Delivery::Fatal(reason)) => panic!("{reason}"),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

pub(crate) fn request(who: u64, n: u32) -> Request {
    let message = Message {
        kind: MessageKind::Privmsg,
        prefix: "ann!a@host".into(),
        to_nick: String::new(),
        text: format!("message {n} {}", "x".repeat(100)),
        tags: String::new(),
        id: None,
    };
    Request {
        origin: Some(Origin {
            user: UserId(who),
            session: SessionId(who),
            generation: Generation(1),
            request: n,
        }),
        dir_at: Position(0),
        command: Command::Channel(ChannelCommand::Message {
            target: Target::User { user: UserId(who) },
            message: Arc::new(message),
        }),
    }
}
