//! Where the log of a chat service lives.
//!
//! From the bottom up: a [`disk`], real or simulated; the write-ahead log and the snapshots on it; and the [`log`]
//! trait, which is all that the rest of a node sees.

pub mod clock;
pub mod disk;
pub mod follower;
pub mod log;
pub mod producer;
pub mod snapshot;
