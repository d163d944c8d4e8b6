//! Who is in a channel: JOIN, PART, KICK, INVITE; and the channel's own beginning and end.

use std::sync::Arc;

use crate::{
    channels::{Channel, ChannelShard, Member, conversation::ConversationKey},
    command::ChannelFlag,
    event::EventKind,
    ids::{ChannelId, Position, UserId, channel_shard},
    names::{cut, folded, is_channel},
    outcome::Refusal,
};

impl ChannelShard {
    pub(super) fn join(
        &mut self,
        (user, joined_dir_at): (UserId, Position),
        name: &str,
        key: Option<&str>,
        prefix: &Arc<str>,
        real_name: &str,
    ) -> Result<EventKind, Refusal> {
        let limits = self.state.journal.settings.limits;
        let folded = folded(name);
        let found = self.derived.names.get(&folded).copied();
        if found.is_none() && !is_channel(name, usize::from(limits.channel_length)) {
            return Err(Refusal::BadChannelName);
        }
        if channel_shard(&folded, self.state.shards) != self.shard() {
            return Err(Refusal::Malformed);
        }
        if let Some(channel) = found.and_then(|id| self.channel(id)) {
            if channel.member(user).is_some() {
                return Err(Refusal::AlreadyJoined);
            }
            channel.can_join(user, prefix, key)?;
        }
        if self.channels_of(user).count() >= usize::from(limits.channels_per_user) {
            return Err(Refusal::TooManyChannels);
        }
        let created = found.is_none();
        let id = found.unwrap_or_else(|| self.create(name, folded, 0));
        let joined = self.state.journal.next_position();
        let channel = self.channel_mut(id);
        // Only who makes a channel runs it: a declared one is run by the settings.
        channel.members.insert(user, Member { voice: false, operator: created, joined, joined_dir_at });
        channel.invited.remove(&user);
        let name = Arc::clone(&channel.name);
        self.state.present_mut(user).channels.insert(id);
        Ok(EventKind::Joined {
            channel: id,
            name,
            prefix: Arc::clone(prefix),
            real_name: real_name.to_owned(),
            created,
        })
    }

    pub(super) fn part(
        &mut self,
        user: UserId,
        channel: ChannelId,
        reason: Option<&str>,
        prefix: &Arc<str>,
    ) -> Result<EventKind, Refusal> {
        let found = self.known_channel(channel)?;
        found.as_member(user)?;
        let name = Arc::clone(&found.name);
        self.leave_by_event(channel, user);
        let reason = reason.map(str::to_owned);
        Ok(EventKind::Parted { channel, name, prefix: Arc::clone(prefix), reason })
    }

    pub(super) fn kick(
        &mut self,
        user: UserId,
        channel: ChannelId,
        (target, target_nick): (UserId, &str),
        reason: &str,
        prefix: &Arc<str>,
    ) -> Result<EventKind, Refusal> {
        let limit = self.state.journal.settings.limits.kick_length;
        let found = self.known_channel(channel)?;
        found.as_operator(user)?;
        if found.member(target).is_none() {
            return Err(Refusal::UserNotInChannel);
        }
        let name = Arc::clone(&found.name);
        self.leave_by_event(channel, target);
        Ok(EventKind::Kicked {
            channel,
            name,
            prefix: Arc::clone(prefix),
            target,
            target_nick: target_nick.to_owned(),
            reason: cut(reason, limit).to_owned(),
        })
    }

    /// Any member may invite, under `i` only operators; theirs alone are remembered, and open `i` and bans.
    pub(super) fn invite(
        &mut self,
        user: UserId,
        channel: ChannelId,
        (target, target_nick): (UserId, &str),
        prefix: &Arc<str>,
    ) -> Result<EventKind, Refusal> {
        let found = self.known_channel(channel)?;
        let by_operator = found.as_member(user)?.operator;
        if found.has(ChannelFlag::InviteOnly) && !by_operator {
            return Err(Refusal::NotOperator);
        }
        if found.member(target).is_some() {
            return Err(Refusal::UserOnChannel);
        }
        let name = Arc::clone(&found.name);
        if by_operator {
            self.channel_mut(channel).invite(target);
        }
        Ok(EventKind::Invited {
            channel,
            name,
            prefix: Arc::clone(prefix),
            target,
            target_nick: target_nick.to_owned(),
        })
    }

    /// A member who stays in the room leaves by the next event.
    fn leave_by_event(&mut self, channel: ChannelId, user: UserId) {
        let member = self.channel(channel).and_then(|channel| channel.member(user)).copied();
        let at = self.state.journal.next_position();
        self.state.left.extend(member.map(|member| (at, member)));
        self.leave(channel, user);
    }

    /// Takes a member out, and the channel with the last one.
    pub(super) fn leave(&mut self, channel: ChannelId, user: UserId) {
        self.channel_mut(channel).members.remove(&user);
        self.state.present_mut(user).channels.remove(&channel);
        self.end_if_empty(channel);
    }

    /// A new channel; it is in the shard from the next event on.
    pub(super) fn create(&mut self, name: &str, folded: String, nth: u16) -> ChannelId {
        let id = ChannelId { shard: self.shard(), created: self.state.journal.next_position(), nth };
        let channel = Channel::new(id, name, self.state.journal.time_ms);
        self.state.channels.insert(id, Arc::new(channel));
        self.derived.names.insert(folded, id);
        id
    }

    /// A channel that nobody declared ends with its last member, history included.
    pub(super) fn end_if_empty(&mut self, channel: ChannelId) {
        if self.channel(channel).is_some_and(Channel::ends_when_empty) {
            let ended = self.state.channels.remove(&channel).expect("it was just seen");
            self.derived.names.remove(&folded(&ended.name));
            self.state.dropped_in.remove(&channel);
            self.end_history(ConversationKey::Channel(channel));
        }
    }

    pub(super) fn known_channel(&self, channel: ChannelId) -> Result<&Channel, Refusal> {
        self.channel(channel).ok_or(Refusal::NoSuchChannel)
    }

    /// `channel` was seen to exist.
    pub(super) fn channel_mut(&mut self, channel: ChannelId) -> &mut Channel {
        Arc::make_mut(self.state.channels.get_mut(&channel).expect("the channel was seen to exist"))
    }
}
