//! Entries and proposals: what the log carries, and their bytes.

use serde::{Deserialize, Serialize};

use crate::{
    command::{Command, CommonCommand},
    ids::{FeatureLevel, Generation, Incarnation, Index, Lineage, Position, SessionId, UserId},
};

/// Proposals that got their place in the log together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub index: Index,
    /// Unix time in milliseconds, stamped by whoever orders the entry. For `server-time` and retention only; it may
    /// step back, and `apply` evens that out.
    pub time_ms: u64,
    pub proposals: Vec<Proposal>,
}

/// A request on its way to a place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    pub producer: Stamp,
    /// The session that asked; none for the node's own chores.
    pub origin: Option<Origin>,
    /// Directory position that the proposer had seen; nobody delivers what follows before it got there.
    pub dir_at: Position,
    pub command: Command,
}

/// What somebody on a node asks of a shard. Its place in the node's stream is given where all requests meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// None for the node's own chores, and for who has no session yet.
    pub origin: Option<Origin>,
    /// Directory position that the asker had seen.
    pub dir_at: Position,
    pub command: Command,
}

impl Proposal {
    /// What the entry that begins a lineage holds: it has no place in the stream of a node.
    pub fn begins_lineage(lineage: Lineage) -> Self {
        Self {
            producer: Stamp { incarnation: Incarnation(0), sequence: 0 },
            origin: None,
            dir_at: Position(0),
            command: Command::Common(CommonCommand::BeginLineage(lineage)),
        }
    }
}

/// Place in the ordered stream of one node to one shard: a sequence starts at 1 and has no holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub incarnation: Incarnation,
    pub sequence: u64,
}

/// Which session asked, and which of its requests this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub user: UserId,
    pub session: SessionId,
    pub generation: Generation,
    /// Chosen by the session's node to find the waiting command again; nothing else reads it.
    pub request: u32,
}

/// Version of the bytes below; the first byte of each.
const VERSION: u8 = 2;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error(
        "the log holds an entry of format {found}, this program reads {VERSION}: start a newer version of it"
    )]
    Version { found: u8 },
    #[error(
        "the log holds an entry that this program cannot read ({0}): start the version that wrote it, or a newer one"
    )]
    Unreadable(postcard::Error),
    #[error("the log holds an empty entry")]
    Empty,
    #[error(
        "the log rises to feature level {found}, this program knows {}: start a newer version of it",
        FeatureLevel::SUPPORTED.0
    )]
    Level { found: u16 },
}

impl Entry {
    /// Appends the entry's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        postcard::to_io(self, out).expect("writing to memory does not fail");
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Empty),
            Some((&VERSION, rest)) => {
                let entry: Self = postcard::from_bytes(rest).map_err(DecodeError::Unreadable)?;
                entry.refuse_unknown_level()?;
                Ok(entry)
            }
            Some((&found, _)) => Err(DecodeError::Version { found }),
        }
    }

    /// The bytes of proposals that have no place yet: for a log whose own index and clock make them an entry.
    pub fn encode_proposals(proposals: &[Proposal]) -> Vec<u8> {
        let mut out = vec![VERSION];
        postcard::to_io(proposals, &mut out).expect("writing to memory does not fail");
        out
    }

    /// The entry that the log made of [`Self::encode_proposals`].
    pub fn decode_proposals(index: Index, time_ms: u64, bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Empty),
            Some((&VERSION, rest)) => {
                let proposals = postcard::from_bytes(rest).map_err(DecodeError::Unreadable)?;
                let entry = Self { index, time_ms, proposals };
                entry.refuse_unknown_level()?;
                Ok(entry)
            }
            Some((&found, _)) => Err(DecodeError::Version { found }),
        }
    }

    /// From that level on the log may hold what this program cannot apply.
    fn refuse_unknown_level(&self) -> Result<(), DecodeError> {
        for proposal in &self.proposals {
            if let Command::Common(CommonCommand::RaiseLevel(level)) = proposal.command
                && level > FeatureLevel::SUPPORTED
            {
                return Err(DecodeError::Level { found: level.0 });
            }
        }
        Ok(())
    }
}
