//! KICK and INVITE: who is taken out of a channel, and who is asked in.

use chat_protocol::{Folded, Line, name, numeric};
use chat_state::{
    command::{ChannelCommand, Command},
    ids::UserId,
};

use super::{Known, MAX_TARGETS};
use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    worker::Worker,
};

impl Worker {
    pub(crate) fn kick(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let (Some(name), Some(nicks)) = (line.params.filled(0), line.params.filled(1)) else {
            self.need_more_params(id, "KICK");
            return;
        };
        let Some(known) = self.channel_or_403(id, name) else { return };
        if !self.is_member(id, identity, &known) || !self.may_write(id, "KICK") {
            return;
        }
        let channel = self.shard(known.id.shard).channel(known.id);
        if !channel.is_some_and(|channel| channel.is_operator(identity.user)) {
            self.numeric(id, numeric::ERR_CHANOPRIVSNEEDED, &[&known.name]);
            return;
        }
        let limit = usize::from(self.directory.settings().limits.kick_length);
        let by = self.client_name(id);
        let reason = name::cut(line.params.filled(2).unwrap_or(&by), limit).to_owned();
        for nick in nicks.split(',').filter(|nick| !nick.is_empty()).take(MAX_TARGETS) {
            self.kick_one(id, identity, &known, nick, &reason);
        }
    }

    fn kick_one(&mut self, id: ConnectionId, identity: Identity, known: &Known, nick: &str, reason: &str) {
        let Some((target, target_nick)) = self.user_or_401(id, nick) else { return };
        let channel = self.shard(known.id.shard).channel(known.id);
        if channel.is_none_or(|channel| channel.member(target).is_none()) {
            self.numeric(id, numeric::ERR_USERNOTINCHANNEL, &[&target_nick, &known.name]);
            return;
        }
        let Some(prefix) = self.prefix_of(identity) else { return };
        let kind = PendingKind::Kick { name: known.name.to_string(), nick: target_nick.clone() };
        let reason = reason.to_owned();
        let command = ChannelCommand::Kick { channel: known.id, target, target_nick, reason, prefix };
        self.propose(id, identity, known.id.shard, Command::Channel(command), kind);
    }

    pub(crate) fn invite(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(nick) = line.params.filled(0) else {
            self.show_invitations(id, identity);
            return;
        };
        let Some(name) = line.params.filled(1) else {
            self.need_more_params(id, "INVITE");
            return;
        };
        let Some((target, target_nick)) = self.user_or_401(id, nick) else { return };
        let Some(known) = self.channel_or_403(id, name) else { return };
        if !self.is_member(id, identity, &known) || !self.may_write(id, "INVITE") {
            return;
        }
        let Some(prefix) = self.prefix_of(identity) else { return };
        let kind = PendingKind::Invite { name: known.name.to_string(), nick: target_nick.clone() };
        let command = ChannelCommand::Invite { channel: known.id, target, target_nick, prefix };
        self.propose(id, identity, known.id.shard, Command::Channel(command), kind);
    }

    /// 336 and 337: the channels that one was invited to and has not joined.
    fn show_invitations(&mut self, id: ConnectionId, identity: Identity) {
        let channels = self.channels.iter().flat_map(chat_state::channels::ChannelShard::channels);
        let invited: Vec<Known> =
            channels.filter(|channel| channel.invited.contains(&identity.user)).map(Known::of).collect();
        for known in invited {
            self.numeric_words(id, numeric::RPL_INVITELIST, &[&known.name]);
        }
        self.numeric(id, numeric::RPL_ENDOFINVITELIST, &[]);
    }

    fn user_or_401(&mut self, id: ConnectionId, nick: &str) -> Option<(UserId, String)> {
        let user = self.directory.user_by_nick(Folded::new(nick).as_str());
        let Some(user) = user else {
            self.numeric(id, numeric::ERR_NOSUCHNICK, &[nick]);
            return None;
        };
        Some((user, self.nick_or(user, nick)))
    }

    /// Told 442 if not. Who is not a member has no business in the channel's shard, which may not even know the user.
    pub(crate) fn is_member(&mut self, id: ConnectionId, identity: Identity, known: &Known) -> bool {
        let channel = self.shard(known.id.shard).channel(known.id);
        let member = channel.is_some_and(|channel| channel.member(identity.user).is_some());
        if !member {
            self.numeric(id, numeric::ERR_NOTONCHANNEL, &[&known.name]);
        }
        member
    }
}
