//! Names, as the rules here need them. These and the masks decide what `apply` does, so a change of them is a change
//! of the feature level.

pub(crate) use chat_protocol::{
    mask::{Mask, glob},
    name::{is_channel, is_key, is_nick},
};

/// Longest user name, host or real name that a user may carry; sessions advertise less.
pub(crate) const PERSON_BYTES: usize = 255;

/// ASCII case folding (`CASEMAPPING=ascii`).
pub(crate) fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// A part of `nick!user@host`: nothing that would end it or the line early.
pub(crate) fn is_prefix_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= PERSON_BYTES
        && !part.chars().any(|c| c.is_control() || c == ' ' || c == '!' || c == '@')
}

/// The longest beginning of `text` that fits: sessions cut first, this holds where settings changed in between.
pub(crate) fn cut(text: &str, limit: u16) -> &str {
    chat_protocol::name::cut(text, usize::from(limit))
}
