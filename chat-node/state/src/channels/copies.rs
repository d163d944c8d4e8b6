//! Copies of direct messages: the history of the sender, where the recipient is at home in another shard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    channels::{
        ChannelShard, Record,
        conversation::{Conversation, ConversationKey},
    },
    command::{ChannelCommand, Message, Target},
    event::{Event, EventKind},
    ids::{Lineage, Position, SessionId, ShardId, UserId, home_shard},
    outcome::Refusal,
};

/// How far the direct messages of another shard were copied. Orders as the messages do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyMark {
    pub lineage: Lineage,
    pub position: Position,
}

/// A direct message as its source shard knows it.
pub(super) struct Original<'a> {
    pub(super) source: ShardId,
    pub(super) mark: CopyMark,
    pub(super) sender: UserId,
    pub(super) recipient: UserId,
    pub(super) time_ms: u64,
    pub(super) message: &'a Arc<Message>,
}

impl ChannelShard {
    /// Up to where the direct messages of `source` were copied here.
    pub fn copied(&self, source: ShardId) -> CopyMark {
        self.state.copied.get(&source).copied().unwrap_or_default()
    }

    /// The shards that have something of this one to copy, or had it before.
    pub fn copied_to(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.derived.last_due.keys().copied()
    }

    /// The direct messages of this shard that `dest` has yet to copy, oldest first; `after` is what
    /// [`Self::copied`] says there. What history gave up is not copied any more.
    pub fn copies_due(&self, dest: ShardId, after: CopyMark) -> impl Iterator<Item = ChannelCommand> + '_ {
        let after = self.position_of(after);
        // Asked often, and mostly there is nothing.
        let any = self.derived.last_due.get(&dest).is_some_and(|last| *last > after);
        any.then(|| self.find_due(dest, after)).into_iter().flatten().filter_map(|event| self.copy_of(event))
    }

    fn find_due(&self, dest: ShardId, after: Position) -> Vec<&Arc<Event>> {
        let mut due: Vec<&Arc<Event>> = match self.kept.since(after) {
            Ok(events) => events.filter(|event| self.is_kept_for(dest, event)).collect(),
            Err(_) => self.direct_originals(dest, after),
        };
        due.sort_by_key(|event| event.position);
        due
    }

    /// A direct message was stored here: its sender may be at home elsewhere.
    pub(super) fn note_due(&mut self, sender: UserId, at: Position) {
        let dest = home_shard(sender, self.state.shards);
        if dest != self.shard() {
            self.derived.last_due.insert(dest, at);
        }
    }

    /// Where `mark` is in the present history of this shard: what a lineage took back was never here.
    fn position_of(&self, mark: CopyMark) -> Position {
        let ended = self
            .state
            .journal
            .lineages
            .iter()
            .find(|(_, lineage)| **lineage > mark.lineage)
            .map_or(mark.position, |(position, _)| *position);
        mark.position.min(ended)
    }

    fn is_kept_for(&self, dest: ShardId, event: &Event) -> bool {
        let EventKind::Message { target: Target::User { user }, number, .. } = &event.kind else {
            return false;
        };
        *number > 0
            && event.actor.is_some_and(|sender| self.is_copied_to(dest, sender))
            && event.actor.is_some_and(|sender| self.direct_history(sender, *user).is_some())
    }

    fn is_copied_to(&self, dest: ShardId, sender: UserId) -> bool {
        dest != self.shard() && home_shard(sender, self.state.shards) == dest
    }

    /// From history, when the kept events do not reach back that far.
    fn direct_originals(&self, dest: ShardId, after: Position) -> Vec<&Arc<Event>> {
        self.conversations
            .iter()
            .filter(|(key, _)| matches!(key, ConversationKey::Direct(..)))
            .flat_map(|(_, conversation)| conversation.iter())
            .filter(|record| record.source == self.shard() && record.at > after)
            .map(|record| &record.event)
            .filter(|event| event.actor.is_some_and(|sender| self.is_copied_to(dest, sender)))
            .collect()
    }

    fn copy_of(&self, event: &Event) -> Option<ChannelCommand> {
        let EventKind::Message { target: Target::User { user }, message, .. } = &event.kind else {
            return None;
        };
        Some(ChannelCommand::Copy {
            source: self.shard(),
            lineage: self.lineage_at(event.position),
            position: event.position,
            sender: event.actor?,
            recipient: *user,
            time_ms: event.time_ms,
            message: Arc::clone(message),
        })
    }

    /// Each message once: in the order of their positions, whoever brings them.
    pub(super) fn take_copy(&mut self, original: &Original<'_>) -> Result<EventKind, Refusal> {
        let Original { source, mark, sender, recipient, .. } = *original;
        if source == self.shard() || home_shard(sender, self.state.shards) != self.shard() {
            return Err(Refusal::Malformed);
        }
        if mark <= self.copied(source) {
            return Err(Refusal::NoChange);
        }
        self.state.copied.insert(source, mark);
        // The copy of someone who left is not kept, but counts as copied.
        if !self.state.forgotten.contains_key(&sender) {
            self.keep_copy(original, recipient);
        }
        Ok(EventKind::Copied { source, position: mark.position })
    }

    fn keep_copy(&mut self, original: &Original<'_>, recipient: UserId) {
        let at = self.state.journal.next_position();
        let key = ConversationKey::direct(original.sender, recipient);
        let home = self.at_home(original.sender, recipient);
        self.remember_peers(original.sender, recipient);
        self.with_conversation(key, |conversation: &mut Conversation| {
            if conversation.owners.is_empty() {
                conversation.owners = home;
            }
            conversation.last_number += 1;
            let kind = EventKind::Message {
                target: Target::User { user: recipient },
                name: "".into(),
                message: Arc::clone(original.message),
                number: conversation.last_number,
                session: SessionId(0),
            };
            let event = Arc::new(Event {
                position: original.mark.position,
                time_ms: original.time_ms,
                dir_at: Position(0),
                actor: Some(original.sender),
                kind,
            });
            conversation.insert(Record { source: original.source, at, event });
        });
    }
}
