//! Rooms of several nodes: a modelled store, and each node's seat at it.
//!
//! The model does what the real store's scripts do, one command at a time, with everything in between that a network
//! and a restart can do to commands and their answers.

mod data;
mod mutated;
mod seat;
mod store;

pub(crate) use self::{
    seat::{Seat, SharedWork},
    store::{Store, StoreWork},
};
