//! CHATHISTORY (IRCv3 draft/chathistory).
//!
//! A msgid selects a place, not a message: any msgid of the conversation's streams will do, also one of a JOIN or of a
//! message that is no longer kept. One of another stream, or of a history that was given up, says nothing about this
//! conversation: `MESSAGE_ERROR`, so that the client can ask by time instead of taking silence for the end.

use std::{collections::VecDeque, sync::LazyLock};

use chat_protocol::{
    Capability, Line, LineWriter, Source, UnixMillis,
    chathistory::{self, HistoryRequest, Selector},
    name,
};
use chat_state::{
    channels::{Anchor, Conversation, Record},
    command::Target,
    event::EventKind,
    ids::{Position, ShardId, UserId, home_shard},
};

use super::{Known, MAX_HISTORY};
use crate::{
    connection::{ConnectionId, Identity},
    label::LabelTag,
    lines::{Meta, Personal, body_then, msgid},
    worker::Worker,
};

/// The reference of the batch: an answer is written whole, so there is one at a time.
const BATCH: &str = "history";

/// Whose history.
enum Buffer {
    Channel(Known),
    Direct { peer: UserId, nick: String },
}

/// Which end of the answer the client needs most, where not all of it fits.
#[derive(Clone, Copy)]
enum Keep {
    Oldest,
    Newest,
    Middle,
}

impl Worker {
    pub(crate) fn chat_history(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let most = u32::try_from(MAX_HISTORY).expect("MAX_HISTORY is small");
        let request = match chathistory::parse(&line.params, most) {
            Ok(request) => request,
            Err(error) => {
                let context: Vec<&str> = error.context().collect();
                self.fail(id, "CHATHISTORY", error.code(), &context, &error.to_string());
                return;
            }
        };
        if let HistoryRequest::Targets { from, to, limit } = request {
            self.history_targets(id, identity, from, to, limit as usize);
            return;
        }
        let (subcommand, target) = (request.subcommand(), request.target().unwrap_or("*"));
        let Some(buffer) = self.buffer(identity, target) else {
            let text = "There is no such conversation, or you are not in it";
            self.fail(id, "CHATHISTORY", "INVALID_TARGET", &[subcommand, target], text);
            return;
        };
        let found = match self.find_history(identity, &buffer, &request) {
            Ok((records, keep)) => self.history_lines(id, &buffer, &records, keep),
            Err(Selector::Message(msgid)) => {
                let text = "No such place in this conversation; ask by timestamp";
                let context = [subcommand, target, &msgid.to_string()];
                self.fail(id, "CHATHISTORY", "MESSAGE_ERROR", &context, text);
                return;
            }
            Err(Selector::Time(_)) => unreachable!("every time is a place in every conversation"),
        };
        let Some(lines) = found else {
            let text = "Too much waits to be sent to you already, please try again";
            self.fail(id, "CHATHISTORY", "MESSAGE_ERROR", &[subcommand, target], text);
            return;
        };
        self.history_batch(id, "chathistory", Some(buffer.name()), &lines);
    }

    /// A channel one is in, or somebody who can be spoken to.
    fn buffer(&self, identity: Identity, target: &str) -> Option<Buffer> {
        if !name::names_channel(target) {
            let (peer, user) = self.user_named(target)?;
            return Some(Buffer::Direct { peer, nick: user.nick.to_string() });
        }
        let known = self.channel(target)?;
        let channel = self.shard(known.id.shard).channel(known.id)?;
        channel.member(identity.user).map(|_| Buffer::Channel(known))
    }

    /// The messages, oldest first; or the selector that means no place here.
    fn find_history<'a>(
        &'a self,
        identity: Identity,
        buffer: &Buffer,
        request: &HistoryRequest<'_>,
    ) -> Result<(Vec<&'a Record>, Keep), Selector> {
        let own = identity.user;
        let conversation: Option<&Conversation> = match buffer {
            Buffer::Channel(known) => self.shard(known.id.shard).history(known.id),
            Buffer::Direct { peer, .. } => {
                self.shard(home_shard(own, self.config.shards)).direct_history(own, *peer)
            }
        };
        // A selector is checked also where there is nothing to select from.
        let place = |selector: Selector| self.anchor(own, buffer, selector).ok_or(selector);
        static NOTHING: LazyLock<Conversation> = LazyLock::new(Conversation::default);
        let all = conversation.unwrap_or(&NOTHING);
        Ok(match *request {
            HistoryRequest::Before { at, limit, .. } => {
                (all.before(place(at)?, limit as usize).collect(), Keep::Newest)
            }
            HistoryRequest::After { at, limit, .. } => {
                (all.after(place(at)?, limit as usize).collect(), Keep::Oldest)
            }
            HistoryRequest::Latest { after, limit, .. } => {
                let after = after.map(place).transpose()?;
                (all.latest(after, limit as usize).collect(), Keep::Newest)
            }
            HistoryRequest::Around { at, limit, .. } => {
                (all.around(place(at)?, limit as usize).collect(), Keep::Middle)
            }
            HistoryRequest::Between { from, to, limit, .. } => {
                let keep = if is_backwards(from, to) { Keep::Newest } else { Keep::Oldest };
                (all.between(place(from)?, place(to)?, limit as usize).collect(), keep)
            }
            HistoryRequest::Targets { .. } => (Vec::new(), Keep::Oldest),
        })
    }

    fn anchor(&self, own: UserId, buffer: &Buffer, selector: Selector) -> Option<Anchor> {
        let at = match selector {
            Selector::Time(time) => return Some(Anchor::Time(time.0)),
            Selector::Message(msgid) => msgid,
        };
        let source = ShardId(u16::try_from(at.stream.shard).ok()?);
        let home = |user: UserId| home_shard(user, self.config.shards);
        let belongs = match buffer {
            Buffer::Channel(known) => source == known.id.shard,
            Buffer::Direct { peer, .. } => source == home(own) || source == home(*peer),
        };
        if !belongs {
            return None;
        }
        let (shard, position) = (self.shard(source), Position(at.position));
        let known = position <= shard.position() && shard.lineage_at(position).0 == at.stream.lineage;
        known.then_some(Anchor::Message { source, position })
    }

    /// The lines, as many as there is room for; none if there is no room at all.
    fn history_lines(
        &self,
        id: ConnectionId,
        buffer: &Buffer,
        records: &[&Record],
        keep: Keep,
    ) -> Option<Vec<u8>> {
        let connection = self.connection(id);
        let tag = LabelTag { key: "batch", value: BATCH.to_owned() };
        let tag = connection.has(Capability::Batch).then_some(&tag);
        let mut lines: VecDeque<Vec<u8>> = records
            .iter()
            .filter_map(|record| {
                let EventKind::Message { target, message, .. } = &record.event.kind else { return None };
                let shown = match (target, buffer) {
                    (Target::User { .. }, _) => &message.to_nick,
                    (_, buffer) => buffer.name(),
                };
                let body = body_then(&record.event, shown)?;
                let lineage = self.shard(record.source).lineage_at(record.event.position);
                let msgid = msgid(record.source, lineage, record.event.position);
                let mut line = Vec::new();
                let meta = Meta { time_ms: record.event.time_ms, msgid };
                body.write(meta, connection.variant, Personal { tag, id: None }, &mut line);
                Some(line)
            })
            .collect();
        let (found, room) = (lines.len(), self.answer_room(id));
        let mut bytes: usize = lines.iter().map(Vec::len).sum();
        while bytes > room {
            let newest = match keep {
                Keep::Oldest => true,
                Keep::Newest => false,
                Keep::Middle => lines.len().is_multiple_of(2),
            };
            let gone = if newest { lines.pop_back() } else { lines.pop_front() };
            bytes -= gone.map_or(bytes, |line| line.len());
        }
        (found == 0 || !lines.is_empty()).then(|| lines.into_iter().flatten().collect())
    }

    /// The channels one is in and the people one spoke with whose last message was between two times.
    fn history_targets(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) {
        let (earlier, later) = (from.min(to).0, from.max(to).0);
        let mut targets: Vec<(u64, &str)> = self
            .conversations(identity.user)
            .filter(|(at_ms, _)| earlier < *at_ms && *at_ms < later)
            .collect();
        targets.sort_unstable();
        // The limit counts from the first of the two times.
        let surplus = targets.len().saturating_sub(limit);
        if from <= to {
            targets.truncate(limit);
        } else {
            targets.drain(..surplus);
        }
        let batch = self.connection(id).has(Capability::Batch);
        let mut lines = Vec::new();
        for (at_ms, target) in targets {
            let line = LineWriter::begin(&mut lines);
            let line = if batch { line.tag("batch", BATCH) } else { line };
            line.command(Source::Server(&self.config.server_name), "CHATHISTORY")
                .param("TARGETS")
                .param(target)
                .param(&UnixMillis(at_ms).to_string())
                .finish();
        }
        self.history_batch(id, "draft/chathistory-targets", None, &lines);
    }

    /// When each conversation of a user had its last message, and by what name it can be asked for.
    fn conversations(&self, own: UserId) -> impl Iterator<Item = (u64, &str)> {
        let last = |conversation: &Conversation| conversation.newest().map(|record| record.event.time_ms);
        let channels = self.channels.iter().flat_map(move |shard| {
            shard.channels_of(own).filter_map(move |channel| {
                Some((last(shard.history(channel)?)?, &*shard.channel(channel)?.name))
            })
        });
        let home = self.shard(home_shard(own, self.config.shards));
        let people = home.direct_peers(own).filter_map(move |peer| {
            Some((last(home.direct_history(own, peer)?)?, &*self.directory.user(peer)?.nick))
        });
        channels.chain(people)
    }

    /// Sends lines that carry the batch's tag, in their batch. To a client without batches they carry none.
    fn history_batch(&mut self, id: ConnectionId, kind: &str, target: Option<&str>, lines: &[u8]) {
        let batch = self.connection(id).has(Capability::Batch);
        let label = self.context;
        if let Some(label) = label.filter(|_| batch) {
            self.connection_mut(id).labels.is_one_batch(label);
        }
        self.say(id, |server, out| {
            if batch {
                LineWriter::begin(out)
                    .command(Source::Server(server), "BATCH")
                    .params([&*format!("+{BATCH}"), kind].into_iter().chain(target))
                    .finish();
            }
            out.extend_from_slice(lines);
            if batch {
                LineWriter::begin(out)
                    .command(Source::Server(server), "BATCH")
                    .param(&format!("-{BATCH}"))
                    .finish();
            }
        });
    }
}

/// Whether BETWEEN goes back in time, as far as the selectors alone tell.
fn is_backwards(from: Selector, to: Selector) -> bool {
    match (from, to) {
        (Selector::Time(from), Selector::Time(to)) => from > to,
        (Selector::Message(from), Selector::Message(to)) => from.position > to.position,
        _ => false,
    }
}

impl Buffer {
    fn name(&self) -> &str {
        match self {
            Self::Channel(known) => &known.name,
            Self::Direct { nick, .. } => nick,
        }
    }
}
