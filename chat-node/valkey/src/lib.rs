//! The log of a room in Valkey or Redis (7 or newer): one stream per shard.
//!
//! The server's scripts give entries dense indexes and its own time, refuse appends of another history, and put a
//! snapshot in force and trim the stream in one step. [`ValkeyStore`] is the [`Store`](chat_log::shared::store::Store)
//! that `chat-log` puts a thread around.

mod error;
mod given;
mod keys;
mod link;
mod reader;
mod scripts;
mod snapshots;
mod store;

#[cfg(feature = "test-server")]
pub mod test_server;

pub use error::OpenError;
pub use link::{Link, Options};
pub use store::{Opened, ValkeyStore};
