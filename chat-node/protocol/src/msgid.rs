//! Message ids: `<stream>-<position>`, where a stream is `<shard>.<lineage>`, for example `3.0-1234`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One history of one shard: a store that came back with another history is another lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub shard: u32,
    pub lineage: u32,
}

/// Where an event stands: its position, from 1, in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId {
    pub stream: StreamId,
    pub position: u64,
}

/// A text is not a message id of this server's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a message id of the form <shard>.<lineage>-<position>")]
pub struct BadMsgId;

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.shard, self.lineage)
    }
}

impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.position)
    }
}

impl FromStr for StreamId {
    type Err = BadMsgId;

    fn from_str(text: &str) -> Result<Self, BadMsgId> {
        let (shard, lineage) = text.split_once('.').ok_or(BadMsgId)?;
        Ok(Self { shard: number(shard)?, lineage: number(lineage)? })
    }
}

impl FromStr for MsgId {
    type Err = BadMsgId;

    fn from_str(text: &str) -> Result<Self, BadMsgId> {
        let (stream, position) = text.rsplit_once('-').ok_or(BadMsgId)?;
        Ok(Self { stream: stream.parse()?, position: number(position)? })
    }
}

/// Digits alone, without leading zeros: one id has one text.
fn number<N: FromStr>(text: &str) -> Result<N, BadMsgId> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| BadMsgId) } else { Err(BadMsgId) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_text() {
        let id = MsgId { stream: StreamId { shard: 3, lineage: 0 }, position: 1234 };
        assert_eq!(id.to_string(), "3.0-1234");
        assert_eq!("3.0-1234".parse(), Ok(id));
        for bad in [
            "",
            "3.0-",
            "3.0",
            "-1",
            "3-1",
            ".0-1",
            "3.-1",
            "03.0-1",
            "3.0-01",
            "3.0-+1",
            "3.0--1",
            "3.0-1 ",
            "3.0.0-1",
            "s3.0-1",
            "4294967296.0-1",
            "3.0-18446744073709551616",
        ] {
            assert_eq!(bad.parse::<MsgId>(), Err(BadMsgId), "{bad}");
        }
    }
}
