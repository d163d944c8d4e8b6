//! One life of a node: the real workers and housekeeper, above its own log or its side of a shared one.

use std::{collections::BTreeMap, sync::Arc};

use chat_log::log::Request;
use chat_session::{Housekeeper, Now, Random, Revision, SessionConfig, Standing, Worker};
use chat_state::{
    command::{Command, DirectoryCommand},
    ids::{Incarnation, Index, MemberId, ShardId},
    settings::{DeclaredChannel, Settings},
};

use crate::{
    archive::StartingPoint,
    env::Env,
    hand::{Hand, Item},
    local::{Found, LocalWork, OwnLog, Site},
    plan::Plan,
    shared::{Seat, SharedWork, Store},
    truth::Truth,
    violation::Violation,
};

const CHORES_MS: u64 = 1_000;
/// Entries that wait for a worker, of which it takes more than one in a step.
const MANY: usize = 4;

/// Why the process ends before it is told to.
pub(crate) enum Stop {
    /// A fault of the machine; it starts again.
    Fault,
    /// It ends of its own accord, and starts again.
    Ended(String),
    Broken(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

/// Where the log of a room is.
pub(crate) enum Home {
    Disk(Box<Site>),
    Store(Box<Store>),
}

/// A node's side of its log.
pub(crate) enum LogEnd {
    Own(Box<OwnLog>),
    Shared(Box<Seat>),
}

pub(crate) struct Node {
    slot: usize,
    pub(crate) hands: Vec<Hand>,
    pub(crate) log: LogEnd,
    keeper: Housekeeper,
    begun: Option<Incarnation>,
    /// Where each shard ended when the process started: no client of a lone node is served before every worker got
    /// there.
    began_at: BTreeMap<ShardId, Index>,
    /// Takes clients.
    settled: bool,
    pub(crate) draining: bool,
    /// It applied what the store has lost; it is to find that out, and to end.
    doomed: bool,
    next_chores_ms: u64,
}

/// Something the node can do next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Local(LocalWork),
    Shared(SharedWork),
    /// Takes in what the log has for a worker.
    Hear {
        worker: usize,
    },
    Deliver {
        worker: usize,
        shard: ShardId,
    },
    News {
        worker: usize,
    },
    Submit {
        worker: usize,
    },
    Tick {
        worker: usize,
    },
    Chores,
}

impl Node {
    /// Starts the process on what its log holds.
    pub(crate) fn boot(
        slot: usize,
        plan: &Plan,
        env: &mut Env,
        home: &mut Home,
        truth: &mut Truth,
    ) -> Result<Self, Stop> {
        let nonce = env.chance.next();
        let (mut log, member, point, entries) = match home {
            Home::Disk(site) => {
                let Found { log, member, point, entries } = OwnLog::open(plan, env, site, truth)?;
                site.started();
                (LogEnd::Own(Box::new(log)), member, point, entries)
            }
            Home::Store(store) => {
                let (seat, point) = Seat::open(slot, plan, env, store, truth)?;
                (LogEnd::Shared(Box::new(seat)), MemberId(env.chance.next()), point, Vec::new())
            }
        };
        let mut hands = Vec::new();
        for number in 0..plan.workers {
            let worker = worker(number, nonce, plan, env, &point, truth)?;
            let follower = match &mut log {
                LogEnd::Own(_) => None,
                LogEnd::Shared(seat) => Some(seat.follow(&point, truth)?),
            };
            let mut hand = Hand::new(worker, follower, env.now_ms());
            for (shard, entry) in &entries {
                hand.push(*shard, Item::Entry(Arc::clone(entry)));
            }
            hands.push(hand);
        }
        let mut node = Self {
            slot,
            hands,
            log,
            keeper: Housekeeper::new(member, nonce, settings(plan), Revision::Counted),
            begun: None,
            began_at: truth.shards().map(|shard| (shard, truth.last(shard))).collect(),
            settled: false,
            draining: false,
            doomed: false,
            next_chores_ms: env.now_ms(),
        };
        node.keep_house(env.now());
        Ok(node)
    }

    pub(crate) fn takes_clients(&self) -> bool {
        self.settled && !self.draining && !self.doomed
    }

    /// Nothing is on its way between the workers and the log.
    pub(crate) fn is_quiet(&self, home: &Home) -> bool {
        let quiet = match (&self.log, home) {
            (LogEnd::Own(log), _) => log.is_quiet(),
            (LogEnd::Shared(seat), Home::Store(store)) => seat.is_quiet(store),
            (LogEnd::Shared(_), Home::Disk(_)) => true,
        };
        self.settled && quiet && self.hands.iter().all(Hand::is_quiet)
    }

    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.begun
    }

    /// The log is `truth` now. True if the node has read what is lost.
    pub(crate) fn log_was_lost(&mut self, truth: &Truth) -> bool {
        if let LogEnd::Shared(seat) = &self.log {
            self.doomed |= seat.has_read_beyond(truth);
        }
        self.doomed
    }

    /// Takes no clients any more, and sends away those that it has.
    pub(crate) fn drain(&mut self, now: Now) {
        self.draining = true;
        for hand in &mut self.hands {
            hand.worker.drain(50, now);
            hand.collect();
        }
    }

    /// Everything that can be done now, with how likely each is to come first.
    pub(crate) fn possible(&self, now_ms: u64, home: &Home, out: &mut Vec<(u64, Work)>) {
        match (&self.log, home) {
            (LogEnd::Own(log), _) => {
                let mut work = Vec::with_capacity(4);
                log.possible(now_ms, &mut work);
                out.extend(work.into_iter().map(|(weight, work)| (weight, Work::Local(work))));
            }
            (LogEnd::Shared(seat), Home::Store(store)) => {
                let mut work = Vec::with_capacity(8);
                seat.possible(now_ms, store, &mut work);
                out.extend(work.into_iter().map(|(weight, work)| (weight, Work::Shared(work))));
            }
            (LogEnd::Shared(_), Home::Disk(_)) => {}
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
            if hand.can_hear() {
                out.push((30, Work::Hear { worker }));
            }
            if !hand.read_only.is_empty() {
                out.push((10, Work::News { worker }));
            }
            if hand.can_submit(now_ms) {
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
    pub(crate) fn next_due_ms(&self, now_ms: u64) -> u64 {
        let ticks = self.hands.iter().map(|hand| hand.next_tick_ms.max(hand.stalled_until_ms));
        let blocked = self.hands.iter().flat_map(Hand::blocked_until);
        let log = match &self.log {
            LogEnd::Own(_) => None,
            LogEnd::Shared(seat) => seat.next_due_ms(now_ms),
        };
        let all = ticks.chain([self.next_chores_ms]).chain(blocked).chain(log);
        all.filter(|at| *at > now_ms).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn work(
        &mut self,
        work: Work,
        plan: &Plan,
        env: &mut Env,
        home: &mut Home,
        truth: &mut Truth,
    ) -> Result<(), Stop> {
        let now = env.now();
        match work {
            Work::Local(work) => {
                if let (LogEnd::Own(log), Home::Disk(site)) = (&mut self.log, home) {
                    log.work(work, plan, env, site, truth, &mut self.hands)?;
                }
            }
            Work::Shared(work) => {
                if let (LogEnd::Shared(seat), Home::Store(store)) = (&mut self.log, home) {
                    seat.work(work, env, store, truth)?;
                }
            }
            Work::Hear { worker } => {
                let wanted = self.hands[worker].hear();
                if let (Some(shard), LogEnd::Shared(seat), Home::Store(store)) = (wanted, &mut self.log, home)
                    && usize::from(shard.0) % self.hands.len() == worker
                {
                    seat.save(&self.hands[worker].worker, shard, env, store);
                }
                if let LogEnd::Shared(seat) = &mut self.log {
                    seat.look_for_lagging();
                }
            }
            Work::Deliver { worker, shard } => {
                let waiting = self.hands[worker].inbox.get(&shard).map_or(0, std::collections::VecDeque::len);
                // Many at once when there are many, so that a start is not as slow as a step is long.
                let most = 1 + waiting / MANY;
                for _ in 0..env.chance.between(1, most as u64) {
                    self.deliver(worker, shard, env, truth)?;
                }
            }
            Work::News { worker } => {
                let hand = &mut self.hands[worker];
                if let Some(read_only) = hand.read_only.pop_front() {
                    hand.worker.set_read_only(read_only.map(|reason| reason.to_string()));
                }
            }
            Work::Submit { worker } => {
                let hand = &mut self.hands[worker];
                let waiting = hand.take_outgoing(now.monotonic_ms);
                match &mut self.log {
                    LogEnd::Own(log) => log.take(worker, waiting, env),
                    LogEnd::Shared(seat) => {
                        if let Some(follower) = &hand.follower {
                            seat.take(follower.id(), waiting);
                        }
                    }
                }
            }
            Work::Tick { worker } => self.hands[worker].tick(now),
            Work::Chores => {
                self.next_chores_ms = now.monotonic_ms + CHORES_MS;
                self.stand();
                let asked = self.keeper.tick(&self.hands[0].worker, now);
                self.hands[0].ask(asked);
                self.keep_house(now);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, worker: usize, shard: ShardId, env: &mut Env, truth: &Truth) -> Result<(), Stop> {
        let now = env.now();
        let hand = &mut self.hands[worker];
        match hand.inbox.get_mut(&shard).and_then(std::collections::VecDeque::pop_front) {
            Some(Item::Entry(entry)) => {
                env.note(format_args!("worker {worker} of {} hears {shard}/{}", self.slot, entry.index));
                hand.worker.committed(shard, &entry, now);
                if !self.doomed {
                    truth.compare(
                        hand.worker.directory(),
                        hand.worker.channels(),
                        shard,
                        &format!("worker {worker} of node {}", self.slot),
                    )?;
                }
            }
            Some(Item::Refused(request, reason)) => {
                env.note(format_args!(
                    "worker {worker} of {} hears {reason}: {:?}",
                    self.slot, request.command
                ));
                if worker == 0 && is_chore(&request) {
                    self.keeper.refused();
                }
                hand.worker.refused(request.origin, &request.command, &reason.to_string(), now);
            }
            None => {}
        }
        if hand.worker.is_given_up() {
            return Err(Stop::Ended("the room took this node for dead".to_owned()));
        }
        hand.collect();
        if worker == 0 {
            self.keep_house(now);
        }
        Ok(())
    }

    fn stand(&mut self) {
        if let LogEnd::Shared(seat) = &self.log {
            let chat_log::log::Standing { leads, alive } = seat.standing();
            self.keeper.stand(Standing { leads, alive });
        }
    }

    fn keep_house(&mut self, now: Now) {
        let worker = &self.hands[0].worker;
        if let Some(incarnation) = worker.incarnation().filter(|_| self.begun != worker.incarnation()) {
            match &mut self.log {
                LogEnd::Own(log) => log.begin(incarnation),
                LogEnd::Shared(seat) => seat.begin(incarnation),
            }
            self.begun = Some(incarnation);
        }
        self.stand();
        let worker = &self.hands[0].worker;
        let asked = if self.settled { self.keeper.run(worker, now) } else { self.keeper.tick(worker, now) };
        self.hands[0].ask(asked);
        let caught_up = self.hands.iter().all(|hand| match &self.log {
            LogEnd::Own(_) => hand.is_caught_up(&self.began_at),
            LogEnd::Shared(_) => hand.worker.incarnation().is_some(),
        });
        self.settled |= caught_up && self.keeper.is_settled(&self.hands[0].worker);
    }
}

fn worker(
    number: u16,
    nonce: u64,
    plan: &Plan,
    env: &mut Env,
    point: &StartingPoint,
    truth: &Truth,
) -> Result<Worker, Violation> {
    let (directory, channels) = point.replicas()?;
    for shard in truth.shards() {
        truth.compare(&directory, &channels, shard, "restored from its snapshot")?;
    }
    let random: Box<dyn Random> = Box::new(env.chance.fork());
    Ok(Worker::new(config(plan, number), nonce, random, directory, channels))
}

fn is_chore(request: &Request) -> bool {
    let opens = matches!(
        request.command,
        Command::Directory(DirectoryCommand::Open(_) | DirectoryCommand::Attach(_))
    );
    request.origin.is_none() && !opens
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
