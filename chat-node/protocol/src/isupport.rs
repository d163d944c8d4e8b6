//! `RPL_ISUPPORT` (005): what the server supports and where its limits are.

use std::fmt;

use crate::limits;
use crate::numeric::{self, Numeric};
use crate::write::LineWriter;

/// The tokens, in the order they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isupport {
    tokens: Vec<String>,
}

const NUMERIC: Numeric = numeric::RPL_ISUPPORT;

impl Isupport {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.tokens.push(name.to_owned());
        self
    }

    /// Adds `NAME=value`. What would end the token is escaped as `\xHH`.
    pub fn token(mut self, name: &str, value: impl fmt::Display) -> Self {
        let mut token = format!("{name}=");
        for char in value.to_string().chars() {
            if matches!(char, ' ' | '=' | '\\') || char.is_ascii_control() {
                token.push_str(&format!("\\x{:02X}", u32::from(char)));
            } else {
                token.push(char);
            }
        }
        self.tokens.push(token);
        self
    }

    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Appends the lines: at most [`limits::ISUPPORT_TOKENS_PER_LINE`] tokens each, none of them cut.
    pub fn write(&self, out: &mut Vec<u8>, server: &str, client: &str) {
        let fixed = ":  005  :".len() + server.len() + client.len() + NUMERIC.text().len();
        let room = limits::BODY_TEXT_BYTES.saturating_sub(fixed);
        let mut rest = &self.tokens[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest
                .iter()
                .take(limits::ISUPPORT_TOKENS_PER_LINE)
                .take_while(|token| {
                    bytes += token.len() + 1;
                    bytes <= room
                })
                .count();
            // A single token longer than a line would be cut; none of ours is.
            let (line, after) = rest.split_at(fits.max(1));
            LineWriter::begin(out)
                .numeric(server, NUMERIC, client)
                .params(line.iter().map(String::as_str))
                .trailing(NUMERIC.text());
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let tokens = Isupport::new().token("NETWORK", "My Net=\\").token("NICKLEN", 30).flag("WHOX");
        assert_eq!(tokens.tokens(), [r"NETWORK=My\x20Net\x3D\x5C", "NICKLEN=30", "WHOX"]);
    }

    #[test]
    fn lines_have_at_most_thirteen_tokens_and_512_bytes() {
        let small = (0..30).fold(Isupport::new(), |tokens, n| tokens.token("T", n));
        let big = (0..30).fold(Isupport::new(), |tokens, n| tokens.token(&"T".repeat(100), n));
        for (tokens, lines) in [(small, 3), (big, 8)] {
            let mut out = Vec::new();
            tokens.write(&mut out, "irc.example", "me");
            let text = String::from_utf8(out).expect("UTF-8");
            assert_eq!(text.lines().count(), lines);
            let mut seen = Vec::new();
            for line in text.split_inclusive("\r\n") {
                assert!(line.len() <= limits::BODY_BYTES);
                let head = line.strip_suffix(" :are supported by this server\r\n").expect(line);
                let words: Vec<_> = head.split(' ').skip(3).collect();
                assert!(words.len() <= 13);
                seen.extend(words.into_iter().map(str::to_owned));
            }
            assert_eq!(seen, tokens.tokens());
        }
    }
}
