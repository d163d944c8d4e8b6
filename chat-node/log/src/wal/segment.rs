//! Segments: what is known of each, and how a new one is made, as large as the disk allows.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    AppendError, Batch, Kind, Record, WalError, WalOptions,
    format::{SEGMENT_HEADER, Seed, SegmentHeader, segment_name},
};
use crate::disk::{Disk, DiskFile, is_full};

/// Smallest segment that is made when the disk is nearly full, and the largest that offsets can name.
const SMALLEST_SEGMENT: u64 = 64 << 10;
const LARGEST_SEGMENT: u64 = 2 << 30;

/// A segment takes at most one in so many bytes of the disk. A segment is let go of whole, and only after the next one
/// was begun: on a small disk a large one would stay for ever.
const SEGMENTS_ON_DISK: u64 = 8;
/// The reserve for snapshots takes at most one in so many bytes of the disk.
const RESERVES_ON_DISK: u64 = 4;

/// What the options come to on a disk.
struct Sizes {
    segment: u64,
    reserve: u64,
    chores: u64,
}

impl Sizes {
    /// `disk` is what there is for us: what is free, and what we hold already.
    fn on(disk: u64, options: &WalOptions) -> Self {
        let share = |one_in: u64| (disk / one_in).max(SMALLEST_SEGMENT);
        let segment = options.segment_bytes.min(share(SEGMENTS_ON_DISK));
        Self {
            segment,
            reserve: options.disk_reserve_bytes.min(share(RESERVES_ON_DISK)),
            chores: options.chore_reserve_bytes.min(segment / 8),
        }
    }
}

/// Bytes of all files beside each other in the directory.
fn bytes_held(disk: &dyn Disk) -> io::Result<u64> {
    Ok(disk.list()?.iter().map(|file| file.length).sum())
}

/// A disk with less free is too small to begin a log on.
pub(super) fn smallest_volume(options: &WalOptions) -> u64 {
    let sizes = Sizes::on(0, options);
    sizes.segment + sizes.reserve
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) capacity: u64,
    /// Where the records end.
    pub(super) end: u64,
    pub(super) entries: BTreeMap<u16, EntryRange>,
}

/// A group's entries in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryRange {
    pub(super) first: u64,
    /// The highest, whether or not it was truncated since.
    pub(super) last: u64,
    pub(super) first_offset: u64,
}

impl Segment {
    pub(super) fn new(header: &SegmentHeader) -> Self {
        Self {
            sequence: header.sequence,
            capacity: header.capacity,
            end: SEGMENT_HEADER as u64,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, record: &Record<'_>, offset: u64) {
        if record.kind == Kind::Entry {
            let first = EntryRange { first: record.index, last: record.index, first_offset: offset };
            let range = self.entries.entry(record.group).or_insert(first);
            range.first = range.first.min(record.index);
            range.last = range.last.max(record.index);
        }
    }
}

/// Makes a segment that is durable, header and opening records included, before anything else goes into it.
pub(super) fn make_segment(
    disk: &Arc<dyn Disk>,
    options: &WalOptions,
    sequence: u64,
    previous_end: u64,
    needed: u64,
    opening: &mut Batch,
) -> Result<(Segment, Box<dyn DiskFile>), AppendError> {
    // Without a mark of its own the first batch could not be told from the opening.
    opening.push(0, Kind::Mark, 0, 0, |_| {});
    let name = segment_name(sequence);
    let fatal = |action, source| AppendError::Fatal(WalError::io(action, &name, source));
    let free = disk.free_bytes().map_err(|source| fatal("ask for the space of", source))?;
    let held = bytes_held(&**disk).map_err(|source| fatal("ask for the files beside", source))?;
    let sizes = Sizes::on(free.saturating_add(held), options);
    let least = SEGMENT_HEADER as u64 + opening.len() as u64 + needed + sizes.chores;
    let wanted = sizes.segment.max(least);
    assert!(wanted <= LARGEST_SEGMENT, "batches and segments are bounded by whoever opens the log");
    let capacity = wanted.min(free.saturating_sub(sizes.reserve));
    if capacity < least.max(SMALLEST_SEGMENT.min(wanted)) {
        return Err(AppendError::Full);
    }
    let mut file = disk.create(&name).map_err(|source| full_or(source, |source| fatal("create", source)))?;
    let header = SegmentHeader { log_id: options.log_id, sequence, capacity, previous_end };
    let mut begin = || -> io::Result<()> {
        file.allocate(capacity)?;
        // The length is certain before the header says it: a file that is shorter than its header says was cut.
        file.sync_data()
    };
    // What was given up must not come back after a crash: it would hide what was written elsewhere since.
    let give_up = || -> io::Result<()> {
        disk.remove(&name)?;
        disk.sync_dir()
    };
    if let Err(source) = begin() {
        give_up().map_err(|source| fatal("remove", source))?;
        return Err(full_or(source, |source| fatal("allocate", source)));
    }
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(opening.seal(Seed::new(options.log_id, sequence), SEGMENT_HEADER as u64));
    let finish = |file: &mut Box<dyn DiskFile>| -> io::Result<()> {
        file.write_at(0, &bytes)?;
        file.sync_data()?;
        disk.sync_dir()
    };
    match finish(&mut file) {
        Ok(()) => {}
        Err(error) if is_full(&error) => {
            give_up().map_err(|source| fatal("remove", source))?;
            return Err(AppendError::Full);
        }
        Err(source) => return Err(fatal("begin", source)),
    }
    let mut segment = Segment::new(&header);
    segment.end = bytes.len() as u64;
    Ok((segment, file))
}

pub(super) fn full_or(error: io::Error, other: impl FnOnce(io::Error) -> AppendError) -> AppendError {
    if is_full(&error) { AppendError::Full } else { other(error) }
}
