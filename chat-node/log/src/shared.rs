//! A log that lives in a shared store: many nodes append to it and follow it, none of them owns it.
//!
//! [`lanes`] is the node's part of appending, without any I/O: one append in flight per shard, the rest waits and goes
//! with the next. [`log`] is all of the node's part, what it makes of the store's answers and what it tells its
//! workers; [`store`] is what a store has to do, [`watch`] how a node knows the others; [`handle`] puts a thread
//! around it and is the [`Log`](crate::log::Log) that the rest of a node sees.

pub mod handle;
pub mod lanes;
pub mod log;
pub mod roll;
pub mod store;
pub mod watch;

mod followers;
mod inbox;
