//! Objects for tests: a room, a node, and a small model of what Kubernetes does with what is applied.

use contract::status::{Durability, NodeState, NodeStatus};

/// A node on which clients can join and talk.
pub(crate) fn serving_node() -> NodeStatus {
    NodeStatus {
        version: "0.1.0".into(),
        member: "c0ffee".into(),
        state: NodeState::Serving,
        reason: String::new(),
        connections: 3,
        sessions: 3,
        detached: 0,
        users: 3,
        channels: 1,
        settings_revision: u64::MAX,
        durability: Durability::LocalFsync,
        shards: Vec::new(),
        draining_remaining: 0,
    }
}
