//! Answers that may be long (WHO, LIST, CHATHISTORY): as many lines as the connection's output has room for.

use crate::{connection::ConnectionId, worker::Worker};

/// Lines of one answer.
pub(crate) struct LongAnswer {
    lines: Vec<u8>,
    room: usize,
    cut: bool,
}

impl LongAnswer {
    /// Adds a line, or notes that it did not fit. False if no more will fit.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.lines.len();
        write(&mut self.lines);
        if self.lines.len() > self.room {
            self.lines.truncate(before);
            self.cut = true;
        }
        !self.cut
    }
}

impl Worker {
    pub(crate) fn long_answer(&self, id: ConnectionId) -> LongAnswer {
        LongAnswer { lines: Vec::new(), room: self.answer_room(id), cut: false }
    }

    /// Half of what may still wait for this connection, in bytes: the rest is for what others say meanwhile, and for
    /// the tags that a label adds.
    pub(crate) fn answer_room(&self, id: ConnectionId) -> usize {
        self.config.limits.max_waiting_output.saturating_sub(self.connection(id).waiting_output()) / 2
    }

    /// Sends the lines; a client that did not get all of them is told so.
    pub(crate) fn say_long(&mut self, id: ConnectionId, verb: &str, answer: LongAnswer) {
        self.say(id, |_, out| *out = answer.lines);
        if answer.cut {
            let text = "There is more than fits into one answer; ask for less";
            self.standard_reply(id, "NOTE", verb, "TOO_MANY_MATCHES", &[], text);
        }
    }
}
