//! The way to the nodes' control ports, and of nodes to each other: authorities of its own for every room, one for each of
//! the two, whose keys are derived, never stored.
//!
//! Everything follows from one secret of the operator's ([`Root`]), the room, and the time: who knows the secret makes
//! the same keys again, so that the operator reads no Secret where its rooms are. Time goes in [`Window`]s; in each a
//! room has another authority, and the ones of neighbouring windows hold at the same time.

mod certificates;
mod client;
mod keys;
mod root;
mod window;

pub use certificates::NodeFiles;
pub use client::connector;
pub use keys::{Authority, Root};
pub use root::{RootError, obtain};
pub use window::Window;

/// Name in every node's certificate. Who it is of follows from the authority that signed it.
pub const NODE_NAME: &str = "chat-node.chatroom.dev";

#[cfg(test)]
pub(crate) mod tests;
