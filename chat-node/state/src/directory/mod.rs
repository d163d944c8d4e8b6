//! Shard 0: who is here. Users, their sessions, and the nodes these are attached to.
//!
//! A nick belongs to one user at each position: from its `Opened` or `NickChanged` until its next `NickChanged` or its
//! `Freed`, closing included.

mod apply;
mod detached;
mod nodes;
mod sessions;
mod snapshot;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::detached::Detached;
pub use self::snapshot::Snapshot;
use crate::{
    channels::FORGOTTEN_KEPT,
    command::{TokenHash, UserModes},
    ids::{FeatureLevel, Generation, Incarnation, Lineage, MemberId, Position, SessionId, ShardId, UserId},
    journal::Journal,
    kept::Kept,
};

#[derive(Clone, Debug)]
pub struct Directory {
    pub(crate) state: State,
    pub(crate) kept: Kept,
    /// Folded nick to its owner, closing ones included. Derived.
    nicks: BTreeMap<String, UserId>,
    /// Good tokens. Derived.
    tokens: BTreeMap<TokenHash, SessionId>,
    /// Derived.
    detached: Detached,
}

/// What a snapshot holds, beside the kept events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) journal: Journal,
    nodes: BTreeMap<Incarnation, Node>,
    /// The last lives that ended, so that a late copy of a registration does not start one anew.
    ended_lives: Vec<(MemberId, u64)>,
    users: BTreeMap<UserId, Arc<User>>,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    closing: BTreeMap<UserId, Arc<Closing>>,
    /// The last who were freed, by the position of that.
    freed: BTreeMap<Position, UserId>,
}

/// Users who are gone of whom it is known since when: as many as a shard remembers in any case.
const FREED_KEPT: usize = FORGOTTEN_KEPT;

/// Somebody who is seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub nick: String,
    pub username: String,
    pub host: String,
    pub real_name: String,
    pub away: Option<String>,
    pub modes: UserModes,
    /// `nick!user@host`.
    pub prefix: Arc<str>,
    pub sessions: BTreeSet<SessionId>,
    /// Every shard that may know the user.
    pub reach: BTreeSet<ShardId>,
    pub opened_at_ms: u64,
    /// The newest change of nick, away or real name that is not kept for resumes any more; 0 if there is none.
    pub lost: Position,
}

impl User {
    fn render_prefix(&mut self) {
        self.prefix = format!("{}!{}@{}", self.nick, self.username, self.host).into();
    }
}

/// A client's attachment to a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub user: UserId,
    pub generation: Generation,
    /// The node that has its connection; none while detached.
    pub incarnation: Option<Incarnation>,
    /// Why the last connection ended; shown if the client does not come back.
    pub left: String,
    /// Its connection is (was, if detached) over TLS.
    pub secure: bool,
    /// The newest token; none if the client cannot resume.
    pub token: Option<Token>,
    /// The token before, good until the newest is known to have arrived.
    pub previous_token: Option<Token>,
    pub opened_at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub hash: TokenHash,
    /// Issued over TLS: good over TLS only.
    pub secure: bool,
}

impl Session {
    /// Outlives its connection.
    pub fn resumable(&self) -> bool {
        self.token.is_some()
    }

    pub fn is_detached(&self) -> bool {
        self.incarnation.is_none()
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        self.token.into_iter().chain(self.previous_token)
    }
}

/// A user on the way out: nick still taken, no session left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    pub user: User,
    /// Position of the `Closing` event; the shards' `Forget` names it.
    pub at: Position,
    pub reason: String,
}

/// A node as it registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub member: MemberId,
    pub nonce: u64,
    pub level: FeatureLevel,
    pub registered_at_ms: u64,
}

impl Directory {
    pub fn new(lineage: Lineage) -> Self {
        Self {
            state: State {
                journal: Journal::new(ShardId::DIRECTORY, lineage),
                nodes: BTreeMap::new(),
                ended_lives: Vec::new(),
                users: BTreeMap::new(),
                sessions: BTreeMap::new(),
                closing: BTreeMap::new(),
                freed: BTreeMap::new(),
            },
            kept: Kept::starting_at(Position(1)),
            nicks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            detached: Detached::default(),
        }
    }

    /// A user who has not closed.
    pub fn user(&self, user: UserId) -> Option<&User> {
        self.state.users.get(&user).map(|user| &**user)
    }

    /// The user who can be spoken to by this nick. None for a closing one.
    pub fn user_by_nick(&self, folded: &str) -> Option<UserId> {
        self.nick_owner(folded).filter(|user| self.state.users.contains_key(user))
    }

    /// The user who has this nick, closing ones included.
    pub fn nick_owner(&self, folded: &str) -> Option<UserId> {
        self.nicks.get(folded).copied()
    }

    /// `nick!user@host` of a user, closing ones included: lines from shards that have yet to forget it keep it.
    pub fn prefix(&self, user: UserId) -> Option<&Arc<str>> {
        self.user(user)
            .or_else(|| self.state.closing.get(&user).map(|closing| &closing.user))
            .map(|user| &user.prefix)
    }

    pub fn users(&self) -> impl Iterator<Item = (UserId, &User)> {
        self.state.users.iter().map(|(id, user)| (*id, &**user))
    }

    pub fn user_count(&self) -> usize {
        self.state.users.len()
    }

    pub fn session_count(&self) -> usize {
        self.state.sessions.len()
    }

    pub fn detached_count(&self) -> usize {
        self.detached.len()
    }

    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.state.sessions.get(&session).map(|session| &**session)
    }

    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.state.sessions.iter().map(|(id, session)| (*id, &**session))
    }

    pub fn session_by_token(&self, token: &TokenHash) -> Option<SessionId> {
        self.tokens.get(token).copied()
    }

    pub fn detached(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.detached.iter().filter_map(|id| Some((id, self.session(id)?)))
    }

    pub fn closing(&self) -> impl Iterator<Item = (UserId, &Closing)> {
        self.state.closing.iter().map(|(id, closing)| (*id, &**closing))
    }

    pub fn closing_user(&self, user: UserId) -> Option<&Closing> {
        self.state.closing.get(&user).map(|closing| &**closing)
    }

    /// Who was freed after `seen` by an event that is not kept any more; of the last [`FREED_KEPT`].
    pub(crate) fn freed_unseen(&self, seen: Position) -> impl Iterator<Item = UserId> + '_ {
        let oldest = self.kept.oldest();
        let after = self.state.freed.range((Bound::Excluded(seen), Bound::Unbounded));
        after.take_while(move |(at, _)| **at < oldest).map(|(_, user)| *user)
    }

    /// The nodes whose life goes on, by registration.
    pub fn nodes(&self) -> impl Iterator<Item = (Incarnation, &Node)> {
        self.state.nodes.iter().map(|(incarnation, node)| (*incarnation, node))
    }

    pub fn node(&self, incarnation: Incarnation) -> Option<&Node> {
        self.state.nodes.get(&incarnation)
    }

    /// The present life of a node by what it registered with: how it finds its number.
    pub fn incarnation_of(&self, member: MemberId, nonce: u64) -> Option<Incarnation> {
        self.nodes()
            .find(|(_, node)| node.member == member && node.nonce == nonce)
            .map(|(incarnation, _)| incarnation)
    }
}
