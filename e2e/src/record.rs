//! What a client did and saw, for the checkers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// A message that a subscriber saw, or that history gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub msgid: String,
    pub sender: String,
    pub text: String,
}

/// A time on one connection, from when it could talk until it ended.
#[derive(Clone, Debug)]
pub struct Stay {
    /// The pod it was connected to, where the client chose it itself.
    pub pod: Option<String>,
    /// Why it ended; `None` while it lasts.
    pub ended: Option<String>,
    /// Whether the client itself left, as it was told to.
    pub on_request: bool,
}

/// Everything one client remembers.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub name: String,
    /// Texts sent, by number; `chatroom.dev/id` where the client uses it.
    pub sent: BTreeMap<u64, String>,
    /// Acknowledged numbers, with the msgid each got.
    pub acknowledged: BTreeMap<u64, String>,
    /// What a client that sends nothing twice does not know the fate of.
    pub given_up: BTreeSet<u64>,
    /// Messages of the channel in the order they came, its own echoes included: one run as long as the session lasts, live
    /// or in a resume, and another for each session after it.
    pub runs: Vec<Vec<Seen>>,
    /// `RESUME GAP`s it was told.
    pub gaps: Vec<String>,
    /// Sessions that could not be resumed.
    pub sessions_lost: Vec<String>,
    /// Its connections, but for those that ended before it could talk.
    pub stays: Vec<Stay>,
    /// How often it was told that nothing can be written now.
    pub refused: usize,
    /// Longest time between sending a message and its acknowledgement.
    pub slowest: Duration,
    /// Longest time between two acknowledgements, while it tried, since somebody last asked anew.
    pub longest_pause: Duration,
    /// What went wrong in the longest pause.
    pub paused_by: Vec<String>,
    /// Lines that no client should ever get.
    pub complaints: BTreeSet<String>,
    /// Why the last connection ended.
    pub last_problem: String,
    /// What has gone wrong since the last acknowledgement.
    pub(crate) problems: Vec<String>,
    pub(crate) times: BTreeMap<u64, Times>,
    /// When the last acknowledgement came; `None` if it has not tried ever since.
    pub(crate) heard_at: Option<Instant>,
}

/// When a message was first sent and when its acknowledgement came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) sent: Instant,
    pub(crate) acknowledged: Option<Instant>,
}

impl Record {
    pub(crate) fn send(&mut self, id: u64, text: String) {
        let now = Instant::now();
        self.heard_at.get_or_insert(now);
        self.sent.insert(id, text);
        self.times.insert(id, Times { sent: now, acknowledged: None });
    }

    pub(crate) fn acknowledge(&mut self, id: u64, msgid: &str) {
        let now = Instant::now();
        let Some(times) = self.times.get_mut(&id).filter(|times| times.acknowledged.is_none()) else {
            return;
        };
        times.acknowledged = Some(now);
        self.slowest = self.slowest.max(now - times.sent);
        let problems = std::mem::take(&mut self.problems);
        if let Some(before) = self.heard_at.replace(now)
            && now - before > self.longest_pause
        {
            self.longest_pause = now - before;
            self.paused_by = problems;
        }
        self.acknowledged.insert(id, msgid.to_owned());
    }

    /// Sent, not acknowledged, and not given up, in order.
    pub fn pending(&self) -> Vec<(u64, String)> {
        let open = |id: &u64| !self.acknowledged.contains_key(id) && !self.given_up.contains(id);
        // What is pending is among the last that were sent.
        let mut pending: Vec<_> = self
            .sent
            .iter()
            .rev()
            .take(PENDING_AMONG)
            .filter(|(id, _)| open(id))
            .map(|(id, text)| (*id, text.clone()))
            .collect();
        pending.reverse();
        pending
    }

    /// Gives up what is pending: it may be stored, or not.
    pub(crate) fn give_up(&mut self) {
        let pending = self.pending();
        self.given_up.extend(pending.into_iter().map(|(id, _)| id));
    }

    pub(crate) fn problem(&mut self, what: &str) {
        what.clone_into(&mut self.last_problem);
        if self.problems.len() < PROBLEMS {
            self.problems.push(what.to_owned());
        }
    }

    /// Connections that ended by themselves.
    pub fn reconnects(&self) -> usize {
        self.stays.iter().filter(|stay| stay.ended.is_some() && !stay.on_request).count()
    }

    pub(crate) fn saw(&mut self, seen: Seen) {
        if self.runs.is_empty() {
            self.runs.push(Vec::new());
        }
        self.runs.last_mut().expect("there is one now").push(seen);
    }
}

/// Problems kept of one pause.
const PROBLEMS: usize = 16;
/// More than a client has on its way at a time.
const PENDING_AMONG: usize = 64;
