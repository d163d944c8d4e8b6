//! WHOIS, WHOWAS, ISON, USERHOST, AWAY, SETNAME.

use chat_protocol::{Capability, Folded, Line, limits, mask::glob, name, numeric, write::pack_words};
use chat_state::{
    command::{Command, DirectoryCommand},
    directory::User,
    ids::{ShardId, UserId},
};

use super::channel::rank_symbols;
use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    registration::REAL_NAME_LENGTH,
    worker::Worker,
};

/// USERHOST: nicks in one command.
const USERHOST_NICKS: usize = 5;

impl Worker {
    pub(crate) fn whois(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let (server, nicks) = match (line.params.filled(0), line.params.filled(1)) {
            (None, _) => {
                self.numeric(id, numeric::ERR_NONICKNAMEGIVEN, &[]);
                return;
            }
            (Some(nicks), None) => (None, nicks),
            (server, Some(nicks)) => (server, nicks),
        };
        if let Some(server) = server.filter(|server| !self.is_this_server(server)) {
            self.numeric(id, numeric::ERR_NOSUCHSERVER, &[server]);
            return;
        }
        let asked = nicks.split(',').next().unwrap_or_default();
        let Some((target, user)) = self.user_named(asked) else {
            self.numeric(id, numeric::ERR_NOSUCHNICK, &[asked]);
            self.numeric(id, numeric::RPL_ENDOFWHOIS, &[asked]);
            return;
        };
        self.whois_user(id, identity.user, target, &user.clone());
    }

    fn whois_user(&mut self, id: ConnectionId, asker: UserId, target: UserId, user: &User) {
        let nick = &*user.nick;
        let params = [nick, &user.username, &user.host, "*"];
        self.numeric_text(id, numeric::RPL_WHOISUSER, &params, &user.real_name);
        let channels = self.channels_shown(id, asker, target, user);
        let around = self.config.server_name.len() + self.client_name(id).len() + nick.len() + 9;
        for text in pack_words(channels, limits::BODY_TEXT_BYTES.saturating_sub(around)) {
            self.numeric_text(id, numeric::RPL_WHOISCHANNELS, &[nick], &text);
        }
        let (server, network) = (self.config.server_name.clone(), self.config.network.clone());
        self.numeric_text(id, numeric::RPL_WHOISSERVER, &[nick, &server], &network);
        if let Some(away) = &user.away {
            self.numeric_text(id, numeric::RPL_AWAY, &[nick], away);
        }
        if user.modes.bot {
            self.numeric(id, numeric::RPL_WHOISBOT, &[nick]);
        }
        let mut sessions =
            user.sessions.iter().filter_map(|session| self.directory.session(*session)).peekable();
        if sessions.peek().is_some() && sessions.all(|session| session.secure) {
            self.numeric(id, numeric::RPL_WHOISSECURE, &[nick]);
        }
        if asker == target {
            self.numeric(id, numeric::RPL_WHOISACTUALLY, &[nick, &user.host]);
        }
        self.numeric(id, numeric::RPL_ENDOFWHOIS, &[nick]);
    }

    /// Those that both are in; the open ones of who is not invisible.
    fn channels_shown(&self, id: ConnectionId, asker: UserId, target: UserId, user: &User) -> Vec<String> {
        let all_prefixes = self.connection(id).has(Capability::MultiPrefix);
        let channels = self
            .channels
            .iter()
            .flat_map(|shard| shard.channels_of(target).filter_map(|channel| shard.channel(channel)));
        let shown = channels.filter(|channel| {
            let open = !channel.has(chat_state::command::ChannelFlag::Secret) && !user.modes.invisible;
            open || channel.member(asker).is_some()
        });
        shown
            .filter_map(|channel| {
                Some(format!("{}{}", rank_symbols(channel.member(target)?, all_prefixes), channel.name))
            })
            .collect()
    }

    /// Nobody who left is remembered by nick.
    pub(crate) fn whowas(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(nick) = line.params.filled(0) else {
            self.numeric(id, numeric::ERR_NONICKNAMEGIVEN, &[]);
            return;
        };
        self.numeric(id, numeric::ERR_WASNOSUCHNICK, &[nick]);
        self.numeric(id, numeric::RPL_ENDOFWHOWAS, &[nick]);
    }

    pub(crate) fn ison(&mut self, id: ConnectionId, line: &Line<'_>) {
        if line.params.filled(0).is_none() {
            self.need_more_params(id, "ISON");
            return;
        }
        let asked = line.params.iter().flat_map(|words| words.split(' ')).filter(|word| !word.is_empty());
        let online: Vec<&str> =
            asked.filter_map(|nick| self.user_named(nick)).map(|(_, user)| &*user.nick).collect();
        let text = online.join(" ");
        self.numeric_text(id, numeric::RPL_ISON, &[], &text);
    }

    pub(crate) fn userhost(&mut self, id: ConnectionId, line: &Line<'_>) {
        if line.params.filled(0).is_none() {
            self.need_more_params(id, "USERHOST");
            return;
        }
        let found: Vec<String> = line
            .params
            .iter()
            .take(USERHOST_NICKS)
            .filter_map(|nick| self.user_named(nick))
            .map(|(_, user)| {
                let away = if user.away.is_some() { '-' } else { '+' };
                format!("{}={away}{}@{}", user.nick, user.username, user.host)
            })
            .collect();
        self.numeric_text(id, numeric::RPL_USERHOST, &[], &found.join(" "));
    }

    pub(crate) fn away(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        if !self.may_write(id, "AWAY") {
            return;
        }
        let limit = usize::from(self.directory.settings().limits.away_length);
        let message = line.params.filled(0).map(|text| name::cut(text, limit).to_owned());
        let command = Command::Directory(DirectoryCommand::Away { message });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::Away);
    }

    pub(crate) fn set_name(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(real_name) = line.params.filled(0) else {
            self.need_more_params(id, "SETNAME");
            return;
        };
        if real_name.len() > REAL_NAME_LENGTH || real_name.chars().any(char::is_control) {
            let text = format!("A real name has at most {REAL_NAME_LENGTH} bytes, and no control characters");
            self.fail(id, "SETNAME", "INVALID_REALNAME", &[], &text);
            return;
        }
        if !self.may_write(id, "SETNAME") {
            return;
        }
        let command = Command::Directory(DirectoryCommand::RealName { real_name: real_name.to_owned() });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::RealName);
    }

    pub(crate) fn user_named(&self, nick: &str) -> Option<(UserId, &User)> {
        let id = self.directory.user_by_nick(Folded::new(nick).as_str())?;
        Some((id, self.directory.user(id)?))
    }

    /// Whether a command's target means this server: its name, a mask of it, or somebody who is on it, as all are.
    pub(crate) fn is_this_server(&self, target: &str) -> bool {
        glob(target, &self.config.server_name) || self.user_named(target).is_some()
    }
}
