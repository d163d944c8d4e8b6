//! Keeping the conversations within their bounds.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    channels::{
        ChannelShard,
        conversation::{Conversation, ConversationKey},
    },
    ids::{Position, UserId, home_shard},
};

impl ChannelShard {
    /// Changes a conversation (an empty one if there is none), then holds it to the bound of messages.
    pub(super) fn with_conversation(&mut self, key: ConversationKey, change: impl FnOnce(&mut Conversation)) {
        let most = self.state.journal.settings.history_max_messages;
        let conversation = Arc::make_mut(self.conversations.entry(key).or_default());
        let before = oldest_ms(conversation);
        change(conversation);
        conversation.trim(0, most);
        let after = oldest_ms(conversation);
        self.note_oldest(key, before, after);
    }

    fn note_oldest(&mut self, key: ConversationKey, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.derived.aging.remove(&(before, key));
        }
        if let Some(after) = after {
            self.derived.aging.insert((after, key));
        }
    }

    /// Gives up what is older than the settings allow, by the time of the last entry.
    pub(super) fn age_history(&mut self) {
        let oldest_allowed =
            self.state.journal.time_ms.saturating_sub(self.state.journal.settings.history_max_age_ms);
        while let Some((oldest, key)) = self.derived.aging.first().copied()
            && oldest < oldest_allowed
        {
            self.with_conversation(key, |conversation| conversation.trim(oldest_allowed, u32::MAX));
            self.end_if_silent(key);
        }
    }

    /// After a change of settings: every conversation within the new bound.
    pub(super) fn bound_history(&mut self) {
        let most = self.state.journal.settings.history_max_messages as usize;
        let over: Vec<_> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| conversation.len() > most)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.with_conversation(key, |_| {});
        }
    }

    /// A conversation of two that aged out whole is gone; a later one counts from 1 again.
    fn end_if_silent(&mut self, key: ConversationKey) {
        let ConversationKey::Direct(one, other) = key else { return };
        if self.conversations.get(&key).is_some_and(|conversation| conversation.is_empty()) {
            self.conversations.remove(&key);
            self.forget_peers(one, other);
        }
    }

    /// A channel that ended takes its history along.
    pub(super) fn end_history(&mut self, key: ConversationKey) {
        if let Some(conversation) = self.conversations.remove(&key) {
            self.note_oldest(key, oldest_ms(&conversation), None);
        }
    }

    /// Which of the two are at home here, and not forgotten.
    pub(super) fn at_home(&self, one: UserId, other: UserId) -> BTreeSet<UserId> {
        [one, other]
            .into_iter()
            .filter(|user| home_shard(*user, self.state.shards) == self.shard())
            .filter(|user| !self.state.forgotten.contains_key(user))
            .collect()
    }

    pub(super) fn remember_peers(&mut self, one: UserId, other: UserId) {
        self.derived.peers.entry(one).or_default().insert(other);
        self.derived.peers.entry(other).or_default().insert(one);
    }

    pub(super) fn forget_peers(&mut self, one: UserId, other: UserId) {
        for (user, peer) in [(one, other), (other, one)] {
            if let Some(peers) = self.derived.peers.get_mut(&user) {
                peers.remove(&peer);
                if peers.is_empty() {
                    self.derived.peers.remove(&user);
                }
            }
        }
    }

    /// Position of the oldest message that history keeps: chunks that end before it can go.
    pub fn oldest_history(&self) -> Option<Position> {
        self.conversations.values().flat_map(|conversation| conversation.iter()).map(|record| record.at).min()
    }
}

fn oldest_ms(conversation: &Conversation) -> Option<u64> {
    conversation.oldest().map(|record| record.event.time_ms)
}
