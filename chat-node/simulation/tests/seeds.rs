//! Seeds that must keep every promise, and the promise that a seed is a run.

use chat_simulation::{Counts, run};

/// How many seeds are run; more of them by the environment variable of this name.
const SEEDS: &str = "SIMULATION_SEEDS";

fn seeds() -> u64 {
    match std::env::var(SEEDS) {
        Ok(count) => count.parse().unwrap_or_else(|_| panic!("{SEEDS}={count} is not a number of seeds")),
        Err(_) => 50,
    }
}

#[test]
fn every_promise_is_kept() {
    let mut all = Counts::default();
    for seed in 0..seeds() {
        let report = run(seed, false);
        if let Some(violation) = &report.violation {
            panic!(
                "seed {seed}: {violation}\nreplay it with: cargo run -p chat-simulation -- --seed {seed} --trace"
            );
        }
        all += report.counts;
    }
    let Counts { crashes, acknowledged, restarts, losses, drained, .. } = all;
    assert!(
        [crashes, acknowledged, restarts, losses, drained].iter().all(|count| *count > 0),
        "the runs were too quiet to prove anything: {all:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3, 7, 1000] {
        let (one, other) = (run(seed, false), run(seed, false));
        assert_eq!(one, other, "seed {seed}");
    }
    assert_ne!(run(1, false).trace, run(2, false).trace);
}
