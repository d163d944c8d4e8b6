//! NICK, QUIT, PING, PONG.

use chat_protocol::{Line, LineWriter, Source, name, numeric};
use chat_state::{
    command::{Command, DirectoryCommand},
    ids::ShardId,
};

use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    worker::Worker,
};

impl Worker {
    /// The nick that a NICK asks for, also before registration. A client that cannot have it is told so.
    pub(crate) fn asked_nick<'l>(&mut self, id: ConnectionId, line: &Line<'l>) -> Option<&'l str> {
        let Some(nick) = line.params.filled(0) else {
            self.numeric(id, numeric::ERR_NONICKNAMEGIVEN, &[]);
            return None;
        };
        let limit = usize::from(self.directory.settings().limits.nick_length);
        if !name::is_nick(nick, limit) {
            self.numeric(id, numeric::ERR_ERRONEUSNICKNAME, &[nick]);
            return None;
        }
        Some(nick)
    }

    pub(crate) fn nick(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let Some(nick) = self.asked_nick(id, line) else { return };
        if !self.may_write(id, "NICK") {
            return;
        }
        let command = Command::Directory(DirectoryCommand::Nick { nick: nick.to_owned() });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::Nick { nick: nick.to_owned() });
    }

    pub(crate) fn quit(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        let limit = usize::from(self.directory.settings().limits.kick_length);
        let reason = match line.params.filled(0) {
            Some(text) => format!("Quit: {}", name::cut(text, limit)),
            None => "Quit".to_owned(),
        };
        let Identity { session, generation, .. } = identity;
        let command = DirectoryCommand::Close { session, generation, reason };
        self.propose(id, identity, ShardId::DIRECTORY, Command::Directory(command), PendingKind::Quit);
    }

    pub(crate) fn pong(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(token) = line.params.at(0) else {
            self.need_more_params(id, "PING");
            return;
        };
        self.say(id, |server, out| {
            LineWriter::begin(out).command(Source::Server(server), "PONG").param(server).trailing(token);
        });
    }

    /// A PONG to a PING that followed the resume token: the token arrived, the previous one is void.
    pub(crate) fn ponged(&mut self, id: ConnectionId, identity: Identity) {
        if !std::mem::take(&mut self.connection_mut(id).token_unconfirmed) {
            return;
        }
        let Identity { session, generation, .. } = identity;
        let command = Command::Directory(DirectoryCommand::ConfirmToken { session, generation });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::ConfirmToken);
    }
}
