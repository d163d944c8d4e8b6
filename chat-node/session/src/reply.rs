//! Direct answers: numerics, standard replies, and lines for one connection alone.

use chat_protocol::{Capability, LineWriter, Numeric, Source};

use crate::{
    connection::{Connection, ConnectionId},
    encode::frame,
    label::write_tagged,
    worker::Worker,
};

/// The client's name in a numeric before it has a nick.
const NOBODY: &str = "*";

impl Worker {
    /// Sends lines (each ended by CR LF) to one connection, as answers to the command that is being run, if that is
    /// labelled. The closure gets the server's name.
    pub(crate) fn say(&mut self, id: ConnectionId, write: impl FnOnce(&str, &mut Vec<u8>)) {
        let mut lines = Vec::new();
        write(&self.config.server_name, &mut lines);
        if lines.is_empty() {
            return;
        }
        let context = self.context;
        let connection = self.connection_mut(id);
        if let Some(label) = context {
            if let Some(collected) = connection.labels.collecting(label) {
                collected.extend_from_slice(&lines);
                return;
            }
            if let Some(tag) = connection.labels.tag(label) {
                let mut tagged = Vec::with_capacity(lines.len() + 32);
                write_tagged(&tag, &lines, &mut tagged);
                lines = tagged;
            }
        }
        self.send(id, &lines);
    }

    /// Puts lines into a connection's output as they are.
    pub(crate) fn send(&mut self, id: ConnectionId, lines: &[u8]) {
        let connection = self.connection_mut(id);
        let framing = connection.framing();
        frame(lines, framing, &mut connection.output);
        self.mark_dirty(id);
    }

    /// A numeric with its standard text.
    pub(crate) fn numeric(&mut self, id: ConnectionId, numeric: Numeric, params: &[&str]) {
        self.numeric_text(id, numeric, params, numeric.text());
    }

    /// A numeric with a text of ours, or of a person's.
    pub(crate) fn numeric_text(&mut self, id: ConnectionId, numeric: Numeric, params: &[&str], text: &str) {
        let client = self.client_name(id);
        self.say(id, |server, out| {
            LineWriter::begin(out)
                .numeric(server, numeric, &client)
                .params(params.iter().copied())
                .trailing(text);
        });
    }

    /// A numeric whose last parameter is a word.
    pub(crate) fn numeric_words(&mut self, id: ConnectionId, numeric: Numeric, params: &[&str]) {
        let client = self.client_name(id);
        self.say(id, |server, out| {
            LineWriter::begin(out).numeric(server, numeric, &client).params(params.iter().copied()).finish();
        });
    }

    /// FAIL, WARN or NOTE (IRCv3 standard-replies); a client without the capability gets it as a NOTICE.
    pub(crate) fn standard_reply(
        &mut self,
        id: ConnectionId,
        kind: &'static str,
        command: &str,
        code: &str,
        context: &[&str],
        text: &str,
    ) {
        let understood = self.connection(id).has(Capability::StandardReplies);
        let client = self.client_name(id);
        self.say(id, |server, out| {
            let line = LineWriter::begin(out);
            if understood {
                line.command(Source::Server(server), kind)
                    .param(command)
                    .param(code)
                    .params(context.iter().copied())
                    .trailing(text);
            } else {
                let mut words = format!("{kind} {command} {code}");
                for word in context {
                    words.push(' ');
                    words.push_str(word);
                }
                line.command(Source::Server(server), "NOTICE")
                    .param(&client)
                    .trailing(&format!("{words}: {text}"));
            }
        });
    }

    pub(crate) fn fail(&mut self, id: ConnectionId, command: &str, code: &str, context: &[&str], text: &str) {
        self.standard_reply(id, "FAIL", command, code, context, text);
    }

    /// The nick of a connection as numerics name it.
    pub(crate) fn client_name(&self, id: ConnectionId) -> String {
        self.nick_of(self.connection(id)).unwrap_or(NOBODY).to_owned()
    }

    fn nick_of<'a>(&'a self, connection: &'a Connection) -> Option<&'a str> {
        match connection.attached() {
            Some(identity) => self.directory.user(identity.user).map(|user| &*user.nick),
            None => connection.wanted_nick(),
        }
    }
}
