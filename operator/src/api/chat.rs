//! `ChatRoom.spec.chat`: settings of the chat service, the same on every node.

use contract::config;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DurationText;

/// Settings of the chat service. A change rolls the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Chat {
    /// Message of the day; lines.
    #[schemars(length(max = 8192))]
    pub motd: String,

    /// Channels that exist without anybody in them and keep their history.
    #[schemars(length(max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub channels: Vec<Channel>,

    /// How much of each channel is kept.
    pub history: History,

    /// Limits that clients are told (ISUPPORT).
    pub limits: ChatLimits,
}

/// A channel that exists without anybody in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Name with its `#`, such as "#lounge"; in YAML it needs the quotes.
    #[schemars(length(max = 200))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^#[^[:space:][:cntrl:],:#]+$')",
        "message": "a channel's name begins with '#' and has no white space, ',', ':', other '#' or control character: write \"#lounge\""
    }]))]
    pub name: String,

    /// Topic; set when the channel is first declared and whenever this text changes.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('[[:cntrl:]]')",
        "message": "a topic is one line without control characters"
    }]))]
    pub topic: String,
}

/// How much of each channel is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct History {
    /// Messages older than this are dropped, such as 7d.
    pub max_age: DurationText,

    /// Messages kept of each channel.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub max_messages: u32,
}

/// Limits that clients are told; counts and bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ChatLimits {
    /// Longest nick (NICKLEN), bytes.
    #[schemars(range(min = 1, max = 64))]
    pub nick_length: u16,

    /// Channels a user may be in (CHANLIMIT).
    #[schemars(range(min = 1, max = 10_000))]
    pub channels_per_user: u16,

    /// Longest channel name (CHANNELLEN), bytes.
    #[schemars(range(min = 2, max = 200))]
    pub channel_length: u16,

    /// Longest topic (TOPICLEN), bytes.
    #[schemars(range(min = 1, max = 400))]
    pub topic_length: u16,

    /// Longest reason of a KICK (KICKLEN), bytes.
    #[schemars(range(min = 1, max = 400))]
    pub kick_length: u16,

    /// Longest away message (AWAYLEN), bytes.
    #[schemars(range(min = 1, max = 400))]
    pub away_length: u16,

    /// Longest channel key (KEYLEN), bytes.
    #[schemars(range(min = 1, max = 100))]
    pub key_length: u16,

    /// Entries of each list of a channel: bans, exceptions, invitations (MAXLIST).
    #[schemars(range(min = 1, max = 10_000))]
    pub list_entries: u16,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            motd: config::ChatSettings::default().motd,
            channels: Vec::new(),
            history: History::default(),
            limits: ChatLimits::default(),
        }
    }
}

impl Default for History {
    fn default() -> Self {
        let config::HistorySettings { max_age, max_messages } = config::HistorySettings::default();
        Self { max_age: max_age.into(), max_messages }
    }
}

impl Default for ChatLimits {
    fn default() -> Self {
        let config::ChatLimits {
            nick_length,
            channels_per_user,
            channel_length,
            topic_length,
            kick_length,
            away_length,
            key_length,
            list_entries,
        } = config::ChatLimits::default();
        Self {
            nick_length,
            channels_per_user,
            channel_length,
            topic_length,
            kick_length,
            away_length,
            key_length,
            list_entries,
        }
    }
}
