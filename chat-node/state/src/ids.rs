//! Identifiers and counters.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of an entry in the log of its shard; the first is 1.
    Index
}
number! {
    /// Number of an event in its shard: 1..n without holes. 0 is "before the first".
    Position
}
number! {
    /// A user; the directory position of its opening, so never used again.
    UserId
}
number! {
    /// A client's attachment to a user; the directory position of its opening.
    SessionId
}
number! {
    /// One life of a node process; the directory position of its registration. 0 is "not registered yet".
    Incarnation
}
number! {
    /// A node's identity: random, kept in its data directory.
    MemberId
}

/// A log with its state machine. 0 is the directory, 1..=S hold the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

impl ShardId {
    pub const DIRECTORY: Self = Self(0);

    pub fn is_directory(self) -> bool {
        self == Self::DIRECTORY
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A channel's life: shard and position of its creation. A channel that ended and was joined again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId {
    pub shard: ShardId,
    pub created: Position,
    /// 0 for a channel that a JOIN created. One settings entry may declare several: 1, 2, 3 …
    pub nth: u16,
}

/// A history of a shard's log: a store restored from a backup, or promoted with loss, continues under another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage(pub u32);

/// Counts the attachments of a session: every resume raises it. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u32);

/// What the entries of a shard may contain; raised by an entry once every member understands it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FeatureLevel(pub u16);

impl FeatureLevel {
    /// What this build understands.
    pub const SUPPORTED: Self = Self(1);
}

/// FNV-1a, 64 bit: spreads names and ids over shards. Part of the format: it decides where a channel lives.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The shard of a channel, by its folded name.
pub fn channel_shard(folded_name: &str, shards: u16) -> ShardId {
    spread(fnv1a(folded_name.as_bytes()), shards)
}

/// The shard that keeps a user's direct messages.
pub fn home_shard(user: UserId, shards: u16) -> ShardId {
    spread(fnv1a(&user.0.to_le_bytes()), shards)
}

/// Every bit of the sum depends on every bit of the hash: FNV-1a alone leaves the middle bits as the first letters
/// made them (the finalizer of MurmurHash3).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn spread(hash: u64, shards: u16) -> ShardId {
    assert!(shards > 0, "a room has at least one channel shard");
    let slot = mixed(hash) % u64::from(shards);
    ShardId(1 + u16::try_from(slot).expect("a slot is below the number of shards"))
}

/// Where a position is that was numbered under some lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Here(Position),
    /// What came under that lineage after this position, the last that both have in common, is gone.
    Lost(Position),
    /// That lineage was lost with the entry that began it. It had what is here up to this position, after which the next
    /// one that is known began in its place.
    Replaced(Position),
    /// That lineage is later than all that began here: it is yet to come, or was lost.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_is_part_of_the_format() {
        assert_eq!(["#lounge", "#rust", "#"].map(|name| channel_shard(name, 4).0), [4, 2, 1]);
        assert_eq!([1, 2, 3, 1000].map(|user| home_shard(UserId(user), 4).0), [3, 3, 3, 2]);
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn every_shard_gets_its_share() {
        let mut counts = [0; 4];
        for n in 0..1000 {
            counts[usize::from(channel_shard(&format!("#channel{n}"), 4).0) - 1] += 1;
        }
        assert!(counts.iter().all(|count| *count > 150), "{counts:?}");
        let mut counts = [0; 64];
        for n in 0..6400 {
            counts[usize::from(home_shard(UserId(n), 64).0) - 1] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
