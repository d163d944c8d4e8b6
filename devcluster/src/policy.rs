//! NetworkPolicy: what the cluster's policies mean on one Kubernetes node, and keeping the kernel's rules so.

mod enforce;
mod ruleset;
mod selector;

pub use enforce::enforce;
pub(crate) use ruleset::TABLE;
pub use ruleset::{ClusterView, ruleset};
