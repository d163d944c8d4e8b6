//! Cuts a stream of bytes into lines, in bounded memory.

use crate::limits;

/// What [`LineFramer::next_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A line without its LF or CR LF; never empty.
    Line(&'a [u8]),
    /// The line that stands here is over the limit (417). Said once; the rest of it is passed over.
    TooLong,
}

/// Collects what a socket gives until a line is whole. Lines end with LF or CR LF; empty ones are passed over.
///
/// ```
/// # use chat_protocol::{Framed, LineFramer};
/// let mut framer = LineFramer::new();
/// let mut input = &b"NICK a\r\nUSER a 0"[..];
/// while let Some(framed) = framer.next_line(&mut input) {
///     assert_eq!(framed, Framed::Line(b"NICK a"));
/// }
/// assert!(input.is_empty());
/// ```
#[derive(Debug)]
pub struct LineFramer {
    /// The part of a line that came with earlier chunks; at most `limit` + 1 bytes, the one for a CR.
    partial: Vec<u8>,
    limit: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `partial` is the beginning of the line to come.
    Reading,
    /// `partial` was given out as a line and is to be emptied.
    Given,
    /// An over-long line was reported; looking for its end.
    Skipping,
}

/// A buffer that grew past this for one tagged line is given back, so that quiet connections cost little.
const KEPT_CAPACITY_BYTES: usize = limits::BODY_BYTES;

impl LineFramer {
    /// A framer for clients' lines ([`limits::CLIENT_LINE_BYTES`]).
    pub fn new() -> Self {
        Self::with_limit(limits::CLIENT_LINE_BYTES)
    }

    /// A framer for lines of up to `limit` bytes, the line ending not counted.
    pub fn with_limit(limit: usize) -> Self {
        Self { partial: Vec::new(), limit, state: State::Reading }
    }

    /// Takes bytes from the front of `input` up to the end of a line. `None` when `input` is used up; call again
    /// with the next chunk. A line that lies whole in `input` is not copied.
    pub fn next_line<'f, 'i: 'f>(&'f mut self, input: &mut &'i [u8]) -> Option<Framed<'f>> {
        if self.state == State::Given {
            self.forget_partial();
        }
        loop {
            let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                return self.keep(std::mem::take(input));
            };
            let (line, rest) = (&input[..end], &input[end + 1..]);
            *input = rest;
            if self.state == State::Skipping {
                self.state = State::Reading;
                continue;
            }
            if self.partial.is_empty() {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if line.len() > self.limit {
                    return Some(Framed::TooLong);
                }
                if !line.is_empty() {
                    return Some(Framed::Line(line));
                }
                continue;
            }
            if self.partial.len() + line.len() > self.limit + 1 {
                self.forget_partial();
                return Some(Framed::TooLong);
            }
            self.partial.extend_from_slice(line);
            if self.partial.last() == Some(&b'\r') {
                self.partial.pop();
            }
            if self.partial.len() > self.limit {
                self.forget_partial();
                return Some(Framed::TooLong);
            }
            if !self.partial.is_empty() {
                self.state = State::Given;
                return Some(Framed::Line(&self.partial));
            }
        }
    }

    /// How many bytes of an unfinished line are held.
    pub fn pending(&self) -> usize {
        if self.state == State::Reading { self.partial.len() } else { 0 }
    }

    fn keep(&mut self, chunk: &[u8]) -> Option<Framed<'static>> {
        if self.state == State::Skipping {
            return None;
        }
        if self.partial.len() + chunk.len() > self.limit + 1 {
            self.forget_partial();
            self.state = State::Skipping;
            return Some(Framed::TooLong);
        }
        self.partial.extend_from_slice(chunk);
        None
    }

    fn forget_partial(&mut self) {
        self.state = State::Reading;
        if self.partial.capacity() > KEPT_CAPACITY_BYTES {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }
}

impl Default for LineFramer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framer: &mut LineFramer, mut input: &[u8]) -> Vec<Option<String>> {
        let mut found = Vec::new();
        while let Some(framed) = framer.next_line(&mut input) {
            found.push(match framed {
                Framed::Line(line) => Some(String::from_utf8_lossy(line).into_owned()),
                Framed::TooLong => None,
            });
        }
        found
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let mut framer = LineFramer::new();
        assert_eq!(frames(&mut framer, b"PI"), []);
        assert_eq!(framer.pending(), 2);
        assert_eq!(frames(&mut framer, b"NG a\r"), []);
        assert_eq!(frames(&mut framer, b"\n\r\n\nPONG\nQ"), [Some("PING a".into()), Some("PONG".into())]);
        assert_eq!(frames(&mut framer, b"UIT\n"), [Some("QUIT".into())]);
        assert_eq!(framer.pending(), 0);
    }

    #[test]
    fn an_over_long_line_is_said_once_and_the_next_line_is_read() {
        let mut framer = LineFramer::with_limit(4);
        assert_eq!(frames(&mut framer, b"abcd\r"), []);
        assert_eq!(frames(&mut framer, b"\nabcde\r\nok\n"), [Some("abcd".into()), None, Some("ok".into())]);
        assert_eq!(frames(&mut framer, b"abcdefgh"), [None]);
        assert_eq!(frames(&mut framer, b"ijkl"), []);
        assert_eq!(frames(&mut framer, b"mno\nok\n"), [Some("ok".into())]);
        assert_eq!(framer.pending(), 0);
    }
}
