//! Settings that `apply` reads. They arrive as entries, never from a node's own file.

use serde::{Deserialize, Serialize};

/// The chat service's settings, the same in every shard. Only a higher revision replaces them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub revision: u64,
    pub motd: String,
    /// Channels that exist without members.
    pub channels: Vec<DeclaredChannel>,
    pub history_max_age_ms: u64,
    /// Messages kept per channel and per pair of users.
    pub history_max_messages: u32,
    /// How long events are kept for those who resume.
    pub resume_window_ms: u64,
    pub limits: Limits,
    pub bounds: Bounds,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredChannel {
    pub name: String,
    pub topic: String,
}

/// Lengths in bytes, counts otherwise; see the ISUPPORT token in each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// NICKLEN
    pub nick_length: u16,
    /// CHANLIMIT
    pub channels_per_user: u16,
    /// CHANNELLEN
    pub channel_length: u16,
    /// TOPICLEN
    pub topic_length: u16,
    /// KICKLEN
    pub kick_length: u16,
    /// AWAYLEN
    pub away_length: u16,
    /// KEYLEN
    pub key_length: u16,
    /// MAXLIST
    pub list_entries: u16,
}

/// How much may pile up that nobody looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Sessions without a connection that an address may have, loopback exempt; past it they end with their connection.
    pub detached_per_address: u32,
    /// The same of the whole room. The fewer places are left, the fewer one address may take of them.
    pub detached_sessions: u32,
    /// Bytes of messages kept per channel and per pair of users, what surrounds each counted; the oldest go first.
    pub history_bytes: u64,
    /// The same of all conversations of a shard; the oldest of the largest go first.
    pub history_bytes_per_shard: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            detached_per_address: 128,
            detached_sessions: 10_000,
            history_bytes: 8 << 20,
            history_bytes_per_shard: 64 << 20,
        }
    }
}

/// Before the first settings entry: the documented defaults, revision 0.
impl Default for Settings {
    fn default() -> Self {
        Self {
            revision: 0,
            motd: String::new(),
            channels: Vec::new(),
            history_max_age_ms: 7 * 86_400_000,
            history_max_messages: 10_000,
            resume_window_ms: 300_000,
            limits: Limits {
                nick_length: 30,
                channels_per_user: 100,
                channel_length: 64,
                topic_length: 390,
                kick_length: 390,
                away_length: 200,
                key_length: 23,
                list_entries: 100,
            },
            bounds: Bounds::default(),
        }
    }
}
