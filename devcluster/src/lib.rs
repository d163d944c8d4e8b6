//! A real Kubernetes on one Linux machine, for development and for tests that break things.
//!
//! ```no_run
//! use devcluster::{Cluster, Options, Timings};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::start(Options { nodes: 3, timings: Timings::Tuned })?;
//! cluster.cut(1)?;
//! cluster.heal(1)?;
//! Cluster::stop()
//! # }
//! ```

mod addons;
mod cgroup;
mod cluster;
pub mod command;
mod control_plane;
pub mod images;
mod layout;
mod lock;
mod machine;
mod network;
mod node;
mod nodes;
mod pki;
pub mod policy;
mod process;
mod prune;
pub mod requirements;
mod self_test;
mod status;
mod tools;

pub use cluster::{Cluster, Options, Timings, leftovers};
pub use layout::{MAX_NODES, STATE, cache, kubeconfig, node_address};
