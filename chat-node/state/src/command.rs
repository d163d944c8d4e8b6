//! What can be proposed.
//!
//! Every proposal has exactly one outcome (see [`crate::outcome`]): one event, or one refusal. Commands with several
//! targets are split by the session. Variants are only ever added at the end: their numbers are part of the format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{
        ChannelId, FeatureLevel, Generation, Incarnation, Lineage, MemberId, Position, SessionId, ShardId,
        UserId,
    },
    settings::Settings,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Understood by every shard.
    Common(CommonCommand),
    /// For shard 0.
    Directory(DirectoryCommand),
    /// For shards 1..=S.
    Channel(ChannelCommand),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CommonCommand {
    /// Taken when its revision is higher than the present one.
    Settings(Arc<Settings>),
    /// Taken when higher than the present one.
    RaiseLevel(FeatureLevel),
    /// A node's life is over: nothing of it is accepted any more. In the directory its sessions are detached.
    DropNode(Incarnation),
    /// The log goes on under another lineage: its store is not the process it was, and what came after the entries
    /// that it still holds may be gone. Carries no sequence (stamp 0/0); made by whoever opens the lineage in the
    /// store, in the same step.
    BeginLineage(Lineage),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DirectoryCommand {
    /// A node starts a life. Carries no sequence (stamp 0/0); idempotent by `nonce`. Earlier lives of the same member
    /// end with it: their sessions are detached.
    RegisterNode { member: MemberId, nonce: u64, level: FeatureLevel },
    /// A stranger registers: a user and its first session. No origin yet; the outcome is found by `request`.
    ///
    /// If the nick belongs to a user that has to give way (all its sessions detached, none resumable), that user
    /// closes and *its* `Closing` is the outcome: the proposer waits for its `Freed` and asks again.
    Open(Box<OpenSession>),
    /// Change of nick of the origin's user. A nick whose owner has to give way: as in `Open`.
    Nick { nick: String },
    /// `None` is back.
    Away { message: Option<String> },
    /// SETNAME.
    RealName { real_name: String },
    /// Change of the user's own modes.
    UserModes { set: UserModes, clear: UserModes },
    /// The user may from now on propose to these shards.
    Reach { shards: Vec<ShardId> },
    /// The connection of this session is gone; its resume window begins (ends it at once when it is not resumable).
    /// Stale when the generation is not the present one.
    Detach { session: SessionId, generation: Generation, reason: String },
    /// A client resumes: attaches a session to a new connection and rotates its token.
    Attach(Box<AttachSession>),
    /// The session's new token was seen to have reached its client: the previous one is void.
    ConfirmToken { session: SessionId, generation: Generation },
    /// QUIT, or closed by the server. The last session of a user closes the user.
    Close { session: SessionId, generation: Generation, reason: String },
    /// The resume window of a detached session has passed. Stale when it moved on.
    Expire { session: SessionId, generation: Generation },
    /// Every shard that a closing user could reach has forgotten it, at these positions: its nick is free.
    Free { user: UserId, forgotten: Vec<(ShardId, Position)> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Node-local number of the connection that waits for the outcome.
    pub request: u64,
    pub nick: String,
    pub username: String,
    pub host: String,
    pub real_name: String,
    /// Came over TLS: its token is good over TLS only.
    pub secure: bool,
    /// Present when the client has the resume capability.
    pub token: Option<TokenHash>,
    /// Channel shards of the room, so that the user's home shard is reachable from the start.
    pub shards: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachSession {
    /// Node-local number of the connection that waits for the outcome.
    pub request: u64,
    /// Hash of the token that the client showed.
    pub shown: TokenHash,
    /// Hash of the token it gets in return.
    pub token: TokenHash,
    pub secure: bool,
}

/// SHA-256 of a resume token. The token itself is never in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A set of user modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserModes {
    /// `i`: not shown to strangers in WHO.
    pub invisible: bool,
    /// `B`: a bot.
    pub bot: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ChannelCommand {
    Join {
        /// As the client wrote it.
        name: String,
        key: Option<String>,
        prefix: Arc<str>,
        real_name: String,
    },
    Part {
        channel: ChannelId,
        reason: Option<String>,
        prefix: Arc<str>,
    },
    Message {
        target: Target,
        message: Arc<Message>,
    },
    Topic {
        channel: ChannelId,
        topic: String,
        prefix: Arc<str>,
    },
    Kick {
        channel: ChannelId,
        target: UserId,
        target_nick: String,
        reason: String,
        prefix: Arc<str>,
    },
    Mode {
        channel: ChannelId,
        changes: Vec<ModeChange>,
        prefix: Arc<str>,
    },
    Invite {
        channel: ChannelId,
        target: UserId,
        target_nick: String,
        prefix: Arc<str>,
    },
    /// The directory marked this user closing at `closing`; from now on nothing of it is accepted.
    Forget {
        user: UserId,
        closing: Position,
        prefix: Arc<str>,
        reason: String,
    },
    /// The copy of a direct message for its sender's own history. `source`, `lineage` and `position` are its msgid:
    /// where it was first stored.
    Copy {
        source: ShardId,
        lineage: Lineage,
        position: Position,
        sender: UserId,
        recipient: UserId,
        time_ms: u64,
        message: Arc<Message>,
    },
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    Channel {
        channel: ChannelId,
        /// Only members at or above this prefix (STATUSMSG).
        at_least: Option<MemberPrefix>,
    },
    User {
        user: UserId,
    },
}

/// The parts of a message that never change on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub kind: MessageKind,
    /// `nick!user@host` of the sender when it was sent: for history and masks.
    pub prefix: Arc<str>,
    /// The recipient's nick when it was sent, for direct messages; empty otherwise.
    pub to_nick: String,
    /// Empty for TAGMSG. In a proposal as the client sent it; in events cut so that every receiver's line fits.
    pub text: String,
    /// Client-only tags as sent, escaped, joined by `;`: `+typing=active;+draft/reply=…`.
    pub tags: String,
    /// `chatroom.dev/id`.
    pub id: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageKind {
    Privmsg,
    Notice,
    Tagmsg,
}

/// Rank of a member, highest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberPrefix {
    /// `+v`
    Voice,
    /// `@o`
    Operator,
}

/// One change of a channel's modes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModeChange {
    Flag {
        flag: ChannelFlag,
        set: bool,
    },
    /// `k`
    Key {
        key: Option<String>,
    },
    /// `l`
    Limit {
        limit: Option<u32>,
    },
    List {
        list: ListKind,
        mask: String,
        set: bool,
    },
    Member {
        prefix: MemberPrefix,
        user: UserId,
        nick: String,
        set: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChannelFlag {
    /// `i`
    InviteOnly,
    /// `m`
    Moderated,
    /// `n`
    NoExternal,
    /// `s`
    Secret,
    /// `t`
    OpTopic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListKind {
    /// `b`
    Ban,
    /// `e`
    Exception,
    /// `I`
    Invitation,
}
