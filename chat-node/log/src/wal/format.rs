//! Bytes of the write-ahead log.
//!
//! A segment is a file: a header of [`SEGMENT_HEADER`] bytes, then records, each at a multiple of [`ALIGNMENT`], then
//! zeros up to the capacity that its header names. All numbers are little-endian.
//!
//! A record's CRC covers its header, its payload, and where it stands: log, segment and offset. So nothing that was
//! written elsewhere, or in an earlier life of the file, passes for a record here.

use super::{Kind, Record};

pub const SEGMENT_HEADER: usize = 64;
pub const RECORD_HEADER: usize = 32;
pub const ALIGNMENT: usize = 8;

/// Largest payload of a record.
pub const MAX_PAYLOAD: usize = 32 << 20;

const MAGIC: &[u8; 8] = b"CHAT-WAL";
pub const VERSION: u32 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Random, the same for all segments of a log.
    pub log_id: u64,
    /// 1 for the first; without holes.
    pub sequence: u64,
    /// Length of the file.
    pub capacity: u64,
    /// Where the records of the segment before end.
    pub previous_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_end.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..SEGMENT_HEADER - 4]);
        bytes[SEGMENT_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..SEGMENT_HEADER).ok_or(HeaderError::Damaged)?;
        let crc_fits = crc32c::crc32c(&bytes[..SEGMENT_HEADER - 4]) == u32_at(bytes, SEGMENT_HEADER - 4);
        if &bytes[..8] != MAGIC || !crc_fits {
            return Err(HeaderError::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(Self {
                log_id: u64_at(bytes, 16),
                sequence: u64_at(bytes, 24),
                capacity: u64_at(bytes, 32),
                previous_end: u64_at(bytes, 40),
            }),
            other => Err(HeaderError::Version(other)),
        }
    }
}

/// What every CRC of a segment begins with.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u32);

impl Seed {
    pub fn new(log_id: u64, sequence: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), &sequence.to_le_bytes()))
    }

    fn checksum(self, offset: usize, header: &[u8], payload: &[u8]) -> u32 {
        let place = crc32c::crc32c_append(self.0, &(offset as u64).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(place, &header[4..RECORD_HEADER]), payload)
    }
}

/// Records that are written and synced as one.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    records: Vec<usize>,
}

impl Batch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        // A rare large batch must not keep its memory for ever.
        self.bytes.shrink_to(4 << 20);
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes it will take in a segment.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record; `payload` appends its bytes to what it is given.
    pub fn push(
        &mut self,
        group: u16,
        kind: Kind,
        term: u64,
        index: u64,
        payload: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEADER, 0);
        payload(&mut self.bytes);
        let length = self.bytes.len() - start - RECORD_HEADER;
        assert!(length <= MAX_PAYLOAD, "a record's payload is bounded by whoever makes it");
        let header = &mut self.bytes[start..start + RECORD_HEADER];
        header[4..8].copy_from_slice(&u32::try_from(length).expect("below the bound").to_le_bytes());
        header[8] = kind as u8;
        header[10..12].copy_from_slice(&group.to_le_bytes());
        header[16..24].copy_from_slice(&term.to_le_bytes());
        header[24..32].copy_from_slice(&index.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.records.push(start);
    }

    /// Fixes the place, and with it the checksums. Returns the bytes as they go into the file.
    pub(super) fn seal(&mut self, seed: Seed, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).expect("a segment is smaller than memory");
        let batch = u32::try_from(offset).expect("a segment is smaller than 4 GiB").to_le_bytes();
        for start in &self.records {
            let record = &mut self.bytes[*start..];
            let length = u32_at(record, 4) as usize;
            record[12..16].copy_from_slice(&batch);
            let (header, payload) = record.split_at(RECORD_HEADER);
            let crc = seed.checksum(offset + start, header, &payload[..length]);
            record[..4].copy_from_slice(&crc.to_le_bytes());
        }
        &self.bytes
    }

    /// Group, kind and index of its records, with where each begins in the batch.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        self.records.iter().map(|start| (*start, record_at(&self.bytes[*start..])))
    }
}

/// A whole record that was found.
#[derive(Debug)]
pub struct Found<'a> {
    pub record: Record<'a>,
    /// Where its batch begins: everything before was on the disk when this was written.
    pub batch_start: usize,
    /// Where the next record would be.
    pub next: usize,
}

/// The record at an offset of a segment, of which `window` holds the bytes from `window_start` on. `None` when there
/// is no whole record with the right checksum.
pub fn find(seed: Seed, window: &[u8], window_start: usize, offset: usize) -> Option<Found<'_>> {
    let bytes = window.get(offset.checked_sub(window_start)?..)?;
    if bytes.len() < RECORD_HEADER || bytes[8] == 0 {
        return None;
    }
    Kind::from_byte(bytes[8])?;
    let length = u32_at(bytes, 4) as usize;
    let batch_start = u32_at(bytes, 12) as usize;
    if bytes[9] != 0 || length > MAX_PAYLOAD || batch_start > offset || batch_start < SEGMENT_HEADER {
        return None;
    }
    let payload = bytes.get(RECORD_HEADER..RECORD_HEADER + length)?;
    if seed.checksum(offset, &bytes[..RECORD_HEADER], payload) != u32_at(bytes, 0) {
        return None;
    }
    let next = (offset + RECORD_HEADER + length).next_multiple_of(ALIGNMENT);
    Some(Found { record: record_at(bytes), batch_start, next })
}

/// Length of the record whose header is at the start of `bytes`, if it looked whole; for reading on.
pub fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32_at(bytes.get(..RECORD_HEADER)?, 4) as usize;
    (length <= MAX_PAYLOAD).then(|| (RECORD_HEADER + length).next_multiple_of(ALIGNMENT))
}

fn record_at(bytes: &[u8]) -> Record<'_> {
    Record {
        group: u16::from_le_bytes(bytes[10..12].try_into().expect("two bytes")),
        kind: Kind::from_byte(bytes[8]).expect("checked or written here"),
        term: u64_at(bytes, 16),
        index: u64_at(bytes, 24),
        payload: &bytes[RECORD_HEADER..RECORD_HEADER + u32_at(bytes, 4) as usize],
    }
}

pub fn segment_name(sequence: u64) -> String {
    format!("wal-{sequence:016}")
}

pub fn parse_segment_name(name: &str) -> Option<u64> {
    let sequence = name.strip_prefix("wal-")?.parse().ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
