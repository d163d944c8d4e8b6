//! Entries of a group as bytes of the write-ahead log.
//!
//! A lone node's log has entries of its own make, without a tag; they are the beginning of the group's log when the room
//! gets more nodes. The log numbers entries from 1, Raft from 0.

use bytes::Bytes;
use chat_log::wal::{Batch as WalBatch, Kind, OwnedRecord};
use chat_state::entry::{DecodeError, Entry as LoneEntry};
use openraft::{EntryPayload, entry::RaftEntry};

use crate::types::{Batch, CommittedLeaderId, Entry, LogId, Membership, Payload, Vote};

/// First bytes of what Raft ordered; a lone node's entries begin with the number of their format, which is far below.
const BLANK: u8 = 0x80;
const NORMAL: u8 = 0x81;
const MEMBERSHIP: u8 = 0x82;

/// What is written for a group.
#[derive(Clone, Debug)]
pub enum Record {
    Entry(Entry),
    /// Entries behind this one are void; all of them where there is none.
    Truncate(Option<LogId>),
    /// Entries up to this one are covered by a snapshot, and let go of.
    Purge(LogId),
    Vote(Vote),
    Committed(LogId),
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Lone(#[from] DecodeError),
    #[error("{0}")]
    Unreadable(postcard::Error),
    #[error(
        "it begins with {0:#04x}, which this program does not know: start the version that wrote it, or a newer one"
    )]
    Unknown(u8),
    #[error("it is empty")]
    Empty,
}

/// Raft's index of an entry of the write-ahead log.
pub fn raft_index(index: u64) -> u64 {
    index.saturating_sub(1)
}

/// The write-ahead log's index of an entry of Raft.
pub fn wal_index(index: u64) -> u64 {
    index + 1
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

pub fn term(log_id: &LogId) -> u64 {
    **log_id.committed_leader_id()
}

impl Record {
    pub(crate) fn write(&self, group: u16, out: &mut WalBatch) {
        match self {
            Self::Entry(entry) => {
                let log_id = entry.log_id();
                out.push(group, Kind::Entry, term(&log_id), wal_index(log_id.index), |out| {
                    encode(&entry.payload, out);
                });
            }
            Self::Truncate(last) => {
                let (term, index) = last.map_or((0, 0), |last| (term(&last), wal_index(last.index)));
                out.push(group, Kind::Truncate, term, index, |_| {});
            }
            Self::Purge(upto) => out.push(group, Kind::Purge, term(upto), wal_index(upto.index), |_| {}),
            Self::Vote(vote) => {
                out.push(group, Kind::Vote, vote.leader_id.term, 0, |out| encode_value(vote, out));
            }
            Self::Committed(log_id) => {
                out.push(group, Kind::Committed, term(log_id), wal_index(log_id.index), |_| {});
            }
        }
    }
}

/// A vote from what the log kept of it.
pub fn decode_vote(payload: &[u8]) -> Result<Vote, RecordError> {
    postcard::from_bytes(payload).map_err(RecordError::Unreadable)
}

/// An entry from a record of the kind.
pub fn decode_entry(record: &OwnedRecord) -> Result<Entry, RecordError> {
    let log_id = log_id(record.term, raft_index(record.index));
    Ok(Entry { log_id, payload: decode(&record.payload)? })
}

/// What stands in a record of an entry, but for its place.
pub fn encode(payload: &Payload, out: &mut Vec<u8>) {
    match payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(batch) => {
            out.push(NORMAL);
            out.extend_from_slice(&batch.time_ms.to_le_bytes());
            out.extend_from_slice(&batch.payload);
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            encode_value(membership, out);
        }
    }
}

pub fn decode(bytes: &[u8]) -> Result<Payload, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&BLANK, _)) => Ok(EntryPayload::Blank),
        Some((&NORMAL, rest)) => {
            let (time, payload) = rest.split_first_chunk().ok_or(RecordError::Empty)?;
            Ok(EntryPayload::Normal(Batch {
                time_ms: u64::from_le_bytes(*time),
                payload: Bytes::copy_from_slice(payload),
            }))
        }
        Some((&MEMBERSHIP, rest)) => {
            let membership: Membership = postcard::from_bytes(rest).map_err(RecordError::Unreadable)?;
            Ok(EntryPayload::Membership(membership))
        }
        Some((&first, _)) if first >= BLANK => Err(RecordError::Unknown(first)),
        Some(_) => {
            let entry = LoneEntry::decode(bytes)?;
            let payload = LoneEntry::encode_proposals(&entry.proposals).into();
            Ok(EntryPayload::Normal(Batch { time_ms: entry.time_ms, payload }))
        }
    }
}

fn encode_value<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    postcard::to_io(value, out).expect("writing to memory does not fail");
}
