//! One client's socket: bytes between it and the session layer, without waiting.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
};

use chat_protocol::{Framed, LineFramer};
use chat_session::{ConnectionId, Framing, Now, Worker};
use mio::net::TcpStream;

use crate::{
    admission::Permit,
    websocket::{self, Decoder, Received},
};

/// Time to take what is left, once a connection ends.
const FLUSH_MS: u64 = 5_000;
/// Time to close in turn, once everything was sent.
const LINGER_MS: u64 = 2_000;
/// Pongs that wait for a client that reads none of them; the latest are dropped.
const MAX_TAIL_BYTES: usize = 1024;

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) framing: Framing,
    input: Input,
    /// Bytes of the edge's own that follow what the session layer wrote: they may stand between messages only.
    tail: Vec<u8>,
    tail_written: usize,
    /// The kernel takes no more for now; it will say when it does.
    pub(crate) blocked: bool,
    /// There may be bytes to read that the kernel will not announce again.
    pub(crate) unread: bool,
    /// The other side will send no more than what is there.
    pub(crate) hung_up: bool,
    pub(crate) ending: Option<Ending>,
    _permit: Permit,
}

enum Input {
    Lines(LineFramer),
    Frames(Box<Decoder>),
}

/// A connection that takes no input any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// When it is dropped, whatever is left.
    pub(crate) deadline_ms: u64,
    /// Everything was sent, and the client was told that nothing follows.
    shut: bool,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadResult {
    /// Nothing more for now; the kernel announces what comes.
    Drained,
    /// The buffer was filled: there may be more, of which the kernel will not speak again.
    More,
    /// The other side is gone; the reason is for its QUIT.
    Gone(&'static str),
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteResult {
    /// Nothing waits.
    Done,
    /// Something waits until the socket is writable.
    Blocked,
    Gone,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, framing: Framing, permit: Permit) -> Self {
        let input = match framing {
            Framing::Tcp => Input::Lines(LineFramer::new()),
            Framing::WebSocketText | Framing::WebSocketBinary => Input::Frames(Box::default()),
        };
        Self {
            stream,
            framing,
            input,
            tail: Vec::new(),
            tail_written: 0,
            blocked: false,
            unread: false,
            hung_up: false,
            ending: None,
            _permit: permit,
        }
    }

    /// Reads once, and gives the session layer what is whole.
    pub(crate) fn read(
        &mut self,
        id: ConnectionId,
        core: &mut Worker,
        buffer: &mut [u8],
        now: Now,
    ) -> ReadResult {
        let count = loop {
            match self.stream.read(buffer) {
                Ok(0) => return ReadResult::Gone("Connection closed"),
                Ok(count) => break count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.hung_up = false;
                        return ReadResult::Drained;
                    }
                    io::ErrorKind::ConnectionReset => return ReadResult::Gone("Connection reset by peer"),
                    io::ErrorKind::TimedOut => return ReadResult::Gone("Connection timed out"),
                    _ => return ReadResult::Gone("Read error"),
                },
            }
        };
        self.receive(id, core, &mut buffer[..count], now);
        if count < buffer.len() { ReadResult::Drained } else { ReadResult::More }
    }

    /// Bytes of the client; those of a connection that ends are dropped.
    pub(crate) fn receive(&mut self, id: ConnectionId, core: &mut Worker, bytes: &mut [u8], now: Now) {
        if self.ending.is_some() {
            return;
        }
        match &mut self.input {
            Input::Lines(framer) => {
                let mut bytes = &*bytes;
                while let Some(framed) = framer.next_line(&mut bytes) {
                    match framed {
                        Framed::Line(line) => core.receive(id, line, now),
                        Framed::TooLong => core.receive_too_long(id, now),
                    }
                }
            }
            Input::Frames(_) => self.receive_frames(id, core, bytes, now),
        }
    }

    fn receive_frames(&mut self, id: ConnectionId, core: &mut Worker, mut bytes: &mut [u8], now: Now) {
        let Input::Frames(decoder) = &mut self.input else { return };
        let mut pongs = Vec::new();
        let close = loop {
            match decoder.next(&mut bytes) {
                Ok(None) => break None,
                Ok(Some(Received::Message(message))) => {
                    // One line a message, without its ending; some clients send it nevertheless.
                    let line = message.strip_suffix(b"\n").unwrap_or(message);
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    if !line.is_empty() {
                        core.receive(id, line, now);
                    }
                }
                Ok(Some(Received::TooLong)) => core.receive_too_long(id, now),
                // The latest is enough (RFC 6455 section 5.5.3).
                Ok(Some(Received::Ping(payload))) => pongs = websocket::pong(payload),
                Ok(Some(Received::Pong)) => {}
                Ok(Some(Received::Close(code))) => {
                    break Some((code.unwrap_or(1000), "Connection closed".to_owned()));
                }
                Err(violation) => break Some((violation.code(), violation.to_string())),
            }
        };
        if !pongs.is_empty() {
            self.append(&pongs);
        }
        if let Some((code, reason)) = close {
            core.disconnect(id, &reason, now);
            self.finish(code, &reason, now);
        }
    }

    /// Ends the connection after what waits was written: a WebSocket with this code and reason.
    pub(crate) fn finish(&mut self, code: u16, reason: &str, now: Now) {
        if self.ending.is_none() {
            if self.framing != Framing::Tcp {
                let frame = websocket::close(code, reason);
                self.tail.extend_from_slice(&frame);
            }
            self.end(now);
        }
    }

    fn end(&mut self, now: Now) {
        self.ending = Some(Ending { deadline_ms: now.monotonic_ms + FLUSH_MS, shut: false });
    }

    fn append(&mut self, pongs: &[u8]) {
        if self.tail_written == 0 {
            self.tail.clear();
        }
        if self.tail.len() + pongs.len() <= MAX_TAIL_BYTES {
            self.tail.extend_from_slice(pongs);
        }
    }

    /// Whether the edge itself has something to write.
    pub(crate) fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Writes what waits, as much as the kernel takes.
    pub(crate) fn write(&mut self, id: ConnectionId, core: &mut Worker, now: Now) -> WriteResult {
        if self.blocked {
            return WriteResult::Blocked;
        }
        loop {
            let from_core = self.tail_written == 0 && !core.output(id).is_empty();
            let bytes = if from_core { core.output(id) } else { &self.tail[self.tail_written..] };
            if bytes.is_empty() {
                return self.written(now);
            }
            let wanted = bytes.len();
            match self.stream.write(bytes) {
                Ok(0) => return WriteResult::Gone,
                Ok(count) => {
                    if from_core {
                        core.consume(id, count);
                    } else {
                        self.tail_written += count;
                        if self.tail_written == self.tail.len() {
                            self.tail = Vec::new();
                            self.tail_written = 0;
                        }
                    }
                    // A short write means that the socket's buffer is full; asking again would only say so.
                    if count < wanted {
                        self.blocked = true;
                        return WriteResult::Blocked;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.blocked = true;
                        return WriteResult::Blocked;
                    }
                    _ => return WriteResult::Gone,
                },
            }
        }
    }

    /// Everything was written. A connection that ends says so to its client, and waits for the client to do the same:
    /// closing at once, with input unread, would be a reset that may overtake the last lines.
    fn written(&mut self, now: Now) -> WriteResult {
        let Some(ending) = &mut self.ending else { return WriteResult::Done };
        if !ending.shut {
            *ending = Ending { deadline_ms: now.monotonic_ms + LINGER_MS, shut: true };
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return WriteResult::Gone;
            }
        }
        WriteResult::Done
    }
}
