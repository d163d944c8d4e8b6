//! The log of a node that is alone: on its machine's disk.

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
    wal::WalError,
};
use chat_state::{
    entry::Entry,
    ids::{Lineage, MemberId, ShardId},
};

use crate::{
    archive::{Archive, StartingPoint},
    env::Env,
    hand::{Hand, Item},
    machine::Machine,
    node::Stop,
    plan::Plan,
    recovery::check_recovered,
    truth::Truth,
    violation::{Checker, Violation},
};

const PROBE_MS: u64 = 1_000;
pub(crate) const LINEAGE: Lineage = Lineage(1);

/// A machine, and what was being committed on it when the process ended.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) machine: Machine,
    in_flight: Vec<Asked>,
}

pub(crate) struct OwnLog {
    committer: Committer,
    /// What waits for the log.
    queue: VecDeque<Asked>,
    pub(crate) archive: Archive,
    next_probe_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum LocalWork {
    Commit,
    Probe,
    Trim,
}

/// What a start found.
pub(crate) struct Found {
    pub(crate) log: OwnLog,
    pub(crate) member: MemberId,
    pub(crate) point: StartingPoint,
    pub(crate) entries: Vec<(ShardId, Arc<Entry>)>,
}

impl OwnLog {
    pub(crate) fn open(
        plan: &Plan,
        env: &mut Env,
        site: &mut Site,
        truth: &mut Truth,
    ) -> Result<Found, Stop> {
        let machine = &site.machine;
        let opening = |error: &OpenError| match error {
            // It waits for space, by starting again and again.
            OpenError::Wal(WalError::NoSpace { .. }) if machine.is_full() => Stop::Fault,
            error => failing(machine, &error.to_string()),
        };
        let (log, recovered) =
            LocalLog::open(machine.disk(), &options(plan)).map_err(|error| opening(&error))?;
        env.note(format_args!("opened: {:?}", recovered.report));
        let point = StartingPoint::new(&recovered, log.snapshots().clone());
        let entries: Vec<_> = recovered.entries.collect::<Result<_, _>>().map_err(|error| opening(&error))?;
        check_recovered(truth, &point, &entries, &site.in_flight)?;
        let member = log.identity().member;
        let archive = point.archive(log.snapshots().clone());
        let log = Self { committer: Committer::new(log), queue: VecDeque::new(), archive, next_probe_ms: 0 };
        Ok(Found { log, member, point, entries })
    }

    pub(crate) fn begin(&mut self, incarnation: chat_state::ids::Incarnation) {
        self.committer.begin(incarnation);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.archive.has_trims()
    }

    pub(crate) fn possible(&self, now_ms: u64, out: &mut Vec<(u64, LocalWork)>) {
        if !self.queue.is_empty() {
            out.push((30, LocalWork::Commit));
        }
        if self.archive.has_trims() {
            out.push((5, LocalWork::Trim));
        }
        if self.committer.read_only() && now_ms >= self.next_probe_ms {
            out.push((20, LocalWork::Probe));
        }
    }

    /// Requests of a worker; between shards as it comes.
    pub(crate) fn take(
        &mut self,
        worker: usize,
        mut waiting: BTreeMap<ShardId, Vec<Request>>,
        env: &mut Env,
    ) {
        let from = FollowerId(worker as u64);
        while !waiting.is_empty() {
            let shards: Vec<ShardId> = waiting.keys().copied().collect();
            let shard = *env.chance.pick(&shards);
            for request in waiting.remove(&shard).unwrap_or_default() {
                self.queue.push_back(Asked { from, shard, request });
            }
        }
    }

    pub(crate) fn work(
        &mut self,
        work: LocalWork,
        plan: &Plan,
        env: &mut Env,
        site: &mut Site,
        truth: &mut Truth,
        hands: &mut [Hand],
    ) -> Result<(), Stop> {
        match work {
            LocalWork::Commit => return self.commit(plan, env, site, truth, hands),
            LocalWork::Probe => {
                self.next_probe_ms = env.now_ms() + PROBE_MS;
                let probed = self.committer.probe();
                announce(hands, probed.map_err(|error| failing(&site.machine, &error.to_string()))?);
            }
            LocalWork::Trim => {
                let result = self.archive.trim(self.committer.log_mut());
                result.map_err(|error| failing(&site.machine, &error.to_string()))?;
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        plan: &Plan,
        env: &mut Env,
        site: &mut Site,
        truth: &mut Truth,
        hands: &mut [Hand],
    ) -> Result<(), Stop> {
        let wanted = usize::try_from(env.chance.between(1, plan.batch)).unwrap_or(1);
        let asked: Vec<Asked> = self.queue.drain(..wanted.min(self.queue.len())).collect();
        site.in_flight.clone_from(&asked);
        let count = asked.len();
        let turn = self.committer.commit(asked, env.now().unix_ms);
        let Turn { committed, refused, read_only } =
            turn.map_err(|error| failing(&site.machine, &error.to_string()))?;
        site.in_flight.clear();
        env.note(format_args!("commit of {count}, {} refused", refused.len()));
        announce(hands, read_only);
        for (ask, reason) in refused {
            let worker = usize::try_from(ask.from.0).expect("followers are workers");
            hands[worker].push(ask.shard, Item::Refused(ask.request, reason));
        }
        for (shard, entry) in committed.iter().flat_map(|batch| batch.iter()) {
            for proposal in &entry.proposals {
                env.note(format_args!("{shard}/{}: {:?}", entry.index, proposal.command));
            }
            truth.take(*shard, entry)?;
            for hand in &mut *hands {
                hand.push(*shard, Item::Entry(Arc::clone(entry)));
            }
        }
        Ok(())
    }
}

impl Site {
    /// What was being committed has been found, or is lost.
    pub(crate) fn started(&mut self) {
        self.in_flight.clear();
    }
}

fn announce(hands: &mut [Hand], read_only: Option<bool>) {
    if let Some(read_only) = read_only {
        for hand in hands {
            hand.read_only.push_back(read_only.then_some(Reason::DiskFull));
        }
    }
}

fn failing(machine: &Machine, error: &str) -> Stop {
    if machine.excuses_failure() {
        return Stop::Fault;
    }
    Stop::Broken(Violation::new(Checker::Recovery, format!("the log failed without a reason: {error}")))
}

pub(crate) fn options(plan: &Plan) -> LocalOptions {
    let identity = Identity {
        member: MemberId(0x5eed),
        room: "simulated".to_owned(),
        shards: plan.shards,
        lineage: LINEAGE,
        cluster: None,
    };
    LocalOptions {
        segment_bytes: plan.segment_bytes,
        disk_reserve_bytes: 8 << 10,
        chore_reserve_bytes: 2 << 10,
        ..LocalOptions::new(identity)
    }
}
