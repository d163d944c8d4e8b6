//! A room of one node with one worker: the session layer over logs that are queues in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use chat_session::{
    Close, ConnectionId, ConnectionLimits, Framing, Housekeeper, Now, Peer, Random, Revision, SessionConfig,
    Worker,
};
use chat_state::{
    channels::ChannelShard,
    command::{Command, DirectoryCommand},
    directory::Directory,
    entry::{Entry, Proposal, Request, Stamp},
    ids::{Incarnation, Index, Lineage, MemberId, ShardId},
    settings::Settings,
};

/// When rooms begin: 2026-01-01, noon.
const START_MS: u64 = 1_767_268_800_000;

pub(crate) struct Room {
    pub(crate) worker: Worker,
    housekeeper: Housekeeper,
    config: SessionConfig,
    settings: Settings,
    nonce: u64,
    now: Now,
    logs: BTreeMap<ShardId, Log>,
    /// Shards whose log stands still.
    held: BTreeSet<ShardId>,
    /// Connections that the worker gave back, not yet asked for.
    pub(crate) closed: BTreeMap<ConnectionId, Close>,
}

#[derive(Default)]
struct Log {
    last: Index,
    /// Last sequence of each life.
    sequences: BTreeMap<Incarnation, u64>,
    waiting: VecDeque<Request>,
}

/// The same bytes in every run.
struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(113);
            *byte = self.0;
        }
    }
}

impl Room {
    pub(crate) fn new(shards: u16, settings: Settings, limits: ConnectionLimits) -> Self {
        let config = SessionConfig {
            worker: 0,
            server_name: "irc.test".into(),
            network: "TestNet".into(),
            version: "chat-node-0.0.0".into(),
            created: "at noon".into(),
            shards,
            limits,
            reconnect_to: "*".into(),
        };
        let channels =
            (1..=shards).map(|shard| ChannelShard::new(ShardId(shard), shards, Lineage(0))).collect();
        let directory = Directory::new(Lineage(0));
        let now = Now { monotonic_ms: 0, unix_ms: START_MS };
        let mut room = Self {
            worker: Worker::new(config.clone(), 1, Box::new(Counting(1)), directory, channels),
            housekeeper: Housekeeper::new(MemberId(1), 1, settings.clone(), Revision::Counted),
            config,
            settings,
            nonce: 1,
            now,
            logs: (0..=shards).map(|shard| (ShardId(shard), Log::default())).collect(),
            held: BTreeSet::new(),
            closed: BTreeMap::new(),
        };
        room.start();
        room
    }

    fn start(&mut self) {
        self.settle();
        while !self.housekeeper.is_settled(&self.worker) {
            self.pass(1000);
        }
    }

    /// The node dies and comes back with the state that its log had made.
    pub(crate) fn restart(&mut self) {
        self.nonce += 1;
        let (directory, channels) = (self.worker.directory().clone(), self.worker.channels().to_vec());
        let random = Box::new(Counting(self.nonce as u8));
        self.worker = Worker::new(self.config.clone(), self.nonce, random, directory, channels);
        let settings = self.settings.clone();
        self.housekeeper = Housekeeper::new(MemberId(1), self.nonce, settings, Revision::Counted);
        self.closed.clear();
        for log in self.logs.values_mut() {
            log.waiting.clear();
        }
        self.start();
    }

    pub(crate) fn connect(&mut self, host: &str, framing: Framing, secure: bool) -> ConnectionId {
        let id = self.worker.connect(Peer { host: host.into(), secure, framing }, self.now);
        self.settle();
        id
    }

    pub(crate) fn send(&mut self, id: ConnectionId, line: &[u8]) {
        self.worker.receive(id, line, self.now);
        self.settle();
    }

    pub(crate) fn send_too_long(&mut self, id: ConnectionId) {
        self.worker.receive_too_long(id, self.now);
        self.settle();
    }

    pub(crate) fn disconnect(&mut self, id: ConnectionId) {
        self.worker.disconnect(id, "Connection reset", self.now);
        self.worker.forget(id);
        self.settle();
    }

    pub(crate) fn drain(&mut self) {
        self.worker.drain(1000, self.now);
        self.settle();
    }

    pub(crate) fn output(&mut self, id: ConnectionId) -> Vec<u8> {
        let bytes = self.worker.output(id).to_vec();
        self.worker.consume(id, bytes.len());
        bytes
    }

    /// Time passes, as the edge tells the worker of it; the chores are done every second.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < until {
            let step = (until - self.now.monotonic_ms).min(100);
            self.now.monotonic_ms += step;
            self.now.unix_ms += step;
            self.worker.tick(self.now);
            if self.now.monotonic_ms.is_multiple_of(1000) {
                let chores = self.housekeeper.tick(&self.worker, self.now);
                self.take(chores);
            }
            self.settle();
        }
    }

    pub(crate) fn hold(&mut self, directory: bool, on: bool) {
        for shard in self.logs.keys().filter(|shard| shard.is_directory() == directory) {
            if on {
                self.held.insert(*shard);
            } else {
                self.held.remove(shard);
            }
        }
        self.settle();
    }

    /// What waits in logs that stand still never gets in.
    pub(crate) fn refuse(&mut self, reason: &str) {
        for shard in self.held.clone() {
            let log = self.logs.get_mut(&shard).expect("only shards of the room are held");
            for request in std::mem::take(&mut log.waiting) {
                self.worker.refused(request.origin, &request.command, reason, self.now);
            }
        }
        self.housekeeper.refused();
        self.settle();
    }

    /// The store is another process: what follows is numbered under this lineage.
    pub(crate) fn begin_lineage(&mut self, lineage: Lineage) {
        for (shard, log) in &mut self.logs {
            log.last = Index(log.last.0 + 1);
            let proposals = vec![Proposal::begins_lineage(lineage)];
            let entry = Arc::new(Entry { index: log.last, time_ms: self.now.unix_ms, proposals });
            self.worker.committed(*shard, &entry, self.now);
        }
        self.settle();
    }

    fn take(&mut self, requests: Vec<(ShardId, Request)>) {
        for (shard, request) in requests {
            let log = self.logs.get_mut(&shard).expect("requests name shards of the room");
            log.waiting.push_back(request);
        }
    }

    /// Until nobody asks for anything more: what waits for a shard goes in as one entry.
    fn settle(&mut self) {
        loop {
            let requests = self.worker.take_requests();
            self.take(requests);
            let chores = self.housekeeper.run(&self.worker, self.now);
            self.take(chores);
            self.worker.take_dirty();
            self.worker.take_resumed_reading();
            self.closed.extend(self.worker.take_closing());
            let held = &self.held;
            let next =
                self.logs.iter_mut().find(|(shard, log)| !log.waiting.is_empty() && !held.contains(shard));
            let Some((shard, log)) = next else { return };
            let incarnation = self.worker.incarnation().unwrap_or_default();
            let entry = Arc::new(log.order(incarnation, self.now.unix_ms));
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&*entry), "entries survive their bytes");
            self.worker.committed(*shard, &entry, self.now);
        }
    }
}

impl Log {
    /// All that waits, as the next entry.
    fn order(&mut self, incarnation: Incarnation, time_ms: u64) -> Entry {
        self.last = Index(self.last.0 + 1);
        let sequence = self.sequences.entry(incarnation).or_default();
        let proposals = self.waiting.drain(..).map(|request| {
            let registers =
                matches!(request.command, Command::Directory(DirectoryCommand::RegisterNode { .. }));
            let producer = if registers {
                Stamp { incarnation: Incarnation(0), sequence: 0 }
            } else {
                *sequence += 1;
                Stamp { incarnation, sequence: *sequence }
            };
            let Request { origin, dir_at, command } = request;
            Proposal { producer, origin, dir_at, command }
        });
        Entry { index: self.last, time_ms, proposals: proposals.collect() }
    }
}
