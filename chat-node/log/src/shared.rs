//! A log that lives in a shared store: many nodes append to it and follow it, none of them owns it.
//!
//! [`lanes`] is the node's part without any I/O: one append in flight per shard, the rest waits and goes with the
//! next; [`store`] is what a store has to do; [`handle`] puts a thread around the two and is the
//! [`Log`](crate::log::Log) that the rest of a node sees.

pub mod handle;
pub mod lanes;
pub mod roll;
pub mod store;

mod followers;
mod inbox;
