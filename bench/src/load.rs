//! The load: one publisher at a fixed rate, many subscribers. Messages carry the time at which they were meant to be
//! sent, so a publisher that is held up counts as delay (no coordinated omission).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

/// Marks where a message's own text begins.
const MARK: &[u8] = b":@";
/// Bytes of a message's text.
const TEXT_BYTES: usize = 128;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) subscribers: usize,
    pub(crate) per_second: u32,
    pub(crate) messages: u32,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Of every delivery: from the intended time of sending to the read, sorted.
    pub(crate) delays: Vec<Duration>,
}

impl Seen {
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.delays.len().saturating_sub(1);
        self.delays[((last as f64) * share).round() as usize]
    }
}

/// How a client of a kind of server gets ready, and what a message looks like on its way in.
pub(crate) trait Dialect {
    fn enter(&self, socket: &mut TcpStream, name: &str) -> Result<()>;
    fn line(&self, text: &str) -> String;
}

pub(crate) struct Irc;

impl Dialect for Irc {
    fn enter(&self, socket: &mut TcpStream, name: &str) -> Result<()> {
        write!(socket, "NICK {name}\r\nUSER bench 0 * :bench\r\nJOIN #bench\r\n")?;
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        while !heard.windows(5).any(|five| five == b" 366 ") {
            let read = socket.read(&mut buffer).context("while joining")?;
            if read == 0 {
                bail!("closed while joining: {}", String::from_utf8_lossy(&heard));
            }
            heard.extend_from_slice(&buffer[..read]);
        }
        Ok(())
    }

    fn line(&self, text: &str) -> String {
        format!("PRIVMSG #bench :{text}\r\n")
    }
}

pub(crate) struct Bare;

impl Dialect for Bare {
    fn enter(&self, _: &mut TcpStream, _: &str) -> Result<()> {
        Ok(())
    }

    fn line(&self, text: &str) -> String {
        format!("BARE #bench :{text}\r\n")
    }
}

/// Clients that are ready.
pub(crate) struct Clients {
    subscribers: Vec<TcpStream>,
    publisher: TcpStream,
}

/// Lets clients in, spread evenly over the servers, the publisher at the first.
pub(crate) fn enter(servers: &[SocketAddr], dialect: &dyn Dialect, shape: Shape) -> Result<Clients> {
    let mut subscribers = Vec::with_capacity(shape.subscribers);
    for n in 0..shape.subscribers {
        let mut socket = TcpStream::connect(servers[n % servers.len()])?;
        socket.set_nodelay(true)?;
        dialect.enter(&mut socket, &format!("s{n}"))?;
        subscribers.push(socket);
    }
    let mut publisher = TcpStream::connect(servers[0])?;
    publisher.set_nodelay(true)?;
    dialect.enter(&mut publisher, "publisher")?;
    // What others' joining still sends.
    std::thread::sleep(Duration::from_millis(500));
    Ok(Clients { subscribers, publisher })
}

/// Runs the load; fails unless every subscriber got every message once and in order.
pub(crate) fn run(clients: Clients, dialect: &dyn Dialect, shape: Shape) -> Result<Seen> {
    let Clients { subscribers, mut publisher } = clients;
    let began = Instant::now() + Duration::from_millis(50);
    let lines: Vec<String> = (0..shape.messages).map(|n| dialect.line(&text(n))).collect();
    let reader = std::thread::spawn(move || receive(subscribers, began, shape));
    let drain = publisher.try_clone()?;
    let draining = std::thread::spawn(move || discard(drain));
    for (n, line) in (0_u32..).zip(&lines) {
        let due = began + intended(n, shape);
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        publisher.write_all(line.as_bytes())?;
    }
    let seen = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    publisher.shutdown(std::net::Shutdown::Both)?;
    // It ends with the socket.
    let _ = draining.join();
    Ok(seen)
}

fn intended(n: u32, shape: Shape) -> Duration {
    Duration::from_secs_f64(f64::from(n) / f64::from(shape.per_second))
}

fn text(n: u32) -> String {
    let mut text = format!("@{n} ");
    while text.len() < TEXT_BYTES {
        text.push('x');
    }
    text
}

fn discard(mut socket: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while socket.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

struct Subscriber {
    socket: mio::net::TcpStream,
    rest: Vec<u8>,
    next: u32,
}

fn receive(sockets: Vec<TcpStream>, began: Instant, shape: Shape) -> Result<Seen> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut all = Vec::with_capacity(sockets.len());
    for (n, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(n), Interest::READABLE)?;
        all.push(Subscriber { socket, rest: Vec::new(), next: 0 });
    }
    let mut delays = Vec::with_capacity(shape.subscribers * shape.messages as usize);
    let deadline = began + intended(shape.messages, shape) + Duration::from_secs(20);
    let mut open = all.len();
    let mut buffer = vec![0; 64 << 10];
    while open > 0 {
        poll.poll(&mut events, Some(Duration::from_millis(500)))?;
        if Instant::now() > deadline {
            let missing: u32 = all.iter().map(|subscriber| shape.messages - subscriber.next).sum();
            bail!("{missing} deliveries are missing");
        }
        for event in &events {
            let subscriber = &mut all[event.token().0];
            loop {
                let read = match subscriber.socket.read(&mut buffer) {
                    Ok(0) => bail!("a subscriber was cut off"),
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                let now = Instant::now();
                subscriber.rest.extend_from_slice(&buffer[..read]);
                let before = subscriber.next;
                take_lines(subscriber, now, began, shape, &mut delays)?;
                if before < shape.messages && subscriber.next == shape.messages {
                    open -= 1;
                }
            }
        }
    }
    delays.sort_unstable();
    Ok(Seen { delays })
}

fn take_lines(
    subscriber: &mut Subscriber,
    now: Instant,
    began: Instant,
    shape: Shape,
    delays: &mut Vec<Duration>,
) -> Result<()> {
    let Some(end) = subscriber.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
    for line in subscriber.rest[..end].split(|byte| *byte == b'\n') {
        let Some(at) = line.windows(MARK.len()).position(|two| two == MARK) else { continue };
        let number: Vec<u8> =
            line[at + MARK.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
        let number: u32 = std::str::from_utf8(&number)?.parse().context("a message's number")?;
        if number != subscriber.next {
            bail!("message {number} came where {} was due", subscriber.next);
        }
        subscriber.next += 1;
        delays.push(now.saturating_duration_since(began + intended(number, shape)));
    }
    subscriber.rest.drain(..=end);
    Ok(())
}
