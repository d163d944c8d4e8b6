//! A log that the nodes of a room keep together: each shard is a Raft group, all groups of a node share one write-ahead log
//! and one connection to each other node.

pub mod directory;
pub mod group_log;
pub mod journal;
pub mod machine;
pub mod messages;
pub mod peers;
pub mod placement;
pub mod record;
pub mod types;
