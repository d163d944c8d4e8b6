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

/// Everything one client remembers.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub name: String,
    /// Texts sent, by `chatroom.dev/id`.
    pub sent: BTreeMap<u64, String>,
    /// Acknowledged ids, with the msgid each got.
    pub acknowledged: BTreeMap<u64, String>,
    /// Messages of the channel in the order they came, live or in a resume, its own echoes included.
    pub seen: Vec<Seen>,
    /// `RESUME GAP`s it was told.
    pub gaps: Vec<String>,
    /// Sessions that could not be resumed.
    pub sessions_lost: Vec<String>,
    /// Connections after the first.
    pub reconnects: usize,
    /// Longest time between sending a message and its acknowledgement.
    pub slowest: Duration,
    /// Lines that no client should ever get.
    pub complaints: BTreeSet<String>,
    /// Why the last connection ended.
    pub last_problem: String,
    pub(crate) sent_at: BTreeMap<u64, Instant>,
}

impl Record {
    pub(crate) fn send(&mut self, id: u64, text: String) {
        self.sent.insert(id, text);
        self.sent_at.insert(id, Instant::now());
    }

    pub(crate) fn acknowledge(&mut self, id: u64, msgid: &str) {
        if let Some(at) = self.sent_at.remove(&id) {
            self.slowest = self.slowest.max(at.elapsed());
        }
        self.acknowledged.insert(id, msgid.to_owned());
    }

    /// Sent and not acknowledged, in order.
    pub fn pending(&self) -> Vec<(u64, String)> {
        let pending = self.sent.iter().filter(|(id, _)| !self.acknowledged.contains_key(id));
        pending.map(|(id, text)| (*id, text.clone())).collect()
    }
}
