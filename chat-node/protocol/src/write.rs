//! Builds lines to clients. Whatever the texts are, the result is one well-formed line within the limits.

use std::fmt;

use crate::limits;
use crate::numeric::Numeric;
use crate::tags;

/// Who a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Server(&'a str),
    User { nick: &'a str, user: &'a str, host: &'a str },
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => f.write_str(name),
            Self::User { nick, user, host } => write!(f, "{nick}!{user}@{host}"),
        }
    }
}

/// Appends one line to a buffer: tags, then source, command, parameters, and [`finish`](LineWriter::finish).
///
/// The body never passes [`limits::BODY_BYTES`]: what does not fit is cut at a character boundary. The line never
/// contains a CR, LF or NUL but its own CR LF: in the last parameter they become spaces, elsewhere `_`.
///
/// ```
/// # use chat_protocol::{LineWriter, Source};
/// let mut out = Vec::new();
/// LineWriter::begin(&mut out)
///     .tag("msgid", "1.0-7")
///     .command(Source::Server("irc.example"), "PRIVMSG")
///     .param("#rust")
///     .trailing("hello");
/// assert_eq!(out, b"@msgid=1.0-7 :irc.example PRIVMSG #rust :hello\r\n");
/// ```
#[derive(Debug)]
#[must_use = "a line without a command is not a line"]
pub struct LineWriter<'b> {
    out: &'b mut Vec<u8>,
    server_tag_bytes: usize,
    client_tag_bytes: usize,
}

/// The second half of a [`LineWriter`]: the parameters.
#[derive(Debug)]
#[must_use = "the line is not ended until finish() or trailing()"]
pub struct BodyWriter<'b> {
    out: &'b mut Vec<u8>,
    /// Where the body starts in `out`.
    start: usize,
    params: usize,
}

impl<'b> LineWriter<'b> {
    /// Starts a line at the end of `out`.
    pub fn begin(out: &'b mut Vec<u8>) -> Self {
        Self { out, server_tag_bytes: 0, client_tag_bytes: 0 }
    }

    /// Adds a tag of the server's, its value unescaped; an empty value is written as none. An ill-formed key, or a
    /// tag past [`limits::SERVER_TAG_DATA_BYTES`], is left out whole.
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        let value_bytes = if value.is_empty() { 0 } else { 1 + tags::escaped_len(value) };
        let separator = usize::from(self.server_tag_bytes > 0);
        let bytes = self.server_tag_bytes + separator + key.len() + value_bytes;
        if bytes > limits::SERVER_TAG_DATA_BYTES || !tags::is_key(key) || self.client_tag_bytes > 0 {
            return self;
        }
        self.tag_separator();
        self.server_tag_bytes = bytes;
        self.out.extend_from_slice(key.as_bytes());
        if !value.is_empty() {
            self.out.push(b'=');
            tags::escape_into(value, self.out);
        }
        self
    }

    /// Adds a tag where there is a value for it.
    pub fn tag_if_some(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.tag(key, value),
            None => self,
        }
    }

    /// Adds the client-only tags of a relayed message, as [`Tags::client_only_raw`](crate::Tags::client_only_raw)
    /// gave them; after the server's tags, once. Data that is too long or not tag data is left out whole.
    pub fn client_tags(mut self, raw: &str) -> Self {
        let is_data = !raw.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' '));
        if raw.is_empty()
            || raw.len() > limits::CLIENT_TAG_DATA_BYTES
            || !is_data
            || self.client_tag_bytes > 0
        {
            return self;
        }
        self.tag_separator();
        self.client_tag_bytes = raw.len();
        self.out.extend_from_slice(raw.as_bytes());
        self
    }

    /// Ends the tags; writes source and command.
    pub fn command(self, source: Source<'_>, verb: &str) -> BodyWriter<'b> {
        let mut body = self.body();
        body.out.push(b':');
        match source {
            Source::Server(name) => body.middle(name),
            Source::User { nick, user, host } => {
                body.middle(nick);
                body.out.push(b'!');
                body.middle(user);
                body.out.push(b'@');
                body.middle(host);
            }
        }
        body.out.push(b' ');
        body.middle(verb);
        body
    }

    /// Ends the tags; writes a command without a source, as `PING` and `ERROR` are sent.
    pub fn bare_command(self, verb: &str) -> BodyWriter<'b> {
        let mut body = self.body();
        body.middle(verb);
        body
    }

    /// Ends the tags; writes a numeric reply up to the client's name (`*` before it has one).
    pub fn numeric(self, server: &str, numeric: Numeric, client: &str) -> BodyWriter<'b> {
        self.command(Source::Server(server), numeric.digits().as_str()).param(client)
    }

    fn tag_separator(&mut self) {
        let first = self.server_tag_bytes == 0 && self.client_tag_bytes == 0;
        self.out.push(if first { b'@' } else { b';' });
    }

    fn body(self) -> BodyWriter<'b> {
        if self.server_tag_bytes + self.client_tag_bytes > 0 {
            self.out.push(b' ');
        }
        let start = self.out.len();
        BodyWriter { out: self.out, start, params: 0 }
    }
}

impl BodyWriter<'_> {
    /// Adds a parameter that is one word. An empty one is written as `*`; a leading colon or a space, which would
    /// change the parameters after it, as `_`. No more than [`limits::PARAMS`] are written.
    pub fn param(mut self, text: &str) -> Self {
        if self.params == limits::PARAMS || self.room() < 2 {
            return self;
        }
        self.params += 1;
        self.out.push(b' ');
        if text.is_empty() {
            self.out.push(b'*');
        } else if let Some(rest) = text.strip_prefix(':') {
            self.out.push(b'_');
            self.middle(rest);
        } else {
            self.middle(text);
        }
        self
    }

    /// Adds a parameter from something that is printed, such as a number.
    pub fn param_display(self, value: impl fmt::Display) -> Self {
        self.param(&value.to_string())
    }

    /// Adds several parameters.
    pub fn params<'p>(self, texts: impl IntoIterator<Item = &'p str>) -> Self {
        texts.into_iter().fold(self, Self::param)
    }

    /// Adds the last parameter, which may be empty and may contain spaces, and ends the line.
    pub fn trailing(self, text: &str) {
        if self.params < limits::PARAMS && self.room() >= 2 {
            self.out.extend_from_slice(b" :");
            let text = &text[..text.floor_char_boundary(self.room())];
            push_replacing(self.out, text, |byte| matches!(byte, 0 | b'\r' | b'\n'), b' ');
        }
        self.finish();
    }

    /// Ends the line.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// How many bytes the text of [`trailing`](Self::trailing) may have now without being cut.
    pub fn trailing_room(&self) -> usize {
        self.room().saturating_sub(2)
    }

    fn room(&self) -> usize {
        limits::BODY_TEXT_BYTES.saturating_sub(self.out.len() - self.start)
    }

    fn middle(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(self.room())];
        push_replacing(self.out, text, |byte| matches!(byte, 0 | b'\r' | b'\n' | b' '), b'_');
    }
}

/// Both `replaced` and `by` are ASCII, so text stays UTF-8.
fn push_replacing(out: &mut Vec<u8>, text: &str, replaced: impl Fn(u8) -> bool, by: u8) {
    if text.bytes().any(&replaced) {
        out.extend(text.bytes().map(|byte| if replaced(byte) { by } else { byte }));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Packs words into texts of at most `room` bytes, one space between words: the lines of NAMES, of `CAP LS` or of
/// a WHOIS's channels. A word longer than `room` stands alone and is cut by whoever writes it. No words, no text.
pub fn pack_words(words: impl IntoIterator<Item: AsRef<str>>, room: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for word in words {
        let word = word.as_ref();
        match texts.last_mut() {
            Some(text) if text.len() + 1 + word.len() <= room => {
                text.push(' ');
                text.push_str(word);
            }
            _ => texts.push(word.to_owned()),
        }
    }
    texts
}

/// The three kinds of a standard reply (IRCv3 standard-replies).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Fail,
    Warn,
    Note,
}

impl Reply {
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Warn => "WARN",
            Self::Note => "NOTE",
        }
    }
}

impl<'b> LineWriter<'b> {
    /// Ends the tags; writes a whole standard reply: `FAIL <command> <code> <context…> :<text>`. `command` is `*`
    /// where the reply answers none.
    pub fn standard_reply<'c>(
        self,
        server: &str,
        reply: Reply,
        command: &str,
        code: &str,
        context: impl IntoIterator<Item = &'c str>,
        text: &str,
    ) {
        self.command(Source::Server(server), reply.verb())
            .param(command)
            .param(code)
            .params(context)
            .trailing(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(LineWriter<'_>)) -> String {
        let mut out = Vec::new();
        write(LineWriter::begin(&mut out));
        String::from_utf8(out).expect("lines are UTF-8")
    }

    const SERVER: Source<'_> = Source::Server("irc.example");

    #[test]
    fn server_tags_come_before_client_tags() {
        let text = line(|line| {
            line.tag("time", "2026-01-01T00:00:00.000Z")
                .tag("chatroom.dev/id", "a;b")
                .tag("bot", "")
                .client_tags("+typing=active")
                .command(Source::User { nick: "a", user: "~b", host: "c" }, "TAGMSG")
                .param("#x")
                .finish();
        });
        assert_eq!(
            text,
            "@time=2026-01-01T00:00:00.000Z;chatroom.dev/id=a\\:b;bot;+typing=active :a!~b@c TAGMSG #x\r\n"
        );
        assert_eq!(line(|line| line.client_tags("+a").bare_command("PING").trailing("x")), "@+a PING :x\r\n");
    }

    #[test]
    fn nothing_can_break_out_of_a_line() {
        let text = line(|line| {
            line.tag("label", "x\r\nQUIT")
                .tag("bad key", "x")
                .client_tags("+a\r\nQUIT")
                .command(Source::Server("s\r\n"), "A\nB")
                .param("")
                .param(":c d")
                .trailing("e\r\nQUIT\0");
        });
        assert_eq!(text, "@label=x\\r\\nQUIT :s__ A_B * _c_d :e  QUIT \r\n");
    }

    #[test]
    fn the_body_is_cut_at_a_character() {
        for filler in 0..4 {
            let text = line(|line| {
                line.tag("msgid", "1.0-1")
                    .command(SERVER, "PRIVMSG")
                    .param(&"x".repeat(1 + filler))
                    .trailing(&"\u{1f980}".repeat(200));
            });
            let body = text.split_once(' ').expect("tags").1;
            assert!(body.len() <= 512 && body.len() > 508, "{}", body.len());
            assert!(body.ends_with("\u{1f980}\r\n"));
        }
        let full = line(|line| line.command(SERVER, "X").param(&"p".repeat(600)).param("q").trailing("r"));
        assert_eq!(full.len(), 512);
    }

    #[test]
    fn trailing_room_is_exact() {
        let mut out = Vec::new();
        let body =
            LineWriter::begin(&mut out).numeric("irc.example", crate::numeric::RPL_NAMREPLY, "me").param("=");
        let room = body.trailing_room();
        body.trailing(&"n".repeat(room));
        assert_eq!(out.len(), 512);
    }

    #[test]
    fn numerics_have_three_digits() {
        let text = line(|line| line.numeric("irc.example", crate::numeric::RPL_WELCOME, "").trailing("hi"));
        assert_eq!(text, ":irc.example 001 * :hi\r\n");
    }

    #[test]
    fn standard_replies() {
        let text = line(|line| {
            line.standard_reply("irc.example", Reply::Fail, "*", "INVALID_UTF8", [], "Message was not UTF-8");
        });
        assert_eq!(text, ":irc.example FAIL * INVALID_UTF8 :Message was not UTF-8\r\n");
    }

    #[test]
    fn words_are_packed() {
        assert_eq!(pack_words(["aa", "bb", "cc", "dddddd", "e"], 5), ["aa bb", "cc", "dddddd", "e"]);
        assert!(pack_words([""; 0], 5).is_empty());
    }
}
