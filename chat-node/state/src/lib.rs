//! The state machines of a chat service. Pure: no I/O, no clock, no randomness; everything `apply` reads is in the log.
//!
//! A room has one [`directory::Directory`] (shard 0: users, sessions, nodes) and S [`channels::ChannelShard`]s (shards
//! 1..=S: channels, messages, history). Each applies the [`entry::Entry`]s of its own log in order and says of every
//! proposal what became of it. Equal states have equal bytes ([`snapshot`]). What a client missed is found by
//! [`replay::replay`].

pub mod channels;
pub mod command;
pub mod directory;
pub mod entry;
pub mod event;
pub mod ids;
mod journal;
pub mod kept;
#[cfg(feature = "mutations")]
pub mod mutation;
mod names;
pub mod outcome;
pub mod producers;
pub mod renames;
pub mod replay;
pub mod settings;
pub mod snapshot;
