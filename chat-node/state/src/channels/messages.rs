//! PRIVMSG, NOTICE and TAGMSG, to channels and to users; each with an id exactly once.

use std::sync::Arc;

use chat_protocol::limits::BODY_TEXT_BYTES;

use crate::{
    channels::{ChannelShard, Record, conversation::ConversationKey, sender::digest},
    command::{Message, MessageKind, Target},
    entry::Origin,
    event::{Event, EventKind},
    ids::{ChannelId, Position, UserId, home_shard},
    outcome::Refusal,
};

impl ChannelShard {
    pub(super) fn message(
        &mut self,
        origin: Origin,
        dir_at: Position,
        target: &Target,
        message: &Arc<Message>,
    ) -> Result<EventKind, Refusal> {
        if message.kind != MessageKind::Tagmsg && message.text.is_empty() {
            return Err(Refusal::Malformed);
        }
        // Before anything that may have changed since the first copy was stored.
        if let Some(id) = message.id {
            self.state.ids(origin).map_or(Ok(()), |ids| ids.check(id, digest(target, message)))?;
        }
        let name = match target {
            Target::Channel { channel, .. } => {
                let channel = self.known_channel(*channel)?;
                channel.can_speak(origin.user, &message.prefix)?;
                if is_for_some(target) {
                    channel.as_member(origin.user)?;
                }
                Arc::clone(&channel.name)
            }
            Target::User { user } => {
                self.can_be_told(*user, dir_at)?;
                self.state.present_mut(*user);
                Arc::from("")
            }
        };
        let stored = fitting(message, target, &name);
        if stored.kind != MessageKind::Tagmsg && stored.text.is_empty() {
            // A prefix and a target that leave no room for a word.
            return Err(Refusal::Malformed);
        }
        if let Some(id) = message.id {
            let position = self.state.journal.next_position();
            if let Some(ids) = self.state.ids_mut(origin) {
                ids.store(id, digest(target, message), position);
            }
        }
        let number = self.next_number(origin.user, target, message);
        Ok(EventKind::Message {
            target: target.clone(),
            name,
            message: stored,
            number,
            session: origin.session,
        })
    }

    fn can_be_told(&self, recipient: UserId, dir_at: Position) -> Result<(), Refusal> {
        if home_shard(recipient, self.state.shards) != self.shard() {
            return Err(Refusal::Malformed);
        }
        self.state.refuse_forgotten(recipient, dir_at).map_err(|_| Refusal::NoSuchNick)
    }

    /// The message's number in its conversation; 0 if no history keeps it.
    fn next_number(&self, sender: UserId, target: &Target, message: &Message) -> u64 {
        if !is_for_history(target, message) {
            return 0;
        }
        let key = conversation_of(sender, target);
        1 + self.conversations.get(&key).map_or(0, |conversation| conversation.last_number)
    }

    /// Puts a message that was just numbered into its conversation.
    pub(super) fn keep_message(&mut self, event: &Arc<Event>) {
        let EventKind::Message { target, number, .. } = &event.kind else { return };
        let (Some(sender), true) = (event.actor, *number > 0) else { return };
        let record = Record { source: self.shard(), at: event.position, event: Arc::clone(event) };
        let home = match target {
            Target::User { user } => {
                self.remember_peers(sender, *user);
                self.note_due(sender, event.position);
                self.at_home(sender, *user)
            }
            Target::Channel { .. } => Default::default(),
        };
        self.with_conversation(conversation_of(sender, target), |conversation| {
            if conversation.owners.is_empty() {
                conversation.owners = home;
            }
            conversation.last_number = *number;
            conversation.insert(record);
        });
    }

    pub(super) fn topic(
        &mut self,
        user: UserId,
        channel: ChannelId,
        topic: &str,
        prefix: &Arc<str>,
    ) -> Result<EventKind, Refusal> {
        let limit = self.state.journal.settings.limits.topic_length;
        #[cfg(feature = "mutations")]
        let limit = if crate::mutation::is(crate::mutation::Mutation::NodeLocalSetting) {
            crate::mutation::local_setting()
        } else {
            limit
        };
        let at_ms = self.state.journal.time_ms;
        self.known_channel(channel)?.can_set_topic(user)?;
        let channel_id = channel;
        let channel = self.channel_mut(channel);
        let text = channel.set_topic(crate::names::cut(topic, limit), prefix, at_ms);
        Ok(EventKind::TopicChanged {
            channel: channel_id,
            name: Arc::clone(&channel.name),
            prefix: Arc::clone(prefix),
            topic: text,
        })
    }
}

/// The message with its text cut so that the line fits for every receiver, and so is the same in history.
///
/// Only here: what is asked for has the text as the client sent it. By that a repeat is recognised, whatever nick the
/// sender, or the recipient, has meanwhile.
fn fitting(message: &Arc<Message>, target: &Target, name: &str) -> Arc<Message> {
    // ":" prefix " PRIVMSG " target " :" text
    let status = usize::from(is_for_some(target));
    let around = 1
        + message.prefix.len()
        + " PRIVMSG ".len()
        + status
        + name.len().max(message.to_nick.len())
        + " :".len();
    let room = message.text.floor_char_boundary(BODY_TEXT_BYTES.saturating_sub(around));
    if room == message.text.len() {
        return Arc::clone(message);
    }
    Arc::new(Message { text: message.text[..room].to_owned(), ..Message::clone(message) })
}

/// STATUSMSG: not for everybody in the channel.
fn is_for_some(target: &Target) -> bool {
    matches!(target, Target::Channel { at_least: Some(_), .. })
}

/// TAGMSG is of the moment; STATUSMSG would be shown to later readers it was not for.
fn is_for_history(target: &Target, message: &Message) -> bool {
    message.kind != MessageKind::Tagmsg && !is_for_some(target)
}

pub(super) fn conversation_of(sender: UserId, target: &Target) -> ConversationKey {
    match target {
        Target::Channel { channel, .. } => ConversationKey::Channel(*channel),
        Target::User { user } => ConversationKey::direct(sender, *user),
    }
}
