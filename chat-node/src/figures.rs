//! What threads say about themselves; admin reads it without waiting for them.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use chat_session::{Counters, Framing};

/// Upper bounds of the buckets of both histograms, seconds; one for everything above comes on top.
pub(crate) const BUCKETS: [f64; 15] =
    [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Durations, counted by bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durations {
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    pub(crate) sum_seconds: f64,
}

impl Durations {
    pub(crate) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.counts[BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum_seconds += seconds;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_seconds += other.sum_seconds;
    }
}

/// One worker's.
#[derive(Debug, Default)]
pub(crate) struct WorkerFigures {
    /// Monotonic milliseconds of its loop's last turn.
    turned_ms: AtomicU64,
    /// Connections that were given to it and are not closed yet.
    pub(crate) tcp: AtomicU32,
    pub(crate) websocket: AtomicU32,
    /// It was told that the log takes nothing, and answers its clients so.
    pub(crate) refusing: AtomicBool,
    totals: Mutex<Totals>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counters: Counters,
    pub(crate) acknowledge: Durations,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        let Counters { acknowledged, deliveries, closed_flood, closed_send_queue, closed_timeout, refused } =
            other.counters;
        self.counters.acknowledged += acknowledged;
        self.counters.deliveries += deliveries;
        self.counters.closed_flood += closed_flood;
        self.counters.closed_send_queue += closed_send_queue;
        self.counters.closed_timeout += closed_timeout;
        self.counters.refused += refused;
        self.acknowledge.add(&other.acknowledge);
    }
}

impl WorkerFigures {
    pub(crate) fn turned(&self, monotonic_ms: u64) {
        self.turned_ms.store(monotonic_ms, Ordering::Relaxed);
    }

    pub(crate) fn last_turn_ms(&self) -> u64 {
        self.turned_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> u32 {
        self.tcp.load(Ordering::Relaxed) + self.websocket.load(Ordering::Relaxed)
    }

    /// The gauge that counts connections of this kind.
    pub(crate) fn open(&self, framing: Framing) -> &AtomicU32 {
        match framing {
            Framing::Tcp => &self.tcp,
            Framing::WebSocketText | Framing::WebSocketBinary => &self.websocket,
        }
    }

    pub(crate) fn publish(&self, totals: Totals) {
        *self.lock() = totals;
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        // Written as a whole: a panic elsewhere leaves it whole.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let mut durations = Durations::default();
        for micros in [50, 51, 1_000_000, 60_000_000] {
            durations.observe(Duration::from_micros(micros));
        }
        let filled: Vec<_> =
            durations.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(n, _)| n).collect();
        assert_eq!(filled, [0, 1, 13, 15]);
        let mut twice = durations;
        twice.add(&durations);
        assert_eq!(twice.counts.iter().sum::<u64>(), 8);
    }
}
