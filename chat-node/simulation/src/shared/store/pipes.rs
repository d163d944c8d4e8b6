//! Connections to the store: commands one way, answers the other, each in order; and how they end.

use std::collections::VecDeque;

use super::{Reply, Request, Store};
use crate::chance::Chance;

/// A connection.
pub(super) struct Pipe {
    pub(super) slot: usize,
    pub(super) up: VecDeque<Request>,
    pub(super) down: VecDeque<Reply>,
    /// The process that took it still runs.
    pub(super) open: bool,
    /// The node has given it up; what it sent may still arrive.
    pub(super) orphaned: bool,
}

impl Store {
    /// A connection, and the process that it leads to.
    pub(in crate::shared) fn connect(&mut self, slot: usize, now_ms: u64) -> Option<(u64, u64)> {
        if !self.is_up() || self.is_cut(slot, now_ms) {
            return None;
        }
        let id = self.next_pipe;
        self.next_pipe += 1;
        let (up, down) = (VecDeque::new(), VecDeque::new());
        self.pipes.insert(id, Pipe { slot, up, down, open: true, orphaned: false });
        Some((id, self.run))
    }

    pub(in crate::shared) fn send(&mut self, pipe: u64, request: Request) {
        if let Some(pipe) = self.pipes.get_mut(&pipe)
            && pipe.open
        {
            pipe.up.push_back(request);
        }
    }

    /// Whether the node finds something on the connection: an answer, or its end.
    pub(in crate::shared) fn has_news(&self, pipe: u64) -> bool {
        self.pipes.get(&pipe).is_none_or(|pipe| pipe.orphaned || !pipe.open || !pipe.down.is_empty())
    }

    /// The next answer; none if the connection is over.
    pub(in crate::shared) fn receive(&mut self, pipe: u64) -> Option<Reply> {
        self.pipes.get_mut(&pipe).filter(|pipe| !pipe.orphaned)?.down.pop_front()
    }

    /// The node's end of a connection is gone. What it sent and was not taken may arrive later, or never.
    pub(in crate::shared) fn leave(&mut self, id: u64, chance: &mut Chance) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.orphaned = true;
        let arrives = match chance.below(4) {
            0 => 0,
            1 => chance.index(pipe.up.len() + 1),
            _ => pipe.up.len(),
        };
        pipe.up.truncate(arrives);
        if pipe.up.is_empty() {
            self.pipes.remove(&id);
        }
    }

    /// The node's process is gone.
    pub(crate) fn abandon(&mut self, slot: usize, chance: &mut Chance) {
        let ids: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.slot == slot && !pipe.orphaned)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.leave(id, chance);
        }
    }

    /// A connection breaks: the node finds out at once, the store takes what had been sent, later or never.
    pub(crate) fn break_one(&mut self, chance: &mut Chance) {
        let ids: Vec<u64> = self.pipes.iter().filter(|(_, pipe)| !pipe.orphaned).map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            let id = *chance.pick(&ids);
            self.leave(id, chance);
        }
    }
}
