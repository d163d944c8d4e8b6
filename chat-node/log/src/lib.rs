//! Where the log of a chat service lives.
//!
//! From the bottom up: a [`disk`], real or simulated; on it the write-ahead log ([`wal`]), the snapshots
//! ([`snapshot`]) and the [`identity`] of a data directory; of these the synchronous log of a lone node ([`local`]),
//! the [`committer`] that stamps and sorts requests, and the [`handle`] that puts a thread around it. A log that many
//! nodes share is in [`shared`]. The [`log`]
//! trait is all that the rest of a node sees.

pub mod clock;
pub mod committer;
#[cfg(any(test, feature = "contract-tests"))]
pub mod contract_tests;
pub mod disk;
pub mod follower;
pub mod handle;
pub mod identity;
pub mod local;
pub mod log;
pub mod producer;
pub mod shared;
pub mod snapshot;
pub mod wal;

mod weight;
