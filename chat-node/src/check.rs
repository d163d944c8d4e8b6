//! `chat-node check`: two guests meet in a channel of a running server, one speaks, both hear it.

mod tls;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant},
};

use chat_protocol::Line;
use rustls::{CertificateError, ClientConnection, StreamOwned};

pub(crate) use tls::Tls;
use tls::Trust;

/// What to check.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// `host:port`
    pub(crate) server: String,
    /// None for clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) channel: String,
    /// For all of it.
    pub(crate) timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{server} is not an address and a port that can be found: {source}")]
    Address { server: String, source: io::Error },
    #[error("cannot connect to {server}: {source}")]
    Connect { server: String, source: io::Error },
    #[error("cannot read the certificates in {}: {source}", file.display())]
    Certificates { file: PathBuf, source: io::Error },
    #[error("{} holds no certificate (PEM)", file.display())]
    NoCertificates { file: PathBuf },
    #[error("this system has no certificates to trust: name some with --trust")]
    NoSystemCertificates,
    #[error("{name} is no name that a certificate could be for: give one with --name")]
    Name { name: String },
    #[error(
        "{server} shows a certificate that is not trusted here: {why}. Name it, or that of its authority, with --trust, \
         and what it is for with --name"
    )]
    NotTrusted { server: String, why: CertificateError },
    #[error("{server} does not come to terms over TLS: {source}")]
    Tls { server: String, source: io::Error },
    #[error("{step}: nothing came within the time for it")]
    Timeout { step: &'static str },
    #[error("{step}: the connection broke: {source}")]
    Connection { step: &'static str, source: io::Error },
    #[error("{step}: the server closed the connection")]
    Closed { step: &'static str },
    #[error("{step}: the server said: {line}")]
    Refused { step: &'static str, line: String },
    #[error("the server does not offer the capabilities {missing}")]
    Capabilities { missing: String },
    #[error("cannot say what was done: {0}")]
    Report(#[source] io::Error),
}

/// What the guests ask for: ids and echoes, to know that the very message was stored.
const CAPABILITIES: [&str; 4] = ["message-tags", "echo-message", "standard-replies", "chatroom.dev/id"];

/// Longest line of a server: tags, body.
const MAX_LINE_BYTES: usize = chat_protocol::limits::TAGS_BYTES + chat_protocol::limits::BODY_BYTES;

/// Checks a server, and says of each step that it was done.
pub(crate) fn run(check: &Check, report: &mut impl Write) -> Result<(), CheckError> {
    let mut say = |text: String| writeln!(report, "{text}").map_err(CheckError::Report);
    let end = Instant::now() + check.timeout;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| CheckError::Report(io::Error::other(error)))?;
    let number = u64::from_le_bytes(random);
    let nick = |guest: char| format!("guest-{:06x}{guest}", number & 0xff_ffff);

    let trust = check.tls.as_ref().map(|tls| Trust::new(tls, &check.server)).transpose()?;
    let mut speaker = Guest::connect(check, trust.as_ref(), end)?;
    let over = if trust.is_some() { " over TLS" } else { "" };
    say(format!("connected to {}{over}", check.server))?;
    speaker.register(&nick('a'))?;
    let mut listener = Guest::connect(check, trust.as_ref(), end)?;
    listener.register(&nick('b'))?;
    say(format!("registered as {} and {}", nick('a'), nick('b')))?;

    listener.join(&check.channel)?;
    speaker.join(&check.channel)?;
    say(format!("both joined {}", check.channel))?;

    let text = format!("check {number:016x}");
    speaker.send(&format!("@chatroom.dev/id=1 PRIVMSG {} :{text}", check.channel))?;
    let echoed = speaker.wait("waiting for the echo", |line| is_message(line, &text))?;
    say(format!("message stored and acknowledged as {}", msgid(&echoed).unwrap_or_else(|| "?".to_owned())))?;
    let heard =
        listener.wait("waiting for the message at the other guest", |line| is_message(line, &text))?;
    if msgid(&heard) != msgid(&echoed) {
        return Err(CheckError::Refused { step: "comparing the message's ids", line: heard });
    }
    say("the other guest received it".to_owned())?;
    speaker.send("QUIT :checked")?;
    listener.send("QUIT :checked")?;
    say("ok".to_owned())
}

fn is_message(line: &str, text: &str) -> bool {
    Line::parse(line.as_bytes())
        .is_ok_and(|line| line.verb == "PRIVMSG" && line.params.last().is_some_and(|last| *last == text))
}

fn msgid(line: &str) -> Option<String> {
    let tags = line.strip_prefix('@')?.split_once(' ')?.0;
    tags.split(';').find_map(|tag| tag.strip_prefix("msgid=")).map(str::to_owned)
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// For what is done next.
    fn set_timeouts(&self, end: Instant) -> io::Result<()> {
        let socket = match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        };
        set_timeouts(socket, end)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

struct Guest {
    reader: BufReader<Stream>,
    end: Instant,
}

impl Guest {
    fn connect(check: &Check, trust: Option<&Trust>, end: Instant) -> Result<Self, CheckError> {
        let socket = Self::socket(check, end)?;
        let stream = match trust {
            Some(trust) => {
                set_timeouts(&socket, end).map_err(|source| trouble("connecting", source))?;
                Stream::Tls(Box::new(trust.shake_hands(socket)?))
            }
            None => Stream::Clear(socket),
        };
        Ok(Self { reader: BufReader::new(stream), end })
    }

    fn socket(check: &Check, end: Instant) -> Result<TcpStream, CheckError> {
        let server = check.server.clone();
        let addresses = match check.server.to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(source) => return Err(CheckError::Address { server, source }),
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, left(end)) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(CheckError::Connect { server, source: last })
    }

    fn register(&mut self, nick: &str) -> Result<(), CheckError> {
        let step = "registering";
        self.send("CAP LS 302")?;
        self.send(&format!("NICK {nick}"))?;
        self.send("USER check 0 * :chat-node check")?;
        self.send(&format!("CAP REQ :{}", CAPABILITIES.join(" ")))?;
        let answer = self.wait(step, |line| line.contains(" ACK ") || line.contains(" NAK "))?;
        if answer.contains(" NAK ") {
            return Err(CheckError::Capabilities { missing: CAPABILITIES.join(", ") });
        }
        self.send("CAP END")?;
        self.wait_numeric(step, "001").map(drop)
    }

    fn join(&mut self, channel: &str) -> Result<(), CheckError> {
        self.send(&format!("JOIN {channel}"))?;
        self.wait_numeric("joining", "366").map(drop)
    }

    fn send(&mut self, line: &str) -> Result<(), CheckError> {
        let step = "sending";
        let stream = self.reader.get_mut();
        let sent = stream
            .set_timeouts(self.end)
            .and_then(|()| stream.write_all(format!("{line}\r\n").as_bytes()))
            .and_then(|()| stream.flush());
        sent.map_err(|source| trouble(step, source))
    }

    fn wait_numeric(&mut self, step: &'static str, numeric: &str) -> Result<String, CheckError> {
        self.wait(step, |line| Line::parse(line.as_bytes()).is_ok_and(|line| line.verb == numeric))
    }

    /// The first line that is wanted. ERROR, FAIL and error numerics end the check.
    fn wait(&mut self, step: &'static str, wanted: impl Fn(&str) -> bool) -> Result<String, CheckError> {
        loop {
            let line = self.read(step)?;
            if wanted(&line) {
                return Ok(line);
            }
            let Ok(parsed) = Line::parse(line.as_bytes()) else { continue };
            match parsed.verb {
                "PING" => {
                    let token = parsed.params.last().copied().unwrap_or_default().to_owned();
                    self.send(&format!("PONG :{token}"))?;
                }
                "ERROR" | "FAIL" => return Err(CheckError::Refused { step, line }),
                // 422: there is no message of the day, which is no error.
                verb if verb.len() == 3 && matches!(verb.as_bytes()[0], b'4' | b'5') && verb != "422" => {
                    return Err(CheckError::Refused { step, line });
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, step: &'static str) -> Result<String, CheckError> {
        let mut line = Vec::new();
        loop {
            if self.end <= Instant::now() {
                return Err(CheckError::Timeout { step });
            }
            self.reader.get_ref().set_timeouts(self.end).map_err(|source| trouble(step, source))?;
            let available = self.reader.fill_buf().map_err(|source| trouble(step, source))?;
            if available.is_empty() {
                return Err(CheckError::Closed { step });
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if line.len() > MAX_LINE_BYTES {
                let line = "a line that is longer than any may be".to_owned();
                return Err(CheckError::Refused { step, line });
            }
        }
    }
}

/// Time that is left; a socket's timeout must not be zero.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn set_timeouts(socket: &TcpStream, end: Instant) -> io::Result<()> {
    socket.set_read_timeout(Some(left(end)))?;
    socket.set_write_timeout(Some(left(end)))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn trouble(step: &'static str, source: io::Error) -> CheckError {
    match source.kind() {
        _ if is_timeout(&source) => CheckError::Timeout { step },
        // Over TLS: without a word that it ends.
        io::ErrorKind::UnexpectedEof => CheckError::Closed { step },
        _ => CheckError::Connection { step, source },
    }
}
