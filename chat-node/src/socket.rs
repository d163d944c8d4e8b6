//! One client's socket: bytes between it and the session layer, without waiting.

use std::io;

use chat_protocol::{Framed, LineFramer};
use chat_session::{ConnectionId, Framing, Now, Worker};

use crate::{
    admission::Permit,
    transport::{Broken, Transport},
    websocket::{self, Decoder, Received},
};

/// Read from one socket in a turn.
const READ_BYTES: usize = 16 * 1024;

/// Time to take what is left, once a connection ends.
const FLUSH_MS: u64 = 5_000;
/// Time to close in turn, once everything was sent.
const LINGER_MS: u64 = 2_000;
/// Pongs that wait for a client that reads none of them; the latest are dropped.
const MAX_TAIL_BYTES: usize = 1024;
/// To who connects to the port for TLS without it.
const NOT_TLS: &str =
    "ERROR :This port is for TLS: turn it on in your client, or use the port without it\r\n";

/// What a worker reads into; the only such buffers there are.
pub(crate) struct Buffers {
    wire: Box<[u8]>,
    /// What was encrypted on the wire.
    plain: Box<[u8]>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        let buffer = || vec![0; READ_BYTES].into_boxed_slice();
        Self { wire: buffer(), plain: buffer() }
    }
}

pub(crate) struct Socket {
    transport: Transport,
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
    pub(crate) fn new(transport: Transport, framing: Framing, permit: Permit) -> Self {
        let input = match framing {
            Framing::Tcp => Input::Lines(LineFramer::new()),
            Framing::WebSocketText | Framing::WebSocketBinary => Input::Frames(Box::default()),
        };
        Self {
            transport,
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
        buffers: &mut Buffers,
        now: Now,
    ) -> ReadResult {
        let Buffers { wire, plain } = buffers;
        let count = loop {
            match self.transport.read(wire) {
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
        if self.transport.is_tls() {
            self.open(id, core, &wire[..count], plain, now);
        } else {
            self.receive(id, core, &mut wire[..count], now);
        }
        if count < wire.len() { ReadResult::Drained } else { ReadResult::More }
    }

    /// What the connection brought along from where it was before: bytes, and what TLS holds.
    pub(crate) fn begin(
        &mut self,
        id: ConnectionId,
        core: &mut Worker,
        received: &mut [u8],
        buffers: &mut Buffers,
        now: Now,
    ) {
        self.receive(id, core, received, now);
        self.open(id, core, &[], &mut buffers.plain, now);
    }

    fn open(&mut self, id: ConnectionId, core: &mut Worker, mut wire: &[u8], plain: &mut [u8], now: Now) {
        while self.ending.is_none() {
            let reason = match self.transport.open(&mut wire, plain) {
                Ok(0) => return,
                Ok(count) => {
                    self.receive(id, core, &mut plain[..count], now);
                    continue;
                }
                Err(Broken::Closed) => "Connection closed",
                Err(Broken::Tls) => "TLS error",
                Err(Broken::NotTls) => {
                    self.tail.extend_from_slice(NOT_TLS.as_bytes());
                    "No TLS"
                }
            };
            core.disconnect(id, reason, now);
            self.end(now);
        }
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
    pub(crate) fn wants_write(&self) -> bool {
        !self.tail.is_empty() || self.transport.wants_write()
    }

    /// Lines may be written.
    pub(crate) fn is_open(&self) -> bool {
        self.transport.is_open()
    }

    /// Writes what waits, as much as the kernel takes.
    pub(crate) fn write(&mut self, id: ConnectionId, core: &mut Worker, now: Now) -> WriteResult {
        if self.blocked {
            return WriteResult::Blocked;
        }
        loop {
            let from_core = self.tail_written == 0 && !core.output(id).is_empty();
            let bytes = match (self.transport.is_open(), from_core) {
                // Until then TLS alone has something to say.
                (false, _) => &[],
                (true, true) => core.output(id),
                (true, false) => &self.tail[self.tail_written..],
            };
            let wanted = bytes.len();
            let written =
                if wanted == 0 { self.transport.flush().map(|()| 0) } else { self.transport.write(bytes) };
            match written {
                Ok(0) if wanted == 0 => return self.written(now),
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
                    if count < wanted && !self.transport.is_tls() {
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
            match self.transport.shut() {
                Ok(()) => *ending = Ending { deadline_ms: now.monotonic_ms + LINGER_MS, shut: true },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return WriteResult::Blocked;
                }
                Err(_) => return WriteResult::Gone,
            }
        }
        WriteResult::Done
    }
}
