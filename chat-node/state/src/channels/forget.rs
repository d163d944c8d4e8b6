//! Users who closed: everything of theirs goes, and nothing of theirs is accepted any more.

use serde::{Deserialize, Serialize};

use crate::{
    channels::{ChannelShard, State, conversation::ConversationKey},
    event::EventKind,
    ids::{ChannelId, Incarnation, Position, UserId},
    outcome::Refusal,
};

/// Forgotten users that are remembered in any case. Past it the oldest are let go once every open node was heard with
/// a directory position past their closing.
pub const FORGOTTEN_KEPT: usize = 1024;
/// So many more may wait for a node that has not spoken here since; then it is to say something.
const FORGOTTEN_WAITING: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Directory position of the closing.
    pub closing: Position,
    /// Position of the forgetting here.
    pub at: Position,
    /// The channels that it left by that.
    pub channels: Vec<ChannelId>,
}

impl State {
    /// Refuses a user who was forgotten here.
    ///
    /// Who left the table is still refused: by then every open node was heard past the closing, so only a proposer
    /// that lags behind (another worker, a node not heard before) can still name it, and its `dir_at` tells. A user
    /// known here was not forgotten; a stranger under such a `dir_at` is refused too, and the node may try again.
    pub(super) fn refuse_forgotten(&self, user: UserId, dir_at: Position) -> Result<(), Refusal> {
        #[cfg(feature = "mutations")]
        if crate::mutation::is(crate::mutation::Mutation::ForgottenRejoins) {
            return Ok(());
        }
        if self.forgotten.contains_key(&user) {
            return Err(Refusal::UnknownUser);
        }
        if !self.present.contains_key(&user) && dir_at < self.forgiven {
            return Err(Refusal::UnknownUser);
        }
        // A user is known from the position of its opening on.
        if dir_at.0 < user.0 { Err(Refusal::UnknownUser) } else { Ok(()) }
    }
}

impl ChannelShard {
    /// Where a user was forgotten, as `Free` names it; none when it was not, or so long ago that any later position
    /// serves.
    pub fn forgotten(&self, user: UserId) -> Option<&Forgotten> {
        self.state.forgotten.get(&user)
    }

    pub(super) fn forget(&mut self, user: UserId, closing: Position) -> Result<EventKind, Refusal> {
        if self.state.forgotten.contains_key(&user) {
            return Err(Refusal::NoChange);
        }
        let channels: Vec<_> = self.channels_of(user).collect();
        for channel in &channels {
            self.leave(*channel, user);
        }
        for peer in self.derived.peers.get(&user).cloned().unwrap_or_default() {
            self.leave_conversation(user, peer);
        }
        self.state.present.remove(&user);
        self.state.dropped_for.remove(&user);
        let at = self.state.journal.next_position();
        self.state.forgotten.insert(user, Forgotten { closing, at, channels: channels.clone() });
        self.derived.by_closing.insert((closing, user));
        Ok(EventKind::Forgotten { user, channels })
    }

    /// What two users wrote goes when none of those at home here is left.
    fn leave_conversation(&mut self, user: UserId, peer: UserId) {
        let key = ConversationKey::direct(user, peer);
        self.with_conversation(key, |conversation| {
            conversation.owners.remove(&user);
            if conversation.owners.is_empty() {
                conversation.clear();
            }
        });
        if self.conversations.get(&key).is_some_and(|conversation| conversation.owners.is_empty()) {
            self.conversations.remove(&key);
            self.forget_peers(user, peer);
        }
    }

    /// Whether forgotten users are remembered only because this node has not spoken here since they closed. Any
    /// proposal of it will do, also one that changes nothing.
    pub fn waits_to_hear(&self, node: Incarnation) -> bool {
        let many = self.state.forgotten.len() >= FORGOTTEN_KEPT + FORGOTTEN_WAITING;
        let oldest = self.derived.by_closing.first().filter(|_| many);
        oldest
            .zip(self.producers().get(node))
            .is_some_and(|((closing, _), producer)| producer.heard < *closing)
    }

    /// Lets go of the oldest forgotten users that no open node can still name.
    pub(super) fn forgive(&mut self) {
        if self.state.forgotten.len() <= FORGOTTEN_KEPT {
            return;
        }
        let heard = self.state.journal.producers.heard_by_all();
        while self.state.forgotten.len() > FORGOTTEN_KEPT {
            match self.derived.by_closing.first() {
                Some((closing, user)) if *closing <= heard => {
                    self.state.forgiven = self.state.forgiven.max(*closing);
                    self.state.forgotten.remove(user);
                    self.derived.by_closing.pop_first();
                }
                _ => break,
            }
        }
    }
}
