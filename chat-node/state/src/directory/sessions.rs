//! Sessions: opened, attached, detached, closed; and the tokens by which they resume.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    command::{AttachSession, OpenSession, TokenHash},
    directory::{
        Directory, Session, Token, User,
        apply::Happening,
        users::{Claim, is_real_name},
    },
    event::EventKind,
    ids::{Generation, Incarnation, Position, SessionId, UserId, home_shard},
    names::{folded, is_prefix_part},
    outcome::Refusal,
};

impl Directory {
    pub(super) fn open(&mut self, node: Incarnation, open: &OpenSession) -> Result<Happening, Refusal> {
        let good =
            is_prefix_part(&open.username) && is_prefix_part(&open.host) && is_real_name(&open.real_name);
        if !good || open.shards == 0 || open.token.is_some_and(|token| self.tokens.contains_key(&token)) {
            return Err(Refusal::Malformed);
        }
        if let Claim::GivesWay(closing) = self.claim_nick(&open.nick, None)? {
            return Ok(closing);
        }
        let position = self.state.journal.next_position();
        let (user, session) = (UserId(position.0), SessionId(position.0));
        let opened_at_ms = self.time_ms();
        let mut opened = User {
            nick: open.nick.clone(),
            username: open.username.clone(),
            host: open.host.clone(),
            real_name: open.real_name.clone(),
            away: None,
            modes: Default::default(),
            prefix: "".into(),
            sessions: BTreeSet::from([session]),
            // Direct messages may reach it from the first moment.
            reach: BTreeSet::from([home_shard(user, open.shards)]),
            opened_at_ms,
            lost: Position(0),
        };
        opened.render_prefix();
        let token = open.token.map(|hash| Token { hash, secure: open.secure });
        let attached = Session {
            user,
            generation: Generation(1),
            incarnation: Some(node),
            left: String::new(),
            secure: open.secure,
            token,
            previous_token: None,
            opened_at_ms,
        };
        self.nicks.insert(folded(&open.nick), user);
        self.state.users.insert(user, Arc::new(opened));
        self.insert_session(session, attached);
        let kind = EventKind::Opened { user, session, request: open.request, nick: open.nick.clone() };
        Ok((Some(user), kind))
    }

    /// The session moves to the connection that showed a good token, wherever it was, and its token is rotated.
    pub(super) fn attach(&mut self, node: Incarnation, attach: &AttachSession) -> Result<Happening, Refusal> {
        if self.tokens.contains_key(&attach.token) {
            return Err(Refusal::Malformed);
        }
        let (id, shown) = self.shown_token(&attach.shown, attach.secure)?;
        let mut session = self.remove_session(id).ok_or(Refusal::InvalidToken)?;
        rotate_token(&mut session, shown, Token { hash: attach.token, secure: attach.secure });
        session.generation = Generation(session.generation.0 + 1);
        session.incarnation = Some(node);
        session.left.clear();
        session.secure = attach.secure;
        let (user, generation) = (session.user, session.generation);
        self.insert_session(id, session);
        Ok((Some(user), EventKind::Attached { user, session: id, generation, request: attach.request }))
    }

    /// The session that a token is good for, on a connection of this kind.
    fn shown_token(&self, shown: &TokenHash, secure: bool) -> Result<(SessionId, Token), Refusal> {
        let id = self.session_by_token(shown).ok_or(Refusal::InvalidToken)?;
        let session = self.session(id).ok_or(Refusal::InvalidToken)?;
        let token = session.tokens().find(|token| token.hash == *shown).ok_or(Refusal::InvalidToken)?;
        if token.secure && !secure { Err(Refusal::InvalidToken) } else { Ok((id, token)) }
    }

    /// The new token is known to have reached the client: the one before is void.
    pub(super) fn confirm_token(
        &mut self,
        session: SessionId,
        generation: Generation,
    ) -> Result<Happening, Refusal> {
        let user = self.current(session, generation)?.user;
        let found = Arc::make_mut(self.state.sessions.get_mut(&session).ok_or(Refusal::StaleSession)?);
        let void = found.previous_token.take().ok_or(Refusal::NoChange)?;
        self.tokens.remove(&void.hash);
        Ok((Some(user), EventKind::TokenConfirmed { session }))
    }

    pub(super) fn detach(
        &mut self,
        session: SessionId,
        generation: Generation,
        reason: &str,
    ) -> Result<Happening, Refusal> {
        let found = self.current(session, generation)?;
        if found.is_detached() {
            return Err(Refusal::NoChange);
        }
        let user = found.user;
        let host = self.user(user).map(|user| user.host.clone()).unwrap_or_default();
        let kept = found.resumable() && self.detached.has_place(&host, &self.settings().bounds);
        if !kept {
            return self.end_session(session, reason);
        }
        let found = Arc::make_mut(self.state.sessions.get_mut(&session).ok_or(Refusal::StaleSession)?);
        found.incarnation = None;
        reason.clone_into(&mut found.left);
        self.detached.insert(session, &host);
        Ok((Some(user), EventKind::Detached { user, session }))
    }

    pub(super) fn close(
        &mut self,
        session: SessionId,
        generation: Generation,
        reason: &str,
    ) -> Result<Happening, Refusal> {
        self.current(session, generation)?;
        self.end_session(session, reason)
    }

    pub(super) fn expire(
        &mut self,
        session: SessionId,
        generation: Generation,
    ) -> Result<Happening, Refusal> {
        let found = self.session(session).ok_or(Refusal::NoChange)?;
        if expiry_is_stale(found, generation) {
            return Err(Refusal::NoChange);
        }
        let reason = found.left.clone();
        self.end_session(session, &reason)
    }

    /// The session, if it did not move on.
    fn current(&self, session: SessionId, generation: Generation) -> Result<&Session, Refusal> {
        self.session(session).filter(|found| found.generation == generation).ok_or(Refusal::StaleSession)
    }

    /// The last session takes the user along.
    fn end_session(&mut self, session: SessionId, reason: &str) -> Result<Happening, Refusal> {
        let user = self.session(session).ok_or(Refusal::StaleSession)?.user;
        let others = self.user(user).is_some_and(|user| user.sessions.len() > 1);
        if !others {
            return Ok((Some(user), self.close_user(user, reason)?));
        }
        self.remove_session(session);
        self.user_mut(user)?.sessions.remove(&session);
        Ok((Some(user), EventKind::SessionClosed { user, session }))
    }

    fn insert_session(&mut self, id: SessionId, session: Session) {
        for token in session.tokens() {
            self.tokens.insert(token.hash, id);
        }
        self.state.sessions.insert(id, Arc::new(session));
    }

    pub(super) fn remove_session(&mut self, id: SessionId) -> Option<Session> {
        let session = self.state.sessions.remove(&id)?;
        for token in session.tokens() {
            self.tokens.remove(&token.hash);
        }
        self.detached.remove(id);
        Some(Arc::unwrap_or_clone(session))
    }
}

/// The token shown stays good until the new one is known to have arrived; any other is void. Shown the newest: that
/// confirms it. Shown the one before: the newest never arrived, and is replaced.
fn rotate_token(session: &mut Session, shown: Token, new: Token) {
    session.previous_token = Some(shown);
    session.token = Some(new);
}

/// It saw another attachment than the present one, or one that is not over.
fn expiry_is_stale(session: &Session, generation: Generation) -> bool {
    #[cfg(feature = "mutations")]
    if crate::mutation::is(crate::mutation::Mutation::StaleExpiry) {
        return false;
    }
    session.generation != generation || !session.is_detached()
}
