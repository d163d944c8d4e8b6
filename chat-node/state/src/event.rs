//! What `apply` makes of a proposal: numbered, and enough to tell a client what happened.
//!
//! Events are kept for the resume window, so they carry the prefix of their actor at that point; live lines are
//! rendered from the receiver's own directory instead.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    command::{Message, ModeChange, Target, UserModes},
    ids::{ChannelId, FeatureLevel, Generation, Incarnation, Lineage, Position, SessionId, ShardId, UserId},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// 1..n in its shard, without holes.
    pub position: Position,
    /// Unix milliseconds; never goes back within a shard.
    pub time_ms: u64,
    /// Directory position that goes before it.
    pub dir_at: Position,
    /// The user who did it; none for chores.
    pub actor: Option<UserId>,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    // Every shard.
    Settings {
        revision: u64,
        topics: Vec<(ChannelId, String)>,
    },
    LevelRaised {
        level: FeatureLevel,
    },
    NodeDropped {
        incarnation: Incarnation,
        detached: Vec<SessionId>,
    },

    // Directory. `prefix` is `nick!user@host` before the event.
    NodeRegistered {
        incarnation: Incarnation,
        detached: Vec<SessionId>,
    },
    Opened {
        user: UserId,
        session: SessionId,
        request: u64,
        nick: String,
    },
    NickChanged {
        user: UserId,
        prefix: Arc<str>,
        nick: String,
    },
    AwayChanged {
        user: UserId,
        prefix: Arc<str>,
        message: Option<String>,
    },
    RealNameChanged {
        user: UserId,
        prefix: Arc<str>,
        real_name: String,
    },
    UserModesChanged {
        user: UserId,
        modes: UserModes,
    },
    Reached {
        user: UserId,
        shards: Vec<ShardId>,
    },
    Detached {
        user: UserId,
        session: SessionId,
    },
    Attached {
        user: UserId,
        session: SessionId,
        generation: Generation,
        request: u64,
    },
    TokenConfirmed {
        session: SessionId,
    },
    /// A session of a user that has others ended.
    SessionClosed {
        user: UserId,
        session: SessionId,
    },
    /// The user's last session ended; its nick is still taken. Shards in `reach` have yet to forget it.
    Closing {
        user: UserId,
        sessions: Vec<SessionId>,
        prefix: Arc<str>,
        reason: String,
        reach: Vec<ShardId>,
    },
    /// The nick is free; delivered only after `forgotten`. This is the QUIT.
    Freed {
        user: UserId,
        prefix: Arc<str>,
        reason: String,
        forgotten: Vec<(ShardId, Position)>,
    },

    // Channel shards. `prefix` is the actor's at the time.
    Joined {
        channel: ChannelId,
        /// As its creator wrote it.
        name: Arc<str>,
        prefix: Arc<str>,
        real_name: String,
        /// The channel came into being with this join (its member is an operator, `+nt` is set).
        created: bool,
    },
    Parted {
        channel: ChannelId,
        name: Arc<str>,
        prefix: Arc<str>,
        reason: Option<String>,
    },
    Kicked {
        channel: ChannelId,
        name: Arc<str>,
        prefix: Arc<str>,
        target: UserId,
        target_nick: String,
        reason: String,
    },
    TopicChanged {
        channel: ChannelId,
        name: Arc<str>,
        prefix: Arc<str>,
        topic: String,
    },
    ModeChanged {
        channel: ChannelId,
        name: Arc<str>,
        prefix: Arc<str>,
        changes: Vec<ModeChange>,
    },
    Invited {
        channel: ChannelId,
        name: Arc<str>,
        prefix: Arc<str>,
        target: UserId,
        target_nick: String,
    },
    Message {
        target: Target,
        /// Name of the channel; empty for direct messages.
        name: Arc<str>,
        message: Arc<Message>,
        /// Number in its conversation, 1..n; 0 for TAGMSG and STATUSMSG, which no history keeps.
        number: u64,
        session: SessionId,
    },
    /// The user left these channels for good.
    Forgotten {
        user: UserId,
        channels: Vec<ChannelId>,
    },
    Copied {
        source: ShardId,
        position: Position,
    },

    // Every shard.
    LineageBegun {
        lineage: Lineage,
    },
}
