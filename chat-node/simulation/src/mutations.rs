//! The gate: known bugs are brought back one by one, and each must be caught. A check that cannot fail is worthless.

use chat_state::mutation::{Mutation, activate};

use crate::{Report, plan::Room, run};

/// In so many rooms of a kind each must be caught.
pub const SEEDS: usize = 200;

/// A bug, and the rooms in which it shows.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    pub mutation: Mutation,
    pub rooms: Rooms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rooms {
    /// Of one node, with its own disk.
    Alone,
    /// Of several nodes.
    Shared,
    /// Of several nodes, over a store that loses.
    Lossy,
    /// Of one node and of several, and it must be caught in both.
    Both,
}

const fn known(name: &'static str, mutation: Mutation, rooms: Rooms) -> Known {
    Known { name, mutation, rooms }
}

pub const ALL: &[Known] = &[
    known("ack before fsync", Mutation::AckBeforeFsync, Rooms::Alone),
    known("ack at accept", Mutation::AckAtAccept, Rooms::Alone),
    known("tail cut on any CRC error", Mutation::TailCutOnAnyError, Rooms::Alone),
    known("deduplication table not in the snapshot", Mutation::DeduplicationNotInSnapshot, Rooms::Both),
    known("resume off by one", Mutation::ResumeOffByOne, Rooms::Both),
    known("delivery before dir_at", Mutation::DeliveryBeforeDirAt, Rooms::Both),
    known("a forgotten user rejoins", Mutation::ForgottenRejoins, Rooms::Alone),
    known("a stale expiry is applied", Mutation::StaleExpiry, Rooms::Both),
    known("a node-local setting is read in apply", Mutation::NodeLocalSetting, Rooms::Both),
    known("a retry overtakes its predecessor", Mutation::RetryOvertakes, Rooms::Shared),
    known("what a store answered and lost is not missed", Mutation::LossUnnoticed, Rooms::Lossy),
    known("what a store lost is not told", Mutation::LossUntold, Rooms::Lossy),
    known("a worker that lags misses entries", Mutation::LaggingMissesEntries, Rooms::Shared),
    known("a node that was dropped goes on", Mutation::DroppedGoesOn, Rooms::Shared),
    known("append without lineage", Mutation::AppendWithoutLineage, Rooms::Lossy),
    known("a store's next process goes on under the same lineage", Mutation::LineageGoesOn, Rooms::Lossy),
];

impl Known {
    /// The first run that catches it, of each kind of room in which it shows.
    pub fn first_catches(&self) -> Vec<(&'static str, Option<Report>)> {
        let mut catches = Vec::new();
        if let Rooms::Alone | Rooms::Both = self.rooms {
            catches.push((Room::Alone.name(), self.first_in(|room| room == Room::Alone)));
        }
        if let Rooms::Shared | Rooms::Both = self.rooms {
            catches.push((Room::Shared.name(), self.first_in(|room| room == Room::Shared)));
        }
        if self.rooms == Rooms::Lossy {
            catches.push((Room::Lossy.name(), self.first_in(|room| room == Room::Lossy)));
        }
        catches
    }

    fn first_in(&self, wanted: impl Fn(Room) -> bool) -> Option<Report> {
        (0..)
            .filter(|seed| wanted(Room::of(*seed)))
            .take(SEEDS)
            .map(|seed| run_with(self.mutation, seed))
            .find(|report| report.violation.is_some())
    }
}

pub fn run_with(mutation: Mutation, seed: u64) -> Report {
    activate(Some(mutation));
    let report = run(seed, false);
    activate(None);
    report
}
