//! A worker of a node, with what is on its way to it and from it in the hands of the run.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chat_log::{
    follower::Follower,
    log::{Delivery, Reason, Request},
};
use chat_session::{Now, Worker};
use chat_state::{
    entry::Entry,
    ids::{Index, ShardId},
};

const TICK_MS: u64 = 100;

pub(crate) struct Hand {
    pub(crate) worker: Worker,
    /// Its stream of a shared log.
    pub(crate) follower: Option<Follower>,
    pub(crate) inbox: BTreeMap<ShardId, VecDeque<Item>>,
    pub(crate) read_only: VecDeque<Option<Reason>>,
    outgoing: VecDeque<(ShardId, Request)>,
    /// Shards for which the log takes nothing from this worker until then.
    blocked: BTreeMap<ShardId, u64>,
    pub(crate) next_tick_ms: u64,
    /// Its thread does not run until then.
    pub(crate) stalled_until_ms: u64,
}

pub(crate) enum Item {
    Entry(Arc<Entry>),
    Refused(Request, Reason),
}

impl Hand {
    pub(crate) fn new(worker: Worker, follower: Option<Follower>, now_ms: u64) -> Self {
        Self {
            worker,
            follower,
            inbox: BTreeMap::new(),
            read_only: VecDeque::new(),
            outgoing: VecDeque::new(),
            blocked: BTreeMap::new(),
            next_tick_ms: now_ms,
            stalled_until_ms: 0,
        }
    }

    pub(crate) fn tick(&mut self, now: Now) {
        self.next_tick_ms = now.monotonic_ms + TICK_MS;
        self.worker.tick(now);
        self.collect();
    }

    pub(crate) fn push(&mut self, shard: ShardId, item: Item) {
        self.inbox.entry(shard).or_default().push_back(item);
    }

    /// Something of the log waits to be taken in.
    pub(crate) fn can_hear(&self) -> bool {
        self.follower.as_ref().is_some_and(|follower| !follower.is_empty())
    }

    /// Takes the next delivery of a shared log in; gives the shard of which a snapshot is wanted.
    pub(crate) fn hear(&mut self) -> Option<ShardId> {
        match self.follower.as_mut()?.try_next()? {
            Delivery::Committed(batch) => {
                for (shard, entry) in batch.iter() {
                    self.push(*shard, Item::Entry(Arc::clone(entry)));
                }
            }
            Delivery::Refused { shard, request, reason } => self.push(shard, Item::Refused(request, reason)),
            Delivery::ReadOnly(reason) => self.read_only.push_back(reason),
            Delivery::SnapshotWanted { shard } => return Some(shard),
            // The node ends where it broke.
            Delivery::Fatal(_) => {}
        }
        None
    }

    /// Nothing is on its way between the worker and the log.
    pub(crate) fn is_quiet(&self) -> bool {
        self.inbox.values().all(VecDeque::is_empty)
            && self.outgoing.is_empty()
            && self.read_only.is_empty()
            && self.worker.held_back() == 0
            && !self.can_hear()
    }

    pub(crate) fn is_caught_up(&self, ends: &BTreeMap<ShardId, Index>) -> bool {
        self.worker.incarnation().is_some() && ends.iter().all(|(shard, end)| self.index(*shard) >= *end)
    }

    /// The log takes nothing for this shard for a while.
    pub(crate) fn block(&mut self, shard: ShardId, until_ms: u64) {
        self.blocked.insert(shard, until_ms);
    }

    pub(crate) fn blocked_until(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocked.values().copied()
    }

    /// The shards of what waits to be handed in.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.outgoing.iter().map(|(shard, _)| *shard)
    }

    pub(crate) fn can_submit(&self, now_ms: u64) -> bool {
        self.outgoing.iter().any(|(shard, _)| self.takes(*shard, now_ms))
    }

    fn takes(&self, shard: ShardId, now_ms: u64) -> bool {
        self.blocked.get(&shard).is_none_or(|until| *until <= now_ms)
    }

    /// What may be handed in now, in order for each shard.
    pub(crate) fn take_outgoing(&mut self, now_ms: u64) -> BTreeMap<ShardId, Vec<Request>> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let (taken, left): (Vec<_>, Vec<_>) =
            outgoing.into_iter().partition(|(shard, _)| self.takes(*shard, now_ms));
        self.outgoing = left.into();
        let mut waiting: BTreeMap<ShardId, Vec<Request>> = BTreeMap::new();
        for (shard, request) in taken {
            waiting.entry(shard).or_default().push(request);
        }
        waiting
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

    pub(crate) fn ask(&mut self, requests: Vec<(ShardId, Request)>) {
        self.outgoing.extend(requests);
    }
}
