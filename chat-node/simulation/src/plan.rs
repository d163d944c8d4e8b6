//! What a seed decides before the run begins: the shape of the room, who is there, and how bad the world is.

use chat_session::ConnectionLimits;

use crate::chance::Chance;

/// What kind of room a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// One node, its log on its own disk.
    Alone,
    /// Several nodes over a store that keeps what it says it keeps.
    Shared,
    /// Several nodes over a store that may come back without its last commands.
    Lossy,
}

impl Room {
    /// Every second seed is a room of one node, every eighth has a store that loses.
    pub fn of(seed: u64) -> Self {
        match seed % 8 {
            0 | 2 | 4 | 6 => Self::Alone,
            7 => Self::Lossy,
            _ => Self::Shared,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "one node",
            Self::Shared => "several nodes",
            Self::Lossy => "several nodes, a store that loses",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Places for nodes.
    pub(crate) nodes: usize,
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
    /// Of a shared log.
    pub(crate) append_bytes: usize,
    pub(crate) follower_bytes: usize,
    pub(crate) snapshot_bytes: u64,
    pub(crate) limits: ConnectionLimits,
    pub(crate) faults: Faults,
}

/// How often each fault comes, in thousandths of the steps.
#[derive(Clone, Copy, Debug, Default)]
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
    /// A process stands still for a while.
    pub(crate) freeze: u64,
    pub(crate) drain: u64,
    /// A node does not reach the store for a while.
    pub(crate) cut_off: u64,
    /// A connection to the store breaks.
    pub(crate) break_off: u64,
    pub(crate) restart: u64,
    pub(crate) full_store: u64,
    pub(crate) slow_store: u64,
}

impl Faults {
    fn alone(mut rate: impl FnMut(u64) -> u64) -> Self {
        Self {
            crash: rate(3),
            power: rate(3),
            sync_error: rate(1),
            full_disk: rate(2),
            rot: rate(3),
            cut: 1 + rate(8),
            clock: rate(2),
            stall: rate(4),
            block: rate(6),
            ..Self::default()
        }
    }

    fn shared(mut rate: impl FnMut(u64) -> u64) -> Self {
        Self {
            crash: rate(3),
            cut: 1 + rate(6),
            clock: rate(2),
            stall: rate(4),
            block: rate(4),
            freeze: rate(2),
            drain: rate(2),
            cut_off: rate(3),
            break_off: rate(6),
            restart: rate(3),
            full_store: rate(2),
            slow_store: rate(3),
            ..Self::default()
        }
    }
}

impl Plan {
    pub(crate) fn of(room: Room, chance: &mut Chance) -> Self {
        let calm = chance.one_in(8);
        let rate = |most: u64| if calm { 0 } else { chance.below(most + 1) };
        let faults = match room {
            Room::Alone => Faults::alone(rate),
            Room::Shared => Faults::shared(rate),
            Room::Lossy => {
                let faults = Faults::shared(rate);
                Faults { restart: faults.restart + 1, ..faults }
            }
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
        let shared = room != Room::Alone;
        Self {
            nodes: if shared { 1 + chance.index(4) } else { 1 },
            shards: *chance.pick(&[1, 4]),
            workers: *chance.pick(&[1, 2]),
            clients: 2 + chance.index(5),
            steps: if shared { 1_500 + chance.below(4_000) } else { 600 + chance.below(2_400) },
            step_ms: *chance.pick(if shared { &[3, 10, 40] } else { &[2, 10, 40] }),
            segment_bytes: *chance.pick(&[12 << 10, 32 << 10, 1 << 20]),
            resume_window_ms: *chance.pick(&[2_000, 20_000, 300_000]),
            batch: *chance.pick(&[1, 4, 64]),
            append_bytes: *chance.pick(&[300, 2 << 10, 1 << 20]),
            follower_bytes: *chance.pick(&[300, 4 << 10, 8 << 20]),
            snapshot_bytes: *chance.pick(&[1 << 10, 8 << 10, 64 << 10]),
            limits,
            faults,
        }
    }
}
