//! Users: their names and states, and their way out.

use std::sync::Arc;

use crate::{
    command::UserModes,
    directory::{Closing, Directory, FREED_KEPT, User, apply::Happening},
    event::EventKind,
    ids::{Position, SessionId, ShardId, UserId},
    names::{PERSON_BYTES, cut, folded, is_nick},
    outcome::Refusal,
};

/// Whether a nick can be had.
pub(super) enum Claim {
    Free,
    /// Its owner closes for it; the claimant asks again once it is freed.
    GivesWay(Happening),
}

impl Directory {
    pub(super) fn nick(&mut self, user: UserId, nick: &str) -> Result<Happening, Refusal> {
        if let Claim::GivesWay(closing) = self.claim_nick(nick, Some(user))? {
            return Ok(closing);
        }
        if self.user(user).is_some_and(|user| user.nick == nick) {
            return Err(Refusal::NoChange);
        }
        let found = self.user_mut(user)?;
        let prefix = Arc::clone(&found.prefix);
        let old = std::mem::replace(&mut found.nick, nick.to_owned());
        found.render_prefix();
        self.nicks.remove(&folded(&old));
        self.nicks.insert(folded(nick), user);
        Ok((Some(user), EventKind::NickChanged { user, prefix, nick: nick.to_owned() }))
    }

    /// A nick has one owner. Another case of one's own is free.
    pub(super) fn claim_nick(&mut self, nick: &str, claimant: Option<UserId>) -> Result<Claim, Refusal> {
        if !is_nick(nick, usize::from(self.settings().limits.nick_length)) {
            return Err(Refusal::InvalidNick);
        }
        match self.nick_owner(&folded(nick)) {
            None => Ok(Claim::Free),
            Some(owner) if Some(owner) == claimant => Ok(Claim::Free),
            Some(owner) if self.gives_way(owner) => {
                let kind = self.close_user(owner, "Nick was claimed after the connection was lost")?;
                Ok(Claim::GivesWay((Some(owner), kind)))
            }
            Some(_) => Err(Refusal::NickInUse),
        }
    }

    /// Nobody is behind this user any more who could come back: its node died, and it cannot resume.
    fn gives_way(&self, user: UserId) -> bool {
        self.user(user).is_some_and(|user| {
            user.sessions
                .iter()
                .filter_map(|session| self.session(*session))
                .all(|session| session.is_detached() && !session.resumable())
        })
    }

    pub(super) fn away(&mut self, user: UserId, message: Option<&str>) -> Result<Happening, Refusal> {
        let limit = self.settings().limits.away_length;
        let found = self.user_mut(user)?;
        let message = message.map(|message| cut(message, limit).to_owned());
        // Said again when it is the same: the client waits for its 305 or 306.
        found.away.clone_from(&message);
        let prefix = Arc::clone(&found.prefix);
        Ok((Some(user), EventKind::AwayChanged { user, prefix, message }))
    }

    pub(super) fn real_name(&mut self, user: UserId, real_name: &str) -> Result<Happening, Refusal> {
        if !is_real_name(real_name) {
            return Err(Refusal::Malformed);
        }
        let found = self.user_mut(user)?;
        if found.real_name == real_name {
            return Err(Refusal::NoChange);
        }
        real_name.clone_into(&mut found.real_name);
        let prefix = Arc::clone(&found.prefix);
        Ok((Some(user), EventKind::RealNameChanged { user, prefix, real_name: real_name.to_owned() }))
    }

    pub(super) fn user_modes(
        &mut self,
        user: UserId,
        set: UserModes,
        clear: UserModes,
    ) -> Result<Happening, Refusal> {
        let found = self.user_mut(user)?;
        let modes = UserModes {
            invisible: (found.modes.invisible || set.invisible) && !clear.invisible,
            bot: (found.modes.bot || set.bot) && !clear.bot,
        };
        if modes == found.modes {
            return Err(Refusal::NoChange);
        }
        found.modes = modes;
        Ok((Some(user), EventKind::UserModesChanged { user, modes }))
    }

    pub(super) fn reach(&mut self, user: UserId, shards: &[ShardId]) -> Result<Happening, Refusal> {
        if shards.iter().any(|shard| shard.is_directory()) {
            return Err(Refusal::Malformed);
        }
        let found = self.user_mut(user)?;
        let before = found.reach.len();
        found.reach.extend(shards);
        if found.reach.len() == before {
            return Err(Refusal::NoChange);
        }
        Ok((Some(user), EventKind::Reached { user, shards: shards.to_vec() }))
    }

    /// The user has no session any more, or loses those it has: from here on it is closing.
    pub(super) fn close_user(&mut self, user: UserId, reason: &str) -> Result<EventKind, Refusal> {
        let found = self.state.users.remove(&user).ok_or(Refusal::StaleSession)?;
        let sessions: Vec<SessionId> = found.sessions.iter().copied().collect();
        for session in &sessions {
            self.remove_session(*session);
        }
        let mut found = Arc::unwrap_or_clone(found);
        found.sessions.clear();
        let kind = EventKind::Closing {
            user,
            sessions,
            prefix: Arc::clone(&found.prefix),
            reason: reason.to_owned(),
            reach: found.reach.iter().copied().collect(),
        };
        let at = self.state.journal.next_position();
        self.state.closing.insert(user, Arc::new(Closing { user: found, at, reason: reason.to_owned() }));
        Ok(kind)
    }

    /// Only when every shard that may know the user is named.
    pub(super) fn free(
        &mut self,
        user: UserId,
        forgotten: &[(ShardId, Position)],
    ) -> Result<Happening, Refusal> {
        let closing = self.closing_user(user).ok_or(Refusal::NoChange)?;
        if !names_every_shard(&closing.user, forgotten) {
            return Err(Refusal::Malformed);
        }
        let closing = self.state.closing.remove(&user).expect("it was just seen");
        self.nicks.remove(&folded(&closing.user.nick));
        self.state.freed.insert(self.state.journal.next_position(), user);
        if self.state.freed.len() > FREED_KEPT {
            self.state.freed.pop_first();
        }
        let kind = EventKind::Freed {
            user,
            prefix: Arc::clone(&closing.user.prefix),
            reason: closing.reason.clone(),
            forgotten: forgotten.to_vec(),
        };
        Ok((Some(user), kind))
    }

    pub(super) fn user_mut(&mut self, user: UserId) -> Result<&mut User, Refusal> {
        self.state.users.get_mut(&user).map(Arc::make_mut).ok_or(Refusal::UnknownUser)
    }
}

fn names_every_shard(user: &User, forgotten: &[(ShardId, Position)]) -> bool {
    user.reach.iter().all(|shard| forgotten.iter().any(|(named, _)| named == shard))
}

pub(super) fn is_real_name(real_name: &str) -> bool {
    real_name.len() <= PERSON_BYTES && !real_name.chars().any(char::is_control)
}
