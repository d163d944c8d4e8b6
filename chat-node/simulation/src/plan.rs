//! What a seed decides before the run begins: the shape of the node, who is there, and how bad the world is.

use chat_session::ConnectionLimits;

use crate::chance::Chance;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Channel shards.
    pub(crate) shards: u16,
    pub(crate) workers: u16,
    pub(crate) clients: usize,
    /// Steps before the faults stop.
    pub(crate) steps: u64,
    /// Most time that passes with a step.
    pub(crate) step_ms: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) resume_window_ms: u64,
    /// Most requests in a commit.
    pub(crate) batch: u64,
    pub(crate) limits: ConnectionLimits,
    pub(crate) faults: Faults,
}

/// How often each fault comes, as weights among the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) crash: u64,
    /// The power goes at one of the next disk operations.
    pub(crate) power: u64,
    pub(crate) sync_error: u64,
    pub(crate) full_disk: u64,
    pub(crate) rot: u64,
    pub(crate) cut: u64,
    pub(crate) clock: u64,
    pub(crate) stall: u64,
    /// The log takes nothing from a worker for one shard.
    pub(crate) block: u64,
}

impl Plan {
    pub(crate) fn of(chance: &mut Chance) -> Self {
        let calm = chance.one_in(8);
        let mut rate = |most: u64| if calm { 0 } else { chance.below(most + 1) };
        let faults = Faults {
            crash: rate(3),
            power: rate(3),
            sync_error: rate(1),
            full_disk: rate(2),
            rot: rate(3),
            cut: 1 + rate(8),
            clock: rate(2),
            stall: rate(4),
            block: rate(6),
        };
        let defaults = ConnectionLimits::default();
        let limits = ConnectionLimits {
            command_burst: if chance.one_in(6) { 20 } else { 1_000_000 },
            max_waiting_output: if chance.one_in(5) { 4 * 1024 } else { defaults.max_waiting_output },
            max_waiting_input: if chance.one_in(5) { 1024 } else { defaults.max_waiting_input },
            ping_after_ms: *chance.pick(&[5_000, 60_000]),
            pong_within_ms: 5_000,
            ..defaults
        };
        Self {
            shards: *chance.pick(&[1, 4]),
            workers: *chance.pick(&[1, 2]),
            clients: 2 + chance.index(5),
            steps: 600 + chance.below(2_400),
            step_ms: *chance.pick(&[2, 10, 40]),
            segment_bytes: *chance.pick(&[12 << 10, 32 << 10, 1 << 20]),
            resume_window_ms: *chance.pick(&[2_000, 20_000, 300_000]),
            batch: *chance.pick(&[1, 4, 64]),
            limits,
            faults,
        }
    }
}
