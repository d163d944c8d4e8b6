//! When a live counter is worth telling: on a change of a tenth, and not too often.

use std::time::Duration;

/// Least time between two rewrites of a room's counters.
pub const REWRITE_AFTER: Duration = Duration::from_secs(30);

/// Whether a counter moved by a tenth of what was told; anything is much compared with nothing.
pub fn moved(told: u32, now: u32) -> bool {
    u64::from(told.abs_diff(now)) * 10 >= u64::from(told.max(1)) && told != now
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn a_tenth_counts() {
        assert!(moved(0, 1) && moved(1, 0) && moved(5, 6) && moved(100, 110) && moved(100, 90));
        assert!(!moved(100, 109) && !moved(100, 91) && !moved(7, 7) && !moved(0, 0));
        assert!(moved(u32::MAX, 0) && moved(0, u32::MAX));
    }
}
