//! What a client is told when its command had no effect: numerics and standard replies.

use chat_protocol::numeric;
use chat_state::{
    command::{Command, DirectoryCommand},
    entry::Origin,
    ids::ShardId,
    outcome::Refusal,
};

use crate::{
    connection::{ConnectionId, PendingKind},
    deliver::Asker,
    lines::msgid,
    worker::Worker,
};

impl Worker {
    /// The state machine refused a command of a session here.
    pub(crate) fn refused_by_state(&mut self, asker: &Asker, shard: ShardId, refusal: &Refusal) {
        let Some(pending) = &asker.pending else { return };
        let (id, kind) = (asker.id, &pending.kind);
        self.context = pending.label;
        match refusal {
            Refusal::Duplicate { .. } | Refusal::DuplicateWindow | Refusal::IdReused => {
                self.refused_for_its_id(id, shard, kind, refusal);
            }
            Refusal::StaleSession | Refusal::UnknownUser => {
                self.context = None;
                self.close(id, 4000, "Your session is gone");
            }
            Refusal::Gap { .. } | Refusal::UnknownNode => self.unknown_result(id, kind),
            _ => self.refused_by_rule(id, kind, refusal),
        }
        self.context = None;
    }

    fn refused_by_rule(&mut self, id: ConnectionId, kind: &PendingKind, refusal: &Refusal) {
        let about = kind.about().to_owned();
        match refusal {
            Refusal::NickInUse => self.numeric(id, numeric::ERR_NICKNAMEINUSE, &[&about]),
            Refusal::InvalidNick => self.numeric(id, numeric::ERR_ERRONEUSNICKNAME, &[&about]),
            Refusal::NoSuchChannel if matches!(kind, PendingKind::Message { .. }) => {
                self.cannot_send(id, kind);
            }
            Refusal::NoSuchChannel => self.numeric(id, numeric::ERR_NOSUCHCHANNEL, &[&about]),
            Refusal::NoSuchNick => match kind {
                PendingKind::Message { verb: "NOTICE", .. } => {}
                _ => self.numeric(id, numeric::ERR_NOSUCHNICK, &[kind.nick().unwrap_or(&about)]),
            },
            Refusal::CannotSend => self.cannot_send(id, kind),
            Refusal::TooManyChannels => self.numeric(id, numeric::ERR_TOOMANYCHANNELS, &[&about]),
            Refusal::UserNotInChannel => {
                self.numeric(id, numeric::ERR_USERNOTINCHANNEL, &[kind.nick().unwrap_or("*"), &about]);
            }
            Refusal::NotOnChannel => self.numeric(id, numeric::ERR_NOTONCHANNEL, &[&about]),
            Refusal::UserOnChannel => {
                self.numeric(id, numeric::ERR_USERONCHANNEL, &[kind.nick().unwrap_or("*"), &about]);
            }
            Refusal::ChannelFull => self.numeric(id, numeric::ERR_CHANNELISFULL, &[&about]),
            Refusal::InviteOnly => self.numeric(id, numeric::ERR_INVITEONLYCHAN, &[&about]),
            Refusal::Banned => self.numeric(id, numeric::ERR_BANNEDFROMCHAN, &[&about]),
            Refusal::BadKey => self.numeric(id, numeric::ERR_BADCHANNELKEY, &[&about]),
            Refusal::ListFull => self.numeric(id, numeric::ERR_BANLISTFULL, &[&about, "*"]),
            Refusal::NotOperator => self.numeric(id, numeric::ERR_CHANOPRIVSNEEDED, &[&about]),
            Refusal::BadChannelName => self.numeric(id, numeric::ERR_BADCHANMASK, &[&about]),
            Refusal::NoChange | Refusal::AlreadyJoined => {}
            Refusal::Malformed => {
                tracing::error!(
                    ?kind,
                    "this node proposed something that the state machine does not understand"
                );
                self.numeric(id, numeric::ERR_UNKNOWNERROR, &[kind.command()]);
            }
            // Of sessions that are not there yet, or dealt with by the caller.
            Refusal::InvalidToken
            | Refusal::Duplicate { .. }
            | Refusal::DuplicateWindow
            | Refusal::IdReused
            | Refusal::StaleSession
            | Refusal::UnknownUser
            | Refusal::Gap { .. }
            | Refusal::UnknownNode => {}
        }
    }

    fn cannot_send(&mut self, id: ConnectionId, kind: &PendingKind) {
        if kind.command() != "NOTICE" {
            let target = kind.about().to_owned();
            self.numeric(id, numeric::ERR_CANNOTSENDTOCHAN, &[&target]);
        }
    }

    fn refused_for_its_id(
        &mut self,
        id: ConnectionId,
        shard: ShardId,
        kind: &PendingKind,
        refusal: &Refusal,
    ) {
        let PendingKind::Message { verb, id: Some(number), .. } = kind else { return };
        let number = number.to_string();
        match refusal {
            Refusal::Duplicate { position } => {
                let at = msgid(shard, self.lineage(shard), *position).to_string();
                let text = "This message was stored before";
                self.standard_reply(id, "NOTE", verb, "DUPLICATE", &[&number, &at], text);
            }
            Refusal::DuplicateWindow => {
                let text = "This id is too old to tell whether the message was stored; raise your ids";
                self.fail(id, verb, "DUPLICATE_WINDOW", &[&number], text);
            }
            _ => {
                let text = "This id was used for another message; use the next number";
                self.fail(id, verb, "ID_REUSED", &[&number], text);
            }
        }
    }

    /// Whether the command had an effect cannot be told.
    fn unknown_result(&mut self, id: ConnectionId, kind: &PendingKind) {
        let number = match kind {
            PendingKind::Message { id: Some(number), .. } => number.to_string(),
            _ => "*".to_owned(),
        };
        let text = "It is not known whether this took effect; with the same id it is safe to send again";
        self.fail(id, kind.command(), "UNKNOWN_RESULT", &[&number], text);
    }

    /// The log did not take a request of this worker.
    pub(crate) fn answer_refused(&mut self, origin: Option<Origin>, command: &Command, reason: &str) {
        let waiting = match (origin, command) {
            (Some(origin), _) => return self.answer_refused_session(origin, reason),
            (None, Command::Directory(DirectoryCommand::Open(open))) => self.waiting_for(open.request),
            (None, Command::Directory(DirectoryCommand::Attach(attach))) => self.waiting_for(attach.request),
            // Chores are tried again by whoever does them.
            _ => None,
        };
        let Some(id) = waiting else { return };
        if matches!(command, Command::Directory(DirectoryCommand::Attach(_))) {
            self.resume_later(id, reason);
        } else {
            self.fail(id, "*", "READ_ONLY", &[], reason);
            self.close(id, 1013, "The server cannot take new sessions now, please try again");
        }
    }

    fn answer_refused_session(&mut self, origin: Origin, reason: &str) {
        let Some(id) = self.by_session.get(&origin.session).copied() else { return };
        let connection = self.connection_mut(id);
        let at = connection.pending.iter().position(|pending| pending.request == origin.request);
        let Some(pending) = at.and_then(|at| connection.pending.remove(at)) else { return };
        self.context = pending.label;
        match &pending.kind {
            PendingKind::Quit => {
                self.context = None;
                self.close(id, 1000, "Quit");
            }
            // The client did not ask for it: its next PONG does as well.
            PendingKind::ConfirmToken => self.connection_mut(id).token_unconfirmed = true,
            kind => {
                let context = match kind {
                    PendingKind::Message { id: Some(number), .. } => vec![number.to_string()],
                    _ => Vec::new(),
                };
                let context: Vec<&str> = context.iter().map(String::as_str).collect();
                self.fail(id, kind.command(), "READ_ONLY", &context, reason);
            }
        }
        self.context = None;
        self.answered(Asker { id, pending: Some(pending) });
    }
}

impl PendingKind {
    /// The command as clients name it.
    fn command(&self) -> &'static str {
        match self {
            Self::Message { verb, .. } => verb,
            Self::Join { .. } => "JOIN",
            Self::Part { .. } => "PART",
            Self::Topic { .. } => "TOPIC",
            Self::Kick { .. } => "KICK",
            Self::Mode { .. } | Self::UserModes => "MODE",
            Self::Invite { .. } => "INVITE",
            Self::Nick { .. } => "NICK",
            Self::Away => "AWAY",
            Self::RealName => "SETNAME",
            Self::Reach => "*",
            Self::ConfirmToken => "RESUME",
            Self::Quit => "QUIT",
        }
    }

    /// What it was about: a channel, a nick, a target.
    fn about(&self) -> &str {
        match self {
            Self::Message { target, .. } => target,
            Self::Join { name }
            | Self::Part { name }
            | Self::Topic { name }
            | Self::Kick { name, .. }
            | Self::Mode { name }
            | Self::Invite { name, .. } => name,
            Self::Nick { nick } => nick,
            Self::Away | Self::RealName | Self::UserModes | Self::Reach | Self::ConfirmToken | Self::Quit => {
                "*"
            }
        }
    }

    /// Whom it was about, besides a channel.
    fn nick(&self) -> Option<&str> {
        match self {
            Self::Kick { nick, .. } | Self::Invite { nick, .. } => Some(nick),
            _ => None,
        }
    }
}
