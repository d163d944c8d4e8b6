//! Commands of registered clients: which function runs which, and the order between them.
//!
//! Commands take effect in the order they were sent. Messages may follow each other through the log without waiting;
//! every other command, and a message behind one, waits until all before it are answered. So an answer is always
//! about the state that the client's earlier commands left.

mod channel;
mod history;
mod list;
mod long;
mod message;
mod mode;
mod moderate;
mod people;
mod server;
mod session;
mod who;

pub(crate) use channel::{Known, MAX_JOIN_TARGETS};
pub(crate) use message::{ID_TAG, MAX_TARGETS};

/// MODES: changes with a parameter in one line.
pub(crate) const MAX_MODES: usize = 4;
/// CHATHISTORY: messages in one answer.
pub(crate) const MAX_HISTORY: usize = 500;

use chat_protocol::{Capability, Line, numeric};
use chat_state::{
    command::{Command, DirectoryCommand},
    ids::{ShardId, UserId},
};

use crate::{
    connection::{ConnectionId, Identity, PendingKind},
    worker::Worker,
};

/// Whether a line was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Done,
    /// It must run again, later.
    Wait,
}

/// Messages of one session on their way through the log at a time.
const MAX_PENDING: usize = 1024;

impl Worker {
    pub(crate) fn run_command(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) -> Flow {
        let verb = line.verb_upper();
        let is_message = matches!(&*verb, "PRIVMSG" | "NOTICE" | "TAGMSG");
        if !self.may_run(id, is_message) {
            return Flow::Wait;
        }
        let label = match line.label() {
            Some(label) if self.connection(id).has(Capability::LabeledResponse) => {
                Some(self.connection_mut(id).labels.begin(&label))
            }
            _ => None,
        };
        self.context = label;
        let before = self.connection(id).pending.len();
        let flow = self.dispatch(id, identity, &verb, line);
        self.context = None;
        if let Some(label) = label {
            self.end_of_labelled(id, label, flow, before);
        }
        flow
    }

    fn may_run(&self, id: ConnectionId, is_message: bool) -> bool {
        let pending = &self.connection(id).pending;
        let behind_messages =
            || pending.iter().all(|pending| matches!(pending.kind, PendingKind::Message { .. }));
        pending.is_empty() || (is_message && pending.len() < MAX_PENDING && behind_messages())
    }

    fn end_of_labelled(&mut self, id: ConnectionId, label: u32, flow: Flow, before: usize) {
        let Some(connection) = self.connections[id.0 as usize].as_deref_mut() else { return };
        if flow == Flow::Wait || connection.is_closed() {
            connection.labels.abort(label);
            return;
        }
        let asked = connection.pending.iter().skip(before).filter(|pending| pending.label == Some(label));
        let (mut remaining, mut single) = (0, true);
        for pending in asked {
            remaining += 1;
            single &= pending.kind.is_answered_by_one_line() && remaining == 1;
        }
        let mut lines = Vec::new();
        connection.labels.ran(label, remaining, single, &self.config.server_name, &mut lines);
        self.send(id, &lines);
    }

    fn dispatch(&mut self, id: ConnectionId, identity: Identity, verb: &str, line: &Line<'_>) -> Flow {
        match verb {
            "PRIVMSG" | "NOTICE" | "TAGMSG" => return self.message(id, identity, line),
            "JOIN" => return self.join(id, identity, line),
            "PART" => self.part(id, identity, line),
            "TOPIC" => self.topic(id, identity, line),
            "NAMES" => self.names(id, line),
            "NICK" => self.nick(id, identity, line),
            "QUIT" => self.quit(id, identity, line),
            "PING" => self.pong(id, line),
            "PONG" => self.ponged(id, identity),
            "CAP" => self.cap(id, line),
            "MODE" => self.mode(id, identity, line),
            "KICK" => self.kick(id, identity, line),
            "INVITE" => self.invite(id, identity, line),
            "LIST" => self.list(id, identity, line),
            "WHO" => self.who(id, identity, line),
            "WHOIS" => self.whois(id, identity, line),
            "WHOWAS" => self.whowas(id, line),
            "ISON" => self.ison(id, line),
            "USERHOST" => self.userhost(id, line),
            "AWAY" => self.away(id, identity, line),
            "SETNAME" => self.set_name(id, identity, line),
            "CHATHISTORY" => self.chat_history(id, identity, line),
            "STATS" => self.stats(id, line),
            "HELP" => self.help(id, line),
            "LUSERS" => self.lusers(id),
            "INFO" => self.info(id),
            "LINKS" => self.links(id),
            "MOTD" | "VERSION" | "TIME" | "ADMIN" => self.about_server(id, verb, line),
            "USER" | "PASS" => self.numeric(id, numeric::ERR_ALREADYREGISTERED, &[]),
            _ => self.numeric(id, numeric::ERR_UNKNOWNCOMMAND, &[verb]),
        }
        Flow::Done
    }

    pub(crate) fn need_more_params(&mut self, id: ConnectionId, verb: &str) {
        self.numeric(id, numeric::ERR_NEEDMOREPARAMS, &[verb]);
    }

    /// Whether requests go through now; if not the client is told.
    pub(crate) fn may_write(&mut self, id: ConnectionId, verb: &str) -> bool {
        match self.read_only.clone() {
            Some(reason) => {
                self.fail(id, verb, "READ_ONLY", &[], &reason);
                false
            }
            None => true,
        }
    }

    /// Whether the user may propose to these shards; if not, asks for it, and the line must run again.
    pub(crate) fn reaches(&mut self, id: ConnectionId, identity: Identity, shards: &[ShardId]) -> bool {
        let Some(user) = self.directory.user(identity.user) else { return false };
        let mut missing: Vec<ShardId> =
            shards.iter().copied().filter(|shard| !user.reach.contains(shard)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return true;
        }
        // The label belongs to the line, which will run again.
        let context = self.context.take();
        let command = Command::Directory(DirectoryCommand::Reach { shards: missing });
        self.propose(id, identity, ShardId::DIRECTORY, command, PendingKind::Reach);
        self.context = context;
        false
    }

    pub(crate) fn nick_or(&self, user: UserId, otherwise: &str) -> String {
        self.directory.user(user).map_or_else(|| otherwise.to_owned(), |user| user.nick.to_string())
    }
}

impl PendingKind {
    /// Whether its answer is one line whatever it is (so that a label needs no batch).
    fn is_answered_by_one_line(&self) -> bool {
        match self {
            Self::Message { away, .. } => away.is_none(),
            Self::Join { .. } => false,
            _ => true,
        }
    }
}
