//! What happens without input: registration and PING timeouts, rates that recover, drains.

use chat_protocol::{Capability, LineWriter, Source};

use crate::{
    config::Now,
    connection::{ConnectionId, Phase},
    worker::{Drain, Worker},
};

/// Clients that are told to leave come back after up to so many seconds where many are told at a time, so that they do
/// not all come at once.
const RECONNECT_SPREAD_S: u32 = 5;
/// Clients a second and worker that other nodes take without a spread; it grows by a second with as many more.
const WELCOME_PER_SECOND: u32 = 200;

/// Calls of [`Worker::tick`] until every connection was looked at.
const TICKS_A_ROUND: u64 = 10;

impl Worker {
    /// To be called about every 100 ms. Each call looks at a part of the connections, so that each is looked at about
    /// once a second, and at all those that are over their rate.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.ticks = self.ticks.wrapping_add(1);
        let part = (self.ticks % TICKS_A_ROUND) as usize;
        for at in (part..self.connections.len()).step_by(TICKS_A_ROUND as usize) {
            let id = ConnectionId(u32::try_from(at).expect("connections are numbered by u32"));
            if self.connections[at].as_deref().is_some_and(|connection| !connection.is_closed()) {
                self.tick_connection(id, now);
            }
        }
        self.runnable.append(&mut self.throttled);
        self.caught_up();
        self.tell_to_leave(now);
        self.run_waiting();
    }

    fn tick_connection(&mut self, id: ConnectionId, now: Now) {
        let limits = self.config.limits;
        let connection = self.connection_mut(id);
        let late = |since: u64, allowed: u64| now.monotonic_ms.saturating_sub(since) >= allowed;
        let timeout = match &connection.phase {
            Phase::Registering(registration) if late(registration.since_ms, limits.registration_ms) => {
                Some("Registration timed out")
            }
            Phase::Ready(_) => match connection.ping_sent_ms {
                Some(sent) if late(sent, limits.pong_within_ms) => Some("Ping timeout"),
                None if late(connection.last_heard_ms, limits.ping_after_ms) => {
                    self.ping(id);
                    None
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(reason) = timeout {
            self.counters.closed_timeout += 1;
            self.close(id, 4000, reason);
        }
    }

    pub(crate) fn ping(&mut self, id: ConnectionId) {
        self.connection_mut(id).ping_sent_ms = Some(self.now.monotonic_ms);
        self.say(id, |server, out| LineWriter::begin(out).bare_command("PING").trailing(server));
    }

    /// Takes no new connections and tells those that are here to go, at most so many a second.
    pub fn drain(&mut self, per_second: u32, now: Now) {
        self.now = now;
        self.draining = Some(Drain { per_second: per_second.max(1), since_ms: now.monotonic_ms, told: 0 });
        self.tell_to_leave(now);
    }

    fn tell_to_leave(&mut self, now: Now) {
        let Some(drain) = &self.draining else { return };
        let elapsed_ms = now.monotonic_ms.saturating_sub(drain.since_ms);
        let due = u64::from(drain.per_second) * (elapsed_ms + 1000) / 1000;
        let budget = usize::try_from(due.saturating_sub(drain.told)).unwrap_or(usize::MAX);
        let waiting = |(at, slot): (usize, &Option<Box<crate::connection::Connection>>)| {
            let connection = slot.as_deref()?;
            (!connection.is_closed() && !connection.told_to_leave)
                .then(|| ConnectionId(u32::try_from(at).expect("connections are numbered by u32")))
        };
        let leaving: Vec<ConnectionId> =
            self.connections.iter().enumerate().filter_map(waiting).take(budget).collect();
        for id in leaving {
            if let Some(drain) = &mut self.draining {
                drain.told += 1;
            }
            self.tell_one_to_leave(id);
        }
    }

    /// A client that can resume is told where to; the others are closed. Both may come back at once.
    fn tell_one_to_leave(&mut self, id: ConnectionId) {
        self.connection_mut(id).told_to_leave = true;
        if self.connection(id).has(Capability::Resume) && self.connection(id).identity().is_some() {
            let mut byte = [0];
            self.random.fill(&mut byte);
            let per_second = self.draining.as_ref().map_or(0, |drain| drain.per_second);
            let spread = (per_second / WELCOME_PER_SECOND).min(RECONNECT_SPREAD_S);
            let seconds = u32::from(byte[0]) % (spread + 1);
            let host = self.config.reconnect_to.clone();
            self.say(id, |server, out| {
                LineWriter::begin(out)
                    .command(Source::Server(server), "RECONNECT")
                    .param(&host)
                    .param(&seconds.to_string())
                    .finish();
            });
        }
        self.close(id, 1012, "This node is being stopped, please reconnect");
    }
}
