//! PRIVMSG, NOTICE, TAGMSG.

use std::sync::Arc;

use chat_protocol::{Capability, Folded, Line, name, numeric};
use chat_state::{
    command::{ChannelCommand, Command, MemberPrefix, Message, MessageKind, Target},
    ids::{ShardId, channel_shard, home_shard},
};

use super::Flow;
use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    worker::Worker,
};

/// TARGMAX of the message commands.
pub(crate) const MAX_TARGETS: usize = 4;

/// The client's tag that makes a message exactly-once.
pub(crate) const ID_TAG: &str = "chatroom.dev/id";

/// Where a message goes, as far as this node knows.
struct Addressee {
    shard: ShardId,
    target: Target,
    /// As the sender wrote it.
    written: String,
    to_nick: String,
    away: Option<String>,
}

impl Worker {
    pub(crate) fn message(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) -> Flow {
        let (verb, kind) = match &*line.verb_upper() {
            "PRIVMSG" => ("PRIVMSG", MessageKind::Privmsg),
            "NOTICE" => ("NOTICE", MessageKind::Notice),
            _ => ("TAGMSG", MessageKind::Tagmsg),
        };
        let Some(targets) = line.params.filled(0) else {
            self.no_recipient(id, verb);
            return Flow::Done;
        };
        let text = match (kind, line.params.at(1)) {
            (MessageKind::Tagmsg, _) => "",
            (_, Some(text)) if !text.is_empty() => text,
            _ => {
                if kind == MessageKind::Privmsg {
                    self.numeric(id, numeric::ERR_NOTEXTTOSEND, &[]);
                }
                return Flow::Done;
            }
        };
        let tags = if self.connection(id).has(Capability::MessageTags) {
            line.tags.client_only_raw()
        } else {
            String::new()
        };
        if kind == MessageKind::Tagmsg
            && (tags.is_empty() || !self.connection(id).has(Capability::MessageTags))
        {
            return Flow::Done;
        }
        let id_text = line.tags.get(ID_TAG).filter(|_| self.connection(id).has(Capability::MessageId));
        let message_id = match &id_text {
            None => None,
            // Digits alone: a sign would parse, too.
            Some(text) => match text.parse::<u64>() {
                Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(number),
                _ => {
                    self.fail(
                        id,
                        verb,
                        "INVALID_ID",
                        &[text],
                        "The id must be a decimal number that rises, from 1",
                    );
                    return Flow::Done;
                }
            },
        };
        let written: Vec<&str> = targets.split(',').filter(|target| !target.is_empty()).collect();
        if written.is_empty() {
            self.no_recipient(id, verb);
            return Flow::Done;
        }
        if let (Some(text), true) = (&id_text, written.len() > 1) {
            self.fail(id, verb, "INVALID_TARGET", &[text], "A message with an id has one target");
            return Flow::Done;
        }
        if written.len() > MAX_TARGETS {
            self.numeric(id, numeric::ERR_TOOMANYTARGETS, &[targets]);
            return Flow::Done;
        }
        if !self.may_write(id, verb) {
            return Flow::Done;
        }
        self.send_to(id, identity, &written, verb, &Draft { kind, text, tags: &tags, id: message_id })
    }

    fn send_to(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        written: &[&str],
        verb: &'static str,
        draft: &Draft<'_>,
    ) -> Flow {
        let found: Vec<Result<Addressee, &str>> =
            written.iter().map(|target| self.find(target).ok_or(*target)).collect();
        let pending = !self.connection(id).pending.is_empty();
        if pending && found.iter().any(Result::is_err) {
            // An error must not overtake the answers to the messages before it.
            return Flow::Wait;
        }
        let shards: Vec<ShardId> = found.iter().flatten().map(|addressee| addressee.shard).collect();
        let user = self.directory.user(identity.user);
        if pending && user.is_some_and(|user| shards.iter().any(|shard| !user.reach.contains(shard))) {
            return Flow::Wait;
        }
        if !self.reaches(id, identity, &shards) {
            return Flow::Wait;
        }
        let Some(prefix) = self.directory.user(identity.user).map(|user| Arc::clone(&user.prefix)) else {
            return Flow::Done;
        };
        for addressee in found {
            match addressee {
                Ok(addressee) => {
                    let Addressee { shard, target, written, to_nick, away } = addressee;
                    let message = Arc::new(draft.message(Arc::clone(&prefix), to_nick));
                    let away = away.filter(|_| draft.kind == MessageKind::Privmsg);
                    let kind = PendingKind::Message { verb, target: written, id: draft.id, away };
                    let command = Command::Channel(ChannelCommand::Message { target, message });
                    self.propose(id, identity, shard, command, kind);
                }
                Err(target) => self.no_such_target(id, verb, target),
            }
        }
        Flow::Done
    }

    fn find(&self, written: &str) -> Option<Addressee> {
        let (status, plain) = name::split_status_target(written, "@+");
        if name::names_channel(plain) {
            let folded = Folded::new(plain);
            let shard = channel_shard(folded.as_str(), self.config.shards);
            let channel = self.shard(shard).channel_by_name(folded.as_str())?;
            let at_least = status.map(|status| match status {
                '@' => MemberPrefix::Operator,
                _ => MemberPrefix::Voice,
            });
            let target = Target::Channel { channel: channel.id, at_least };
            return Some(Addressee {
                shard,
                target,
                written: written.to_owned(),
                to_nick: String::new(),
                away: None,
            });
        }
        let user = self.directory.user_by_nick(Folded::new(written).as_str())?;
        let known = self.directory.user(user)?;
        Some(Addressee {
            shard: home_shard(user, self.config.shards),
            target: Target::User { user },
            written: written.to_owned(),
            to_nick: known.nick.to_string(),
            away: known.away.as_deref().map(str::to_owned),
        })
    }

    fn no_recipient(&mut self, id: ConnectionId, verb: &str) {
        if verb != "NOTICE" {
            let text = format!("No recipient given ({verb})");
            self.numeric_text(id, numeric::ERR_NORECIPIENT, &[], &text);
        }
    }

    fn no_such_target(&mut self, id: ConnectionId, verb: &str, target: &str) {
        // RFC 2812 section 3.3.2: nothing automatic may answer a NOTICE.
        if verb == "NOTICE" {
            return;
        }
        if name::names_channel(target.trim_start_matches(['@', '+'])) {
            self.numeric(id, numeric::ERR_NOSUCHCHANNEL, &[target]);
        } else {
            self.numeric(id, numeric::ERR_NOSUCHNICK, &[target]);
        }
    }
}

/// What a client sent, the same for every target.
struct Draft<'a> {
    kind: MessageKind,
    text: &'a str,
    tags: &'a str,
    id: Option<u64>,
}

impl Draft<'_> {
    /// With the text as the client sent it: where it is stored it is cut to fit.
    fn message(&self, prefix: Arc<str>, to_nick: String) -> Message {
        Message {
            kind: self.kind,
            prefix,
            to_nick,
            text: self.text.to_owned(),
            tags: self.tags.to_owned(),
            id: self.id,
        }
    }
}
