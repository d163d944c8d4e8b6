//! What a run amounted to.

use std::ops::AddAssign;

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: u64,
    pub crashes: u64,
    /// Nodes that ended because the store or the room had gone on without them.
    pub ended: u64,
    pub drained: u64,
    /// Processes of the store that ended.
    pub restarts: u64,
    /// Those that came back without entries.
    pub losses: u64,
    pub connections: u64,
    pub cuts: u64,
    pub snapshots: u64,
    pub disk_full: u64,
    pub rot_refused: u64,
    pub entries: u64,
    pub acknowledged: u64,
    pub gaps: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // None is to be forgotten.
        let Self {
            steps,
            crashes,
            ended,
            drained,
            restarts,
            losses,
            connections,
            cuts,
            snapshots,
            disk_full,
            rot_refused,
            entries,
            acknowledged,
            gaps,
        } = other;
        self.steps += steps;
        self.crashes += crashes;
        self.ended += ended;
        self.drained += drained;
        self.restarts += restarts;
        self.losses += losses;
        self.connections += connections;
        self.cuts += cuts;
        self.snapshots += snapshots;
        self.disk_full += disk_full;
        self.rot_refused += rot_refused;
        self.entries += entries;
        self.acknowledged += acknowledged;
        self.gaps += gaps;
    }
}
