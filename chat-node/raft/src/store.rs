//! The groups as the shared log sees them: a store that happens to be in this node and its peers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chat_log::{
    log::{Durability, Reason},
    shared::store::{Beat, Extent, Reader, Store, StoreError, StoredEntry},
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
};
use chat_state::ids::{Incarnation, Index, MemberId, ShardId};
use openraft::async_runtime::WatchReceiver;
use openraft_rt_tokio::TokioRuntime;
use tokio::time::{self, Instant};

use crate::{
    control::OrderError,
    messages::{self, Refusal, decode, encode},
    node::Node,
    roster,
};

type Request = messages::Request<TokioRuntime>;
type Answer = messages::Answer<TokioRuntime>;

/// An append looks for a leader that takes it for so long; then its fate is said to be unknown, and it is tried again.
const APPEND_WITHIN: Duration = Duration::from_millis(1_500);
/// Between two looks who leads.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// An answer of another node takes no longer than what it waits for itself.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_200);
/// Bytes that are read from a shard at a time.
const READ_BYTES: usize = 1 << 20;
/// What is led is handed over within this time.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

pub struct RaftStore {
    node: Arc<Node>,
}

impl RaftStore {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Asks whoever leads a group, which may be this node.
    async fn ask_leader(
        node: &Node,
        shard: ShardId,
        request: impl Fn() -> Request + Send,
        within: Duration,
    ) -> Result<Answer, String> {
        let group = node.group(shard).ok_or_else(|| format!("there is no shard {shard} in this room"))?;
        let deadline = Instant::now() + within;
        let mut hint = None;
        let mut trouble =
            format!("no node leads shard {shard}: most of those that keep it cannot be reached");
        loop {
            let leader = hint.take().or_else(|| group.leader());
            let answer = match leader {
                None => None,
                Some(leader) if leader == node.me.0 => Some(node.answer_request(node.me, request()).await),
                Some(leader) => {
                    let left = deadline.saturating_duration_since(Instant::now()).min(ANSWER_WITHIN);
                    let call = node.peers.call(MemberId(leader), encode(&request()), left);
                    tokio::select! {
                        biased;
                        answered = call => match answered {
                            Ok(bytes) => Some(decode(&bytes)?),
                            Err(error) => {
                                trouble = format!("the leader of shard {shard} does not answer: {error}");
                                None
                            }
                        },
                        // One that is frozen says nothing for long; whoever took its place does at once.
                        () = group.led_by_another(leader) => None,
                    }
                }
            };
            match answer {
                Some(Answer::NotLeader(other)) => hint = other.filter(|other| Some(*other) != leader),
                Some(Answer::Failed(reason)) => trouble = reason,
                Some(answer) => return Ok(answer),
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(trouble);
            }
            time::sleep(LOOK_EVERY).await;
        }
    }

    /// Has every group's commits up to now applied here.
    pub async fn catch_up(node: &Node) -> Result<(), String> {
        for (shard, group) in node.shards().zip(&node.groups) {
            let next =
                match Self::ask_leader(node, shard, || Request::Committed(shard.0), APPEND_WITHIN).await? {
                    Answer::Committed(next) => next,
                    other => return Err(format!("an answer to something else: {other:?}")),
                };
            let mut metrics = group.raft.metrics();
            let applied = async {
                loop {
                    let applied = metrics.borrow_and_update().last_applied.map_or(0, |last| last.index + 1);
                    if applied >= next || metrics.changed().await.is_err() {
                        return;
                    }
                }
            };
            if time::timeout(APPEND_WITHIN, applied).await.is_err() {
                return Err(format!("shard {shard} is still behind"));
            }
        }
        Ok(())
    }
}

impl Store for RaftStore {
    type Reader = RaftReader;

    fn durability(&self) -> Durability {
        let voters = self.node.directory().membership().voter_ids().count();
        if voters > 1 { Durability::QuorumFsync } else { Durability::LocalFsync }
    }

    async fn extents(&self) -> Result<Vec<Extent>, StoreError> {
        Ok(self.node.groups.iter().map(|group| group.machine.extent()).collect())
    }

    async fn append(&self, shard: ShardId, payload: Arc<[u8]>) -> Result<Index, StoreError> {
        let payload = Bytes::from_owner(payload);
        let request = || Request::Propose(shard.0, payload.clone());
        match Self::ask_leader(&self.node, shard, request, APPEND_WITHIN).await {
            Ok(Answer::Placed(index)) => Ok(index),
            Ok(Answer::Refused(Refusal::DiskFull)) => Err(StoreError::Refused(
                Reason::DiskFull,
                format!("the disk of the leader of shard {shard} is full"),
            )),
            Ok(other) => Err(StoreError::Unavailable(format!("an answer to something else: {other:?}"))),
            Err(reason) => Err(StoreError::Unavailable(reason)),
        }
    }

    fn reader(&self, after: Vec<Index>) -> RaftReader {
        RaftReader { node: Arc::clone(&self.node), after }
    }

    async fn range(
        &self,
        shard: ShardId,
        after: Index,
        bytes: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        read(&self.node, shard, after, bytes)
    }

    /// Each node keeps its own, beside its own log.
    async fn save(&self, snapshot: &NewSnapshot) -> Result<Snapshot, SnapshotError> {
        let shard = snapshot.meta.shard;
        let given = snapshot.meta.index;
        let group = self.node.group(shard).ok_or(SnapshotError::Stopped)?;
        let extent = group.machine.extent();
        if given > extent.last {
            return Err(SnapshotError::NotYet { shard, given, last: extent.last });
        }
        let Some(place) = group.machine.place_at(given) else {
            return Err(SnapshotError::NotNewer { shard, given, present: extent.snapshot });
        };
        let new = NewSnapshot { place: place.encode(), ..snapshot.clone() };
        let store = self.node.snapshots.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&new));
        let saved = saved.await.unwrap_or(Err(SnapshotError::Stopped))?;
        let last = place.last;
        let before = group.machine.saved(given, place);
        // Its core has ended when these fail, and the node with it.
        if group.raft.trigger().snapshot().await.is_ok() {
            // What the snapshot before this one covers nobody needs but a node that was away for long, and that one gets the
            // snapshot. Where an old file is kept for want of this, all of it goes.
            let upto = if self.node.pulse.pinning() == Some(shard.0) { Some(last) } else { before };
            if let Some(upto) = upto {
                self.purge(shard, last.index, upto.index).await;
            }
        }
        Ok(saved)
    }

    async fn beat(&self, incarnation: Incarnation) -> Result<Beat, StoreError> {
        let node = &self.node;
        let request = || Request::Beat(messages::Beat { incarnation });
        self.let_go_of_what_pins().await;
        let leads = || node.directory().leader() == Some(node.me.0);
        match Self::ask_leader(node, ShardId::DIRECTORY, request, APPEND_WITHIN).await {
            Ok(Answer::Beat(roster)) => {
                let alive = roster::alive(&roster);
                let leads = leads();
                if !leads {
                    node.roster().told(roster);
                }
                Ok(Beat { leads, alive })
            }
            Ok(other) => Err(StoreError::Unavailable(format!("an answer to something else: {other:?}"))),
            Err(reason) => Err(StoreError::Unavailable(reason)),
        }
    }

    fn pinning(&self) -> Option<ShardId> {
        let shard = ShardId(self.node.pulse.pinning()?);
        let extent = self.node.group(shard)?.machine.extent();
        (extent.snapshot < extent.last).then_some(shard)
    }

    fn bytes(&self) -> u64 {
        self.node.pulse.bytes()
    }

    fn disk_busy_since_ms(&self) -> Option<u64> {
        self.node.pulse.busy_since_ms()
    }

    async fn leave(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        let node = &self.node;
        node.retire(HAND_OVER_WITHIN).await;
        let request = || Request::Farewell(incarnation);
        let told = Self::ask_leader(node, ShardId::DIRECTORY, request, HAND_OVER_WITHIN).await;
        node.shut_down().await;
        told.map(drop).map_err(StoreError::Unavailable)
    }
}

impl RaftStore {
    /// A shard in which nothing happens keeps an old file though its snapshot covers all of it.
    async fn let_go_of_what_pins(&self) {
        let Some(shard) = self.node.pulse.pinning().map(ShardId) else { return };
        let Some(group) = self.node.group(shard) else { return };
        let extent = group.machine.extent();
        if extent.snapshot == extent.last
            && let Some(snapshot) = group.metrics().snapshot
            && group.metrics().purged < Some(snapshot)
        {
            // Its core has ended when this fails, and the node with it.
            let _ = group.raft.trigger().purge_log(snapshot.index).await;
        }
    }

    /// A member is to leave the room.
    pub async fn dismiss(node: &Node, member: u64) -> Result<(), OrderError> {
        match Self::ask_leader(node, ShardId::DIRECTORY, || Request::Dismiss(member), APPEND_WITHIN).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Refused(Refusal::Because(reason))) => Err(OrderError::Refused(reason)),
            Ok(Answer::Refused(Refusal::NoSuchMember)) => {
                Err(OrderError::Unknown(format!("there is no member {member:016x} in this room")))
            }
            Ok(other) => Err(OrderError::Failed(format!("an answer to something else: {other:?}"))),
            Err(reason) => Err(OrderError::Failed(reason)),
        }
    }

    /// Once Raft has heard of the snapshot: it does not let go of more.
    async fn purge(&self, shard: ShardId, snapshot: u64, upto: u64) {
        let Some(group) = self.node.group(shard) else { return };
        let mut metrics = group.raft.metrics();
        let heard = async {
            while metrics.borrow_and_update().snapshot.is_none_or(|known| known.index < snapshot) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        if time::timeout(APPEND_WITHIN, heard).await.is_ok() {
            // As above.
            let _ = group.raft.trigger().purge_log(upto).await;
        }
    }
}

fn read(node: &Node, shard: ShardId, after: Index, bytes: usize) -> Result<Vec<StoredEntry>, StoreError> {
    let Some(group) = node.group(shard) else { return Ok(Vec::new()) };
    group.machine.range(after, bytes).map_err(|gone| {
        StoreError::Broken(format!(
            "shard {shard}: {gone}: this node fell behind and was sent a snapshot. It starts anew from there"
        ))
    })
}

/// Everything that is committed, as it is applied here.
pub struct RaftReader {
    node: Arc<Node>,
    /// The last entry of each shard that was read.
    after: Vec<Index>,
}

impl Reader for RaftReader {
    async fn next(&mut self) -> Result<Vec<StoredEntry>, StoreError> {
        loop {
            let mut entries = Vec::new();
            for (shard, after) in (0..).map(ShardId).zip(&mut self.after) {
                let read = read(&self.node, shard, *after, READ_BYTES)?;
                if let Some(last) = read.last() {
                    *after = last.index;
                }
                entries.extend(read);
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
            // Rung since the look above, it does not wait.
            self.node.news.notified().await;
        }
    }
}
