//! A log that the nodes of a room keep together: each shard is a Raft group, all groups of a node share one write-ahead log
//! and one connection to each other node.
//!
//! From the bottom up: [`types`] is what Raft is told of this program; [`record`] its entries as bytes, [`journal`] the thread
//! that writes them, [`directory`] what is found of them at a start; [`group_log`] and [`machine`] are a group's storage as
//! Raft sees it. [`peers`] are the connections between nodes, [`messages`] what is said over them, [`network`] and [`transfer`]
//! the part of it that is Raft's own, [`answers`] what this node says to it all. A [`node`] is all groups together; [`placement`]
//! says who should vote in them, [`tend`] brings that about, [`roster`] knows who lives. [`open`] is the way from a data directory
//! to a part of a room, [`store`] what the rest of the program then appends to and follows, [`control`] what it is asked from
//! outside.

pub mod answers;
pub mod control;
pub mod directory;
pub mod group_log;
pub mod journal;
pub mod machine;
pub mod messages;
pub mod network;
pub mod node;
pub mod open;
pub mod peers;
pub mod placement;
pub mod record;
pub mod roster;
pub mod store;
pub mod tend;
pub mod transfer;
pub mod types;
