//! Masks of lists: `nick!user@host` with wildcards.

use std::fmt;

use thiserror::Error;

use crate::{
    glob::{Token, next_token},
    limits,
};

pub use crate::glob::{Glob, glob, has_wildcard};

/// A mask of a list (`b`, `e`, `I`) in its full form, `nick!user@host`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mask(String);

/// A text cannot be a mask: `ERR_INVALIDMODEPARAM` (696).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadMask {
    #[error("a mask cannot be empty")]
    Empty,
    #[error("a mask has at most {} bytes", limits::MASK_BYTES)]
    TooLong,
    #[error("a mask cannot contain spaces or control characters, nor begin with a colon")]
    Forbidden,
}

impl Mask {
    /// Completes what was typed: `nick` is `nick!*@*`, `user@host` is `*!user@host`, `nick!user` is `nick!user@*`,
    /// and an empty part is `*`. Runs of `*` become one. Case is kept; compare with [`Mask::same`].
    /// A full mask is left as it is, so what [`Mask::as_str`] gave can be read back.
    pub fn complete(typed: &str) -> Result<Self, BadMask> {
        if typed.is_empty() {
            return Err(BadMask::Empty);
        }
        if typed.len() > limits::MASK_BYTES {
            return Err(BadMask::TooLong);
        }
        if typed.starts_with(':') || typed.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(BadMask::Forbidden);
        }
        let (nick, user, host) = match (typed.split_once('!'), typed.split_once('@')) {
            (Some((nick, rest)), _) => {
                let (user, host) = rest.split_once('@').unwrap_or((rest, ""));
                (nick, user, host)
            }
            (None, Some((user, host))) => ("", user, host),
            (None, None) => (typed, "", ""),
        };
        let part = |text: &str| if text.is_empty() { "*".to_owned() } else { squeeze(text) };
        let full = format!("{}!{}@{}", part(nick), part(user), part(host));
        if full.len() > limits::MASK_BYTES {
            return Err(BadMask::TooLong);
        }
        Ok(Self(full))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `nick!user@host` matches.
    pub fn matches(&self, prefix: &str) -> bool {
        glob(&self.0, prefix)
    }

    /// Whether two masks are the same entry of a list.
    pub fn same(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Writes runs of `*` as one. A `*` after a `\` is a character, not part of a run.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_any = false;
    while let (Some(token), after) = next_token(rest) {
        let any = matches!(token, Token::Any);
        if !(any && after_any) {
            out.push_str(&rest[..rest.len() - after.len()]);
        }
        after_any = any;
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_completed() {
        for (typed, full) in [
            ("Nick", "Nick!*@*"),
            ("user@host", "*!user@host"),
            ("nick!user", "nick!user@*"),
            ("nick!user@host", "nick!user@host"),
            ("nick!@", "nick!*@*"),
            ("!@host", "*!*@host"),
            ("@host", "*!*@host"),
            ("***!**@a**b", "*!*@a*b"),
            (r"a\**", r"a\**!*@*"),
            ("a!b@c@d!e", "a!b@c@d!e"),
        ] {
            assert_eq!(Mask::complete(typed).expect(typed).as_str(), full);
            assert_eq!(Mask::complete(full).expect(full).as_str(), full);
        }
    }

    #[test]
    fn what_is_no_mask() {
        assert_eq!(Mask::complete(""), Err(BadMask::Empty));
        assert_eq!(Mask::complete("a b"), Err(BadMask::Forbidden));
        assert_eq!(Mask::complete(":a"), Err(BadMask::Forbidden));
        assert_eq!(Mask::complete("a\u{1}"), Err(BadMask::Forbidden));
        assert_eq!(Mask::complete(&"a".repeat(limits::MASK_BYTES)), Err(BadMask::TooLong));
        assert!(Mask::complete(&"a".repeat(limits::MASK_BYTES - 4)).is_ok());
    }

    #[test]
    fn masks_match_people() {
        let mask = Mask::complete("*!*@192.0.2.*").expect("mask");
        assert!(mask.matches("a!~b@192.0.2.7") && !mask.matches("a!~b@198.51.100.7"));
        assert!(Mask::complete("TROLL").expect("mask").same(&Mask::complete("troll!*@*").expect("mask")));
    }
}
