//! Resuming: a session on a new connection, everything it missed, nothing twice.

use std::sync::Arc;

use chat_protocol::{Capability, LineWriter, Source};
use chat_state::{
    command::Target,
    event::{Event, EventKind},
    ids::{ChannelId, Generation, Position, SessionId, ShardId, UserId},
    renames::Renames,
    replay::{Replayed, replay},
};

use crate::{
    connection::{ConnectionId, Identity, Phase},
    label::LabelTag,
    lines::{Body, Personal, body_then, status},
    worker::Worker,
};

/// How long a node may take to get as far as the client was elsewhere.
const CATCH_UP_MS: u64 = 10_000;

/// The batch of what was missed.
const BATCH: &str = "resume";

impl Worker {
    /// No session goes by the token: the client may register anew on the same connection.
    pub(crate) fn not_attached(&mut self, request: u64) {
        let Some(id) = self.waiting_for(request) else { return };
        let connection = self.connection_mut(id);
        let Phase::Attaching { registration, .. } = std::mem::replace(&mut connection.phase, Phase::Closed)
        else {
            return;
        };
        connection.phase = Phase::Registering(registration);
        let text = "This session is gone: register with NICK and USER";
        self.fail(id, "RESUME", "INVALID_TOKEN", &[], text);
        self.runnable.push(id);
    }

    /// The session has a new generation: an older connection of it here ends.
    pub(crate) fn replaced(&mut self, session: SessionId, generation: Generation) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let older = self.connection(id).attached().is_none_or(|identity| identity.generation < generation);
        if older {
            self.unbind(id);
            self.finish(id, 4501, "Resumed on another connection");
        }
    }

    /// The directory attached the session to a connection of this worker.
    pub(crate) fn attached(
        &mut self,
        request: u64,
        user: UserId,
        session: SessionId,
        generation: Generation,
    ) {
        let identity = Identity { user, session, generation };
        let Some(id) = self.waiting_for(request) else {
            self.abandon(identity);
            return;
        };
        let (since, in_doubt, attached_at) = (self.now, self.resumes_in_doubt, self.directory.position());
        let connection = self.connection_mut(id);
        let Phase::Attaching { token, seen, .. } = std::mem::replace(&mut connection.phase, Phase::Closed)
        else {
            return;
        };
        self.ask_for_the_end(&seen, attached_at);
        let connection = self.connection_mut(id);
        connection.phase = Phase::CatchingUp { identity, token, seen, since, attached_at, in_doubt };
        self.catching_up.push(id);
    }

    /// Goes on with the resumes whose shards this worker has applied far enough.
    pub(crate) fn caught_up(&mut self) {
        for id in std::mem::take(&mut self.catching_up) {
            let Some(connection) = self.connections[id.0 as usize].as_deref() else { continue };
            let Phase::CatchingUp { identity, seen, since, attached_at, .. } = &connection.phase else {
                continue;
            };
            let (identity, since) = (*identity, *since);
            let present = self.directory.session(identity.session);
            if present.is_none_or(|session| session.generation != identity.generation) {
                self.finish(id, 4501, "Resumed on another connection");
                continue;
            }
            let behind = seen.iter().any(|seen| self.is_behind(seen, *attached_at));
            if !behind {
                self.replay(id, identity);
            } else if self.now.monotonic_ms >= since.monotonic_ms + CATCH_UP_MS {
                self.detach(id, "Node is too far behind");
                self.fail(id, "RESUME", "TRY_AGAIN", &[], "This node is too far behind, please try again");
                self.finish(id, 1013, "Please try again later");
            } else {
                self.catching_up.push(id);
            }
        }
    }

    fn replay(&mut self, id: ConnectionId, identity: Identity) {
        let phase = std::mem::replace(&mut self.connection_mut(id).phase, Phase::Ready(identity));
        let Phase::CatchingUp { token, seen, in_doubt, .. } = phase else { return };
        self.bind(id, identity);
        self.hear_channels(id, identity.user);
        let nick = self.client_name(id);
        self.say(id, |server, out| {
            LineWriter::begin(out)
                .command(Source::Server(server), "RESUME")
                .param("SUCCESS")
                .param(&nick)
                .finish();
        });
        self.hand_out(id, &token);
        let lost_ever = self.lost_ever(&seen);
        let (seen, lost) = self.places(&seen);
        #[cfg(feature = "mutations")]
        let seen = off_by_one(seen);
        let mut missed = replay(identity.user, &self.directory, &self.channels, &seen);
        self.add_unknown(identity.user, &seen, &lost, &mut missed.gaps);
        let mut anew = self.tell_gaps(id, identity.user, &missed.gaps);
        if in_doubt {
            self.add_doubtful(identity.user, &lost_ever, &mut anew);
        }
        if self.is_another_directory(&seen, &lost) {
            self.add_all(identity.user, &mut anew);
        }
        self.batch(id, true);
        let begins_at = missed.events.iter().map(|replayed| replayed.directory_at).min();
        let renames = Renames::since(&self.directory, begins_at.unwrap_or_else(|| self.directory.position()));
        for replayed in &missed.events {
            self.replay_event(id, identity, replayed, &renames);
        }
        self.batch(id, false);
        for user in missed.leaving {
            self.quit_watchers.entry(user).or_default().push(id);
        }
        for known in anew {
            self.show_anew(id, identity, &known);
        }
        // The last of it: who answers has got all of it, and needs the token before no more.
        self.connection_mut(id).token_unconfirmed = true;
        self.ping(id);
        self.runnable.push(id);
    }

    fn batch(&mut self, id: ConnectionId, open: bool) {
        self.say(id, |server, out| {
            let line = LineWriter::begin(out).command(Source::Server(server), "BATCH");
            if open {
                line.param(&format!("+{BATCH}")).param("chatroom.dev/resume").finish();
            } else {
                line.param(&format!("-{BATCH}")).finish();
            }
        });
    }

    fn replay_event(&mut self, id: ConnectionId, identity: Identity, replayed: &Replayed, renames: &Renames) {
        let Replayed { shard, event, directory_at } = replayed;
        let shard = *shard;
        if !self.is_for(id, identity, event) {
            return;
        }
        let target = match &event.kind {
            EventKind::Message { target: Target::Channel { at_least, .. }, name, .. } => {
                format!("{}{name}", status(*at_least))
            }
            EventKind::Message { message, .. } => message.to_nick.clone(),
            _ => String::new(),
        };
        if let EventKind::Settings { topics, .. } = &event.kind {
            self.replay_topics(id, identity, shard, event, topics);
            return;
        }
        let Some(mut body) = body_then(event, &target) else { return };
        body = body.with_seen(self.seen_with(event, *directory_at));
        let present = |user| renames.prefix(&self.directory, user, *directory_at);
        let (actor, addressee) = match shard {
            ShardId::DIRECTORY => (None, None),
            _ => (event.actor.and_then(present), addressee(&event.kind).and_then(present)),
        };
        if let Some(prefix) = &actor {
            body = body.by(prefix);
        }
        if let Some(prefix) = &addressee {
            body = body.to(nick_of(prefix));
        }
        let own_message = match &event.kind {
            EventKind::Message { session, message, .. } if *session == identity.session => message.id,
            _ => None,
        };
        let own_message = own_message.filter(|_| self.connection(id).has(Capability::MessageId));
        self.send_replayed(id, shard, event, &body, own_message);
    }

    /// Whether the client would have been sent the line, as far as its capabilities decide.
    fn is_for(&self, id: ConnectionId, identity: Identity, event: &Event) -> bool {
        let connection = self.connection(id);
        match &event.kind {
            EventKind::Invited { target, .. } => {
                *target == identity.user || connection.has(Capability::InviteNotify)
            }
            EventKind::Message { target, session, .. } => {
                let to_self = *target == Target::User { user: identity.user };
                *session != identity.session || to_self || connection.has(Capability::EchoMessage)
            }
            _ => true,
        }
    }

    /// Topics that the settings changed.
    fn replay_topics(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        shard: ShardId,
        event: &Event,
        topics: &[(ChannelId, String)],
    ) {
        let server = self.config.server_name.clone();
        for (channel, topic) in topics {
            let Some(channel) = self.shard(shard).channel(*channel) else { continue };
            if channel.member(identity.user).is_some() {
                let name = Arc::clone(&channel.name);
                self.send_replayed(
                    id,
                    shard,
                    event,
                    &Body::Topic { prefix: &server, name: &name, topic },
                    None,
                );
            }
        }
    }

    fn send_replayed(
        &mut self,
        id: ConnectionId,
        shard: ShardId,
        event: &Event,
        body: &Body<'_>,
        own_message: Option<u64>,
    ) {
        let meta = self.meta(shard, event);
        let connection = self.connection(id);
        if body.needs().is_some_and(|capability| !connection.has(capability)) {
            return;
        }
        let tag = LabelTag { key: "batch", value: BATCH.to_owned() };
        let mut line = Vec::new();
        body.write(meta, connection.variant, Personal { tag: Some(&tag), id: own_message }, &mut line);
        self.send(id, &line);
    }

    /// The connection hears the channels its user is in.
    pub(crate) fn hear_channels(&mut self, id: ConnectionId, user: UserId) {
        let channels: Vec<ChannelId> =
            self.channels.iter().flat_map(|shard| shard.channels_of(user)).collect();
        for channel in channels {
            let local = self.local.entry(channel).or_default();
            if !local.contains(&id) {
                local.push(id);
            }
        }
    }

    pub(crate) fn position(&self, shard: ShardId) -> Position {
        match shard {
            ShardId::DIRECTORY => self.directory.position(),
            ShardId(_) => self.shard(shard).position(),
        }
    }
}

#[cfg(feature = "mutations")]
fn off_by_one(
    mut seen: std::collections::BTreeMap<ShardId, Position>,
) -> std::collections::BTreeMap<ShardId, Position> {
    if chat_state::mutation::is(chat_state::mutation::Mutation::ResumeOffByOne) {
        seen.values_mut().for_each(|position| position.0 += 1);
    }
    seen
}

/// The user whose nick the line of an event names.
fn addressee(kind: &EventKind) -> Option<UserId> {
    match kind {
        EventKind::Kicked { target, .. } | EventKind::Invited { target, .. } => Some(*target),
        EventKind::Message { target: Target::User { user }, .. } => Some(*user),
        _ => None,
    }
}

fn nick_of(prefix: &str) -> &str {
    prefix.split_once('!').map_or(prefix, |(nick, _)| nick)
}

impl Worker {
    /// Tears a connection from its session: the directory starts the resume window, or ends the session.
    pub(crate) fn detach(&mut self, id: ConnectionId, reason: &str) {
        if let Some(identity) = self.connection(id).attached() {
            let quitting = self.is_quitting(id);
            self.unbind(id);
            if !quitting {
                let Identity { session, generation, .. } = identity;
                let command = chat_state::command::DirectoryCommand::Detach {
                    session,
                    generation,
                    reason: reason.to_owned(),
                };
                self.request(ShardId::DIRECTORY, None, chat_state::command::Command::Directory(command));
            }
        }
        self.connection_mut(id).phase = Phase::Closed;
    }

    fn is_quitting(&self, id: ConnectionId) -> bool {
        let pending = &self.connection(id).pending;
        pending.iter().any(|pending| pending.kind == crate::connection::PendingKind::Quit)
    }

    /// The connection hears nothing any more.
    pub(crate) fn unbind(&mut self, id: ConnectionId) {
        let Some(identity) = self.connection(id).attached() else { return };
        if self.by_session.get(&identity.session) == Some(&id) {
            self.by_session.remove(&identity.session);
        }
        if let Some(connections) = self.by_user.get_mut(&identity.user) {
            connections.retain(|other| *other != id);
            if connections.is_empty() {
                self.by_user.remove(&identity.user);
            }
        }
        for channel in self.channels.iter().flat_map(|shard| shard.channels_of(identity.user)) {
            if let Some(local) = self.local.get_mut(&channel) {
                local.retain(|other| *other != id);
                if local.is_empty() {
                    self.local.remove(&channel);
                }
            }
        }
        for watchers in self.quit_watchers.values_mut() {
            watchers.retain(|other| *other != id);
        }
    }
}
