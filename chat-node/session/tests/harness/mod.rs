//! Plays transcripts against the session layer: a [`room`] without sockets or disk, and the [`script`] language.

mod pattern;
mod room;
pub(crate) mod script;
