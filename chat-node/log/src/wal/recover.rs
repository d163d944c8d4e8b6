//! Opening a log: finds where it ends, and refuses what cannot be explained by a crash.
//!
//! A crash can leave behind: a last segment whose header was never finished; and at the end of the last segment the
//! batch that was being written, any part of it in any order of sectors. Everything before was synced before that
//! batch was begun, so it is either whole or damaged. The two are told apart by what stands behind a bad record: a
//! record names where its batch begins, and all before that place was on the disk when it was written. A whole record
//! of a batch that begins after the bad one proves damage; without such a record the bad one is the torn tail.

use std::{io, sync::Arc};

use super::{
    Kind, Record, Report, Segment, WalError,
    format::{
        ALIGNMENT, Found, HeaderError, SEGMENT_HEADER, Seed, SegmentHeader, find, parse_segment_name,
        segment_name,
    },
    groups::Groups,
};
use crate::disk::Disk;

/// What the files hold.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Oldest first; empty when there is no log yet.
    pub segments: Vec<Segment>,
    pub groups: Groups,
    pub report: Report,
    /// The last record is a mark: nothing needs to be proved about the end.
    pub marked: bool,
}

pub(super) fn recover(disk: &Arc<dyn Disk>, log_id: u64) -> Result<Recovered, WalError> {
    let mut files = segment_files(disk)?;
    let mut report = Report::default();
    let mut headers = Vec::new();
    for (n, (sequence, length)) in files.iter().enumerate() {
        let is_last = n + 1 == files.len();
        match read_header(disk, log_id, *sequence, *length) {
            Ok(header) => headers.push(header),
            // With no segment before it, it cannot have been one that was just being made.
            Err(error @ WalError::Damaged { .. }) if is_last && n > 0 => {
                if holds_batches(disk, log_id, *sequence)? {
                    return Err(error);
                }
                // The crash came while it was being made; nothing was ever in it.
                let file = segment_name(*sequence);
                disk.remove(&file).map_err(|source| WalError::io("remove", &file, source))?;
                report.unfinished_segment = true;
            }
            Err(error) => return Err(error),
        }
    }
    files.truncate(headers.len());

    let mut recovered = Recovered { segments: Vec::new(), groups: Groups::default(), report, marked: false };
    for (n, header) in headers.iter().enumerate() {
        let file = segment_name(header.sequence);
        let bytes = disk.read(&file).map_err(|source| WalError::io("read", &file, source))?;
        let following = headers.get(n + 1).map(|next| next.previous_end);
        recovered.take_segment(disk, header, &file, &bytes, following)?;
    }
    Ok(recovered)
}

/// Removes the beginning of a log whose making was interrupted; refuses anything that was in use.
pub(super) fn remove_beginning(disk: &Arc<dyn Disk>) -> Result<(), WalError> {
    for (n, (sequence, _)) in segment_files(disk)?.into_iter().enumerate() {
        let file = segment_name(sequence);
        let bytes = disk
            .read_range(&file, 0, SEGMENT_HEADER)
            .map_err(|source| WalError::io("read", &file, source))?;
        let in_use = match SegmentHeader::decode(&bytes) {
            Ok(header) => holds_batches(disk, header.log_id, sequence)?,
            Err(_) => false,
        };
        if in_use || n > 0 || sequence != 1 {
            return Err(WalError::Unexpected { file });
        }
        disk.remove(&file).map_err(|source| WalError::io("remove", &file, source))?;
    }
    Ok(())
}

/// Sequences and lengths, oldest first; without holes.
fn segment_files(disk: &Arc<dyn Disk>) -> Result<Vec<(u64, u64)>, WalError> {
    let files = disk.list().map_err(|source| WalError::io("list", "the data directory", source))?;
    let mut segments: Vec<_> =
        files.iter().filter_map(|file| Some((parse_segment_name(&file.name)?, file.length))).collect();
    segments.sort_unstable();
    for pair in segments.windows(2) {
        if pair[1].0 != pair[0].0 + 1 {
            return Err(WalError::Missing { file: segment_name(pair[0].0 + 1) });
        }
    }
    Ok(segments)
}

fn read_header(
    disk: &Arc<dyn Disk>,
    log_id: u64,
    sequence: u64,
    length: u64,
) -> Result<SegmentHeader, WalError> {
    let file = segment_name(sequence);
    let bytes =
        disk.read_range(&file, 0, SEGMENT_HEADER).map_err(|source| WalError::io("read", &file, source))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderError::Version(found)) => return Err(WalError::Version { file, found }),
        Err(HeaderError::Damaged) => {
            return Err(WalError::Damaged { file, offset: 0, what: "its header cannot be read" });
        }
    };
    if header.log_id != log_id {
        return Err(WalError::Foreign { file, expected: log_id, found: header.log_id });
    }
    if header.sequence != sequence {
        return Err(WalError::Misnamed { file, sequence: header.sequence });
    }
    // The length was on the disk before the header was written: whoever cut the file was not a crash.
    if length < header.capacity {
        return Err(WalError::Cut { file, length, capacity: header.capacity });
    }
    Ok(header)
}

/// Whether a segment with a bad header was in use all the same.
fn holds_batches(disk: &Arc<dyn Disk>, log_id: u64, sequence: u64) -> Result<bool, WalError> {
    let file = segment_name(sequence);
    let bytes = disk.read(&file).map_err(|source| WalError::io("read", &file, source))?;
    let seed = Seed::new(log_id, sequence);
    // The records that a segment is opened with are written together with its header, so they prove nothing.
    Ok(records_behind(seed, &bytes, SEGMENT_HEADER).any(|found| found.batch_start > SEGMENT_HEADER))
}

/// Whole records at or behind an offset, wherever they begin.
fn records_behind(seed: Seed, bytes: &[u8], from: usize) -> impl Iterator<Item = Found<'_>> {
    (from.next_multiple_of(ALIGNMENT)..bytes.len())
        .step_by(ALIGNMENT)
        .filter_map(move |offset| find(seed, bytes, 0, offset))
}

impl Recovered {
    fn take_segment(
        &mut self,
        disk: &Arc<dyn Disk>,
        header: &SegmentHeader,
        file: &str,
        bytes: &[u8],
        following: Option<u64>,
    ) -> Result<(), WalError> {
        let seed = Seed::new(header.log_id, header.sequence);
        let mut segment = Segment::new(header);
        let mut offset = SEGMENT_HEADER;
        while let Some(found) = find(seed, bytes, 0, offset) {
            if following.is_some_and(|end| found.next as u64 > end) {
                break;
            }
            self.take_record(&mut segment, file, offset, &found.record)?;
            offset = found.next;
        }
        segment.end = offset as u64;
        match following {
            Some(end) if end == segment.end && find(seed, bytes, 0, offset).is_none() => {}
            Some(_) => {
                let what = "a record of a finished segment cannot be read";
                return Err(WalError::Damaged { file: file.to_owned(), offset: segment.end, what });
            }
            None => self.take_tail(disk, file, seed, bytes, offset)?,
        }
        self.segments.push(segment);
        Ok(())
    }

    fn take_record(
        &mut self,
        segment: &mut Segment,
        file: &str,
        offset: usize,
        record: &Record<'_>,
    ) -> Result<(), WalError> {
        self.groups.take(record).map_err(|what| WalError::Damaged {
            file: file.to_owned(),
            offset: offset as u64,
            what,
        })?;
        segment.take(record, offset as u64);
        self.marked = record.kind == Kind::Mark;
        self.report.records += 1;
        Ok(())
    }

    /// Looks behind the last whole record of the last segment: cuts a torn batch, refuses damage. When this returns
    /// all records that were found are on the disk, also those that were only in the cache of a machine whose process
    /// died: they are about to be acted upon.
    fn take_tail(
        &mut self,
        disk: &Arc<dyn Disk>,
        file: &str,
        seed: Seed,
        bytes: &[u8],
        end: usize,
    ) -> Result<(), WalError> {
        let damaged = records_behind(seed, bytes, end).any(|found| found.batch_start > end);
        #[cfg(feature = "mutations")]
        let damaged = damaged && !chat_state::mutation::is(chat_state::mutation::Mutation::TailCutOnAnyError);
        if damaged {
            let what = "a record in the middle cannot be read, though later ones can";
            return Err(WalError::Damaged { file: file.to_owned(), offset: end as u64, what });
        }
        let torn = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last + 1).saturating_sub(end));
        let settle = || -> io::Result<()> {
            let mut open = disk.open(file)?;
            if torn > 0 {
                open.zero_from(end as u64)?;
            }
            open.sync_data()
        };
        settle().map_err(|source| WalError::io("settle the end of", file, source))?;
        self.report.cut_bytes = torn as u64;
        self.report.end = Some((file.to_owned(), end as u64));
        Ok(())
    }
}
