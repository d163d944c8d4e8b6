//! IRC as it is on the wire: lines and tags to typed values, typed values to lines.
//!
//! Nothing here does I/O, reads a clock or draws a random number. No input can make it panic, and what it
//! allocates is bounded by the length of a line (see [`limits`]).
//!
//! Sources: the Modern IRC Client Protocol (modern.ircdocs.horse), the IRCv3 specifications (ircv3.net), RFC 2812.

pub mod capability;
pub mod casemap;
pub mod chathistory;
pub mod framer;
mod glob;
pub mod isupport;
pub mod limits;
pub mod line;
pub mod list;
pub mod mask;
pub mod mode;
pub mod msgid;
pub mod name;
pub mod numeric;
pub mod tags;
pub mod time;
pub mod who;
pub mod write;

pub use capability::{Capabilities, Capability};
pub use casemap::Folded;
pub use framer::{Framed, LineFramer};
pub use line::{Line, LineError, Params};
pub use mask::Mask;
pub use msgid::{MsgId, StreamId};
pub use numeric::Numeric;
pub use tags::Tags;
pub use time::UnixMillis;
pub use write::{BodyWriter, LineWriter, Source};
