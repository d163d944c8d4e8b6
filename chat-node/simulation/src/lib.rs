//! A seeded simulation of a room: the real log, state machines and sessions above a simulated disk or store, clock,
//! network and randomness, with simulated clients that speak real lines.
//!
//! A seed decides everything: what the clients do, how their bytes arrive, in which order the shards reach the
//! workers, when a process dies and what its disk then holds, what becomes of commands on their way to the store and of
//! the answers. The rules of logs and shards are checked while it runs and at its end. The same seed gives the same run.
//!
//! Half of the seeds are rooms of one node on its own disk. The others have one to four nodes over a modelled store, a
//! quarter of these one that may come back without its last commands.

mod archive;
mod chance;
mod client;
mod counts;
mod env;
mod expected;
mod faults;
mod hand;
mod local;
mod machine;
#[cfg(feature = "mutations")]
pub mod mutations;
mod network;
mod node;
mod plan;
mod recovery;
mod settled;
mod shared;
mod truth;
mod violation;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counts::Counts;
pub use plan::Room;
pub use violation::{Checker, Violation};
use world::World;

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub room: Room,
    /// Everything that happened, as one number.
    pub trace: u64,
    pub counts: Counts,
    pub violation: Option<Violation>,
}

/// Runs one seed; `print` shows everything that happens.
pub fn run(seed: u64, print: bool) -> Report {
    let room = Room::of(seed);
    let mut world = World::new(seed, room, print);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match result {
        Ok(result) => result.err(),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            let what = said.unwrap_or_else(|| "something that is not a text".to_owned());
            Some(Violation { checker: Checker::Panic, what })
        }
    };
    Report { seed, room, trace: world.env.trace.digest(), counts: world.counts, violation }
}
