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
    /// Changes a conversation (an empty one if there is none), then holds it and the shard to their bounds.
    pub(super) fn with_conversation(&mut self, key: ConversationKey, change: impl FnOnce(&mut Conversation)) {
        let most = self.state.journal.settings.history_max_messages;
        let bounds = self.state.journal.settings.bounds;
        self.change(key, |conversation| {
            change(conversation);
            conversation.trim(most, bounds.history_bytes);
        });
        self.bound_shard();
    }

    fn change(&mut self, key: ConversationKey, change: impl FnOnce(&mut Conversation)) {
        let conversation = Arc::make_mut(self.conversations.entry(key).or_default());
        let before = Extent::of(conversation);
        change(conversation);
        let after = Extent::of(conversation);
        self.note_extent(key, before, after);
    }

    fn note_extent(&mut self, key: ConversationKey, before: Option<Extent>, after: Option<Extent>) {
        if before == after {
            return;
        }
        if let Some(Extent { oldest_ms, bytes }) = before {
            self.derived.aging.remove(&(oldest_ms, key));
            self.derived.by_size.remove(&(bytes, key));
            self.derived.history_bytes -= bytes;
        }
        if let Some(Extent { oldest_ms, bytes }) = after {
            self.derived.aging.insert((oldest_ms, key));
            self.derived.by_size.insert((bytes, key));
            self.derived.history_bytes += bytes;
        }
    }

    /// All conversations together within their bound: the largest gives up its oldest message, so that nobody's flood
    /// in one channel costs another one its history.
    fn bound_shard(&mut self) {
        let most = self.state.journal.settings.bounds.history_bytes_per_shard;
        while self.derived.history_bytes > most
            && let Some((_, largest)) = self.derived.by_size.last().copied()
        {
            self.change(largest, Conversation::give_up_oldest);
            self.end_if_silent(largest);
        }
    }

    /// Gives up what is older than the settings allow, by the time of the last entry.
    pub(super) fn age_history(&mut self) {
        let oldest_allowed =
            self.state.journal.time_ms.saturating_sub(self.state.journal.settings.history_max_age_ms);
        while let Some((oldest, key)) = self.derived.aging.first().copied()
            && oldest < oldest_allowed
        {
            self.change(key, |conversation| conversation.trim_older(oldest_allowed));
            self.end_if_silent(key);
        }
    }

    /// After a change of settings: every conversation within the new bounds.
    pub(super) fn bound_history(&mut self) {
        let settings = &self.state.journal.settings;
        let (most, most_bytes) = (settings.history_max_messages as usize, settings.bounds.history_bytes);
        let over: Vec<_> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| conversation.len() > most || conversation.bytes() > most_bytes)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.with_conversation(key, |_| {});
        }
        self.bound_shard();
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
            self.note_extent(key, Extent::of(&conversation), None);
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

/// What a conversation is found by when there is too much.
#[derive(Clone, Copy, PartialEq)]
struct Extent {
    oldest_ms: u64,
    bytes: u64,
}

impl Extent {
    /// None if nothing is kept.
    fn of(conversation: &Conversation) -> Option<Self> {
        let oldest_ms = conversation.oldest()?.event.time_ms;
        Some(Self { oldest_ms, bytes: conversation.bytes() })
    }
}
