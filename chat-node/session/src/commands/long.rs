//! Answers that may be long (WHO, LIST, CHATHISTORY): as many lines as the connection's output has room for, found in
//! as much time as one command may take of its worker.

use std::cell::Cell;

use crate::{connection::ConnectionId, worker::Worker};

/// Lines of one answer.
pub(crate) struct LongAnswer {
    lines: Vec<u8>,
    room: usize,
    cut: bool,
}

/// What one command may cost, in characters looked at or written, and what takes as long. A worker needs a few
/// milliseconds for all of it, and serves nobody else meanwhile.
const EFFORT: usize = 1 << 20;

/// How much of [`EFFORT`] a command has left.
pub(super) struct Effort(Cell<usize>);

impl Effort {
    /// To come to a user or a channel.
    pub(super) const LOOK: usize = 32;
    /// To write a line about one.
    pub(super) const LINE: usize = 192;

    pub(super) fn new() -> Self {
        Self(Cell::new(EFFORT))
    }

    /// False, and nothing is left, if it was more than there was.
    pub(super) fn spend(&self, cost: usize) -> bool {
        let left = self.0.get().checked_sub(cost);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

impl LongAnswer {
    /// Adds a line if it may still cost that; otherwise as [`Self::add`].
    pub(super) fn add_for(&mut self, effort: &Effort, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.cut |= !effort.spend(Effort::LINE);
        !self.cut && self.add(write)
    }

    /// What was looked for was looked for with this: if it is spent, there may be more.
    pub(super) fn found_with(mut self, effort: &Effort) -> Self {
        self.cut |= effort.0.get() == 0;
        self
    }

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
            let text = "There may be more than fits into one answer; ask for less";
            self.standard_reply(id, "NOTE", verb, "TOO_MANY_MATCHES", &[], text);
        }
    }
}
