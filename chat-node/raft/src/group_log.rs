//! A group's log as Raft reads and writes it: all of it that is kept is in memory, and what is written goes to the journal
//! that all groups of the node share.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

use openraft::{
    AsyncRuntime, EntryPayload, OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::oneshot;

use crate::{
    journal::{Job, Journal},
    record::Record,
    types::{Entry, LogId, Types, Vote},
};

/// Bytes of entries that are sent to another node at a time.
const SEND_BYTES: usize = 1 << 20;

/// What is kept of a group's log.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    /// The last one that was let go of.
    pub purged: Option<LogId>,
    /// Those behind it, without a hole.
    pub entries: VecDeque<Entry>,
}

impl Held {
    fn first_index(&self) -> u64 {
        let first = self.entries.front().map(|entry| entry.log_id.index);
        first.or(self.purged.map(|purged| purged.index + 1)).unwrap_or(0)
    }

    pub fn last(&self) -> Option<LogId> {
        self.entries.back().map(RaftEntry::log_id).or(self.purged)
    }

    /// Takes in what stands in the log next.
    pub fn push(&mut self, entry: Entry) {
        if let Some(last) = self.last() {
            let (index, next) = (entry.log_id.index, last.index + 1);
            assert!(index == next, "entry {index} follows, where {next} does");
        }
        self.entries.push_back(entry);
    }

    /// Drops what is behind this one.
    pub fn truncate(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |last| last.index + 1).saturating_sub(self.first_index());
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Drops what comes up to this one.
    pub fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        let gone = (upto.index + 1).saturating_sub(self.first_index()).min(self.entries.len() as u64);
        self.entries.drain(..usize::try_from(gone).expect("no more than there are"));
        self.purged = Some(upto);
    }

    fn range(&self, range: &impl RangeBounds<u64>) -> impl Iterator<Item = &Entry> {
        let first = self.first_index();
        let from = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let at = |index: u64| {
            usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len())
        };
        let (from, to) = (at(from), at(to));
        self.entries.range(from..to.max(from))
    }
}

/// One group's part of the journal. Clones are the same log.
#[derive(Clone)]
pub struct GroupLog {
    group: u16,
    held: Arc<Mutex<Held>>,
    journal: Arc<dyn Journal>,
}

impl GroupLog {
    /// `held` is what the journal was found to have of it.
    pub fn new(group: u16, held: Held, journal: Arc<dyn Journal>) -> Self {
        Self { group, held: Arc::new(Mutex::new(held)), journal }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no thread panics while it holds the log")
    }

    /// Writes, and waits until it is on the disk.
    async fn write(&self, record: Record) -> io::Result<()> {
        let (answer, written) = oneshot::channel();
        self.journal.submit(Job {
            group: self.group,
            records: vec![record],
            // Who waits may have gone.
            done: Some(Box::new(move |result| drop(answer.send(result)))),
        });
        written.await.unwrap_or_else(|_| Err(io::Error::other("the write-ahead log has ended")))
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.payload.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 64,
    }
}

impl<R: AsyncRuntime> RaftLogReader<Types<R>> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.held().range(&range).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.held().vote)
    }

    /// As many as go into one message, at least one.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut bytes = 0;
        let some = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += weight(entry);
            first || bytes <= SEND_BYTES
        };
        Ok(self.held().range(&(start..end)).take_while(some).cloned().collect())
    }
}

impl<R: AsyncRuntime> RaftLogStorage<Types<R>> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<R>>, io::Error> {
        let held = self.held();
        Ok(LogState { last_purged_log_id: held.purged, last_log_id: held.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.held().vote = Some(*vote);
        self.write(Record::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.held().committed = committed;
        if let Some(committed) = committed {
            let records = vec![Record::Committed(committed)];
            self.journal.submit(Job { group: self.group, records, done: None });
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.held().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let mut held = self.held();
        for entry in &entries {
            held.push(entry.clone());
        }
        // Under the lock, so that the journal has it in the same order.
        self.journal.submit(Job {
            group: self.group,
            records: entries.into_iter().map(Record::Entry).collect(),
            done: Some(Box::new(move |result| callback.io_completed(result))),
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut held = self.held();
            let end = held.last().map(|last| last.index);
            if last.map(|last| last.index) >= end {
                // Nothing is behind it.
                return Ok(());
            }
            held.truncate(last);
        }
        self.write(Record::Truncate(last)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.held().purge(upto);
        self.write(Record::Purge(upto)).await
    }
}
