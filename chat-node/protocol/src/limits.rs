//! The sizes of the wire format. What an operator may configure (nick length, channels a session …) is not here.

/// Longest message without its tags, CR LF included (RFC 2812 section 2.3).
pub const BODY_BYTES: usize = 512;

/// [`BODY_BYTES`] without the CR LF.
pub const BODY_TEXT_BYTES: usize = BODY_BYTES - 2;

/// Longest tag section of a line from the server: `@`, the server's data, `;`, the client's data, space
/// (IRCv3 message-tags, "Size limit").
pub const TAGS_BYTES: usize = 8191;

/// Most tag data a client may send: the bytes between `@` and the space.
pub const CLIENT_TAG_DATA_BYTES: usize = 4094;

/// Most tag data the server adds of its own.
pub const SERVER_TAG_DATA_BYTES: usize = 4094;

/// Longest line a client can send, without its line ending: `@`, tag data, space, body.
pub const CLIENT_LINE_BYTES: usize = 1 + CLIENT_TAG_DATA_BYTES + 1 + BODY_TEXT_BYTES;

/// Most parameters of a message; the last one takes all that is left of the line.
pub const PARAMS: usize = 15;

/// Longest value of a `label` tag (IRCv3 labeled-response); a longer one is treated as if it were not there.
pub const LABEL_BYTES: usize = 64;

/// Longest mask (`nick!user@host` with wildcards) that a list takes.
pub const MASK_BYTES: usize = 192;

/// Most tokens on one `RPL_ISUPPORT` line, so that with client and text it stays within [`PARAMS`].
pub const ISUPPORT_TOKENS_PER_LINE: usize = 13;
