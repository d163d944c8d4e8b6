//! A node that keeps logs together with others: its groups, and what it knows of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chat_log::{
    clock::Clock,
    identity::ClusterId,
    snapshot::{Snapshot, SnapshotStore},
};
use chat_state::ids::{MemberId, ShardId};
use openraft::{
    Config, Raft, SnapshotPolicy,
    async_runtime::{Instant, WatchReceiver},
    errors::Fatal,
    metrics::RaftMetrics,
};
use openraft_rt_tokio::TokioRuntime;
use tokio::{sync::Notify, time};

use crate::{
    directory::{Directory, GroupFound},
    group_log::{GroupLog, Held},
    journal::{Journal, JournalThread, Pulse},
    machine::{Machine, Place},
    messages::{Answer, Request, decode, encode},
    network::Network,
    peers::Peers,
    roster::Roster,
    transfer::Arrivals,
    types::{Membership, PeerNode, Types},
};

/// Between two signs of life of a leader.
const HEARTBEAT_MS: u64 = 100;
/// A follower that heard nothing for so long, and as much again, tries to lead.
const ELECTION_MS: (u64, u64) = (300, 500);
/// A leader that did not hear of a majority for so long does not know whether it still leads.
const QUORUM_WITHIN: Duration = Duration::from_millis(1_500);

/// Whoever is asked to take over a group says so within this time, or is not given it.
const CONSENT_WITHIN: Duration = Duration::from_millis(300);
/// A node that was told to hand over is given nothing for so long: by then whoever told it has ended it, or does not want to.
const REST_FOR: Duration = Duration::from_secs(30);
/// A write that lasts so long says that the disk stands still.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// One shard's group.
pub struct Group {
    pub raft: Raft<Types, Machine>,
    pub machine: Machine,
}

/// A node as it described itself.
pub(crate) struct Announced {
    pub(crate) node: PeerNode,
    /// It was a member meanwhile: when it is none any more it was let go of, and does not wait to come in.
    pub(crate) was_member: bool,
}

/// What a node is started with.
pub struct Settings {
    pub node: PeerNode,
    /// Nodes that may fail at a time.
    pub tolerate: u16,
    pub clock: Arc<dyn Clock>,
}

pub struct Node {
    pub me: MemberId,
    pub cluster: ClusterId,
    pub settings: Settings,
    /// The directory's first.
    pub groups: Vec<Group>,
    pub peers: Peers,
    pub snapshots: SnapshotStore,
    pub pulse: Arc<Pulse>,
    /// Rung when something was applied.
    pub news: Arc<Notify>,
    /// Nodes as they described themselves to the directory's leader; those that are new wait to be added.
    announced: Mutex<BTreeMap<u64, Announced>>,
    arrivals: Mutex<Arrivals>,
    roster: Mutex<Roster>,
    /// This node is about to end, and leads nothing any more.
    retiring: AtomicBool,
    /// Until then, in monotonic milliseconds, it takes over nothing from others.
    rests_until: AtomicU64,
    /// The writing thread ends with the last of these, then the directory is free.
    _journal: Arc<JournalThread>,
}

impl Node {
    /// Starts the groups of a directory that belongs to a room.
    pub async fn start(
        directory: Directory,
        cluster: ClusterId,
        settings: Settings,
        peers: Peers,
        on_fatal: chat_log::handle::OnFatal,
    ) -> Result<Arc<Self>, String> {
        let (me, store) = (directory.identity.member, directory.store.clone());
        let (opened, found) = directory.into_opened();
        let journal = JournalThread::start(opened, Arc::clone(&settings.clock), on_fatal)
            .map_err(|error| format!("the system refuses a thread: {error}"))?;
        let journal = Arc::new(journal);
        let news = Arc::new(Notify::new());
        let mut groups = Vec::with_capacity(found.len());
        for (group, GroupFound { held, snapshot }) in (0..).zip(found) {
            let machine = machine(group, snapshot.as_ref(), &news);
            let raft = start_group(group, me, held, &machine, &journal, &peers, &store)
                .await
                .map_err(|error| format!("the group of shard {group} cannot start: {error}"))?;
            groups.push(Group { raft, machine });
        }
        Ok(Arc::new(Self {
            me,
            cluster,
            settings,
            groups,
            peers,
            arrivals: Mutex::new(Arrivals::new(store.clone())),
            snapshots: store,
            pulse: journal.pulse(),
            news,
            announced: Mutex::default(),
            roster: Mutex::default(),
            retiring: AtomicBool::new(false),
            rests_until: AtomicU64::new(0),
            _journal: journal,
        }))
    }

    pub fn group(&self, shard: ShardId) -> Option<&Group> {
        self.groups.get(usize::from(shard.0))
    }

    pub fn directory(&self) -> &Group {
        self.groups.first().expect("every room has a directory")
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..u16::try_from(self.groups.len()).expect("a room has fewer shards")).map(ShardId)
    }

    pub fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().expect("no thread panics while it holds the roster")
    }

    pub(crate) fn announced(&self) -> MutexGuard<'_, BTreeMap<u64, Announced>> {
        self.announced.lock().expect("no thread panics while it holds what was announced")
    }

    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().expect("no thread panics while it holds what arrives")
    }

    pub fn now(&self) -> Duration {
        self.settings.clock.monotonic()
    }

    pub fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::Relaxed)
    }

    /// Everybody in the directory's membership, as far as this node knows, and whether it is committed to go.
    pub fn members(&self) -> BTreeMap<u64, PeerNode> {
        self.directory().members()
    }

    /// Tells the connections where everybody is.
    pub fn learn_addresses(&self) {
        for (id, node) in self.members() {
            if id != self.me.0 {
                self.peers.know(MemberId(id), vec![node.address]);
            }
        }
    }

    /// Whether this node can keep what it is given: its disk has space, and answers.
    pub fn keeps_up(&self) -> bool {
        let busy = self.pulse.busy_since_ms().map(Duration::from_millis);
        !self.pulse.is_full() && busy.is_none_or(|since| self.now().saturating_sub(since) < STALLED_AFTER)
    }

    /// Why this node should not lead more than it does, if there is a reason.
    pub(crate) fn declines(&self) -> Option<&'static str> {
        if self.is_retiring() {
            return Some("this node is about to end");
        }
        if self.now() < Duration::from_millis(self.rests_until.load(Ordering::Relaxed)) {
            return Some("this node was told a moment ago to hand over what it leads");
        }
        (!self.keeps_up()).then_some("the disk of this node is full, or stands still")
    }

    /// Hands what this node leads to others, and leads nothing again. Waits until that is done, within bounds.
    pub async fn retire(&self, within: Duration) {
        self.retiring.store(true, Ordering::Relaxed);
        for group in &self.groups {
            group.raft.runtime_config().elect(false);
        }
        if !self.hand_over_all(within).await {
            tracing::warn!(
                "not all shards could be handed over; the others elect leaders when this node is gone"
            );
        }
    }

    /// Hands what this node leads to others, and is given nothing for a while. It leads again before if it is elected: then
    /// there is nobody else. Gives whether it is done.
    pub async fn rest(&self, within: Duration) -> bool {
        let until = u64::try_from((self.now() + REST_FOR).as_millis()).unwrap_or(u64::MAX);
        self.rests_until.store(until, Ordering::Relaxed);
        self.hand_over_all(within).await
    }

    /// Gives whether nothing is left that others could lead.
    async fn hand_over_all(&self, within: Duration) -> bool {
        let handing_over = async {
            loop {
                let mut left = 0;
                for (shard, group) in self.shards().zip(&self.groups) {
                    if !group.leads(self.me.0) {
                        continue;
                    }
                    if self.successors(group).is_empty() {
                        continue;
                    }
                    left += 1;
                    if let Err(reason) = self.step_aside(shard, group).await {
                        tracing::debug!(%shard, reason, "nobody takes it over yet");
                    }
                }
                if left == 0 {
                    return;
                }
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        time::timeout(within, handing_over).await.is_ok()
    }

    /// The other voters, those first that are there and have most of the log.
    fn successors(&self, group: &Group) -> Vec<u64> {
        let metrics = group.metrics();
        let alive = self.roster().known().members.clone();
        let matched = |id: &u64| metrics.replication.as_ref().and_then(|of| of.get(id).copied().flatten());
        let mut voters: Vec<_> =
            metrics.membership_config.voter_ids().filter(|id| *id != self.me.0).collect();
        voters.sort_by_key(|id| std::cmp::Reverse((alive.contains(id), matched(id))));
        voters
    }

    /// Hands a group to whichever other voter takes it.
    pub(crate) async fn step_aside(&self, shard: ShardId, group: &Group) -> Result<(), String> {
        let mut trouble = "it has no other voter".to_owned();
        for to in self.successors(group) {
            match self.hand_over(shard, group, to).await {
                Ok(()) => return Ok(()),
                Err(reason) => trouble = reason,
            }
        }
        Err(trouble)
    }

    /// Hands a group to another voter, if that one is there and wants it.
    pub(crate) async fn hand_over(&self, shard: ShardId, group: &Group, to: u64) -> Result<(), String> {
        let request = encode(&Request::<TokioRuntime>::WouldLead(shard.0));
        let answer = self.peers.call(MemberId(to), request, CONSENT_WITHIN).await;
        match decode(&answer.map_err(|error| error.to_string())?)? {
            Answer::<TokioRuntime>::Done => {}
            Answer::Failed(reason) => return Err(reason),
            other => return Err(format!("an answer to something else: {other:?}")),
        }
        tracing::debug!(%shard, to, "handing over");
        group.raft.trigger().transfer_leader(to).await.map_err(|error| error.to_string())
    }

    /// Why a group ended by itself, if one did: without it the node would only seem to serve.
    pub fn ended_group(&self) -> Option<String> {
        let ended =
            |(shard, group): (ShardId, &Group)| match &group.raft.metrics().borrow_watched().running_state {
                Ok(()) => None,
                Err(fatal) => Some(format!("the group of shard {shard} ended: {fatal}")),
            };
        self.shards().zip(&self.groups).find_map(ended).filter(|_| !self.is_retiring())
    }

    /// Ends the groups.
    pub async fn shut_down(&self) {
        for group in &self.groups {
            // One that ended by itself said why.
            let _ = group.raft.shutdown().await;
        }
    }
}

impl Group {
    pub fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Returns when somebody else than this one leads.
    pub(crate) async fn led_by_another(&self, than: u64) {
        let mut metrics = self.raft.metrics();
        while metrics.borrow_and_update().current_leader.is_none_or(|leader| leader == than) {
            if metrics.changed().await.is_err() {
                // The group has ended, and the node with it.
                return std::future::pending().await;
            }
        }
    }

    pub fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// This node is the leader, and a majority said so lately.
    pub fn leads(&self, me: u64) -> bool {
        let Ok(leader) = self.raft.as_leader() else { return false };
        let alone = || {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.voter_ids().eq([me])
        };
        leader.last_quorum_acked().is_some_and(|at| at.elapsed() < QUORUM_WITHIN) || alone()
    }

    pub fn membership(&self) -> Membership {
        self.raft.metrics().borrow_watched().membership_config.membership().clone()
    }

    pub fn members(&self) -> BTreeMap<u64, PeerNode> {
        self.membership().nodes().map(|(id, node)| (*id, node.clone())).collect()
    }
}

fn machine(group: u16, snapshot: Option<&(Snapshot, Place)>, news: &Arc<Notify>) -> Machine {
    let at = snapshot.map(|(snapshot, place)| (snapshot.meta.index, place.clone()));
    Machine::new(ShardId(group), at, Arc::clone(news))
}

async fn start_group(
    group: u16,
    me: MemberId,
    held: Held,
    machine: &Machine,
    journal: &Arc<JournalThread>,
    peers: &Peers,
    store: &SnapshotStore,
) -> Result<Raft<Types, Machine>, Fatal<Types>> {
    let journal: Arc<dyn Journal> = Arc::clone(journal) as Arc<dyn Journal>;
    let log = GroupLog::new(group, held, journal);
    let network = Network::new(group, me, peers.clone(), store.clone());
    Raft::new(me.0, Arc::new(config(group)), network, log, machine.clone()).await
}

fn config(group: u16) -> Config {
    let (election_timeout_min, election_timeout_max) = ELECTION_MS;
    let config = Config {
        cluster_name: format!("shard {group}"),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min,
        election_timeout_max,
        enable_pre_vote: Some(true),
        install_snapshot_timeout: 10_000,
        max_payload_entries: 512,
        // Workers make snapshots, and this node purges what they cover.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: 512,
        ..Config::default()
    };
    config.validate().expect("these go together")
}
