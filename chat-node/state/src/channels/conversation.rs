//! The history of a channel, or of two users: what CHATHISTORY reads.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    event::Event,
    ids::{ChannelId, Position, ShardId, UserId},
    kept::weight,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ConversationKey {
    Channel(ChannelId),
    /// The lower id first.
    Direct(UserId, UserId),
}

impl ConversationKey {
    pub(crate) fn direct(one: UserId, other: UserId) -> Self {
        Self::Direct(one.min(other), one.max(other))
    }
}

/// Messages in order of time, oldest first. TAGMSG and STATUSMSG are not among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Number of the last message of it that was numbered here.
    pub(crate) last_number: u64,
    /// Of two users' conversation: those at home in this shard who were not forgotten. It ends with the last.
    pub(crate) owners: BTreeSet<UserId>,
    records: VecDeque<Record>,
    /// Of the records. Derived.
    bytes: u64,
}

/// A message, and where it was first stored: its msgid.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Shard that numbered the message; another one for the copy of a direct message.
    pub source: ShardId,
    /// Position in the shard that keeps the record; [`Event::position`] is that of `source`.
    pub at: Position,
    pub event: Arc<Event>,
}

impl Record {
    fn bytes(&self) -> u64 {
        weight(&self.event) as u64
    }
}

/// A place in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// By msgid. It need not be kept any more.
    Message { source: ShardId, position: Position },
    /// Unix milliseconds.
    Time(u64),
}

impl Conversation {
    /// From a snapshot: `records` in their order.
    pub(crate) fn refill(last_number: u64, owners: BTreeSet<UserId>, records: VecDeque<Record>) -> Self {
        let bytes = records.iter().map(Record::bytes).sum();
        Self { last_number, owners, records, bytes }
    }

    /// What its messages are taken to hold, with what surrounds each.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.records.iter()
    }

    pub fn oldest(&self) -> Option<&Record> {
        self.records.front()
    }

    pub fn newest(&self) -> Option<&Record> {
        self.records.back()
    }

    /// CHATHISTORY BEFORE: the last `limit` messages before the anchor.
    pub fn before(&self, anchor: Anchor, limit: usize) -> impl DoubleEndedIterator<Item = &Record> {
        let end = self.first_at(anchor);
        self.range(end.saturating_sub(limit)..end)
    }

    /// CHATHISTORY AFTER: the first `limit` messages after the anchor.
    pub fn after(&self, anchor: Anchor, limit: usize) -> impl DoubleEndedIterator<Item = &Record> {
        let start = self.first_after(anchor);
        self.range(start..start.saturating_add(limit).min(self.len()))
    }

    /// CHATHISTORY LATEST: the last `limit` messages, those after the anchor only if there is one.
    pub fn latest(&self, after: Option<Anchor>, limit: usize) -> impl DoubleEndedIterator<Item = &Record> {
        let start = after.map_or(0, |anchor| self.first_after(anchor));
        self.range(self.len().saturating_sub(limit).max(start)..self.len())
    }

    /// CHATHISTORY AROUND: `limit` messages with the anchor in the middle.
    pub fn around(&self, anchor: Anchor, limit: usize) -> impl DoubleEndedIterator<Item = &Record> {
        let end = self.first_at(anchor).saturating_add(limit - limit / 2).min(self.len());
        let start = self.first_at(anchor).saturating_sub(limit / 2);
        // What one side lacks, the other may give.
        let end = start.saturating_add(limit).min(self.len()).max(end);
        self.range(end.saturating_sub(limit)..end)
    }

    /// CHATHISTORY BETWEEN: up to `limit` messages between the two, counted from the first one; oldest first.
    pub fn between(
        &self,
        from: Anchor,
        to: Anchor,
        limit: usize,
    ) -> impl DoubleEndedIterator<Item = &Record> {
        let forward = self.first_after(from)..self.first_at(to);
        let backward = self.first_after(to)..self.first_at(from);
        if forward.start <= forward.end {
            self.range(forward.start..forward.end.min(forward.start.saturating_add(limit)))
        } else if backward.start <= backward.end {
            self.range(backward.start.max(backward.end.saturating_sub(limit))..backward.end)
        } else {
            self.range(0..0)
        }
    }

    fn range(&self, range: Range<usize>) -> std::collections::vec_deque::Iter<'_, Record> {
        self.records.range(range)
    }

    /// Index of the first record at the anchor or after it.
    fn first_at(&self, anchor: Anchor) -> usize {
        match anchor {
            Anchor::Time(time_ms) => self.records.partition_point(|record| record.event.time_ms < time_ms),
            Anchor::Message { source, position } => {
                self.first_where(source, |record| record.event.position >= position)
            }
        }
    }

    /// Index of the first record after the anchor.
    fn first_after(&self, anchor: Anchor) -> usize {
        match anchor {
            Anchor::Time(time_ms) => self.records.partition_point(|record| record.event.time_ms <= time_ms),
            Anchor::Message { source, position } => {
                let at = self.first_at(anchor);
                let found = self
                    .records
                    .get(at)
                    .is_some_and(|record| record.source == source && record.event.position == position);
                at + usize::from(found)
            }
        }
    }

    /// Index of the first record of `source` for which `reached` holds. Records of one source ascend; those of a
    /// channel are all of one.
    fn first_where(&self, source: ShardId, reached: impl Fn(&Record) -> bool) -> usize {
        if self.owners.is_empty() {
            return self.records.partition_point(|record| !reached(record));
        }
        self.records
            .iter()
            .position(|record| record.source == source && reached(record))
            .unwrap_or(self.records.len())
    }

    /// At its place by time: after all that are not newer.
    pub(crate) fn insert(&mut self, record: Record) {
        let newer =
            self.records.iter().rev().take_while(|other| other.event.time_ms > record.event.time_ms).count();
        self.bytes += record.bytes();
        self.records.insert(self.records.len() - newer, record);
    }

    /// Gives up what is older.
    pub(crate) fn trim_older(&mut self, oldest_ms: u64) {
        while self.records.front().is_some_and(|record| record.event.time_ms < oldest_ms) {
            self.give_up_oldest();
        }
    }

    /// Gives up what is past these bounds, oldest first.
    pub(crate) fn trim(&mut self, most: u32, most_bytes: u64) {
        while self.records.len() > most as usize || self.bytes > most_bytes {
            self.give_up_oldest();
        }
    }

    pub(crate) fn give_up_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.bytes();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }
}
