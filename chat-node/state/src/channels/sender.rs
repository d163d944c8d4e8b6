//! Who speaks in this shard: users with their sessions, the highest generation of each, and the ids of its messages.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    channels::{ChannelShard, State},
    command::{Message, MessageKind, Target},
    entry::{Origin, Proposal},
    ids::{ChannelId, Generation, Position, SessionId, UserId},
    outcome::Refusal,
};

/// How far below a session's highest id repeats are recognised.
pub const ID_WINDOW: u64 = 1024;
/// Sessions of one user that a shard remembers; past it the oldest goes first.
pub const SESSIONS_PER_USER: usize = 64;

/// What a shard knows of a user who acted here, or was written to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Present {
    pub(crate) channels: BTreeSet<ChannelId>,
    pub(crate) sessions: BTreeMap<SessionId, Sender>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sender {
    pub(crate) generation: Generation,
    ids: Ids,
}

/// The ids of a session's messages: the highest, and those stored within [`ID_WINDOW`] below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ids {
    highest: u64,
    /// By id, ascending.
    stored: VecDeque<StoredId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct StoredId {
    id: u64,
    position: Position,
    digest: u64,
}

impl Ids {
    /// Refuses what was stored before, and what may have been. In the order in which it is answered.
    pub(crate) fn check(&self, id: u64, digest: u64) -> Result<(), Refusal> {
        if let Ok(found) = self.find(id) {
            let stored = self.stored[found];
            return Err(if stored.digest == digest {
                Refusal::Duplicate { position: stored.position }
            } else {
                Refusal::IdReused
            });
        }
        if id < self.window_start() { Err(Refusal::DuplicateWindow) } else { Ok(()) }
    }

    /// `id` passed [`Self::check`].
    pub(crate) fn store(&mut self, id: u64, digest: u64, position: Position) {
        if let Err(place) = self.find(id) {
            self.stored.insert(place, StoredId { id, position, digest });
        }
        self.highest = self.highest.max(id);
        let start = self.window_start();
        while self.stored.front().is_some_and(|stored| stored.id < start) {
            self.stored.pop_front();
        }
    }

    fn window_start(&self) -> u64 {
        self.highest.saturating_sub(ID_WINDOW)
    }

    fn find(&self, id: u64) -> Result<usize, usize> {
        match self.stored.back() {
            Some(last) if last.id < id => Err(self.stored.len()),
            _ => self.stored.binary_search_by_key(&id, |stored| stored.id),
        }
    }
}

/// What makes a message the same: target and content, as sent. Not its prefix, which a change of nick changes, and so
/// not its text as cut for that prefix.
pub(crate) fn digest(target: &Target, message: &Message) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    match target {
        Target::Channel { channel, at_least } => {
            eat(&[1, at_least.map_or(0, |prefix| 1 + prefix as u8)]);
            eat(&channel.shard.0.to_le_bytes());
            eat(&channel.created.0.to_le_bytes());
            eat(&channel.nth.to_le_bytes());
        }
        Target::User { user } => {
            eat(&[2]);
            eat(&user.0.to_le_bytes());
        }
    }
    eat(&[match message.kind {
        MessageKind::Privmsg => 1,
        MessageKind::Notice => 2,
        MessageKind::Tagmsg => 3,
    }]);
    eat(&(message.text.len() as u64).to_le_bytes());
    eat(message.text.as_bytes());
    eat(message.tags.as_bytes());
    hash
}

impl ChannelShard {
    /// The session that asks, if it may: its user is not forgotten and its generation not past. From here on lower
    /// generations are refused.
    pub(super) fn admit_session(&mut self, proposal: &Proposal) -> Result<Origin, Refusal> {
        let origin = proposal.origin.ok_or(Refusal::Malformed)?;
        self.state.refuse_forgotten(origin.user, proposal.dir_at)?;
        let present = Arc::make_mut(self.state.present.entry(origin.user).or_default());
        match present.sessions.get_mut(&origin.session) {
            Some(sender) => raise_generation(sender, origin.generation)?,
            None => {
                let sender = Sender { generation: origin.generation, ids: Ids::default() };
                present.sessions.insert(origin.session, sender);
                if present.sessions.len() > SESSIONS_PER_USER {
                    present.sessions.pop_first();
                }
            }
        }
        Ok(origin)
    }
}

fn raise_generation(sender: &mut Sender, generation: Generation) -> Result<(), Refusal> {
    if generation < sender.generation {
        return Err(Refusal::StaleSession);
    }
    sender.generation = generation;
    Ok(())
}

impl State {
    pub(super) fn ids(&self, origin: Origin) -> Option<&Ids> {
        Some(&self.present.get(&origin.user)?.sessions.get(&origin.session)?.ids)
    }

    pub(super) fn ids_mut(&mut self, origin: Origin) -> Option<&mut Ids> {
        let present = Arc::make_mut(self.present.get_mut(&origin.user)?);
        Some(&mut present.sessions.get_mut(&origin.session)?.ids)
    }

    #[cfg(feature = "mutations")]
    pub(super) fn without_ids(mut self) -> Self {
        if crate::mutation::is(crate::mutation::Mutation::DeduplicationNotInSnapshot) {
            let present = self.present.values_mut().map(Arc::make_mut);
            present
                .flat_map(|present| present.sessions.values_mut())
                .for_each(|sender| sender.ids = Ids::default());
        }
        self
    }

    pub(super) fn present_mut(&mut self, user: UserId) -> &mut Present {
        Arc::make_mut(self.present.entry(user).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_highest_and_1024_below_it() {
        let mut ids = Ids::default();
        ids.store(5, 50, Position(1));
        ids.store(1029, 60, Position(2));
        assert_eq!(
            ids.check(5, 50),
            Err(Refusal::Duplicate { position: Position(1) }),
            "1029 - 1024 is inside"
        );
        assert_eq!(ids.check(5, 51), Err(Refusal::IdReused));
        assert_eq!(ids.check(6, 0), Ok(()), "never seen, inside");
        assert_eq!(ids.check(4, 0), Err(Refusal::DuplicateWindow));
        ids.store(1030, 70, Position(3));
        assert_eq!(ids.check(5, 50), Err(Refusal::DuplicateWindow), "now below");
        assert_eq!(ids.check(6, 0), Ok(()));
        assert_eq!(ids.check(1029, 60), Err(Refusal::Duplicate { position: Position(2) }));
    }

    #[test]
    fn the_window_holds_at_most_1025_ids() {
        let mut ids = Ids::default();
        for id in (1..=5000).rev().chain(1..=5000) {
            if ids.check(id, id).is_ok() {
                ids.store(id, id, Position(id));
            }
        }
        assert_eq!(ids.stored.len(), 1025);
    }

    #[test]
    fn huge_and_small_ids_are_just_numbers() {
        let mut ids = Ids::default();
        ids.store(0, 1, Position(1));
        assert_eq!(ids.check(0, 1), Err(Refusal::Duplicate { position: Position(1) }));
        ids.store(u64::MAX, 1, Position(2));
        assert_eq!(ids.check(u64::MAX, 1), Err(Refusal::Duplicate { position: Position(2) }));
        assert_eq!(ids.check(0, 1), Err(Refusal::DuplicateWindow));
    }
}
