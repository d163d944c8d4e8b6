//! How long to rest before a member that could not be reached is dialed again.

use std::time::Duration;

/// The rest after so many tries that failed one after the other: doubled each time, and shortened by up to a half so
/// that nodes which lost the same peer do not come back at the same moment.
pub(super) fn rest(tries: u32, seed: u64, first: Duration, most: Duration) -> Duration {
    let doubled = 1u32.checked_shl(tries.saturating_sub(1)).and_then(|times| first.checked_mul(times));
    let whole = doubled.map_or(most, |rest| rest.min(most));
    let half = whole / 2;
    half + half.mul_f64(fraction(seed ^ u64::from(tries)))
}

/// A number in 0..1 that looks like chance (the finisher of splitmix64).
fn fraction(seed: u64) -> f64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    f64::from((mixed >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_the_longest() {
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(1));
        for seed in 0..100 {
            for (tries, whole_ms) in [(1, 50), (2, 100), (3, 200), (5, 800), (6, 1000), (40, 1000)] {
                let whole = Duration::from_millis(whole_ms);
                let rest = rest(tries, seed, first, most);
                assert!(rest >= whole / 2 && rest <= whole, "{rest:?} after {tries} tries");
            }
        }
        assert_ne!(rest(1, 1, first, most), rest(1, 2, first, most));
    }
}
