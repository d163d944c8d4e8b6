//! Who is there: nodes raise a counter in the store, and each node judges by its own monotonic clock whose counter
//! stands still. No clock of another machine is trusted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chat_state::ids::Incarnation;

/// A node whose counter stands still for so long is taken for dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);

/// A counter that was looked at less often meanwhile says nothing: the watcher itself may have slept.
const LOOKS: u32 = 4;

/// A dead node's counter is removed after so long.
const FORGET_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Roll {
    seen: BTreeMap<Incarnation, Seen>,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    /// When it was seen to have changed.
    changed: Duration,
    looks: u32,
}

impl Seen {
    fn is_alive(&self, now: Duration) -> bool {
        now.saturating_sub(self.changed) < DEAD_AFTER || self.looks < LOOKS
    }
}

impl Roll {
    /// The counters as they are now; gives the lives that are not dead.
    pub fn call(&mut self, counts: &BTreeMap<Incarnation, u64>, now: Duration) -> BTreeSet<Incarnation> {
        self.seen.retain(|incarnation, _| counts.contains_key(incarnation));
        for (incarnation, count) in counts {
            let seen =
                self.seen.entry(*incarnation).or_insert(Seen { count: *count, changed: now, looks: 0 });
            if seen.count == *count {
                seen.looks = seen.looks.saturating_add(1);
            } else {
                *seen = Seen { count: *count, changed: now, looks: 0 };
            }
        }
        self.seen.iter().filter(|(_, seen)| seen.is_alive(now)).map(|(incarnation, _)| *incarnation).collect()
    }

    /// Whether a node is known to be dead, or unknown.
    pub fn is_gone(&self, incarnation: Incarnation, now: Duration) -> bool {
        self.seen.get(&incarnation).is_none_or(|seen| !seen.is_alive(now))
    }

    /// Dead for so long that nobody needs their counters.
    pub fn forgettable(&self, now: Duration) -> Vec<Incarnation> {
        let over = |seen: &Seen| !seen.is_alive(now) && now.saturating_sub(seen.changed) > FORGET_AFTER;
        self.seen.iter().filter(|(_, seen)| over(seen)).map(|(incarnation, _)| *incarnation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(u64, u64)]) -> BTreeMap<Incarnation, u64> {
        of.iter().map(|(incarnation, count)| (Incarnation(*incarnation), *count)).collect()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn who_stands_still_is_dead_after_a_while() {
        let mut roll = Roll::default();
        for second in 0..5 {
            let alive = roll.call(&counts(&[(1, second), (2, 7)]), secs(second));
            assert_eq!(alive.len(), 2, "at {second} s");
        }
        assert_eq!(roll.call(&counts(&[(1, 9), (2, 7)]), secs(5)), [Incarnation(1)].into());
        assert!(roll.is_gone(Incarnation(2), secs(5)) && roll.is_gone(Incarnation(3), secs(5)));
        // It was only slow.
        assert_eq!(roll.call(&counts(&[(1, 10), (2, 8)]), secs(6)).len(), 2);
    }

    #[test]
    fn who_slept_itself_does_not_judge() {
        let mut roll = Roll::default();
        roll.call(&counts(&[(1, 1), (2, 7)]), secs(0));
        assert_eq!(roll.call(&counts(&[(1, 2), (2, 7)]), secs(600)).len(), 2);
        for second in 601..604 {
            roll.call(&counts(&[(1, second), (2, 7)]), secs(second));
        }
        assert_eq!(roll.call(&counts(&[(1, 900), (2, 7)]), secs(604)), [Incarnation(1)].into());
    }

    #[test]
    fn the_dead_are_forgotten_later() {
        let mut roll = Roll::default();
        for second in 0..70 {
            assert!(roll.forgettable(secs(second)).is_empty() || second > 60);
            roll.call(&counts(&[(1, second), (2, 7)]), secs(second));
        }
        assert_eq!(roll.forgettable(secs(70)), [Incarnation(2)]);
    }
}
