//! One life of the node: the real log and workers, with what lies between them in the hands of the run.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chat_log::{
    committer::{Asked, Committer, Turn},
    follower::FollowerId,
    identity::Identity,
    local::{LocalLog, LocalOptions, OpenError},
    log::{Reason, Request},
};
use chat_session::{Housekeeper, Now, Random, Revision, SessionConfig, Worker};
use chat_state::{
    command::{Command, DirectoryCommand},
    entry::Entry,
    ids::{Incarnation, Index, Lineage, MemberId, ShardId},
    settings::{DeclaredChannel, Settings},
};

use crate::{
    archive::{Archive, StartingPoint},
    env::Env,
    machine::Machine,
    plan::Plan,
    recovery::check_recovered,
    truth::Truth,
    violation::{Checker, Violation},
};

const TICK_MS: u64 = 100;
const CHORES_MS: u64 = 1_000;
const PROBE_MS: u64 = 1_000;
pub(crate) const LINEAGE: Lineage = Lineage(1);

/// Why the process ends before it is told to.
pub(crate) enum Stop {
    /// A fault of the machine; it starts again.
    Fault,
    Broken(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

pub(crate) struct Node {
    committer: Committer,
    /// What waits for the log.
    queue: VecDeque<Asked>,
    pub(crate) hands: Vec<Hand>,
    keeper: Housekeeper,
    begun: Option<Incarnation>,
    pub(crate) archive: Archive,
    /// Where each shard ended when the process started: no client is served before every worker got there.
    began_at: BTreeMap<ShardId, Index>,
    /// Takes clients.
    settled: bool,
    next_chores_ms: u64,
    next_probe_ms: u64,
}

/// A worker, and what is on its way to it and from it.
pub(crate) struct Hand {
    pub(crate) worker: Worker,
    inbox: BTreeMap<ShardId, VecDeque<Item>>,
    read_only: VecDeque<bool>,
    outgoing: VecDeque<(ShardId, Request)>,
    /// Shards for which the log takes nothing from this worker until then.
    blocked: BTreeMap<ShardId, u64>,
    next_tick_ms: u64,
    /// Its thread does not run until then.
    pub(crate) stalled_until_ms: u64,
}

enum Item {
    Entry(Arc<Entry>),
    Refused(Request, Reason),
}

/// Something the node can do next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Commit,
    Deliver { worker: usize, shard: ShardId },
    News { worker: usize },
    Submit { worker: usize },
    Tick { worker: usize },
    Chores,
    Probe,
    Trim,
}

impl Node {
    /// Starts the process on what the disk holds. `asked` is what was being committed when it ended last.
    pub(crate) fn boot(
        plan: &Plan,
        env: &mut Env,
        machine: &Machine,
        truth: &mut Truth,
        asked: &[Asked],
    ) -> Result<Self, Stop> {
        let options = options(plan);
        let (log, recovered) =
            LocalLog::open(machine.disk(), &options).map_err(|error| opening(machine, &error))?;
        env.note(format_args!("opened: {:?}", recovered.report));
        let point = StartingPoint::new(&recovered, log.snapshots().clone());
        let found: Vec<_> =
            recovered.entries.collect::<Result<_, _>>().map_err(|error| opening(machine, &error))?;
        check_recovered(truth, &point, &found, asked)?;
        let nonce = env.chance.next();
        let mut hands = Vec::new();
        for number in 0..plan.workers {
            let (directory, channels) = point.replicas()?;
            for shard in truth.shards() {
                truth.compare(&directory, &channels, shard, "restored from its snapshot")?;
            }
            let random: Box<dyn Random> = Box::new(env.chance.fork());
            let worker = Worker::new(config(plan, number), nonce, random, directory, channels);
            let mut inbox: BTreeMap<ShardId, VecDeque<Item>> = BTreeMap::new();
            for (shard, entry) in &found {
                inbox.entry(*shard).or_default().push_back(Item::Entry(Arc::clone(entry)));
            }
            hands.push(Hand {
                worker,
                inbox,
                read_only: VecDeque::new(),
                outgoing: VecDeque::new(),
                blocked: BTreeMap::new(),
                next_tick_ms: env.now_ms(),
                stalled_until_ms: 0,
            });
        }
        let keeper = Housekeeper::new(log.identity().member, nonce, settings(plan), Revision::Counted);
        let mut node = Self {
            archive: point.archive(),
            committer: Committer::new(log),
            queue: VecDeque::new(),
            hands,
            keeper,
            begun: None,
            began_at: truth.shards().map(|shard| (shard, truth.last(shard))).collect(),
            settled: false,
            next_chores_ms: env.now_ms(),
            next_probe_ms: 0,
        };
        node.keep_house(env.now());
        Ok(node)
    }

    pub(crate) fn takes_clients(&self) -> bool {
        self.settled
    }

    /// Nothing is on its way between the workers and the log.
    pub(crate) fn is_quiet(&self) -> bool {
        self.settled
            && self.queue.is_empty()
            && !self.archive.has_trims()
            && self.hands.iter().all(|hand| {
                hand.inbox.values().all(VecDeque::is_empty)
                    && hand.outgoing.is_empty()
                    && hand.read_only.is_empty()
                    && hand.worker.held_back() == 0
            })
    }

    /// Everything that can be done now, with how likely each is to come first.
    pub(crate) fn possible(&self, now_ms: u64, out: &mut Vec<(u64, Work)>) {
        if !self.queue.is_empty() {
            out.push((30, Work::Commit));
        }
        if self.archive.has_trims() {
            out.push((5, Work::Trim));
        }
        if self.committer.read_only() && now_ms >= self.next_probe_ms {
            out.push((20, Work::Probe));
        }
        for (worker, hand) in self.hands.iter().enumerate() {
            if hand.stalled_until_ms > now_ms {
                continue;
            }
            for (shard, items) in &hand.inbox {
                if !items.is_empty() {
                    out.push((20, Work::Deliver { worker, shard: *shard }));
                }
            }
            if !hand.read_only.is_empty() {
                out.push((10, Work::News { worker }));
            }
            if hand.outgoing.iter().any(|(shard, _)| hand.takes(*shard, now_ms)) {
                out.push((30, Work::Submit { worker }));
            }
            if now_ms >= hand.next_tick_ms {
                out.push((20, Work::Tick { worker }));
            }
        }
        if now_ms >= self.next_chores_ms && self.hands[0].stalled_until_ms <= now_ms {
            out.push((20, Work::Chores));
        }
    }

    /// When something will be possible that is not now.
    pub(crate) fn next_due_ms(&self) -> u64 {
        let ticks = self.hands.iter().map(|hand| hand.next_tick_ms.max(hand.stalled_until_ms));
        let blocked = self.hands.iter().flat_map(|hand| hand.blocked.values().copied());
        ticks.chain([self.next_chores_ms]).chain(blocked).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn work(
        &mut self,
        work: Work,
        plan: &Plan,
        env: &mut Env,
        machine: &Machine,
        truth: &mut Truth,
        in_flight: &mut Vec<Asked>,
    ) -> Result<(), Stop> {
        let now = env.now();
        match work {
            Work::Commit => return self.commit(plan, env, machine, truth, in_flight),
            Work::Deliver { worker, shard } => return self.deliver(worker, shard, env, truth),
            Work::News { worker } => {
                let hand = &mut self.hands[worker];
                if let Some(read_only) = hand.read_only.pop_front() {
                    hand.worker.set_read_only(read_only.then(|| Reason::DiskFull.to_string()));
                }
            }
            Work::Submit { worker } => {
                // In order for each shard; between shards as it comes.
                let mut waiting: BTreeMap<ShardId, Vec<Request>> = BTreeMap::new();
                for (shard, request) in self.hands[worker].take_outgoing(now.monotonic_ms) {
                    waiting.entry(shard).or_default().push(request);
                }
                let from = follower(worker);
                while !waiting.is_empty() {
                    let shards: Vec<ShardId> = waiting.keys().copied().collect();
                    let shard = *env.chance.pick(&shards);
                    for request in waiting.remove(&shard).unwrap_or_default() {
                        self.queue.push_back(Asked { from, shard, request });
                    }
                }
            }
            Work::Tick { worker } => {
                let hand = &mut self.hands[worker];
                hand.next_tick_ms = now.monotonic_ms + TICK_MS;
                hand.worker.tick(now);
                hand.collect();
            }
            Work::Chores => {
                self.next_chores_ms = now.monotonic_ms + CHORES_MS;
                let asked = self.keeper.tick(&self.hands[0].worker, now);
                self.hands[0].ask(asked);
                self.keep_house(now);
            }
            Work::Probe => {
                self.next_probe_ms = now.monotonic_ms + PROBE_MS;
                let probed = self.committer.probe().map_err(|error| failing(machine, &error.to_string()))?;
                self.announce(probed);
            }
            Work::Trim => {
                let result = self.archive.trim(self.committer.log_mut());
                result.map_err(|error| failing(machine, &error.to_string()))?;
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        plan: &Plan,
        env: &mut Env,
        machine: &Machine,
        truth: &mut Truth,
        in_flight: &mut Vec<Asked>,
    ) -> Result<(), Stop> {
        let wanted = usize::try_from(env.chance.between(1, plan.batch)).unwrap_or(1);
        let asked: Vec<Asked> = self.queue.drain(..wanted.min(self.queue.len())).collect();
        in_flight.clone_from(&asked);
        let count = asked.len();
        let turn = self.committer.commit(asked, env.now().unix_ms);
        let Turn { committed, refused, read_only } =
            turn.map_err(|error| failing(machine, &error.to_string()))?;
        in_flight.clear();
        env.note(format_args!("commit of {count}, {} refused", refused.len()));
        self.announce(read_only);
        for (ask, reason) in refused {
            let worker = usize::try_from(ask.from.0).expect("followers are workers");
            let items = self.hands[worker].inbox.entry(ask.shard).or_default();
            items.push_back(Item::Refused(ask.request, reason));
        }
        for (shard, entry) in committed.iter().flat_map(|batch| batch.iter()) {
            for proposal in &entry.proposals {
                env.note(format_args!("{shard}/{}: {:?}", entry.index, proposal.command));
            }
            truth.take(*shard, entry)?;
            for hand in &mut self.hands {
                hand.inbox.entry(*shard).or_default().push_back(Item::Entry(Arc::clone(entry)));
            }
        }
        Ok(())
    }

    fn announce(&mut self, read_only: Option<bool>) {
        if let Some(read_only) = read_only {
            for hand in &mut self.hands {
                hand.read_only.push_back(read_only);
            }
        }
    }

    fn deliver(&mut self, worker: usize, shard: ShardId, env: &mut Env, truth: &Truth) -> Result<(), Stop> {
        let now = env.now();
        let hand = &mut self.hands[worker];
        match hand.inbox.get_mut(&shard).and_then(VecDeque::pop_front) {
            Some(Item::Entry(entry)) => {
                env.note(format_args!("worker {worker} hears {shard}/{}", entry.index));
                hand.worker.committed(shard, &entry, now);
                truth.compare(
                    hand.worker.directory(),
                    hand.worker.channels(),
                    shard,
                    &format!("worker {worker}"),
                )?;
            }
            Some(Item::Refused(request, reason)) => {
                env.note(format_args!("worker {worker} hears {reason}: {:?}", request.command));
                hand.worker.refused(request.origin, &request.command, &reason.to_string(), now);
                if worker == 0 && is_chore(&request) {
                    self.keeper.refused();
                }
            }
            None => {}
        }
        self.hands[worker].collect();
        if worker == 0 {
            self.keep_house(now);
        }
        Ok(())
    }

    fn keep_house(&mut self, now: Now) {
        let worker = &self.hands[0].worker;
        if let Some(incarnation) = worker.incarnation().filter(|_| self.begun != worker.incarnation()) {
            self.committer.begin(incarnation);
            self.begun = Some(incarnation);
        }
        let asked = if self.settled { self.keeper.run(worker, now) } else { self.keeper.tick(worker, now) };
        self.hands[0].ask(asked);
        self.settled |= self.keeper.is_settled(&self.hands[0].worker)
            && self.hands.iter().all(|hand| hand.is_caught_up(&self.began_at));
    }
}

impl Hand {
    fn is_caught_up(&self, ends: &BTreeMap<ShardId, Index>) -> bool {
        self.worker.incarnation().is_some() && ends.iter().all(|(shard, end)| self.index(*shard) >= *end)
    }

    /// The log takes nothing for this shard for a while.
    pub(crate) fn block(&mut self, shard: ShardId, until_ms: u64) {
        self.blocked.insert(shard, until_ms);
    }

    /// The shards of what waits to be handed in.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.outgoing.iter().map(|(shard, _)| *shard)
    }

    fn takes(&self, shard: ShardId, now_ms: u64) -> bool {
        self.blocked.get(&shard).is_none_or(|until| *until <= now_ms)
    }

    fn take_outgoing(&mut self, now_ms: u64) -> Vec<(ShardId, Request)> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let (taken, left): (Vec<_>, Vec<_>) =
            outgoing.into_iter().partition(|(shard, _)| self.takes(*shard, now_ms));
        self.outgoing = left.into();
        taken
    }

    /// How far the worker has applied a shard.
    pub(crate) fn index(&self, shard: ShardId) -> Index {
        match shard {
            ShardId::DIRECTORY => self.worker.directory().index(),
            ShardId(n) => self.worker.channels()[usize::from(n) - 1].index(),
        }
    }

    /// What the worker asked for goes on its way.
    pub(crate) fn collect(&mut self) {
        let requests = self.worker.take_requests();
        self.ask(requests);
    }

    fn ask(&mut self, requests: Vec<(ShardId, Request)>) {
        self.outgoing.extend(requests);
    }
}

fn opening(machine: &Machine, error: &OpenError) -> Stop {
    failing(machine, &error.to_string())
}

fn failing(machine: &Machine, error: &str) -> Stop {
    if machine.excuses_failure() {
        return Stop::Fault;
    }
    Stop::Broken(Violation::new(Checker::Recovery, format!("the log failed without a reason: {error}")))
}

fn is_chore(request: &Request) -> bool {
    let opens = matches!(
        request.command,
        Command::Directory(DirectoryCommand::Open(_) | DirectoryCommand::Attach(_))
    );
    request.origin.is_none() && !opens
}

fn follower(worker: usize) -> FollowerId {
    FollowerId(worker as u64)
}

pub(crate) fn options(plan: &Plan) -> LocalOptions {
    let identity = Identity {
        member: MemberId(0x5eed),
        room: "simulated".to_owned(),
        shards: plan.shards,
        lineage: LINEAGE,
    };
    LocalOptions {
        segment_bytes: plan.segment_bytes,
        disk_reserve_bytes: 8 << 10,
        chore_reserve_bytes: 2 << 10,
        ..LocalOptions::new(identity)
    }
}

fn settings(plan: &Plan) -> Settings {
    let channels = vec![DeclaredChannel { name: "#Lounge".to_owned(), topic: "always here".to_owned() }];
    Settings { channels, resume_window_ms: plan.resume_window_ms, ..Settings::default() }
}

fn config(plan: &Plan, worker: u16) -> SessionConfig {
    SessionConfig {
        worker,
        server_name: "simulated.example".to_owned(),
        network: "Simulated".to_owned(),
        version: "chat-node-simulated".to_owned(),
        created: "at the beginning".to_owned(),
        shards: plan.shards,
        limits: plan.limits,
        reconnect_to: "*".to_owned(),
    }
}
