//! Reading the log from anywhere on, beside its writing.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Kind, Wal, WalError,
    format::{RECORD_HEADER, SEGMENT_HEADER, Seed, claimed_length, find, segment_name},
};
use crate::disk::Disk;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub sequence: u64,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub group: u16,
    pub kind: Kind,
    pub term: u64,
    pub index: u64,
    pub payload: Vec<u8>,
}

/// Read from a file at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Reads from a place up to what was the end when the reader was made. Sees nothing that is not on the disk.
pub struct Reader {
    disk: Arc<dyn Disk>,
    log_id: u64,
    /// Sequence and end of what is left, oldest first.
    segments: VecDeque<(u64, u64)>,
    offset: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Wal {
    /// Where the next batch will begin.
    pub fn end(&self) -> Cursor {
        let active = self.segments.back().expect("there is a segment to write to");
        Cursor { sequence: active.sequence, offset: active.end }
    }

    /// The oldest record that is kept.
    pub fn start(&self) -> Cursor {
        let oldest = self.segments.front().expect("there is a segment to write to");
        Cursor { sequence: oldest.sequence, offset: SEGMENT_HEADER as u64 }
    }

    /// A place at or before the group's entry of this index, and of all later ones.
    pub fn place_of(&self, group: u16, index: u64) -> Cursor {
        let holding = self
            .segments
            .iter()
            .find(|segment| segment.entries.get(&group).is_some_and(|range| range.last >= index));
        holding.map_or(self.end(), |segment| Cursor {
            sequence: segment.sequence,
            offset: segment.entries[&group].first_offset,
        })
    }

    pub fn reader(&self, from: Cursor) -> Reader {
        let segments: VecDeque<_> = self
            .segments
            .iter()
            .filter(|segment| segment.sequence >= from.sequence)
            .map(|segment| (segment.sequence, segment.end))
            .collect();
        // The end of a segment that was let go of since is the start of the next.
        let moved_on = segments.front().is_some_and(|(sequence, _)| *sequence > from.sequence);
        let offset = if moved_on { SEGMENT_HEADER as u64 } else { from.offset };
        Reader {
            disk: Arc::clone(&self.disk),
            log_id: self.options.log_id,
            segments,
            offset,
            window: Vec::new(),
            window_start: 0,
        }
    }
}

impl Reader {
    /// Where the next record is read from.
    pub fn cursor(&self) -> Option<Cursor> {
        self.segments.front().map(|(sequence, _)| Cursor { sequence: *sequence, offset: self.offset })
    }

    fn read_next(&mut self) -> Result<Option<OwnedRecord>, WalError> {
        let (sequence, end) = loop {
            match self.segments.front() {
                None => return Ok(None),
                Some((sequence, end)) if self.offset < *end => break (*sequence, *end),
                // The place behind the last segment's end is kept: it is where a later reader goes on.
                Some(_) if self.segments.len() == 1 => return Ok(None),
                Some(_) => {
                    self.segments.pop_front();
                    self.offset = SEGMENT_HEADER as u64;
                    self.window.clear();
                }
            }
        };
        let needed = self.needed(sequence, end)?;
        self.fill(sequence, end, needed)?;
        let as_usize = |n: u64| usize::try_from(n).expect("a segment is smaller than memory");
        let seed = Seed::new(self.log_id, sequence);
        let found = find(seed, &self.window, as_usize(self.window_start), as_usize(self.offset));
        let Some(found) = found else {
            let what = "a record cannot be read that was whole before";
            return Err(WalError::Damaged { file: segment_name(sequence), offset: self.offset, what });
        };
        self.offset = found.next as u64;
        let record = found.record;
        Ok(Some(OwnedRecord {
            group: record.group,
            kind: record.kind,
            term: record.term,
            index: record.index,
            payload: record.payload.to_vec(),
        }))
    }

    /// Bytes of the record at the present place.
    fn needed(&mut self, sequence: u64, end: u64) -> Result<usize, WalError> {
        self.fill(sequence, end, RECORD_HEADER)?;
        let at = usize::try_from(self.offset - self.window_start).expect("within the window");
        Ok(self.window.get(at..).and_then(claimed_length).unwrap_or(RECORD_HEADER))
    }

    /// Makes the window hold `needed` bytes from the present place on, if the segment has them.
    fn fill(&mut self, sequence: u64, end: u64, needed: usize) -> Result<(), WalError> {
        let window_end = self.window_start + self.window.len() as u64;
        let held = if self.window.is_empty() || self.offset < self.window_start {
            0
        } else {
            window_end.saturating_sub(self.offset)
        };
        let left = end - self.offset;
        if held >= (needed as u64).min(left) {
            return Ok(());
        }
        let length =
            usize::try_from(left.min(needed.max(WINDOW_BYTES) as u64)).expect("bounded by the window");
        let file = segment_name(sequence);
        self.window = self
            .disk
            .read_range(&file, self.offset, length)
            .map_err(|source| WalError::io("read", &file, source))?;
        self.window_start = self.offset;
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<OwnedRecord, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read_next();
        if result.is_err() {
            self.segments.clear();
        }
        result.transpose()
    }
}
