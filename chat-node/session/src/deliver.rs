//! Entries that came back: applies them and tells every connection here what happened.

use std::sync::Arc;

use chat_protocol::{Capability, LineWriter, Source, numeric};
use chat_state::{
    command::{Command, CommonCommand, DirectoryCommand, MemberPrefix, MessageKind, ModeChange, Target},
    entry::{Entry, Proposal},
    event::{Event, EventKind},
    ids::{ChannelId, Lineage, SessionId, ShardId, UserId},
    outcome::{Outcome, Refusal},
};

use crate::{
    commands::Known,
    connection::{ConnectionId, Pending, PendingKind},
    lines::{Body, status},
    worker::Worker,
};

/// The session's connection that asked, if it is here, and what it asked.
pub(crate) struct Asker {
    pub(crate) id: ConnectionId,
    pub(crate) pending: Option<Pending>,
}

impl Worker {
    /// Applies an entry whose time has come, proposal by proposal, and delivers what came of each.
    pub(crate) fn deliver(&mut self, shard: ShardId, entry: &Arc<Entry>) {
        match shard {
            ShardId::DIRECTORY => self.directory.begin(entry),
            ShardId(n) => self.channels[usize::from(n) - 1].begin(entry),
        }
        for proposal in &entry.proposals {
            self.resumes_in_doubt = self.is_unconfirmed(&proposal.command);
            let outcome = match shard {
                ShardId::DIRECTORY => self.directory.apply_one(proposal),
                ShardId(n) => self.channels[usize::from(n) - 1].apply_one(proposal),
            };
            self.came_back(shard, proposal, outcome);
        }
        match shard {
            ShardId::DIRECTORY => {
                self.directory.end();
                self.most_users = self.most_users.max(self.directory.user_count());
            }
            ShardId(n) => self.channels[usize::from(n) - 1].end(),
        }
    }

    /// Whether this attaches a session whose last resume was never known to have arrived.
    fn is_unconfirmed(&self, command: &Command) -> bool {
        let Command::Directory(DirectoryCommand::Attach(attach)) = command else { return false };
        let session = self.directory.session_by_token(&attach.shown);
        session
            .and_then(|session| self.directory.session(session))
            .is_some_and(|session| session.previous_token.is_some())
    }

    fn came_back(&mut self, shard: ShardId, proposal: &Proposal, outcome: Outcome) {
        let mut asker = self.asker(shard, proposal);
        let ours = self.incarnation == Some(proposal.producer.incarnation);
        if ours && matches!(outcome, Outcome::Refused(Refusal::UnknownNode)) {
            self.given_up = true;
        }
        #[cfg(feature = "mutations")]
        if chat_state::mutation::is(chat_state::mutation::Mutation::DroppedGoesOn) {
            self.given_up = false;
        }
        match outcome {
            Outcome::Repeated => return,
            Outcome::Happened(event) => {
                self.waits_for_nick(proposal, &event, &mut asker, ours);
                self.happened(shard, proposal, &event, asker.as_ref(), ours);
            }
            Outcome::Refused(refusal) => match (&asker, &proposal.command) {
                (Some(asker), _) => self.refused_by_state(asker, shard, &refusal),
                (None, Command::Directory(DirectoryCommand::Open(open)))
                    if ours && self.asked_here(open.request) =>
                {
                    self.not_opened(open.request, refusal == Refusal::NickInUse);
                }
                (None, Command::Directory(DirectoryCommand::Attach(attach)))
                    if ours && self.asked_here(attach.request) =>
                {
                    self.not_attached(attach.request);
                }
                _ => {}
            },
        }
        if let Some(asker) = asker {
            self.answered(asker);
        }
    }

    fn asker(&mut self, shard: ShardId, proposal: &Proposal) -> Option<Asker> {
        let origin = proposal.origin?;
        let id = *self.by_session.get(&origin.session)?;
        let connection = self.connection_mut(id);
        if connection.attached()?.generation != origin.generation {
            return None;
        }
        let asked = |pending: &Pending| pending.shard == shard && pending.request == origin.request;
        let at = connection.pending.iter().position(asked)?;
        Some(Asker { id, pending: connection.pending.remove(at) })
    }

    /// The answer to a pending command was given: what waited behind it may run.
    pub(crate) fn answered(&mut self, asker: Asker) {
        let Asker { id, pending } = asker;
        let label = pending.and_then(|pending| pending.label);
        let Some(connection) = self.connections[id.0 as usize].as_deref_mut() else { return };
        if connection.is_closed() {
            // Nothing comes after its ERROR.
            return;
        }
        if let Some(label) = label {
            let mut lines = Vec::new();
            connection.labels.answered(label, &self.config.server_name, &mut lines);
            if !lines.is_empty() {
                self.send(id, &lines);
            }
        }
        if !self.connection(id).input.is_empty() {
            self.runnable.push(id);
        }
    }

    fn happened(
        &mut self,
        shard: ShardId,
        proposal: &Proposal,
        event: &Arc<Event>,
        asker: Option<&Asker>,
        ours: bool,
    ) {
        let own = asker.map(|asker| asker.id);
        self.context = asker.and_then(|asker| asker.pending.as_ref()?.label);
        match &event.kind {
            EventKind::NodeRegistered { incarnation, .. } => {
                if let Command::Directory(DirectoryCommand::RegisterNode { member, nonce, .. }) =
                    &proposal.command
                {
                    self.registered(*member, *nonce, *incarnation);
                }
            }
            EventKind::NodeDropped { incarnation, .. } if Some(*incarnation) == self.incarnation => {
                self.given_up = true;
                #[cfg(feature = "mutations")]
                if chat_state::mutation::is(chat_state::mutation::Mutation::DroppedGoesOn) {
                    self.given_up = false;
                }
            }
            EventKind::Opened { user, session, request, .. } if ours && self.asked_here(*request) => {
                self.opened(*request, *user, *session);
            }
            EventKind::Attached { user, session, generation, request } => {
                self.replaced(*session, *generation);
                if ours && self.asked_here(*request) {
                    self.attached(*request, *user, *session, *generation);
                }
            }
            EventKind::Closing { user, sessions, reason, .. } => {
                self.invisible.remove(user);
                for session in sessions {
                    self.session_ended(*session, reason);
                }
            }
            EventKind::SessionClosed { session, .. } => self.session_ended(*session, "Closed"),
            EventKind::Freed { user, prefix, reason, .. } => {
                let watchers = self.quit_watchers.remove(user).unwrap_or_default();
                let body = Body::Quit { prefix, reason };
                self.broadcast(shard, event, &watchers, None, &body);
                self.nick_freed(*user);
            }
            EventKind::NickChanged { user, prefix, nick } => {
                self.tell_acquaintances(shard, event, *user, own, &Body::Nick { prefix, nick });
            }
            EventKind::AwayChanged { user, prefix, message } => {
                let body = Body::Away { prefix, message: message.as_deref() };
                self.away_changed(own, message.is_some());
                // The numeric is the asker's own answer.
                let receivers = self.acquaintances(*user);
                self.broadcast(shard, event, &receivers, own, &body);
            }
            EventKind::RealNameChanged { user, prefix, real_name } => {
                self.tell_acquaintances(shard, event, *user, own, &Body::SetName { prefix, real_name });
            }
            EventKind::UserModesChanged { user, modes } => {
                if modes.invisible {
                    self.invisible.insert(*user);
                } else {
                    self.invisible.remove(user);
                }
                self.user_modes_changed(own, proposal);
            }
            EventKind::Settings { topics, .. } => self.declared_topics(shard, proposal, event, topics),
            EventKind::Joined { .. }
            | EventKind::Parted { .. }
            | EventKind::Kicked { .. }
            | EventKind::TopicChanged { .. }
            | EventKind::ModeChanged { .. }
            | EventKind::Invited { .. }
            | EventKind::Message { .. }
            | EventKind::Forgotten { .. } => self.happened_in_channel(shard, event, asker),
            EventKind::LevelRaised { .. }
            | EventKind::LineageBegun { .. }
            | EventKind::NodeDropped { .. }
            | EventKind::Opened { .. }
            | EventKind::Reached { .. }
            | EventKind::Detached { .. }
            | EventKind::TokenConfirmed { .. }
            | EventKind::Copied { .. } => {}
        }
        self.context = None;
    }

    fn happened_in_channel(&mut self, shard: ShardId, event: &Arc<Event>, asker: Option<&Asker>) {
        let own = asker.map(|asker| asker.id);
        // Who is on the way out keeps the last prefix.
        let live = event.actor.and_then(|actor| self.directory.prefix(actor)).cloned();
        let prefix_or = |stored: &Arc<str>| live.clone().unwrap_or_else(|| Arc::clone(stored));
        match &event.kind {
            EventKind::Joined { channel, name, prefix, real_name, .. } => {
                let Some(actor) = event.actor else { return };
                let newcomers = self.by_user.get(&actor).cloned().unwrap_or_default();
                self.local.entry(*channel).or_default().extend(&newcomers);
                let prefix = prefix_or(prefix);
                let seen = self.seen_with(event, self.directory.position());
                let body = Body::Join { prefix: &prefix, name, real_name, seen };
                self.tell_channel(shard, event, *channel, own, &body);
                self.tell_away(shard, event, *channel, actor);
                let known = Known { id: *channel, name: Arc::clone(name) };
                for id in newcomers {
                    let context = if Some(id) == own { self.context } else { self.context.take() };
                    self.introduce(id, &known);
                    self.context = context;
                }
            }
            EventKind::Parted { channel, name, prefix, reason } => {
                let prefix = prefix_or(prefix);
                let body = Body::Part { prefix: &prefix, name, reason: reason.as_deref() };
                self.tell_channel(shard, event, *channel, own, &body);
                self.leaves(*channel, event.actor);
            }
            EventKind::Kicked { channel, name, prefix, target, target_nick, reason } => {
                let (prefix, nick) = (prefix_or(prefix), self.nick_or(*target, target_nick));
                let body = Body::Kick { prefix: &prefix, name, nick: &nick, reason };
                self.tell_channel(shard, event, *channel, own, &body);
                self.leaves(*channel, Some(*target));
            }
            EventKind::TopicChanged { channel, name, prefix, topic } => {
                let prefix = prefix_or(prefix);
                self.tell_channel(shard, event, *channel, own, &Body::Topic { prefix: &prefix, name, topic });
            }
            EventKind::ModeChanged { channel, name, prefix, changes } => {
                let (prefix, changes) = (prefix_or(prefix), self.under_present_nicks(changes));
                let body = Body::Mode { prefix: &prefix, name, changes: &changes };
                self.tell_channel(shard, event, *channel, own, &body);
            }
            EventKind::Invited { channel, name, prefix, target, target_nick } => {
                let (prefix, nick) = (prefix_or(prefix), self.nick_or(*target, target_nick));
                let mut told = self.by_user.get(target).cloned().unwrap_or_default();
                let members = self.local.get(channel).into_iter().flatten();
                told.extend(members.filter(|id| self.connection(**id).has(Capability::InviteNotify)));
                let body = Body::Invite { prefix: &prefix, nick: &nick, name };
                self.broadcast(shard, event, &told, own, &body);
                if let Some(id) = own {
                    self.numeric_words(id, numeric::RPL_INVITING, &[&nick, name]);
                    if let Some(away) = self.directory.user(*target).and_then(|user| user.away.clone()) {
                        self.numeric_text(id, numeric::RPL_AWAY, &[&nick], &away);
                    }
                }
            }
            EventKind::Message { .. } => {
                let prefix = live.unwrap_or_else(|| Arc::from(""));
                self.deliver_message(shard, event, asker, &prefix);
            }
            EventKind::Forgotten { user, channels } => self.forgotten(*user, channels),
            _ => {}
        }
    }

    fn deliver_message(
        &mut self,
        shard: ShardId,
        event: &Arc<Event>,
        asker: Option<&Asker>,
        live: &Arc<str>,
    ) {
        let EventKind::Message { target, name, message, session, .. } = &event.kind else { return };
        let prefix = if live.is_empty() { &message.prefix } else { live };
        let sender = self.by_session.get(session).copied();
        let (receivers, shown): (Vec<ConnectionId>, String) = match target {
            Target::Channel { channel, at_least } => {
                let members = self.local.get(channel).cloned().unwrap_or_default();
                let members = match at_least {
                    None => members,
                    Some(rank) => {
                        members.into_iter().filter(|id| self.has_rank(*id, *channel, *rank)).collect()
                    }
                };
                (members, format!("{}{name}", status(*at_least)))
            }
            Target::User { user } => {
                let mut receivers = self.by_user.get(user).cloned().unwrap_or_default();
                if let Some(actor) = event.actor.filter(|actor| actor != user) {
                    // The sender's other sessions see what was sent.
                    let own = self.by_user.get(&actor).into_iter().flatten();
                    receivers.extend(own.filter(|id| Some(**id) != sender));
                }
                (receivers, self.nick_or(*user, &message.to_nick))
            }
        };
        let body = Body::Message {
            prefix,
            kind: message.kind,
            target: &shown,
            text: &message.text,
            tags: &message.tags,
        };
        let to_self = matches!(target, Target::User { user } if Some(*user) == event.actor);
        let skip = if to_self { None } else { sender };
        let sent = self.broadcast(shard, event, &receivers, skip, &body);
        self.counters.deliveries += sent;
        // Also when the session went on to another connection since, where what it missed was told before this.
        if let Some(id) = sender.filter(|id| self.connection(*id).has(Capability::EchoMessage)) {
            let id_tag = message.id.filter(|_| self.connection(id).has(Capability::MessageId));
            self.send_own(shard, event, id, &body, id_tag);
        }
        let Some(Asker { id, pending: Some(pending) }) = asker else { return };
        self.counters.acknowledged += 1;
        let PendingKind::Message { away, .. } = &pending.kind else { return };
        if let (Some(away), MessageKind::Privmsg) = (away, message.kind) {
            self.numeric_text(*id, numeric::RPL_AWAY, &[&shown], away);
        }
    }

    fn has_rank(&self, id: ConnectionId, channel: ChannelId, rank: MemberPrefix) -> bool {
        let Some(identity) = self.connection(id).attached() else { return false };
        let channel = self.shard(channel.shard).channel(channel);
        let member = channel.and_then(|channel| channel.members.get(&identity.user));
        member.is_some_and(|member| member.is_at_least(Some(rank)))
    }

    pub(crate) fn lineage(&self, shard: ShardId) -> Lineage {
        match shard {
            ShardId::DIRECTORY => self.directory.lineage(),
            ShardId(_) => self.shard(shard).lineage(),
        }
    }

    /// Members may have changed their nicks since the change was asked for.
    fn under_present_nicks(&self, changes: &[ModeChange]) -> Vec<ModeChange> {
        let mut changes = changes.to_vec();
        for change in &mut changes {
            if let ModeChange::Member { user, nick, .. } = change {
                *nick = self.nick_or(*user, nick);
            }
        }
        changes
    }

    /// A user's connections here leave a channel.
    fn leaves(&mut self, channel: ChannelId, user: Option<UserId>) {
        let Some(leaving) = user.and_then(|user| self.by_user.get(&user)) else { return };
        if let Some(local) = self.local.get_mut(&channel) {
            local.retain(|id| !leaving.contains(id));
            if local.is_empty() {
                self.local.remove(&channel);
            }
        }
    }

    /// The user is gone from these channels; who is there will see its QUIT when the directory frees it.
    fn forgotten(&mut self, user: UserId, channels: &[ChannelId]) {
        let mut watchers = self.quit_watchers.remove(&user).unwrap_or_default();
        for channel in channels {
            self.leaves(*channel, Some(user));
            watchers.extend(self.local.get(channel).into_iter().flatten());
        }
        watchers.sort_unstable();
        watchers.dedup();
        self.quit_watchers.insert(user, watchers);
    }

    /// away-notify: members that are away are announced to others when they join.
    fn tell_away(&mut self, shard: ShardId, event: &Event, channel: ChannelId, user: UserId) {
        let Some(user) = self.directory.user(user) else { return };
        let Some(away) = user.away.clone() else { return };
        let prefix = Arc::clone(&user.prefix);
        let mut receivers = self.local.get(&channel).cloned().unwrap_or_default();
        receivers.retain(|id| self.connection(*id).attached().map(|identity| identity.user) != event.actor);
        self.broadcast(shard, event, &receivers, None, &Body::Away { prefix: &prefix, message: Some(&away) });
    }

    fn away_changed(&mut self, own: Option<ConnectionId>, away: bool) {
        let Some(id) = own else { return };
        if away {
            self.numeric(id, numeric::RPL_NOWAWAY, &[]);
        } else {
            self.numeric(id, numeric::RPL_UNAWAY, &[]);
        }
    }

    fn user_modes_changed(&mut self, own: Option<ConnectionId>, proposal: &Proposal) {
        let (Some(id), Command::Directory(DirectoryCommand::UserModes { set, clear })) =
            (own, &proposal.command)
        else {
            return;
        };
        let mut text = String::new();
        for (sign, modes) in [('+', set), ('-', clear)] {
            let letters: String = [(modes.bot, 'B'), (modes.invisible, 'i')]
                .into_iter()
                .filter_map(|(on, letter)| on.then_some(letter))
                .collect();
            if !letters.is_empty() {
                text.push(sign);
                text.push_str(&letters);
            }
        }
        let nick = self.client_name(id);
        self.say(id, |_, out| {
            LineWriter::begin(out).command(Source::Server(&nick), "MODE").param(&nick).trailing(&text);
        });
    }

    /// Topics that the settings changed.
    fn declared_topics(
        &mut self,
        shard: ShardId,
        proposal: &Proposal,
        event: &Event,
        topics: &[(ChannelId, String)],
    ) {
        if !matches!(proposal.command, Command::Common(CommonCommand::Settings(_))) || shard.is_directory() {
            return;
        }
        let server = self.config.server_name.clone();
        for (channel, topic) in topics {
            let Some(name) = self.shard(shard).channel(*channel).map(|channel| Arc::clone(&channel.name))
            else {
                continue;
            };
            self.tell_channel(
                shard,
                event,
                *channel,
                None,
                &Body::Topic { prefix: &server, name: &name, topic },
            );
        }
    }

    /// The directory ended a session: its connection here is closed.
    fn session_ended(&mut self, session: SessionId, reason: &str) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        self.unbind(id);
        self.finish(id, 1000, reason);
    }
}
