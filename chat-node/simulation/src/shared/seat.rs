//! A node's seat at the store: its side of the shared log, and what its connections know and do.

mod reading;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chat_log::{
    follower::{Follower, FollowerId},
    log::{Reason, Request, Standing},
    shared::{
        handle::SharedOptions,
        log::{SharedLog, Wanted},
        store::{StoreError, StoredEntry},
        watch::Watch,
    },
};
use chat_session::Worker;
use chat_state::ids::{Incarnation, Index, ShardId};

use super::{
    mutated,
    store::{Reply, Request as Ask, Store},
};
use crate::{
    archive::{Newest, StartingPoint, take},
    env::Env,
    node::Stop,
    plan::Plan,
    truth::Truth,
    violation::{Checker, Violation},
};

/// A command that takes longer is given up.
const ANSWER_WITHIN_MS: u64 = 3_000;
/// The reader waits so long for something new, or for nothing.
const READ_WITHIN_MS: u64 = 4_000;
const RETRY_MS: u64 = 250;
const BEAT_MS: u64 = 1_000;
/// Most entries of a shard that one reading brings.
const MOST_READ: usize = 16;

pub(crate) struct Seat {
    slot: usize,
    started_ms: u64,
    log: SharedLog,
    watch: Watch,
    /// The connection for everything but reading, and the process that it leads to.
    writer: Option<(u64, u64)>,
    /// The process whose history was compared with ours.
    verified: Option<u64>,
    lineages: Vec<u32>,
    /// Raised when the reader has to look anew.
    epoch: u64,
    /// Commands without an answer, by connection.
    calls: BTreeMap<u64, VecDeque<Call>>,
    reading: Reading,
    /// The last entry of each shard that was read, and what was in it once that is known.
    after: Vec<(Index, Option<Arc<StoredEntry>>)>,
    /// What lagging workers want, not before a time.
    wanted: Vec<(u64, Wanted)>,
    next_beat_ms: u64,
    newest: Newest,
    /// Shards whose last snapshot named chunks that the store does not have.
    unknown_chunks: BTreeSet<ShardId>,
    /// Snapshots that it put in force.
    pub(crate) saved: u64,
}

struct Call {
    what: What,
    sent_ms: u64,
    given_up: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Append { shard: ShardId, number: u64 },
    Beat(Incarnation),
    Save,
}

/// The reader's connection.
enum Reading {
    None {
        retry_ms: u64,
    },
    /// To be compared, and to have its lineages opened from this shard on.
    New {
        run: u64,
        epoch: u64,
        compared: bool,
        next: u16,
    },
    Ready {
        run: u64,
        epoch: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SharedWork {
    Launch,
    /// Takes what a connection has: an answer, or its end.
    Answer(u64),
    /// Gives up what took too long.
    GiveUp(u64),
    Beat,
    Read,
    Fetch(usize),
}

impl Seat {
    /// Starts on what the store holds; it can be reached.
    pub(crate) fn open(
        slot: usize,
        plan: &Plan,
        env: &mut Env,
        store: &mut Store,
        truth: &mut Truth,
    ) -> Result<(Self, StartingPoint), Stop> {
        let (extents, ends, snapshots, lineages) = store.open(env, truth)?;
        let point = StartingPoint::of_store(snapshots, plan.shards);
        let now = env.now_ms();
        env.note(format_args!("node {slot} starts at {extents:?}"));
        let options = SharedOptions {
            append_bytes: plan.append_bytes,
            follower_bytes: plan.follower_bytes,
            snapshot_bytes: plan.snapshot_bytes,
            ..SharedOptions::default()
        };
        let seat = Self {
            slot,
            started_ms: now,
            after: extents.iter().map(|extent| extent.last).zip(ends).collect(),
            log: SharedLog::new(extents, options),
            watch: Watch::default(),
            writer: store.connect(slot, now),
            verified: None,
            lineages,
            epoch: 0,
            calls: BTreeMap::new(),
            reading: Reading::None { retry_ms: now },
            wanted: Vec::new(),
            next_beat_ms: now,
            newest: point.newest(),
            unknown_chunks: BTreeSet::new(),
            saved: 0,
        };
        Ok((seat, point))
    }

    pub(crate) fn follow(&mut self, point: &StartingPoint, truth: &Truth) -> Result<Follower, Violation> {
        let follower = self.log.follow(&point.follow_from(), || {});
        let follower = follower.map_err(|error| {
            let ends: Vec<_> = truth.shards().map(|shard| truth.last(shard)).collect();
            Violation::new(
                Checker::Recovery,
                format!("a node cannot follow from its snapshots: {error} {ends:?}"),
            )
        })?;
        self.look_for_lagging();
        Ok(follower)
    }

    pub(crate) fn standing(&self) -> Standing {
        self.log.standing()
    }

    pub(crate) fn begin(&mut self, incarnation: Incarnation) {
        self.log.begin(incarnation);
        self.next_beat_ms = 0;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// Everything was read, and nothing is asked.
    pub(crate) fn is_quiet(&self, store: &Store) -> bool {
        let read = (0..).map(ShardId).zip(self.log.read_to()).all(|(shard, read)| read == store.last(shard));
        read && self.log.is_idle() && self.wanted.is_empty() && matches!(self.reading, Reading::Ready { .. })
    }

    pub(crate) fn has_read_beyond(&self, truth: &Truth) -> bool {
        (0..).map(ShardId).zip(self.log.read_to()).any(|(shard, read)| read > truth.last(shard))
    }

    pub(crate) fn take(&mut self, from: FollowerId, waiting: BTreeMap<ShardId, Vec<Request>>) {
        for (shard, requests) in waiting {
            self.log.ask(from, shard, requests);
        }
    }

    /// Looks for workers that are behind.
    pub(crate) fn look_for_lagging(&mut self) {
        let wanted = self.log.wanted();
        self.wanted.extend(wanted.into_iter().map(|wanted| (0, wanted)));
    }

    fn since_start(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms - self.started_ms)
    }

    fn is_beating(&self) -> bool {
        self.calls.values().flatten().any(|call| matches!(call.what, What::Beat(_)) && !call.given_up)
    }

    pub(crate) fn possible(&self, now_ms: u64, store: &Store, out: &mut Vec<(u64, SharedWork)>) {
        if self.log.can_launch(self.since_start(now_ms)) {
            out.push((30, SharedWork::Launch));
        }
        let cut = store.is_cut(self.slot, now_ms);
        for (pipe, calls) in &self.calls {
            if !cut && store.has_news(*pipe) {
                out.push((30, SharedWork::Answer(*pipe)));
            }
            if calls.iter().any(|call| !call.given_up && call.sent_ms + ANSWER_WITHIN_MS <= now_ms) {
                out.push((20, SharedWork::GiveUp(*pipe)));
            }
        }
        let due = self.next_beat_ms <= now_ms
            || self.log.beats_at().is_some_and(|at| at <= self.since_start(now_ms));
        if self.log.incarnation().is_some() && due && !self.is_beating() {
            out.push((20, SharedWork::Beat));
        }
        let reads = match &self.reading {
            Reading::None { retry_ms } => *retry_ms <= now_ms,
            _ if cut => store.cut_for_ms(self.slot, now_ms) > READ_WITHIN_MS,
            Reading::New { .. } => true,
            Reading::Ready { run, epoch } => {
                let behind = |(shard, (after, _)): (u16, &(Index, _))| *after != store.last(ShardId(shard));
                *run != store.run() || *epoch != self.epoch || (0..).zip(&self.after).any(behind)
            }
        };
        if reads {
            out.push((20, SharedWork::Read));
        }
        for (at, (not_before, _)) in self.wanted.iter().enumerate() {
            if *not_before <= now_ms {
                out.push((20, SharedWork::Fetch(at)));
            }
        }
    }

    /// When something will be possible that is not now.
    pub(crate) fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let started = self.started_ms;
        let tries = [self.log.launches_at(), self.log.beats_at()].into_iter().flatten();
        let tries = tries.map(|at| started + u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let calls = self.calls.values().flatten().map(|call| call.sent_ms + ANSWER_WITHIN_MS);
        let retry = match &self.reading {
            Reading::None { retry_ms } => Some(*retry_ms),
            _ => None,
        };
        let wanted = self.wanted.iter().map(|(at, _)| *at);
        let all = calls.chain(tries).chain(retry).chain(wanted).chain([self.next_beat_ms]);
        all.filter(|at| *at > now_ms).min()
    }

    pub(crate) fn work(
        &mut self,
        work: SharedWork,
        env: &mut Env,
        store: &mut Store,
        truth: &mut Truth,
    ) -> Result<(), Stop> {
        match work {
            SharedWork::Launch => self.launch(env, store),
            SharedWork::Answer(pipe) => self.answer(pipe, env, store),
            SharedWork::GiveUp(pipe) => self.give_up(pipe, env, store),
            SharedWork::Beat => self.beat(env, store),
            SharedWork::Read => self.read(env, store, truth),
            SharedWork::Fetch(at) => self.fetch(at, env, store, truth),
        }?;
        self.look_for_lagging();
        Ok(())
    }

    /// The connection for commands; made if there is none.
    fn writer(&mut self, store: &mut Store, now_ms: u64) -> Result<(u64, u64), StoreError> {
        if self.writer.is_none() {
            self.writer = store.connect(self.slot, now_ms);
        }
        self.writer.ok_or_else(unreachable)
    }

    /// The same, if it leads to the process whose history was compared with ours.
    fn verified_writer(&mut self, env: &mut Env, store: &mut Store) -> Result<u64, StoreError> {
        let (pipe, run) = self.writer(store, env.now_ms())?;
        if self.verified == Some(run) || mutated::appends_without_lineage() {
            return Ok(pipe);
        }
        if self.verified.is_some() {
            self.drop_writer(env, store);
        }
        Err(StoreError::Unavailable("its history is being compared with ours".to_owned()))
    }

    fn call(&mut self, pipe: u64, what: What, ask: Ask, store: &mut Store, now_ms: u64) {
        store.send(pipe, ask);
        let call = Call { what, sent_ms: now_ms, given_up: false };
        self.calls.entry(pipe).or_default().push_back(call);
    }

    fn launch(&mut self, env: &mut Env, store: &mut Store) -> Result<(), Stop> {
        let now = env.now_ms();
        for launch in self.log.launches(self.since_start(now)) {
            let (shard, number) = (launch.shard, launch.number);
            env.note(format_args!("node {} appends {number} to shard {shard}", self.slot));
            match self.verified_writer(env, store) {
                Ok(pipe) => {
                    let lineage = self.lineages[usize::from(shard.0)];
                    let ask = Ask::Append { shard, lineage, payload: launch.payload };
                    self.call(pipe, What::Append { shard, number }, ask, store, now);
                }
                Err(error) => self.came_of(What::Append { shard, number }, Err(error), env, store)?,
            }
        }
        Ok(())
    }

    fn beat(&mut self, env: &mut Env, store: &mut Store) -> Result<(), Stop> {
        let now = env.now_ms();
        self.next_beat_ms = now + BEAT_MS;
        self.log.beats();
        let Some(me) = self.log.incarnation() else { return Ok(()) };
        match self.verified_writer(env, store) {
            Ok(pipe) => {
                let wishes = self.watch.wishes(me, self.since_start(now));
                let ask = Ask::Beat { me, from: wishes.from, over: wishes.over };
                self.call(pipe, What::Beat(me), ask, store, now);
                Ok(())
            }
            Err(error) => self.came_of(What::Beat(me), Err(error), env, store),
        }
    }

    /// A snapshot of what a worker has.
    pub(crate) fn save(&mut self, worker: &Worker, shard: ShardId, env: &mut Env, store: &mut Store) {
        let Some(new) = take(worker, shard, &self.newest) else { return };
        let now = env.now_ms();
        if self.log.may_save(&new).is_err() {
            return;
        }
        if let Ok((pipe, _)) = self.writer(store, now) {
            let lineage = self.lineages[usize::from(shard.0)];
            self.call(pipe, What::Save, Ask::Save { lineage, new: Box::new(new) }, store, now);
        }
    }

    fn answer(&mut self, pipe: u64, env: &mut Env, store: &mut Store) -> Result<(), Stop> {
        let reply = store.receive(pipe);
        let over = reply.is_none();
        if over {
            self.drop_writer(env, store);
        }
        while let Some(call) = self.calls.get_mut(&pipe).and_then(VecDeque::pop_front) {
            if !call.given_up {
                let result = reply.clone().ok_or_else(broken_off);
                self.came_of(call.what, result, env, store)?;
            }
            if !over {
                break;
            }
        }
        self.let_go(pipe, env, store);
        Ok(())
    }

    fn give_up(&mut self, pipe: u64, env: &mut Env, store: &mut Store) -> Result<(), Stop> {
        let now = env.now_ms();
        let mut late = Vec::new();
        for call in self.calls.get_mut(&pipe).into_iter().flatten() {
            if !call.given_up && call.sent_ms + ANSWER_WITHIN_MS <= now {
                call.given_up = true;
                late.push(call.what);
            }
        }
        if late.iter().any(|what| !matches!(what, What::Save)) {
            self.drop_writer(env, store);
        }
        for what in late {
            self.came_of(what, Err(StoreError::Unavailable("it took too long".to_owned())), env, store)?;
        }
        self.let_go(pipe, env, store);
        Ok(())
    }

    /// A connection that is not used any more, and from which nothing is waited for, is closed.
    fn let_go(&mut self, pipe: u64, env: &mut Env, store: &mut Store) {
        let waits = self.calls.get(&pipe).is_some_and(|calls| calls.iter().any(|call| !call.given_up));
        let in_use = self.writer.is_some_and(|(writer, _)| writer == pipe);
        if !waits && !in_use {
            self.calls.remove(&pipe);
            store.leave(pipe, &mut env.chance);
        }
    }

    fn drop_writer(&mut self, env: &mut Env, store: &mut Store) {
        if let Some((pipe, _)) = self.writer.take() {
            self.let_go(pipe, env, store);
        }
    }

    /// What a command came to.
    fn came_of(
        &mut self,
        what: What,
        result: Result<Reply, StoreError>,
        env: &mut Env,
        store: &mut Store,
    ) -> Result<(), Stop> {
        let now = self.since_start(env.now_ms());
        env.note(format_args!("node {}: {what:?} {}", self.slot, result.is_ok()));
        let result = match result {
            Ok(Reply::OtherLineage) => {
                self.verified = None;
                self.drop_writer(env, store);
                self.epoch += 1;
                Err(StoreError::Unavailable("another lineage".to_owned()))
            }
            Ok(Reply::Full) => Err(StoreError::Refused(Reason::StoreFull, "full".to_owned())),
            Ok(reply) => Ok(reply),
            Err(error) => Err(error),
        };
        let done = match what {
            What::Append { shard, number } => {
                let index = result.map(|reply| match reply {
                    Reply::Appended(index) => index,
                    reply => panic!("an append is answered by {reply:?}"),
                });
                self.log.answered(shard, number, &index, now)
            }
            What::Beat(me) => {
                let heard = result.map(|reply| match reply {
                    Reply::Nodes { leader, counts } => self.watch.heard(me, &leader, &counts, now),
                    reply => panic!("a sign of life is answered by {reply:?}"),
                });
                self.log.beaten(heard, now)
            }
            What::Save => {
                match result {
                    Ok(Reply::Saved(saved)) => {
                        self.saved += 1;
                        self.unknown_chunks.remove(&saved.meta.shard);
                        self.newest.insert(saved.meta.shard, (saved.meta.index, saved.chunks.clone()));
                        self.log.saved(&saved);
                    }
                    Ok(Reply::UnknownChunk(shard)) => {
                        env.note(format_args!("no snapshot of shard {shard}: a chunk is not there"));
                        // As the node's archive does: the next has all of the history.
                        self.newest.remove(&shard);
                        if !self.unknown_chunks.insert(shard) {
                            let what = format!("node {} can make no snapshot of shard {shard}", self.slot);
                            return Err(Stop::Broken(Violation::new(Checker::Liveness, what)));
                        }
                    }
                    Ok(Reply::NotWanted(why)) => env.note(format_args!("no snapshot: it is {why}")),
                    Ok(reply) => env.note(format_args!("no snapshot: {reply:?}")),
                    Err(error) => env.note(format_args!("no snapshot: {error}")),
                }
                Ok(())
            }
        };
        done.map_err(|reason| self.broke(reason, store))
    }

    /// The node ends. That is right only if the store does not hold what the node has.
    fn broke(&self, reason: String, store: &Store) -> Stop {
        let behind = |shard: u16, after: Index| after < store.first(ShardId(shard));
        let trimmed = (0..).zip(self.log.read_to()).any(|(shard, read)| behind(shard, read))
            || self.wanted.iter().any(|(_, wanted)| behind(wanted.shard.0, wanted.after));
        if trimmed || store.has_lost() {
            return Stop::Ended(reason);
        }
        let what = format!("node {} ends, and nothing is missing: {reason}", self.slot);
        Stop::Broken(Violation::new(Checker::Recovery, what))
    }

    /// The node ends in good order, and says so.
    pub(crate) fn say_goodbye(&mut self, env: &mut Env, store: &mut Store) {
        if let (Some(me), Ok(pipe)) = (self.log.incarnation(), self.verified_writer(env, store)) {
            store.send(pipe, Ask::Leave(me));
        }
    }
}

fn unreachable() -> StoreError {
    StoreError::Unavailable("it cannot be reached".to_owned())
}

fn broken_off() -> StoreError {
    StoreError::Unavailable("the connection is gone".to_owned())
}
