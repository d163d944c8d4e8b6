//! Writers in an open loop: each sends into its channel at fixed times, whatever comes back. They keep account of every
//! message: what each of them sent, and what every client in its channel got of it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

/// Bytes of a message's text.
const TEXT_BYTES: usize = 128;
/// After the last message was sent, the last one comes back in this time or is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The loop looks whether it is to end at least so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A writer: where it connects, and the channel it writes to.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) server: SocketAddr,
    pub(crate) channel: String,
}

/// What became of a writer's messages.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) sent: u32,
    /// When each acknowledgement came: the message itself, back from the server.
    pub(crate) acknowledged: Vec<Instant>,
    /// Refused by the server, which says so: it did not store them.
    pub(crate) refused: u32,
    /// Deliveries, over all clients in its channel, itself among them.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) disordered: u32,
}

pub(crate) struct Writers(Vec<Writer>);

struct Writer {
    socket: mio::net::TcpStream,
    channel: String,
    unsent: Vec<u8>,
    rest: Vec<u8>,
    sent: u32,
    refused: u32,
    acknowledged: Vec<Instant>,
    /// By author.
    heard: Vec<Heard>,
}

/// What a client got of an author.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// By number: whether it came.
    came: Vec<bool>,
    different: u32,
    doubled: u32,
    disordered: u32,
}

impl Heard {
    fn take(&mut self, number: usize) {
        if self.came.get(number) == Some(&true) {
            self.doubled += 1;
            return;
        }
        if number < self.came.len() {
            self.disordered += 1;
        } else {
            self.came.resize(number + 1, false);
        }
        self.came[number] = true;
        self.different += 1;
    }
}

impl Writers {
    /// Lets them in, one after the other, and lets them join. Nicks of runs differ by the tag.
    pub(crate) fn enter(posts: &[Post], tag: &str) -> Result<Self> {
        let mut writers = Vec::new();
        for (n, post) in posts.iter().enumerate() {
            let socket = enter(post, &format!("{tag}w{n}"))?;
            socket.set_nonblocking(true)?;
            writers.push(Writer {
                socket: mio::net::TcpStream::from_std(socket),
                channel: post.channel.clone(),
                unsent: Vec::new(),
                rest: Vec::new(),
                sent: 0,
                refused: 0,
                acknowledged: Vec::new(),
                heard: vec![Heard::default(); posts.len()],
            });
        }
        Ok(Self(writers))
    }

    /// Sends until `stop`, then waits for what is under way.
    pub(crate) fn run(self, every: Duration, stop: &AtomicBool) -> Result<Vec<Account>> {
        let Self(mut all) = self;
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(256);
        for (n, writer) in all.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut writer.socket, Token(n), interest)?;
        }
        let began = Instant::now();
        let apart = every / u32::try_from(all.len())?;
        let mut buffer = vec![0; 64 << 10];
        let mut give_up = None;
        loop {
            let mut next = Instant::now() + LOOK_EVERY;
            if stop.load(Ordering::Relaxed) {
                let end = *give_up.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() > end || is_complete(&all) {
                    return Ok(accounts(&all));
                }
            } else {
                for (n, writer) in (0_u32..).zip(&mut all) {
                    let due = |sent| began + apart * n + every * sent;
                    while due(writer.sent) <= Instant::now() {
                        writer.send(n)?;
                    }
                    next = next.min(due(writer.sent));
                }
            }
            poll.poll(&mut events, Some(next.saturating_duration_since(Instant::now())))?;
            for event in &events {
                let writer = &mut all[event.token().0];
                writer.flush()?;
                writer.receive(event.token().0, &mut buffer)?;
            }
        }
    }
}

fn is_complete(all: &[Writer]) -> bool {
    of_channel(all).all(|(author, heard)| heard.different >= author.sent - author.refused)
}

/// Every author, with what each client in its channel heard of it.
fn of_channel(all: &[Writer]) -> impl Iterator<Item = (&Writer, &Heard)> {
    all.iter().enumerate().flat_map(move |(n, author)| {
        let there = all.iter().filter(|client| client.channel == author.channel);
        there.map(move |client| (author, &client.heard[n]))
    })
}

fn accounts(all: &[Writer]) -> Vec<Account> {
    let account = |(n, author): (usize, &Writer)| {
        let mut account = Account {
            sent: author.sent,
            acknowledged: author.acknowledged.clone(),
            refused: author.refused,
            ..Account::default()
        };
        for client in all.iter().filter(|client| client.channel == author.channel) {
            let heard = &client.heard[n];
            account.lost += (author.sent - author.refused).saturating_sub(heard.different);
            // One that was refused and came all the same.
            account.doubled += heard.doubled + heard.different.saturating_sub(author.sent - author.refused);
            account.disordered += heard.disordered;
        }
        account
    };
    all.iter().enumerate().map(account).collect()
}

impl Writer {
    fn send(&mut self, author: u32) -> Result<()> {
        let mut text = format!("@{author}.{} ", self.sent);
        while text.len() < TEXT_BYTES {
            text.push('x');
        }
        write!(self.unsent, "PRIVMSG {} :{text}\r\n", self.channel)?;
        self.sent += 1;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a writer's connection"),
            }
        }
        Ok(())
    }

    fn receive(&mut self, own: usize, buffer: &mut [u8]) -> Result<()> {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => bail!("a writer was cut off: {}", String::from_utf8_lossy(&self.rest)),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a writer's connection"),
            };
            let now = Instant::now();
            self.rest.extend_from_slice(&buffer[..read]);
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                self.take(own, line, now)?;
            }
        }
    }

    fn take(&mut self, own: usize, line: &str, now: Instant) -> Result<()> {
        if let Some((author, number)) = told(line) {
            let heard = self.heard.get_mut(author).with_context(|| format!("an author: {line}"))?;
            let before = heard.different;
            heard.take(number);
            if author == own && heard.different > before {
                self.acknowledged.push(now);
            }
        } else if line.contains("FAIL PRIVMSG ") {
            self.refused += 1;
        } else if let Some(token) = line.strip_prefix("PING ").or_else(|| Some(line.split_once(" PING ")?.1))
        {
            write!(self.unsent, "PONG {token}\r\n")?;
            self.flush()?;
        } else if line.starts_with("ERROR ") {
            bail!("a writer was sent away: {line}");
        }
        Ok(())
    }
}

/// Author and number of a message, if the line is one.
fn told(line: &str) -> Option<(usize, usize)> {
    let (_, text) = line.split_once(" PRIVMSG ")?;
    let (_, text) = text.split_once(" :@")?;
    let (author, number) = text.split(' ').next()?.split_once('.')?;
    Some((author.parse().ok()?, number.parse().ok()?))
}

fn enter(post: &Post, nick: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(post.server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "CAP REQ :echo-message\r\nNICK {nick}\r\nUSER bench 0 * :bench\r\nCAP END\r\nJOIN {}\r\n",
        post.channel
    )?;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.windows(5).any(|five| five == b" 366 ") {
        let read = socket.read(&mut buffer).context("while joining")?;
        if read == 0 {
            bail!("closed while joining: {}", String::from_utf8_lossy(&heard));
        }
        heard.extend_from_slice(&buffer[..read]);
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is_and_other_lines_do_not() {
        assert_eq!(told(":ann!bench@host PRIVMSG #room :@3.17 xxx"), Some((3, 17)));
        assert_eq!(told(":ann!bench@host JOIN #room"), None);
        assert_eq!(told(":ann!bench@host PRIVMSG #room :hello"), None);
    }

    #[test]
    fn what_comes_twice_or_late_is_counted() {
        let mut heard = Heard::default();
        for number in [0, 1, 1, 3, 2] {
            heard.take(number);
        }
        assert_eq!((heard.different, heard.doubled, heard.disordered), (4, 1, 1));
    }
}
