//! What the store holds, and how its commands change it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chat_log::{
    shared::store::{Extent, StoredEntry},
    snapshot::Snapshot,
};
use chat_state::ids::{Incarnation, Index, ShardId};

#[derive(Clone)]
pub(super) struct Data {
    /// Of each shard, the directory first.
    heads: Vec<Head>,
    pub(super) nodes: BTreeMap<Incarnation, u64>,
    pub(super) leader: Option<Incarnation>,
    /// Entries ever appended, of all shards.
    pub(super) appended: usize,
}

#[derive(Clone)]
pub(super) struct Head {
    /// The process that opened the lineage in force.
    pub(super) run: u64,
    pub(super) lineage: u32,
    pub(super) last: Index,
    /// Oldest first, without holes, up to `last`.
    entries: VecDeque<Arc<StoredEntry>>,
    pub(super) saved: Option<Arc<Saved>>,
}

/// A snapshot in force.
pub(super) struct Saved {
    pub(super) snapshot: Snapshot,
    /// The bytes of its chunks, in their order.
    pub(super) chunks: Vec<Vec<u8>>,
}

/// A command that changed something, with everything that decided how.
pub(super) enum Effect {
    Append(Arc<StoredEntry>),
    Lineage { entry: Arc<StoredEntry>, run: u64, lineage: u32 },
    Save { shard: ShardId, saved: Arc<Saved> },
    Beat { me: Incarnation, leads_from_now: bool, over: Vec<Incarnation> },
    Leave(Incarnation),
}

impl Data {
    pub(super) fn new(shards: u16, run: u64) -> Self {
        let head = Head { run, lineage: 0, last: Index(0), entries: VecDeque::new(), saved: None };
        Self { heads: vec![head; usize::from(shards) + 1], nodes: BTreeMap::new(), leader: None, appended: 0 }
    }

    pub(super) fn head(&self, shard: ShardId) -> &Head {
        &self.heads[usize::from(shard.0)]
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..u16::try_from(self.heads.len()).expect("shards are numbered by u16")).map(ShardId)
    }

    pub(super) fn extents(&self) -> Vec<Extent> {
        let extent = |head: &Head| Extent {
            first: head.first(),
            last: head.last,
            snapshot: head.saved.as_ref().map_or(Index(0), |saved| saved.snapshot.meta.index),
        };
        self.heads.iter().map(extent).collect()
    }

    pub(super) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Append(entry) => self.append(entry),
            Effect::Lineage { entry, run, lineage } => {
                self.append(entry);
                let head = &mut self.heads[usize::from(entry.shard.0)];
                (head.run, head.lineage) = (*run, *lineage);
            }
            Effect::Save { shard, saved } => {
                let head = &mut self.heads[usize::from(shard.0)];
                // Who lags by less than one snapshot still finds its entries.
                let before = head.saved.replace(Arc::clone(saved));
                let least = before.map_or(Index(0), |saved| saved.snapshot.meta.index);
                while head.entries.front().is_some_and(|entry| entry.index < least) {
                    head.entries.pop_front();
                }
            }
            Effect::Beat { me, leads_from_now, over } => {
                *self.nodes.entry(*me).or_default() += 1;
                if *leads_from_now {
                    self.leader = Some(*me);
                }
                for gone in over {
                    self.nodes.remove(gone);
                }
            }
            Effect::Leave(me) => {
                self.nodes.remove(me);
                if self.leader == Some(*me) {
                    self.leader = None;
                }
            }
        }
    }

    fn append(&mut self, entry: &Arc<StoredEntry>) {
        let head = &mut self.heads[usize::from(entry.shard.0)];
        head.last = entry.index;
        head.entries.push_back(Arc::clone(entry));
        self.appended += 1;
    }
}

impl Head {
    pub(super) fn first(&self) -> Index {
        self.entries.front().map_or(Index(self.last.0 + 1), |entry| entry.index)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Arc<StoredEntry>> {
        let at = usize::try_from(index.0.checked_sub(self.first().0)?).ok()?;
        self.entries.get(at)
    }

    /// Those behind an entry, in order.
    pub(super) fn after(&self, index: Index, most: usize) -> Vec<StoredEntry> {
        let behind = usize::try_from((index.0 + 1).saturating_sub(self.first().0)).unwrap_or(usize::MAX);
        self.entries.iter().skip(behind).take(most).map(|entry| StoredEntry::clone(entry)).collect()
    }
}
