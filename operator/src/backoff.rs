//! Exponential backoff with jitter, and how often each room has failed in a row.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Delays that double from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub last: Duration,
}

impl Backoff {
    /// Delay after so many failures before this one; between half and all of the nominal delay.
    pub fn delay(self, failures: u32) -> Duration {
        let nominal = self.first.saturating_mul(1 << failures.min(20)).min(self.last);
        nominal.mul_f64(0.5 + random_fraction() / 2.0)
    }
}

/// A delay spread by a tenth, so that rooms that were seen together do not stay together.
pub fn spread(delay: Duration) -> Duration {
    delay.mul_f64(1.0 + random_fraction() / 10.0)
}

fn random_fraction() -> f64 {
    // Without randomness everybody waits equally long, which is no reason to fail.
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}

/// Failures in a row of each room.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<String, u32>>);

impl Failures {
    /// Counts one more; says how many there were before.
    pub fn another(&self, key: &str) -> u32 {
        let mut failures = self.lock();
        let count = failures.entry(key.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count - 1
    }

    pub fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_last_and_vary() {
        let backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(60) };
        for (failures, nominal) in [(0, 1), (1, 2), (3, 8), (10, 60), (u32::MAX, 60)] {
            for _ in 0..100 {
                let delay = backoff.delay(failures);
                assert!(delay <= Duration::from_secs(nominal), "{failures}: {delay:?}");
                assert!(delay * 2 >= Duration::from_secs(nominal), "{failures}: {delay:?}");
            }
        }
    }

    #[test]
    fn success_starts_anew() {
        let failures = Failures::default();
        assert_eq!((failures.another("a"), failures.another("a"), failures.another("b")), (0, 1, 0));
        failures.forget("a");
        assert_eq!(failures.another("a"), 0);
    }
}
