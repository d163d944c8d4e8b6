//! Spans of time in which a room's authority stays the same. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// How long one lasts.
const LENGTH_SECONDS: i64 = 30 * 86_400;
/// How long certificates hold, from the beginning of their window.
const VALID_SECONDS: i64 = 3 * LENGTH_SECONDS;
/// Certificates hold this much before their window too, for clocks that are slow.
const BEFORE_SECONDS: i64 = 86_400;

/// One of them, counted from 1970. Rooms change at different times, each by its `shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    number: i64,
    shift: i64,
}

impl Window {
    /// The one that `now` is in, for a room whose identity has this hash.
    pub fn at(now: Timestamp, hash: u32) -> Self {
        let shift = i64::from(hash) % LENGTH_SECONDS;
        Self { number: (now.as_second() + shift).div_euclid(LENGTH_SECONDS), shift }
    }

    /// This one and those before it whose certificates still hold; newest first.
    pub fn in_force(self) -> [Self; 3] {
        [self, self.before(1), self.before(2)]
    }

    pub fn previous(self) -> Self {
        self.before(1)
    }

    pub fn next(self) -> Self {
        self.before(-1)
    }

    fn before(self, count: i64) -> Self {
        Self { number: self.number - count, ..self }
    }

    pub fn number(self) -> i64 {
        self.number
    }

    /// When its certificates begin to hold and when they end, since 1970.
    pub fn validity(self) -> (Duration, Duration) {
        let start = self.number * LENGTH_SECONDS - self.shift;
        let since_1970 = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        (since_1970(start - BEFORE_SECONDS), since_1970(start + VALID_SECONDS))
    }
}
