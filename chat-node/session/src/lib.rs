//! Sessions: lines of clients become proposals or direct answers, entries become lines for each client.
//!
//! [`Worker`] is everything one worker thread does between its sockets and the log, without any I/O: the edge feeds
//! it lines, entries and ticks, and collects requests for the log and bytes for the sockets. It holds a replica of
//! every shard; to deliver an entry is to apply it.

mod claims;
mod commands;
mod config;
mod connection;
mod deliver;
mod encode;
mod fan_out;
mod gaps;
mod hold;
mod housekeeper;
mod input;
mod label;
mod lines;
mod refusals;
mod registration;
mod reply;
mod resume;
mod timers;
mod token;
mod welcome;
mod worker;

pub use config::{
    Close, ConnectionLimits, Counters, Framing, Now, Peer, Random, SessionConfig, StrictTransport,
};
pub use connection::ConnectionId;
pub use housekeeper::{Housekeeper, Revision, Standing};
pub use worker::Worker;
