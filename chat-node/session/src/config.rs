//! What the session layer is given, and what it gives back.

/// The two clocks an input arrives with, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Never steps back; for timers.
    pub monotonic_ms: u64,
    /// Since 1970 UTC; for people.
    pub unix_ms: u64,
}

/// How lines travel on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// CR LF after each line.
    Tcp,
    /// One unmasked text frame a line (RFC 6455).
    WebSocketText,
    /// One unmasked binary frame a line.
    WebSocketBinary,
}

/// The other side of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address as others see it.
    pub host: String,
    /// Came over TLS.
    pub secure: bool,
    pub framing: Framing,
}

/// Where random bytes come from.
pub trait Random {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// What a worker needs to know of its node.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// This worker's number, 0-based, and how many there are: part of the request numbers.
    pub worker: u16,
    pub server_name: String,
    pub network: String,
    /// `chat-node-0.1.0`, as 002, 004 and VERSION say it.
    pub version: String,
    /// When this node started, for 003.
    pub created: String,
    /// Channel shards of the room.
    pub shards: u16,
    pub limits: ConnectionLimits,
    /// `host:port` that clients are told on drain; `*` is "the same address again".
    pub reconnect_to: String,
}

/// What clients that know the capability `sts` are told of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrictTransport {
    /// The port for TLS, which is said where there is none.
    pub port: Option<u16>,
    /// Seconds for which to come over TLS alone, which is said over TLS.
    pub duration_s: Option<u64>,
}

impl StrictTransport {
    /// The word among the capabilities. It is for TCP: a page is told by its browser.
    pub(crate) fn word(self, peer: &Peer) -> Option<String> {
        match (peer.framing, peer.secure) {
            (Framing::Tcp, false) => self.port.map(|port| format!("sts=port={port}")),
            (Framing::Tcp, true) => self.duration_s.map(|seconds| format!("sts=duration={seconds}")),
            _ => None,
        }
    }
}

/// Limits of each connection; see the contract's configuration for what they mean to a person.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub registration_ms: u64,
    pub ping_after_ms: u64,
    pub pong_within_ms: u64,
    pub command_burst: u32,
    pub commands_per_second: u32,
    pub max_waiting_input: usize,
    pub max_waiting_output: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            registration_ms: 10_000,
            ping_after_ms: 60_000,
            pong_within_ms: 30_000,
            command_burst: 20,
            commands_per_second: 5,
            max_waiting_input: 16 * 1024,
            max_waiting_output: 1024 * 1024,
        }
    }
}

/// Why a connection is closed, in the words of either transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// 1000 bye, 1012 restart, 1013 try later; 40xx reconnect, 45xx do not.
    pub web_socket_code: u16,
    pub reason: String,
}

/// Counts since the worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of this worker's clients that came back from the log.
    pub acknowledged: u64,
    /// Lines of messages handed to recipients' connections.
    pub deliveries: u64,
    pub closed_flood: u64,
    pub closed_send_queue: u64,
    pub closed_timeout: u64,
    /// Requests that the log refused.
    pub refused: u64,
}
