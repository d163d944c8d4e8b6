//! JOIN, PART, TOPIC, NAMES.

use std::sync::Arc;

use chat_protocol::{Capability, Folded, Line, LineWriter, name, numeric};
use chat_state::{
    channels::{Channel, Member},
    command::{ChannelCommand, ChannelFlag, Command, MemberPrefix},
    ids::{ShardId, UserId, channel_shard},
};

use super::Flow;
use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    worker::Worker,
};

/// TARGMAX of JOIN and PART; so many proposals one line may make.
pub(crate) const MAX_JOIN_TARGETS: usize = 20;

impl Worker {
    pub(crate) fn join(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) -> Flow {
        let Some(names) = line.params.filled(0) else {
            self.need_more_params(id, "JOIN");
            return Flow::Done;
        };
        if !self.may_write(id, "JOIN") {
            return Flow::Done;
        }
        if names == "0" {
            self.part_all(id, identity);
            return Flow::Done;
        }
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        if names.len() > MAX_JOIN_TARGETS {
            self.numeric(id, numeric::ERR_TOOMANYTARGETS, &["JOIN"]);
            return Flow::Done;
        }
        let limits = self.directory.settings().limits;
        let valid = |name: &str| name::is_channel(name, usize::from(limits.channel_length));
        let shards: Vec<ShardId> =
            names.iter().filter(|name| valid(name)).map(|name| self.shard_of(name)).collect();
        if !self.reaches(id, identity, &shards) {
            return Flow::Wait;
        }
        let Some(user) = self.directory.user(identity.user) else { return Flow::Done };
        let (prefix, real_name) = (Arc::clone(&user.prefix), user.real_name.to_string());
        let mut joined =
            self.channels.iter().map(|shard| shard.channels_of(identity.user).count()).sum::<usize>();
        let mut keys = line.params.at(1).unwrap_or_default().split(',');
        for name in names {
            let key = keys.next().filter(|key| !key.is_empty()).map(str::to_owned);
            if !valid(name) {
                self.numeric(id, numeric::ERR_BADCHANMASK, &[name]);
                continue;
            }
            if joined >= usize::from(limits.channels_per_user) {
                self.numeric(id, numeric::ERR_TOOMANYCHANNELS, &[name]);
                continue;
            }
            joined += 1;
            let command = ChannelCommand::Join {
                name: name.to_owned(),
                key,
                prefix: Arc::clone(&prefix),
                real_name: real_name.clone(),
            };
            let kind = PendingKind::Join { name: name.to_owned() };
            self.propose(id, identity, self.shard_of(name), Command::Channel(command), kind);
        }
        Flow::Done
    }

    pub(crate) fn part(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(names) = line.params.filled(0) else {
            self.need_more_params(id, "PART");
            return;
        };
        if !self.may_write(id, "PART") {
            return;
        }
        let reason = line.params.filled(1).map(str::to_owned);
        for name in names.split(',').filter(|name| !name.is_empty()).take(MAX_JOIN_TARGETS) {
            let Some(channel) = self.channel_or_403(id, name) else { continue };
            if self.is_member(id, identity, &channel) {
                self.leave(id, identity, &channel, reason.clone());
            }
        }
    }

    /// `JOIN 0`: leaves every channel (RFC 2812 section 3.2.1).
    fn part_all(&mut self, id: ConnectionId, identity: Identity) {
        let user = identity.user;
        let channels: Vec<Known> = self
            .channels
            .iter()
            .flat_map(|shard| shard.channels_of(user).filter_map(|channel| shard.channel(channel)))
            .map(Known::of)
            .collect();
        for channel in channels {
            self.leave(id, identity, &channel, None);
        }
    }

    fn leave(&mut self, id: ConnectionId, identity: Identity, channel: &Known, reason: Option<String>) {
        let Some(prefix) = self.prefix_of(identity) else { return };
        let command = ChannelCommand::Part { channel: channel.id, reason, prefix };
        let kind = PendingKind::Part { name: channel.name.to_string() };
        self.propose(id, identity, channel.id.shard, Command::Channel(command), kind);
    }

    pub(crate) fn topic(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(name) = line.params.filled(0) else {
            self.need_more_params(id, "TOPIC");
            return;
        };
        let Some(channel) = self.channel_or_403(id, name) else { return };
        match line.params.at(1) {
            None => self.show_topic(id, identity, &channel),
            Some(text) => {
                if !self.is_member(id, identity, &channel) || !self.may_write(id, "TOPIC") {
                    return;
                }
                let limit = usize::from(self.directory.settings().limits.topic_length);
                let topic = name::cut(text, limit).to_owned();
                let Some(prefix) = self.prefix_of(identity) else { return };
                let command = ChannelCommand::Topic { channel: channel.id, topic, prefix };
                let kind = PendingKind::Topic { name: channel.name.to_string() };
                self.propose(id, identity, channel.id.shard, Command::Channel(command), kind);
            }
        }
    }

    fn show_topic(&mut self, id: ConnectionId, identity: Identity, known: &Known) {
        let Some(channel) = self.shard(known.id.shard).channel(known.id) else { return };
        let member = channel.members.contains_key(&identity.user);
        if !member && channel.has(ChannelFlag::Secret) {
            self.numeric(id, numeric::ERR_NOTONCHANNEL, &[&known.name]);
        } else if channel.topic.is_none() {
            self.numeric(id, numeric::RPL_NOTOPIC, &[&known.name]);
        } else {
            self.topic_numerics(id, known);
        }
    }

    /// 332 and 333, where there is a topic.
    fn topic_numerics(&mut self, id: ConnectionId, known: &Known) {
        let Some(topic) =
            self.shard(known.id.shard).channel(known.id).and_then(|channel| channel.topic.clone())
        else {
            return;
        };
        self.numeric_text(id, numeric::RPL_TOPIC, &[&known.name], &topic.text);
        let seconds = (topic.at_ms / 1000).to_string();
        // Nobody set it: the settings declare it.
        let by = if topic.by.is_empty() { self.config.server_name.as_str() } else { &topic.by }.to_owned();
        self.numeric_words(id, numeric::RPL_TOPICWHOTIME, &[&known.name, &by, &seconds]);
    }

    /// What follows a JOIN of one's own: topic and names.
    pub(crate) fn introduce(&mut self, id: ConnectionId, known: &Known) {
        self.topic_numerics(id, known);
        self.names_of(id, Some(known), &known.name);
    }

    pub(crate) fn names(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(names) = line.params.filled(0) else {
            self.numeric(id, numeric::RPL_ENDOFNAMES, &["*"]);
            return;
        };
        for name in names.split(',').filter(|name| !name.is_empty()).take(MAX_JOIN_TARGETS) {
            let known = self.channel(name);
            self.names_of(id, known.as_ref(), name);
        }
    }

    /// 353 and 366; the latter alone where the asker may not know of the channel.
    fn names_of(&mut self, id: ConnectionId, known: Option<&Known>, asked: &str) {
        let client = self.client_name(id);
        let connection = self.connection(id);
        let asker = connection.attached().map(|identity| identity.user);
        let style = NameStyle {
            all_prefixes: connection.has(Capability::MultiPrefix),
            hosts: connection.has(Capability::UserhostInNames),
        };
        let channel = known.and_then(|known| self.shard(known.id.shard).channel(known.id));
        let mut lines = Vec::new();
        if let Some(channel) = channel.filter(|channel| visible(channel, asker)) {
            let symbol = if channel.has(ChannelFlag::Secret) { "@" } else { "=" };
            let names = self.member_names(channel, asker, style);
            let line = |out: &mut Vec<u8>, text: &str| {
                LineWriter::begin(out)
                    .numeric(&self.config.server_name, numeric::RPL_NAMREPLY, &client)
                    .param(symbol)
                    .param(&channel.name)
                    .trailing(text);
            };
            let room = 510usize
                .saturating_sub(self.config.server_name.len() + client.len() + channel.name.len() + 12);
            let mut text = String::new();
            for name in names {
                if !text.is_empty() && text.len() + 1 + name.len() > room {
                    line(&mut lines, &text);
                    text.clear();
                }
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(&name);
            }
            if !text.is_empty() {
                line(&mut lines, &text);
            }
        }
        self.say(id, |_, out| out.extend_from_slice(&lines));
        let shown = known.map_or(asked, |known| &known.name);
        self.numeric(id, numeric::RPL_ENDOFNAMES, &[shown]);
    }

    fn member_names(&self, channel: &Channel, asker: Option<UserId>, style: NameStyle) -> Vec<String> {
        let inside = asker.is_some_and(|asker| channel.members.contains_key(&asker));
        let shown = channel.members.iter().filter_map(|(user, member)| {
            let user = self.directory.user(*user)?;
            (inside || !user.modes.invisible).then_some((user, member))
        });
        shown
            .map(|(user, member)| {
                let ranks = rank_symbols(member, style.all_prefixes);
                let name: &str = if style.hosts { &user.prefix } else { &user.nick };
                format!("{ranks}{name}")
            })
            .collect()
    }

    /// The shard of a channel by the name a client wrote.
    pub(crate) fn shard_of(&self, name: &str) -> ShardId {
        channel_shard(Folded::new(name).as_str(), self.config.shards)
    }

    pub(crate) fn channel(&self, name: &str) -> Option<Known> {
        let folded = Folded::new(name);
        let shard = channel_shard(folded.as_str(), self.config.shards);
        self.shard(shard).channel_by_name(folded.as_str()).map(Known::of)
    }

    pub(crate) fn channel_or_403(&mut self, id: ConnectionId, name: &str) -> Option<Known> {
        let known = self.channel(name);
        if known.is_none() {
            self.numeric(id, numeric::ERR_NOSUCHCHANNEL, &[name]);
        }
        known
    }

    pub(crate) fn prefix_of(&self, identity: Identity) -> Option<Arc<str>> {
        self.directory.user(identity.user).map(|user| Arc::clone(&user.prefix))
    }
}

/// `@+`: all prefixes of a member, or the highest alone.
pub(crate) fn rank_symbols(member: &Member, all: bool) -> String {
    let symbols = member.prefixes().map(|rank| match rank {
        MemberPrefix::Operator => '@',
        MemberPrefix::Voice => '+',
    });
    symbols.take(if all { 2 } else { 1 }).collect()
}

/// Whether the channel may be shown to somebody: it is not secret, or they are in it.
pub(crate) fn visible(channel: &Channel, asker: Option<UserId>) -> bool {
    !channel.has(ChannelFlag::Secret) || asker.is_some_and(|asker| channel.members.contains_key(&asker))
}

#[derive(Clone, Copy)]
struct NameStyle {
    all_prefixes: bool,
    hosts: bool,
}

/// A channel that was found, without borrowing it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: chat_state::ids::ChannelId,
    pub(crate) name: Arc<str>,
}

impl Known {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self { id: channel.id, name: Arc::clone(&channel.name) }
    }
}
