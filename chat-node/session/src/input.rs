//! Lines of clients on their way in: one at a time, at the rate that is allowed, and in order.

use chat_protocol::{Capability, Line, LineError, numeric};

use crate::{
    commands::Flow,
    config::{ConnectionLimits, Now},
    connection::{ConnectionId, Phase},
    worker::Worker,
};

impl Worker {
    /// One line without its line ending.
    pub fn receive(&mut self, id: ConnectionId, line: &[u8], now: Now) {
        self.now = now;
        let connection = self.connection_mut(id);
        if connection.is_closed() {
            return;
        }
        connection.last_heard_ms = now.monotonic_ms;
        connection.ping_sent_ms = None;
        if connection.input.is_empty() && self.run(id, line) == Flow::Done {
            return;
        }
        let limit = self.config.limits.max_waiting_input;
        let connection = self.connection_mut(id);
        connection.input.push_back(line.into());
        connection.input_bytes += line.len();
        if connection.input_bytes <= limit {
            return;
        }
        if connection.throttled {
            self.counters.closed_flood += 1;
            self.close(id, 4000, "Excess Flood");
        } else {
            connection.paused = true;
        }
    }

    /// The client sent a line that is too long; it was dropped.
    pub fn receive_too_long(&mut self, id: ConnectionId, now: Now) {
        self.now = now;
        let limits = self.config.limits;
        let connection = self.connection_mut(id);
        if connection.is_closed() {
            return;
        }
        // It counts as a command. There is no line that could wait: past the rate, reading does.
        if !connection.bucket.take(&limits, now) && !connection.paused {
            connection.paused = true;
            self.throttled.push(id);
        }
        self.numeric(id, numeric::ERR_INPUTTOOLONG, &[]);
    }

    /// Runs what waits on connections that may go on.
    pub(crate) fn run_waiting(&mut self) {
        while let Some(id) = self.runnable.pop() {
            self.run_input(id);
        }
    }

    /// Runs the waiting lines of one connection as far as they may.
    pub(crate) fn run_input(&mut self, id: ConnectionId) {
        while let Some(connection) = &mut self.connections[id.0 as usize] {
            let Some(line) = connection.input.pop_front() else { break };
            if connection.is_closed() {
                return;
            }
            if self.run(id, &line) == Flow::Wait {
                self.connection_mut(id).input.push_front(line);
                return;
            }
            self.connection_mut(id).input_bytes -= line.len();
        }
        if self.connections[id.0 as usize].is_some() {
            self.resume_reading(id);
        }
    }

    fn run(&mut self, id: ConnectionId, bytes: &[u8]) -> Flow {
        let (limits, now) = (self.config.limits, self.now);
        let connection = self.connection_mut(id);
        if matches!(
            connection.phase,
            Phase::Opening { .. } | Phase::Attaching { .. } | Phase::CatchingUp { .. }
        ) {
            return Flow::Wait;
        }
        connection.throttled = !connection.bucket.take(&limits, now);
        if connection.throttled {
            self.throttled.push(id);
            return Flow::Wait;
        }
        let flow = match Line::parse(bytes) {
            Ok(line) => self.run_line(id, &line),
            Err(error) => {
                self.complain(id, error);
                Flow::Done
            }
        };
        if flow == Flow::Wait {
            self.connection_mut(id).bucket.give_back();
        }
        flow
    }

    fn run_line(&mut self, id: ConnectionId, line: &Line<'_>) -> Flow {
        match self.connection(id).identity() {
            None => self.register(id, line),
            Some(identity) => self.run_command(id, identity, line),
        }
    }

    fn complain(&mut self, id: ConnectionId, error: LineError) {
        match error {
            LineError::TooLong => self.numeric(id, numeric::ERR_INPUTTOOLONG, &[]),
            LineError::InvalidUtf8 => {
                self.fail(id, "*", "INVALID_UTF8", &[], "Message rejected: it is not UTF-8");
            }
            LineError::ForbiddenByte => {
                let text = "Message rejected: it contains NUL, CR or LF";
                if self.connection(id).has(Capability::StandardReplies) {
                    self.fail(id, "*", "INVALID_LINE", &[], text);
                } else {
                    self.numeric_text(id, numeric::ERR_UNKNOWNERROR, &["*"], text);
                }
            }
            LineError::BadCommand if self.connection(id).identity().is_none() => {
                self.numeric(id, numeric::ERR_NOTREGISTERED, &[]);
            }
            // The word may be anything, so it is not sent back.
            LineError::BadCommand => self.numeric(id, numeric::ERR_UNKNOWNCOMMAND, &["*"]),
            // Nothing that a client meant to be answered.
            LineError::Empty | LineError::NoCommand => {}
        }
    }
}

/// Thousandths of a command that may be run now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    milli: u64,
    filled_ms: u64,
}

impl Bucket {
    pub(crate) fn full(limits: &ConnectionLimits, now: Now) -> Self {
        Self { milli: u64::from(limits.command_burst) * 1000, filled_ms: now.monotonic_ms }
    }

    /// Takes one command's worth, if it is there.
    pub(crate) fn take(&mut self, limits: &ConnectionLimits, now: Now) -> bool {
        let elapsed = now.monotonic_ms.saturating_sub(self.filled_ms);
        let gained = elapsed.saturating_mul(u64::from(limits.commands_per_second));
        self.milli = (self.milli.saturating_add(gained)).min(u64::from(limits.command_burst) * 1000);
        self.filled_ms = now.monotonic_ms;
        let enough = self.milli >= 1000;
        if enough {
            self.milli -= 1000;
        }
        enough
    }

    /// Gives back what a command took that could not run yet.
    pub(crate) fn give_back(&mut self) {
        self.milli += 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let limits =
            ConnectionLimits { command_burst: 2, commands_per_second: 5, ..ConnectionLimits::default() };
        let at = |monotonic_ms| Now { monotonic_ms, unix_ms: 0 };
        let mut bucket = Bucket::full(&limits, at(0));
        assert!(bucket.take(&limits, at(0)));
        assert!(bucket.take(&limits, at(0)));
        assert!(!bucket.take(&limits, at(199)));
        assert!(bucket.take(&limits, at(200)));
        assert!(!bucket.take(&limits, at(200)));
    }
}
