//! One line from a client, parsed without copying.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use crate::limits;
use crate::tags::Tags;

/// A parsed line. Every part borrows from the bytes it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The tags, still escaped.
    pub tags: Tags<'a>,
    /// What stood after a leading `:`. Clients should not send one; the server does not believe it.
    pub source: Option<&'a str>,
    /// The command as it was typed: ASCII letters in either case, or three digits.
    pub verb: &'a str,
    /// The parameters, the trailing one without its `:`.
    pub params: Params<'a>,
}

/// Why a line cannot be taken. Each says what the client is told.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LineError {
    /// Body or tags are over their limit: `ERR_INPUTTOOLONG` (417), and the line is dropped.
    #[error("the line is longer than {} bytes (tags: {})", limits::BODY_BYTES, limits::CLIENT_TAG_DATA_BYTES)]
    TooLong,
    /// `FAIL * INVALID_UTF8`.
    #[error("the line is not valid UTF-8")]
    InvalidUtf8,
    /// Nothing but spaces; ignored without an answer.
    #[error("the line is empty")]
    Empty,
    /// Tags or a source, and no command after them.
    #[error("the line has no command")]
    NoCommand,
    /// The command is neither letters nor three digits: `ERR_UNKNOWNCOMMAND` (421).
    #[error("the command has a character that no command has")]
    BadCommand,
    /// NUL or a CR that does not end the line.
    #[error("the line contains a NUL or a carriage return")]
    ForbiddenByte,
}

impl<'a> Line<'a> {
    /// Parses a line without its line ending (a framer's, or one WebSocket message).
    ///
    /// Several spaces count as one, as all servers read them. The 15th parameter takes the rest of the line, with
    /// or without a colon.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LineError> {
        if bytes.len() > limits::CLIENT_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        if bytes.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(LineError::ForbiddenByte);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| LineError::InvalidUtf8)?;

        let (tags, body) = match text.strip_prefix('@') {
            Some(rest) => rest.split_once(' ').ok_or(LineError::NoCommand)?,
            None => ("", text),
        };
        if tags.len() > limits::CLIENT_TAG_DATA_BYTES || body.len() > limits::BODY_TEXT_BYTES {
            return Err(LineError::TooLong);
        }

        let body = body.trim_start_matches(' ');
        let (source, rest) = match body.strip_prefix(':') {
            Some(rest) => {
                let (source, rest) = rest.split_once(' ').ok_or(LineError::NoCommand)?;
                (Some(source), rest.trim_start_matches(' '))
            }
            None => (None, body),
        };
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if verb.is_empty() {
            return Err(if text.trim_start_matches(' ').is_empty() {
                LineError::Empty
            } else {
                LineError::NoCommand
            });
        }
        if !is_command(verb) {
            return Err(LineError::BadCommand);
        }
        Ok(Self { tags: Tags::from_raw(tags), source, verb, params: Params::parse(rest) })
    }

    /// Whether this is the command `verb`, in whatever case it was typed.
    pub fn is(&self, verb: &str) -> bool {
        self.verb.eq_ignore_ascii_case(verb)
    }

    /// The command in upper case, for a `match`; borrows when it was typed so.
    pub fn verb_upper(&self) -> Cow<'a, str> {
        if self.verb.bytes().any(|byte| byte.is_ascii_lowercase()) {
            Cow::Owned(self.verb.to_ascii_uppercase())
        } else {
            Cow::Borrowed(self.verb)
        }
    }

    /// The value of the `label` tag, unescaped, where it is one that may be answered (1 to 64 bytes).
    pub fn label(&self) -> Option<Cow<'a, str>> {
        self.tags.get("label").filter(|label| !label.is_empty() && label.len() <= limits::LABEL_BYTES)
    }
}

fn is_command(verb: &str) -> bool {
    verb.bytes().all(|byte| byte.is_ascii_alphabetic())
        || (verb.len() == 3 && verb.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The parameters of a line: at most [`limits::PARAMS`], read as a slice.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    items: [&'a str; limits::PARAMS],
    count: usize,
}

impl<'a> Params<'a> {
    fn parse(mut rest: &'a str) -> Self {
        let mut params = Self { items: [""; limits::PARAMS], count: 0 };
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return params;
            }
            let last = params.count + 1 == limits::PARAMS;
            let (param, after) = match rest.strip_prefix(':') {
                Some(trailing) => (trailing, ""),
                None if last => (rest, ""),
                None => rest.split_once(' ').unwrap_or((rest, "")),
            };
            params.items[params.count] = param;
            params.count += 1;
            if last || rest.starts_with(':') {
                return params;
            }
            rest = after;
        }
    }

    /// Parameter `index`, where the client sent it. Unlike indexing the slice it keeps the line's lifetime.
    pub fn at(&self, index: usize) -> Option<&'a str> {
        self.as_slice().get(index).copied()
    }

    /// Parameter `index`, where the client sent it and it is not empty.
    pub fn filled(&self, index: usize) -> Option<&'a str> {
        self.at(index).filter(|param| !param.is_empty())
    }

    /// All of them.
    pub fn as_slice(&self) -> &[&'a str] {
        &self.items[..self.count]
    }
}

impl<'a> Deref for Params<'a> {
    type Target = [&'a str];

    fn deref(&self) -> &Self::Target {
        self.as_slice()
    }
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Line<'_> {
        Line::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn a_message_with_every_part() {
        let line = parse("@label=7;+typing=active :me!u@h privmsg  #a,#b   :hello  there :)");
        assert_eq!(line.source, Some("me!u@h"));
        assert!(line.is("PRIVMSG"));
        assert_eq!(line.verb_upper(), "PRIVMSG");
        assert_eq!(*line.params, ["#a,#b", "hello  there :)"]);
        assert_eq!(line.label().as_deref(), Some("7"));
    }

    #[test]
    fn trailing_may_be_empty_and_spaces_at_the_end_are_no_parameter() {
        assert_eq!(*parse("TOPIC #a :").params, ["#a", ""]);
        assert_eq!(*parse("TOPIC #a   ").params, ["#a"]);
        assert_eq!(parse("TOPIC #a :").params.at(1), Some(""));
        assert_eq!(parse("TOPIC #a :").params.filled(1), None);
    }

    #[test]
    fn the_fifteenth_parameter_takes_the_rest() {
        let line = parse("X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 :17");
        assert_eq!(line.params.len(), 15);
        assert_eq!(line.params[14], "15 16 :17");
        assert_eq!(parse("X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 :15 16").params[14], "15 16");
    }

    #[test]
    fn what_is_refused() {
        for (line, error) in [
            (&b""[..], LineError::Empty),
            (b"   ", LineError::Empty),
            (b":source", LineError::NoCommand),
            (b":source ", LineError::NoCommand),
            (b"@tag", LineError::NoCommand),
            (b"@tag ", LineError::NoCommand),
            (b"PRIV\xffMSG", LineError::InvalidUtf8),
            (b"PR1VMSG a", LineError::BadCommand),
            (b"\xc3\xa9 a", LineError::BadCommand),
            (b"PRIVMSG a :b\0c", LineError::ForbiddenByte),
            (b"PRIVMSG a :b\rQUIT", LineError::ForbiddenByte),
        ] {
            assert_eq!(Line::parse(line).expect_err("refused"), error, "{line:?}");
        }
    }

    #[test]
    fn limits_are_met_to_the_byte() {
        let body = |bytes: usize| format!("PRIVMSG a :{}", "x".repeat(bytes - "PRIVMSG a :".len()));
        assert!(Line::parse(body(510).as_bytes()).is_ok());
        assert_eq!(Line::parse(body(511).as_bytes()).expect_err("long"), LineError::TooLong);

        let tagged = |data: usize| format!("@{} {}", "t".repeat(data), body(510));
        assert!(Line::parse(tagged(4094).as_bytes()).is_ok());
        assert_eq!(Line::parse(tagged(4095).as_bytes()).expect_err("long"), LineError::TooLong);
        // Short tags do not lend their room to the body.
        assert_eq!(
            Line::parse(format!("@a {}", body(511)).as_bytes()).expect_err("long"),
            LineError::TooLong
        );
    }

    #[test]
    fn a_label_over_its_limit_is_not_answered() {
        assert_eq!(parse(&format!("@label={} PING a", "x".repeat(64))).label().map(|l| l.len()), Some(64));
        assert_eq!(parse(&format!("@label={} PING a", "x".repeat(65))).label(), None);
        assert_eq!(parse("@label= PING a").label(), None);
    }
}
