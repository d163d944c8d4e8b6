//! Lines of events: one body for every receiver, tags as each variant has them.

use chat_protocol::{Capability, LineWriter, MsgId, Source, StreamId, UnixMillis};
use chat_state::{
    command::{ChannelFlag, ListKind, MemberPrefix, MessageKind, ModeChange},
    event::{Event, EventKind},
    ids::{Lineage, Position, ShardId},
};

use crate::{encode::Variant, label::LabelTag};

/// A msgid that a client has seen with this line, beside the line's own.
const SEEN_TAG: &str = "chatroom.dev/seen";

/// The tags of an event's line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) time_ms: u64,
    pub(crate) msgid: MsgId,
}

/// What is in it for one receiver alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Personal<'a> {
    pub(crate) tag: Option<&'a LabelTag>,
    /// `chatroom.dev/id`, for the sender.
    pub(crate) id: Option<u64>,
}

/// The line of an event without its tags.
#[derive(Clone, Debug)]
pub(crate) enum Body<'a> {
    /// `seen`: a place of the directory that it stands for too, as [`SEEN_TAG`] tells.
    Join {
        prefix: &'a str,
        name: &'a str,
        real_name: &'a str,
        seen: Option<MsgId>,
    },
    Part {
        prefix: &'a str,
        name: &'a str,
        reason: Option<&'a str>,
    },
    Kick {
        prefix: &'a str,
        name: &'a str,
        nick: &'a str,
        reason: &'a str,
    },
    Topic {
        prefix: &'a str,
        name: &'a str,
        topic: &'a str,
    },
    Mode {
        prefix: &'a str,
        name: &'a str,
        changes: &'a [ModeChange],
    },
    Invite {
        prefix: &'a str,
        nick: &'a str,
        name: &'a str,
    },
    Message {
        prefix: &'a str,
        kind: MessageKind,
        target: &'a str,
        text: &'a str,
        tags: &'a str,
    },
    Nick {
        prefix: &'a str,
        nick: &'a str,
    },
    Away {
        prefix: &'a str,
        message: Option<&'a str>,
    },
    SetName {
        prefix: &'a str,
        real_name: &'a str,
    },
    Quit {
        prefix: &'a str,
        reason: &'a str,
    },
}

pub(crate) fn msgid(shard: ShardId, lineage: Lineage, position: Position) -> MsgId {
    let stream = StreamId { shard: u32::from(shard.0), lineage: lineage.0 };
    MsgId { stream, position: position.0 }
}

impl Body<'_> {
    /// The capability without which nobody is sent this line.
    pub(crate) fn needs(&self) -> Option<Capability> {
        match self {
            Self::Away { .. } => Some(Capability::AwayNotify),
            Self::SetName { .. } => Some(Capability::SetName),
            Self::Message { kind: MessageKind::Tagmsg, .. } => Some(Capability::MessageTags),
            _ => None,
        }
    }

    /// Appends the line with its tags, ended by CR LF.
    pub(crate) fn write(&self, meta: Meta, variant: Variant, personal: Personal<'_>, out: &mut Vec<u8>) {
        let mut line = LineWriter::begin(out);
        if let Some(tag) = personal.tag {
            line = line.tag(tag.key, &tag.value);
        }
        if variant.time() {
            line = line.tag("time", &UnixMillis(meta.time_ms).to_string());
        }
        if variant.tags() {
            line = line.tag("msgid", &meta.msgid.to_string());
            if let Self::Join { seen: Some(seen), .. } = self {
                line = line.tag(SEEN_TAG, &seen.to_string());
            }
            if let Some(id) = personal.id {
                line = line.tag(crate::commands::ID_TAG, &id.to_string());
            }
        }
        match self {
            Self::Join { prefix, name, real_name, .. } => {
                let line = line.command(source(prefix), "JOIN").param(name);
                if variant.extended_join() { line.param("*").trailing(real_name) } else { line.finish() }
            }
            Self::Part { prefix, name, reason } => {
                end(line.command(source(prefix), "PART").param(name), *reason);
            }
            Self::Kick { prefix, name, nick, reason } => {
                line.command(source(prefix), "KICK").param(name).param(nick).trailing(reason);
            }
            Self::Topic { prefix, name, topic } => {
                line.command(source(prefix), "TOPIC").param(name).trailing(topic);
            }
            Self::Mode { prefix, name, changes } => {
                let (letters, params) = mode_text(changes);
                let params = params.iter().map(String::as_str);
                line.command(source(prefix), "MODE").param(name).param(&letters).params(params).finish();
            }
            Self::Invite { prefix, nick, name } => {
                line.command(source(prefix), "INVITE").param(nick).param(name).finish();
            }
            Self::Message { prefix, kind, target, text, tags } => {
                if variant.tags() {
                    line = line.client_tags(tags);
                }
                let line = line.command(source(prefix), verb(*kind)).param(target);
                if *kind == MessageKind::Tagmsg { line.finish() } else { line.trailing(text) }
            }
            Self::Nick { prefix, nick } => line.command(source(prefix), "NICK").param(nick).finish(),
            Self::Away { prefix, message } => end(line.command(source(prefix), "AWAY"), *message),
            Self::SetName { prefix, real_name } => {
                line.command(source(prefix), "SETNAME").trailing(real_name);
            }
            Self::Quit { prefix, reason } => line.command(source(prefix), "QUIT").trailing(reason),
        }
    }
}

fn end(line: chat_protocol::write::BodyWriter<'_>, text: Option<&str>) {
    match text {
        Some(text) => line.trailing(text),
        None => line.finish(),
    }
}

impl<'a> Body<'a> {
    /// The same, by somebody who goes under another name by now.
    pub(crate) fn by(mut self, source: &'a str) -> Self {
        let (Self::Join { prefix, .. }
        | Self::Part { prefix, .. }
        | Self::Kick { prefix, .. }
        | Self::Topic { prefix, .. }
        | Self::Mode { prefix, .. }
        | Self::Invite { prefix, .. }
        | Self::Message { prefix, .. }
        | Self::Nick { prefix, .. }
        | Self::Away { prefix, .. }
        | Self::SetName { prefix, .. }
        | Self::Quit { prefix, .. }) = &mut self;
        *prefix = source;
        self
    }

    /// The same, where it also stands for what the directory has up to a place.
    pub(crate) fn with_seen(mut self, also: Option<MsgId>) -> Self {
        if let Self::Join { seen, .. } = &mut self {
            *seen = also;
        }
        self
    }

    /// The same, to somebody who goes under another nick by now.
    pub(crate) fn to(mut self, other: &'a str) -> Self {
        if let Self::Kick { nick, .. } | Self::Invite { nick, .. } | Self::Message { target: nick, .. } =
            &mut self
        {
            *nick = other;
        }
        self
    }
}

/// The line of an event as it was when it happened: for resumes and history.
pub(crate) fn body_then<'a>(event: &'a Event, target_nick: &'a str) -> Option<Body<'a>> {
    Some(match &event.kind {
        EventKind::Joined { name, prefix, real_name, .. } => {
            Body::Join { prefix, name, real_name, seen: None }
        }
        EventKind::Parted { name, prefix, reason, .. } => {
            Body::Part { prefix, name, reason: reason.as_deref() }
        }
        EventKind::Kicked { name, prefix, target_nick, reason, .. } => {
            Body::Kick { prefix, name, nick: target_nick, reason }
        }
        EventKind::TopicChanged { name, prefix, topic, .. } => Body::Topic { prefix, name, topic },
        EventKind::ModeChanged { name, prefix, changes, .. } => Body::Mode { prefix, name, changes },
        EventKind::Invited { name, prefix, target_nick, .. } => {
            Body::Invite { prefix, nick: target_nick, name }
        }
        EventKind::Message { message, .. } => Body::Message {
            prefix: &message.prefix,
            kind: message.kind,
            target: target_nick,
            text: &message.text,
            tags: &message.tags,
        },
        EventKind::NickChanged { prefix, nick, .. } => Body::Nick { prefix, nick },
        EventKind::AwayChanged { prefix, message, .. } => Body::Away { prefix, message: message.as_deref() },
        EventKind::RealNameChanged { prefix, real_name, .. } => Body::SetName { prefix, real_name },
        EventKind::Freed { prefix, reason, .. } => Body::Quit { prefix, reason },
        _ => return None,
    })
}

/// The sign before a channel's name in a message to its members of that rank and above.
pub(crate) fn status(at_least: Option<MemberPrefix>) -> &'static str {
    match at_least {
        None => "",
        Some(MemberPrefix::Voice) => "+",
        Some(MemberPrefix::Operator) => "@",
    }
}

pub(crate) fn verb(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Privmsg => "PRIVMSG",
        MessageKind::Notice => "NOTICE",
        MessageKind::Tagmsg => "TAGMSG",
    }
}

/// `nick!user@host` as a source; the name of a server where it is not of that form.
pub(crate) fn source(prefix: &str) -> Source<'_> {
    let parts = prefix.split_once('!').and_then(|(nick, rest)| Some((nick, rest.split_once('@')?)));
    match parts {
        Some((nick, (user, host))) => Source::User { nick, user, host },
        None => Source::Server(prefix),
    }
}

/// `+o-v` and the parameters.
pub(crate) fn mode_text(changes: &[ModeChange]) -> (String, Vec<String>) {
    let (mut letters, mut params) = (String::new(), Vec::new());
    let mut sign = None;
    for change in changes {
        let (set, letter, param) = match change {
            ModeChange::Flag { flag, set } => (*set, flag_letter(*flag), None),
            ModeChange::Key { key } => (key.is_some(), 'k', Some(key.clone().unwrap_or_else(|| "*".into()))),
            ModeChange::Limit { limit } => (limit.is_some(), 'l', limit.map(|limit| limit.to_string())),
            ModeChange::List { list, mask, set } => (*set, list_letter(*list), Some(mask.clone())),
            ModeChange::Member { prefix, nick, set, .. } => (*set, rank_letter(*prefix), Some(nick.clone())),
        };
        if sign != Some(set) {
            letters.push(if set { '+' } else { '-' });
            sign = Some(set);
        }
        letters.push(letter);
        params.extend(param);
    }
    (letters, params)
}

pub(crate) fn flag_letter(flag: ChannelFlag) -> char {
    match flag {
        ChannelFlag::InviteOnly => 'i',
        ChannelFlag::Moderated => 'm',
        ChannelFlag::NoExternal => 'n',
        ChannelFlag::Secret => 's',
        ChannelFlag::OpTopic => 't',
    }
}

fn list_letter(list: ListKind) -> char {
    match list {
        ListKind::Ban => 'b',
        ListKind::Exception => 'e',
        ListKind::Invitation => 'I',
    }
}

fn rank_letter(rank: MemberPrefix) -> char {
    match rank {
        MemberPrefix::Voice => 'v',
        MemberPrefix::Operator => 'o',
    }
}
