//! What Raft applies to: the entries of a shard that are committed and in no snapshot yet, for the node's workers to read.
//! What the entries mean is the workers' business, and so are the snapshots: they make them, this keeps account of them.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use chat_log::{
    shared::store::{Extent, StoredEntry},
    snapshot::Snapshot,
};
use chat_state::ids::{Index, ShardId};
use futures::{Stream, StreamExt};
use openraft::{
    AsyncRuntime, EntryPayload, OptionalSend,
    entry::RaftEntry,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    record::log_id,
    types::{LogId, Placed, SnapshotMeta, StoredMembership, Types},
};

/// One group's committed entries. Clones are the same.
#[derive(Clone)]
pub struct Machine {
    shard: ShardId,
    state: Arc<Mutex<State>>,
    /// Rung when there is something new in any group of the node.
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    applied: Option<LogId>,
    /// Memberships that were applied, oldest first; the last is in force. Those are kept that a snapshot may need.
    memberships: Vec<StoredMembership>,
    /// Entry of the shard that was applied last.
    last: Index,
    /// Those that are kept, without a hole; the last is `last`.
    tail: VecDeque<Applied>,
    snapshot: Option<Kept>,
}

#[derive(Debug)]
struct Applied {
    index: Index,
    log_id: LogId,
    time_ms: u64,
    payload: Bytes,
}

/// The newest snapshot.
#[derive(Clone, Debug)]
struct Kept {
    index: Index,
    place: Place,
}

/// Where in the group's log a snapshot stands: what Raft has to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub last: LogId,
    pub membership: StoredMembership,
}

impl Place {
    /// Of a snapshot. One that a lone node made has the place that its entry has in the group.
    pub fn of(snapshot: &Snapshot) -> Result<Self, postcard::Error> {
        if snapshot.place.is_empty() {
            let last = log_id(0, snapshot.meta.index.0.saturating_sub(1));
            return Ok(Self { last, membership: StoredMembership::default() });
        }
        postcard::from_bytes(&snapshot.place)
    }

    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("writing to memory does not fail")
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: Some(self.last), last_membership: self.membership.clone() }
    }
}

/// A snapshot as Raft passes it around: its bytes are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDisk(pub Index);

/// What is asked for lies before what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {wanted} is in a snapshot, entries are kept from {oldest} on")]
pub struct Gone {
    pub wanted: Index,
    pub oldest: Index,
}

impl Machine {
    /// From the newest snapshot, if there is one.
    pub fn new(shard: ShardId, snapshot: Option<(Index, Place)>, news: Arc<Notify>) -> Self {
        let mut state = State::default();
        if let Some((index, place)) = snapshot {
            state.stand_at(index, place);
        }
        Self { shard, state: Arc::new(Mutex::new(state)), news }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the entries")
    }

    pub fn extent(&self) -> Extent {
        let state = self.state();
        let snapshot = state.snapshot.as_ref().map_or(Index(0), |kept| kept.index);
        Extent { first: state.oldest(), last: state.last, snapshot }
    }

    /// Entries behind this one, in order, up to about so many bytes; at least one if there is any.
    pub fn range(&self, after: Index, bytes: usize) -> Result<Vec<StoredEntry>, Gone> {
        let state = self.state();
        let oldest = state.oldest();
        let wanted = Index(after.0 + 1);
        if wanted < oldest {
            return Err(Gone { wanted, oldest });
        }
        let skip = usize::try_from(wanted.0 - oldest.0).unwrap_or(usize::MAX).min(state.tail.len());
        let mut taken = 0;
        let entries = state.tail.range(skip..).take_while(|applied| {
            let first = taken == 0;
            taken += applied.payload.len().max(1);
            first || taken <= bytes
        });
        let stored = |applied: &Applied| StoredEntry {
            shard: self.shard,
            index: applied.index,
            time_ms: applied.time_ms,
            payload: applied.payload.to_vec(),
        };
        Ok(entries.map(stored).collect())
    }

    /// The place of a snapshot that holds everything up to this entry; `None` when that is not known (any more).
    pub fn place_at(&self, index: Index) -> Option<Place> {
        let state = self.state();
        let last = state.tail.iter().rfind(|applied| applied.index == index)?.log_id;
        let membership =
            state.memberships.iter().rfind(|membership| *membership.log_id() <= Some(last)).cloned();
        Some(Place { last, membership: membership.unwrap_or_default() })
    }

    /// Where everything is that was applied; `None` before anything was.
    pub fn place(&self) -> Option<(Index, Place)> {
        let state = self.state();
        let membership = state.memberships.last().cloned().unwrap_or_default();
        Some((state.last, Place { last: state.applied?, membership }))
    }

    /// A snapshot is on the disk. Gives the place of the one before it: up to there nothing is needed any more.
    pub fn saved(&self, index: Index, place: Place) -> Option<LogId> {
        let mut state = self.state();
        let before = state.snapshot.replace(Kept { index, place });
        if let Some(before) = &before {
            let gone = state.tail.partition_point(|applied| applied.index <= before.index);
            state.tail.drain(..gone);
            state.forget_memberships(&before.place.last);
        }
        before.map(|before| before.place.last)
    }
}

impl State {
    fn oldest(&self) -> Index {
        self.tail.front().map_or(Index(self.last.0 + 1), |applied| applied.index)
    }

    /// Everything up to there is in a snapshot.
    fn stand_at(&mut self, index: Index, place: Place) {
        self.applied = Some(place.last);
        self.memberships = vec![place.membership.clone()];
        self.last = index;
        self.tail.clear();
        self.snapshot = Some(Kept { index, place });
    }

    /// Drops memberships that no snapshot behind this place needs.
    fn forget_memberships(&mut self, last: &LogId) {
        let in_force =
            self.memberships.iter().rposition(|membership| membership.log_id().as_ref() <= Some(last));
        self.memberships.drain(..in_force.unwrap_or(0));
    }

    fn apply(&mut self, entry: crate::types::Entry) -> Placed {
        let log_id = entry.log_id();
        self.applied = Some(log_id);
        match entry.payload {
            EntryPayload::Blank => Placed(None),
            EntryPayload::Membership(membership) => {
                self.memberships.push(StoredMembership::new(Some(log_id), membership));
                Placed(None)
            }
            EntryPayload::Normal(batch) => {
                self.last = Index(self.last.0 + 1);
                let crate::types::Batch { time_ms, payload } = batch;
                self.tail.push_back(Applied { index: self.last, log_id, time_ms, payload });
                Placed(Some(self.last))
            }
        }
    }
}

impl<R: AsyncRuntime> RaftStateMachine<Types<R>> for Machine {
    type SnapshotData = OnDisk;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.state();
        Ok((state.applied, state.memberships.last().cloned().unwrap_or_default()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<R>>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let placed = self.state().apply(entry);
            if let Some(responder) = responder {
                responder.send(placed);
            }
        }
        self.news.notify_one();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    /// Its bytes are on the disk already: whoever received it wrote them.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: OnDisk) -> Result<(), io::Error> {
        let Some(last) = meta.last_log_id else { return Ok(()) };
        let OnDisk(index) = snapshot;
        let mut state = self.state();
        // At a start it is the one that this began with.
        if state.applied < Some(last) {
            state.stand_at(index, Place { last, membership: meta.last_membership.clone() });
            self.news.notify_one();
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types<R>, OnDisk>>, io::Error> {
        let state = self.state();
        let of = |kept: &Kept| SnapshotOf::<Types<R>, OnDisk> {
            meta: kept.place.meta(),
            snapshot: OnDisk(kept.index),
        };
        Ok(state.snapshot.as_ref().map(of))
    }
}

impl<R: AsyncRuntime> RaftSnapshotBuilder<Types<R>> for Machine {
    type SnapshotData = OnDisk;

    /// The one that is there: when Raft asks, a worker has just made it.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types<R>, OnDisk>, io::Error> {
        let current = <Self as RaftStateMachine<Types<R>>>::get_current_snapshot(self).await?;
        current.ok_or_else(|| io::Error::other("no worker has made a snapshot yet"))
    }
}
