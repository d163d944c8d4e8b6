//! The directory as bytes, and back.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    directory::{Directory, State, detached::Detached},
    event::Event,
    ids::{Index, Position},
    kept::Kept,
    names::folded,
    snapshot::{Content, RestoreError, decode, encode, refuse_unknown_level},
};

/// The state at one position. Cheap to take: it shares all that does not change meanwhile; encode it elsewhere.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: State,
    kept: Kept,
}

impl Snapshot {
    pub fn position(&self) -> Position {
        self.state.journal.position
    }

    pub fn index(&self) -> Index {
        self.state.journal.index
    }

    pub fn encode_state(&self) -> Vec<u8> {
        let events: Vec<&Arc<Event>> = self.kept.after(Position(0)).collect();
        encode(Content::Directory, &(&self.state, self.kept.oldest(), events))
    }
}

impl Directory {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.state.clone(), kept: self.kept.clone() }
    }

    /// The bytes of the present state. Off the apply thread: [`Self::snapshot`] first.
    pub fn encode_state(&self) -> Vec<u8> {
        self.snapshot().encode_state()
    }

    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let (state, oldest, events): (State, Position, Vec<Arc<Event>>) = decode(Content::Directory, bytes)?;
        refuse_unknown_level(state.journal.level)?;
        let kept = Kept::refill(oldest, events, state.journal.position)?;
        let open = state.users.iter().map(|(id, user)| (folded(&user.nick), *id));
        let closing = state.closing.iter().map(|(id, closing)| (folded(&closing.user.nick), *id));
        let nicks: BTreeMap<_, _> = open.chain(closing).collect();
        if nicks.len() != state.users.len() + state.closing.len() {
            return Err(RestoreError::Contradiction("two users have one nick"));
        }
        let tokens = state
            .sessions
            .iter()
            .flat_map(|(id, session)| session.tokens().map(|token| (token.hash, *id)))
            .collect();
        let mut detached = Detached::default();
        for (id, session) in state.sessions.iter().filter(|(_, session)| session.is_detached()) {
            detached.insert(*id, state.users.get(&session.user).map_or("", |user| &user.host));
        }
        Ok(Self { state, kept, nicks, tokens, detached })
    }
}
