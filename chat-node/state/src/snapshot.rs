//! The bytes of a state. Equal states have equal bytes; the first byte is the version, the second what follows.

use serde::{Serialize, de::DeserializeOwned};

use crate::ids::{FeatureLevel, Position, ShardId};

const VERSION: u8 = 3;

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Content {
    Directory = 1,
    Channels = 2,
    History = 3,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RestoreError {
    #[error("the snapshot is empty: remove it and let the node follow another one")]
    Empty,
    #[error("the snapshot has format {found}, this program reads {VERSION}: start a newer version of it")]
    Version { found: u8 },
    #[error("the snapshot holds something else (kind {found}) than what was asked for (kind {wanted})")]
    Content { found: u8, wanted: u8 },
    #[error("the snapshot cannot be read ({0}): remove it and let the node follow another one")]
    Unreadable(postcard::Error),
    #[error(
        "the snapshot has feature level {found}, this program knows {}: start a newer version of it",
        FeatureLevel::SUPPORTED.0
    )]
    Level { found: u16 },
    #[error(
        "no history chunk holds message {position} of shard {shard}: restore the chunks of this snapshot with it"
    )]
    MissingMessage { shard: ShardId, position: Position },
    #[error("the snapshot contradicts itself: {0}; remove it and let the node follow another one")]
    Contradiction(&'static str),
}

pub(crate) fn encode(content: Content, value: &impl Serialize) -> Vec<u8> {
    let start = vec![VERSION, content as u8];
    postcard::to_extend(value, start).expect("writing to memory does not fail")
}

pub(crate) fn decode<T: DeserializeOwned>(wanted: Content, bytes: &[u8]) -> Result<T, RestoreError> {
    match bytes {
        [] | [_] => Err(RestoreError::Empty),
        [VERSION, found, rest @ ..] if *found == wanted as u8 => {
            postcard::from_bytes(rest).map_err(RestoreError::Unreadable)
        }
        [VERSION, found, ..] => Err(RestoreError::Content { found: *found, wanted: wanted as u8 }),
        [found, ..] => Err(RestoreError::Version { found: *found }),
    }
}

pub(crate) fn refuse_unknown_level(level: FeatureLevel) -> Result<(), RestoreError> {
    if level > FeatureLevel::SUPPORTED { Err(RestoreError::Level { found: level.0 }) } else { Ok(()) }
}
