//! What became of one proposal.

use std::sync::Arc;

use crate::{event::Event, ids::Position};

/// Exactly one for each proposal, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Happened(Arc<Event>),
    Refused(Refusal),
    /// A repeat from the node's own stream: its first copy had the outcome.
    Repeated,
}

/// Why a proposal had no effect. The session turns it into a numeric or a FAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    // Of the log's own rules.
    /// The node left out a sequence number; it must resend from `expected`.
    Gap {
        expected: u64,
    },
    /// The node's life is over for this shard; it must register anew.
    UnknownNode,
    /// The session has moved on to a later generation, or is gone.
    StaleSession,
    /// The user was forgotten here, or never may have come.
    UnknownUser,
    /// A command that makes no sense for this shard.
    Malformed,
    /// Nothing would change (an expiry that came late, a revision already there, a mode already so).
    NoChange,

    // Directory.
    NickInUse,
    InvalidNick,
    /// No session goes by this token, or it may not be used on this connection.
    InvalidToken,

    // Channels; the numeric each is told by.
    /// 403
    NoSuchChannel,
    /// 401
    NoSuchNick,
    /// 404
    CannotSend,
    /// 405
    TooManyChannels,
    /// 441
    UserNotInChannel,
    /// 442
    NotOnChannel,
    /// 443
    UserOnChannel,
    /// 471
    ChannelFull,
    /// 473
    InviteOnly,
    /// 474
    Banned,
    /// 475
    BadKey,
    /// 478
    ListFull,
    /// 482
    NotOperator,
    /// 479 / 476
    BadChannelName,
    /// JOIN of a channel one is in: nothing is said.
    AlreadyJoined,

    // Messages with an id.
    /// Stored before; this is where.
    Duplicate {
        position: Position,
    },
    /// Below the window in which repeats are recognised.
    DuplicateWindow,
    /// The id was used for another message.
    IdReused,
}
