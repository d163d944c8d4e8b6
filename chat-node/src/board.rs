//! What the node says of itself: everything that its threads publish, put together on request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use chat_log::{
    clock::{Clock, SystemClock},
    log::{Log, LogStatus},
};
use chat_raft::control::Control;
use chat_state::ids::{Index, MemberId, ShardId};
use contract::status::{NodeState, NodeStatus, ShardStatus};
use tokio::sync::watch;

use crate::{
    admission::Admission, certificates::Certificates, crew::Crew, figures::Durations, flushes::Flushes,
    view::View,
};

/// A worker whose loop did not turn for so long is stuck.
const STUCK_MS: u64 = 10_000;
/// A disk operation that takes longer is not one that ends.
const DISK_STUCK_MS: u64 = 120_000;

/// Where the node stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Recovering,
    Serving,
    Draining,
}

pub(crate) struct Board {
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) member: MemberId,
    pub(crate) crew: Arc<Crew>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) certificates: Certificates,
    pub(crate) log: Arc<dyn Log>,
    /// The other nodes, where they keep the log together with this one.
    pub(crate) cluster: Option<Control>,
    pub(crate) flushes: Arc<Flushes>,
    pub(crate) told: Told,
}

/// What changes as the node runs.
pub(crate) struct Told {
    state: Mutex<(Phase, View)>,
    /// Counts changes that a watcher should hear of at once.
    changes: watch::Sender<u64>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new((Phase::Recovering, View::default())), changes: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, (Phase, View)> {
        // Replaced as wholes: a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    pub(crate) fn enter(&self, phase: Phase) {
        self.told.lock().0 = phase;
        self.changed();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.told.lock().0
    }

    pub(crate) fn publish(&self, view: View) {
        let notable = {
            let mut state = self.told.lock();
            let notable = state.1.differs_notably(&view);
            state.1 = view;
            notable
        };
        if notable {
            self.changed();
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.told.changes.subscribe()
    }

    fn changed(&self) {
        self.told.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn view(&self) -> View {
        self.told.lock().1.clone()
    }

    pub(crate) fn status(&self) -> NodeStatus {
        let (phase, view) = self.told.lock().clone();
        let log = self.log.status();
        let (state, reason) = state(phase, self.read_only(&log));
        let connections = self.crew.connections();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            member: format!("{:016x}", self.member.0),
            state,
            reason,
            connections,
            sessions: view.sessions,
            detached: view.detached,
            users: view.users,
            channels: view.channels,
            settings_revision: view.settings_revision,
            durability: self.log.durability(),
            shards: view
                .shards
                .iter()
                .map(|(shard, index, position)| ShardStatus {
                    shard: shard.0,
                    index: index.0,
                    position: position.0,
                    snapshot_index: snapshot_index(&log, *shard).0,
                })
                .collect(),
            draining_remaining: if phase == Phase::Draining { connections } else { 0 },
            cluster: self.cluster.as_ref().map(Control::cluster),
        }
    }

    /// Why a client cannot join and talk here, if so.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let (state, reason) = state(self.phase(), self.read_only(&self.log.status()));
        (state != NodeState::Serving).then_some(reason)
    }

    /// As a client would find it: the log says so, or some worker still goes by what the log said before.
    fn read_only(&self, log: &LogStatus) -> Option<String> {
        let still =
            || self.crew.workers().iter().any(|worker| worker.figures.refusing.load(Ordering::Relaxed));
        match log.read_only {
            Some(reason) => Some(reason.to_string()),
            None => still().then(|| "the log takes requests again in a moment".to_owned()),
        }
    }

    /// What stands still for good, if anything does.
    pub(crate) fn not_alive(&self) -> Option<String> {
        let now_ms = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let log = self.log.status();
        if let Some(reason) = log.fatal {
            return Some(format!("the log is broken: {reason}"));
        }
        if log.disk_busy_since_ms.is_some_and(|since| now_ms.saturating_sub(since) > DISK_STUCK_MS) {
            return Some(format!("the disk has not answered for {} s", DISK_STUCK_MS / 1000));
        }
        self.crew
            .workers()
            .iter()
            .position(|worker| now_ms.saturating_sub(worker.figures.last_turn_ms()) > STUCK_MS)
            .map(|stuck| format!("worker {stuck} has not turned for {} s", STUCK_MS / 1000))
    }

    /// Of all workers.
    pub(crate) fn totals(&self) -> crate::figures::Totals {
        self.crew.workers().iter().map(|worker| worker.figures.totals()).fold(
            Default::default(),
            |mut sum, more| {
                sum.add(&more);
                sum
            },
        )
    }

    pub(crate) fn flush_durations(&self) -> Durations {
        self.flushes.seen()
    }
}

fn state(phase: Phase, read_only: Option<String>) -> (NodeState, String) {
    match phase {
        Phase::Recovering => (NodeState::Recovering, "reading its log; no client can connect yet".to_owned()),
        Phase::Draining => (NodeState::Draining, "stopping; clients are being sent away".to_owned()),
        Phase::Serving => match read_only {
            Some(reason) => (NodeState::ReadOnly, reason),
            None => (NodeState::Serving, String::new()),
        },
    }
}

fn snapshot_index(log: &LogStatus, shard: ShardId) -> Index {
    log.shards.get(&shard).map_or(Index(0), |status| status.snapshot)
}
