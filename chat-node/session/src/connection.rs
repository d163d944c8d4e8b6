//! One connection: where it stands, what it asked and waits for, what waits to be written.

use std::collections::VecDeque;

use chat_protocol::{Capabilities, Capability, capability::CapVersion};
use chat_state::ids::{Generation, Position, SessionId, ShardId, UserId};

use crate::{
    config::{Framing, Now, Peer},
    encode::Variant,
    gaps::Seen,
    input::Bucket,
    label::Labels,
    registration::Registration,
    token::Token,
};

/// Number of a connection within its worker; reused after [`crate::Worker::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Who a registered connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) generation: Generation,
}

/// Where a connection stands.
pub(crate) enum Phase {
    Registering(Registration),
    /// The user is being opened in the directory.
    Opening {
        registration: Registration,
        request: u64,
        token: Option<Token>,
    },
    /// The session is being attached in the directory.
    Attaching {
        registration: Registration,
        request: u64,
        token: Token,
        seen: Vec<Seen>,
    },
    /// Attached; this worker has yet to apply what the client saw elsewhere.
    CatchingUp {
        identity: Identity,
        token: Token,
        seen: Vec<Seen>,
        since: Now,
        /// Directory position of that: an entry that was asked for here after it comes after all that the client saw.
        attached_at: Position,
        /// What the last resume showed anew may not have arrived.
        in_doubt: bool,
    },
    Ready(Identity),
    Closed,
}

/// A proposal of this session that is on its way through the log.
pub(crate) struct Pending {
    pub(crate) shard: ShardId,
    pub(crate) request: u32,
    pub(crate) kind: PendingKind,
    /// Place among the connection's labels.
    pub(crate) label: Option<u32>,
}

/// What was asked, as far as an answer needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PendingKind {
    Message { verb: &'static str, target: String, id: Option<u64>, away: Option<String> },
    Join { name: String },
    Part { name: String },
    Topic { name: String },
    Kick { name: String, nick: String },
    Mode { name: String },
    Invite { name: String, nick: String },
    Nick { nick: String },
    Away,
    RealName,
    UserModes,
    Reach,
    ConfirmToken,
    Quit,
}

pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) phase: Phase,
    /// What the client asked for; some of it may have no effect alone.
    pub(crate) asked: Capabilities,
    /// What is in effect.
    pub(crate) capabilities: Capabilities,
    pub(crate) cap_version: CapVersion,
    /// How lines of events are encoded for it.
    pub(crate) variant: Variant,

    /// Bytes for the socket; those before `written` are gone.
    pub(crate) output: Vec<u8>,
    pub(crate) written: usize,
    pub(crate) dirty: bool,

    /// Lines that wait for their turn.
    pub(crate) input: VecDeque<Box<[u8]>>,
    pub(crate) input_bytes: usize,
    /// The edge was told to stop reading.
    pub(crate) paused: bool,
    /// The last line did not run because of the rate.
    pub(crate) throttled: bool,
    pub(crate) bucket: Bucket,

    pub(crate) pending: VecDeque<Pending>,
    pub(crate) next_request: u32,
    pub(crate) labels: Labels,

    pub(crate) last_heard_ms: u64,
    pub(crate) ping_sent_ms: Option<u64>,
    /// The resume token was sent before that PING: its PONG confirms it.
    pub(crate) token_unconfirmed: bool,
    /// Told to go elsewhere.
    pub(crate) told_to_leave: bool,
    /// Number of the fan-out that reached it last, so that none reaches it twice.
    pub(crate) mark: u64,
}

impl Connection {
    pub(crate) fn new(peer: Peer, bucket: Bucket, now: Now) -> Self {
        let variant = Variant::new(peer.framing, Capabilities::EMPTY);
        Self {
            peer,
            phase: Phase::Registering(Registration::new(now)),
            asked: Capabilities::EMPTY,
            capabilities: Capabilities::EMPTY,
            cap_version: CapVersion::V301,
            variant,
            output: Vec::new(),
            written: 0,
            dirty: false,
            input: VecDeque::new(),
            input_bytes: 0,
            paused: false,
            throttled: false,
            bucket,
            pending: VecDeque::new(),
            next_request: 0,
            labels: Labels::default(),
            last_heard_ms: now.monotonic_ms,
            ping_sent_ms: None,
            token_unconfirmed: false,
            told_to_leave: false,
            mark: 0,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.peer.framing
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// Who it is, once it is registered and has caught up.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self.phase {
            Phase::Ready(identity) => Some(identity),
            _ => None,
        }
    }

    /// Who it is, also while it catches up.
    pub(crate) fn attached(&self) -> Option<Identity> {
        match &self.phase {
            Phase::Ready(identity) | Phase::CatchingUp { identity, .. } => Some(*identity),
            _ => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Bytes that wait for the socket.
    pub(crate) fn waiting_output(&self) -> usize {
        self.output.len() - self.written
    }
}
