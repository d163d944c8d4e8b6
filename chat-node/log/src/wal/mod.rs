//! The write-ahead log: one ordered stream of records of many groups, in segments.
//!
//! A batch is written with one write and one sync, and nothing of the next one is written before that sync is done.
//! Recovery rests on this (see `recover`). What a group's records mean to the group:
//!
//! - `Entry` follows the group's newest one, without holes; `Truncate` makes void what is newer than its index;
//!   `Purge` says that a durable snapshot covers everything up to its index.
//! - of `Vote`, `Committed` and `Purge` the newest counts; each segment begins by repeating these, so that older
//!   segments can go.
//! - `Mark` means nothing by itself: it proves that what stands before it was on the disk.
//!
//! After an error of a sync the log is broken for good: what reached the disk is unknown, and asking again would not
//! tell. After a full disk it is not: nothing of the refused batch remains.

use std::{collections::VecDeque, io, sync::Arc};

mod error;
pub mod format;
mod groups;
mod read;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

pub use error::{AppendError, WalError};
pub use format::Batch;
use format::{SEGMENT_HEADER, Seed, segment_name};
use groups::Groups;
pub use groups::{Group, Kept};
pub use read::{Cursor, OwnedRecord, Reader};
use segment::{EntryRange, Segment, full_or, make_segment, smallest_volume};

use crate::disk::{Disk, DiskFile, is_full};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Entry = 1,
    Vote = 2,
    Truncate = 3,
    Purge = 4,
    Committed = 5,
    Mark = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::Truncate,
            4 => Self::Purge,
            5 => Self::Committed,
            6 => Self::Mark,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub group: u16,
    pub kind: Kind,
    pub term: u64,
    pub index: u64,
    pub payload: &'a [u8],
}

/// Sizes on a disk that is large; on a small one they shrink with it.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Random, the same for the life of the log.
    pub log_id: u64,
    pub segment_bytes: u64,
    /// A new segment leaves this much of the disk free, for snapshots: they are what makes space again.
    pub disk_reserve_bytes: u64,
    /// The end of a segment that only chores may use while no new one can be made.
    pub chore_reserve_bytes: u64,
}

impl WalOptions {
    pub fn new(log_id: u64) -> Self {
        Self { log_id, segment_bytes: 64 << 20, disk_reserve_bytes: 32 << 20, chore_reserve_bytes: 1 << 20 }
    }
}

/// Which space a batch may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Ordinary,
    /// Also the end of the last segment that is kept for what must go on when the disk is full.
    Reserved,
}

/// What should be on the disk when a log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No log, but perhaps the beginning of one whose making was interrupted.
    Nothing,
    Log,
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub records: u64,
    /// Bytes of an unfinished batch that were cut off the end.
    pub cut_bytes: u64,
    /// A segment that was being made, removed.
    pub unfinished_segment: bool,
    /// File and offset where the log ended.
    pub end: Option<(String, u64)>,
}

pub struct Wal {
    disk: Arc<dyn Disk>,
    options: WalOptions,
    /// Oldest first; the last is written to. Never empty.
    segments: VecDeque<Segment>,
    file: Box<dyn DiskFile>,
    groups: Groups,
    /// Segments from this one on are kept, whatever was released.
    hold: u64,
    /// The newest record is a mark.
    marked: bool,
    broken: bool,
}

impl Wal {
    pub fn open(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        expect: Expect,
    ) -> Result<(Self, Report), WalError> {
        if expect == Expect::Nothing {
            recover::remove_beginning(&disk)?;
        }
        let recovered = recover::recover(&disk, options.log_id)?;
        if expect == Expect::Log && recovered.segments.is_empty() {
            return Err(WalError::Missing { file: segment_name(1) });
        }
        let mut segments = VecDeque::from(recovered.segments);
        let file = match segments.back() {
            Some(last) => {
                let name = segment_name(last.sequence);
                let mut file = disk.open(&name).map_err(|source| WalError::io("open", &name, source))?;
                match file.allocate(last.capacity) {
                    // The space that cutting the tail gave away may be taken; then writes will say so.
                    Err(error) if !is_full(&error) => return Err(WalError::io("allocate", &name, error)),
                    _ => {}
                }
                file
            }
            None => {
                let (segment, file) =
                    make_segment(&disk, &options, 1, SEGMENT_HEADER as u64, 0, &mut Batch::default())
                        .map_err(|error| match error {
                            AppendError::Full => WalError::NoSpace { needed: smallest_volume(&options) },
                            AppendError::Fatal(error) => error,
                        })?;
                segments.push_back(segment);
                file
            }
        };
        let groups = recovered.groups;
        let wal = Self {
            disk,
            options,
            segments,
            file,
            groups,
            hold: u64::MAX,
            marked: recovered.marked,
            broken: false,
        };
        Ok((wal, recovered.report))
    }

    /// Writes and syncs a batch. When this returns `Ok`, it is on the disk. After `Full` nothing of it is, and the
    /// log goes on; after `Fatal` its fate is unknown, and every further call fails.
    pub fn append(&mut self, batch: &mut Batch, space: Space) -> Result<(), AppendError> {
        if self.broken {
            return Err(AppendError::Fatal(WalError::Broken));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let result = self.try_append(batch, space);
        if matches!(result, Err(AppendError::Fatal(_))) {
            self.broken = true;
        }
        result
    }

    /// Writes a mark, unless the newest record is one: from then on damage to anything before it is told from a torn
    /// write. For quiet moments and an orderly end.
    pub fn mark(&mut self) -> Result<(), AppendError> {
        if self.marked {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.push(0, Kind::Mark, 0, 0, |_| {});
        self.append(&mut batch, Space::Reserved)
    }

    fn try_append(&mut self, batch: &mut Batch, space: Space) -> Result<(), AppendError> {
        let length = batch.len() as u64;
        let active = self.active();
        let room = active.capacity.saturating_sub(active.end);
        if !self.fits(length) {
            match self.rotate(length) {
                Err(AppendError::Full) if space == Space::Reserved && length <= room => {}
                result => result?,
            }
        }
        self.write(batch)
    }

    fn write(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        let (sequence, end) = (self.active().sequence, self.active().end);
        let name = || segment_name(sequence);
        let bytes = batch.seal(Seed::new(self.options.log_id, sequence), end);
        let new_end = end + bytes.len() as u64;
        match self.file.write_at(end, bytes) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                // A part may have been written. It must not come back after a crash, since the batch is refused.
                let undo = self.file.zero_from(end).and_then(|()| self.file.sync_data());
                return Err(match undo {
                    Ok(()) => AppendError::Full,
                    Err(source) => AppendError::Fatal(WalError::io("undo a write to", &name(), source)),
                });
            }
            Err(source) => return Err(AppendError::Fatal(WalError::io("write", &name(), source))),
        }
        self.sync().map_err(|source| AppendError::Fatal(WalError::io("sync", &name(), source)))?;
        let active = self.segments.back_mut().expect("there is a segment to write to");
        active.end = new_end;
        for (start, record) in batch.records() {
            active.take(&record, end + start as u64);
            self.marked = record.kind == Kind::Mark;
            let taken = self.groups.take(&record);
            assert!(taken.is_ok(), "a batch was written that breaks the order of its group: {taken:?}");
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        #[cfg(feature = "mutations")]
        if chat_state::mutation::is(chat_state::mutation::Mutation::AckBeforeFsync) {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Begins a new segment with room for `needed` bytes.
    fn rotate(&mut self, needed: u64) -> Result<(), AppendError> {
        let mut opening = self.carried();
        let (sequence, end) = (self.active().sequence + 1, self.active().end);
        let (segment, file) = make_segment(&self.disk, &self.options, sequence, end, needed, &mut opening)?;
        self.segments.push_back(segment);
        self.file = file;
        self.marked = true;
        self.remove_released().map_err(AppendError::Fatal)
    }

    /// Records that the next segment repeats.
    fn carried(&self) -> Batch {
        let mut batch = Batch::default();
        for (group, state) in &self.groups.0 {
            let kept = [
                (Kind::Purge, &state.purged),
                (Kind::Vote, &state.vote),
                (Kind::Committed, &state.committed),
            ];
            for (kind, kept) in kept {
                if let Some(kept) = kept {
                    batch.push(*group, kind, kept.term, kept.index, |out| {
                        out.extend_from_slice(&kept.payload);
                    });
                }
            }
        }
        batch
    }

    /// A durable snapshot of the group covers everything up to `index`.
    pub fn release(&mut self, group: u16, index: u64) -> Result<(), WalError> {
        let group = self.groups.0.entry(group).or_default();
        group.released = group.released.max(index);
        group.last = group.last.max(index);
        self.remove_released()
    }

    /// Keeps all segments from this one on, for a reader; `None` lets go of them.
    pub fn hold(&mut self, sequence: Option<u64>) -> Result<(), WalError> {
        self.hold = sequence.unwrap_or(u64::MAX);
        self.remove_released()
    }

    /// Removes the oldest segments as long as nobody needs them.
    fn remove_released(&mut self) -> Result<(), WalError> {
        let mut removed = false;
        while self.segments.len() > 1
            && self.segments[0].sequence < self.hold
            && self.pins_of(&self.segments[0]).next().is_none()
        {
            let file = segment_name(self.segments[0].sequence);
            self.disk.remove(&file).map_err(|source| WalError::io("remove", &file, source))?;
            // One by one, oldest first, also after a crash: a hole would look like a lost file.
            self.disk.sync_dir().map_err(|source| WalError::io("sync", "the data directory", source))?;
            self.segments.pop_front();
            removed = true;
        }
        if removed {
            for (id, group) in &mut self.groups.0 {
                group.first =
                    self.segments.iter().find_map(|segment| segment.entries.get(id).map(|range| range.first));
            }
        }
        Ok(())
    }

    /// Groups whose entries in a segment are not all covered by a snapshot.
    fn pins_of<'a>(&'a self, segment: &'a Segment) -> impl Iterator<Item = (u16, EntryRange)> + 'a {
        let covers = |group: &u16| self.groups.0.get(group).map_or(0, |group| group.released);
        segment
            .entries
            .iter()
            .filter(move |(group, range)| range.last > covers(group))
            .map(|(group, range)| (*group, *range))
    }

    /// The group whose snapshot would help most to let go of the oldest segment: the one whose entries begin first in
    /// it. `None` when no finished segment is kept for want of a snapshot.
    pub fn pinning_group(&self) -> Option<u16> {
        if self.segments.len() < 2 {
            return None;
        }
        self.pins_of(&self.segments[0]).min_by_key(|(_, range)| range.first_offset).map(|(group, _)| group)
    }

    /// Whether an ordinary batch of this many bytes would be taken now; makes the next segment if it takes that.
    pub fn probe_space(&mut self, needed: u64) -> Result<(), AppendError> {
        if self.broken {
            return Err(AppendError::Fatal(WalError::Broken));
        }
        let result = self.try_probe(needed);
        self.broken |= matches!(result, Err(AppendError::Fatal(_)));
        result
    }

    fn try_probe(&mut self, needed: u64) -> Result<(), AppendError> {
        let active = self.active();
        let (sequence, capacity) = (active.sequence, active.capacity);
        if !self.fits(needed) {
            return self.rotate(needed);
        }
        // A write into kept space was refused before: it was given back then, so ask for it again.
        self.file.allocate(capacity).map_err(|error| {
            full_or(error, |source| {
                AppendError::Fatal(WalError::io("allocate", &segment_name(sequence), source))
            })
        })
    }

    /// Whether the present segment has ordinary space for so many bytes.
    fn fits(&self, bytes: u64) -> bool {
        let active = self.active();
        let reserve = self.options.chore_reserve_bytes.min(active.capacity / 8);
        active.end + bytes + reserve <= active.capacity
    }

    pub fn group(&self, group: u16) -> Option<&Group> {
        self.groups.0.get(&group)
    }

    pub fn groups(&self) -> impl Iterator<Item = (u16, &Group)> {
        self.groups.0.iter().map(|(id, group)| (*id, group))
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.capacity).sum()
    }

    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    fn active(&self) -> &Segment {
        self.segments.back().expect("there is a segment to write to")
    }
}
