//! The load in a closed loop: so many messages under way at any time, a new one for each that is acknowledged.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token};

/// Not counted: connections and disks get into their stride.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(2);
/// After the last message was sent, its acknowledgement comes in this time or is missing.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a message is written to a kind of server, and what its acknowledgements look like.
pub(crate) trait Speech {
    /// A message: the number-th of a client.
    fn write(&mut self, client: usize, number: u32, out: &mut Vec<u8>);
    /// Takes what is whole out of what came, and gives the numbers that it acknowledges; answers go to `out`.
    fn read(&mut self, client: usize, came: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Vec<u32>>;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

struct Client {
    socket: mio::net::TcpStream,
    unsent: Vec<u8>,
    came: Vec<u8>,
    sent: u32,
    acknowledged: u32,
    under_way: VecDeque<Instant>,
}

/// Fails unless every message of every client is acknowledged once and in order. Gives also how many there were.
pub(crate) fn run(sockets: Vec<TcpStream>, speech: &mut dyn Speech, in_flight: usize) -> Result<(Pace, u32)> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let each = in_flight / sockets.len();
    let mut all = Vec::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(n), Interest::READABLE | Interest::WRITABLE)?;
        let (unsent, came) = (Vec::new(), Vec::new());
        all.push(Client { socket, unsent, came, sent: 0, acknowledged: 0, under_way: VecDeque::new() });
    }
    let from = Instant::now() + WARM_UP;
    let until = from + MEASURED;
    for (n, client) in all.iter_mut().enumerate() {
        for _ in 0..each {
            client.send(n, speech);
        }
        client.flush()?;
    }
    let mut delays = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        poll.poll(&mut events, Some(LOOK_EVERY))?;
        let now = Instant::now();
        if now > until + PATIENCE {
            let missing: usize = all.iter().map(|client| client.under_way.len()).sum();
            bail!("{missing} acknowledgements are missing");
        }
        for event in &events {
            let n = event.token().0;
            for sent in all[n].receive(n, speech, &mut buffer)? {
                let now = Instant::now();
                if now >= from && now < until {
                    delays.push(now - sent);
                }
                if now < until {
                    all[n].send(n, speech);
                }
            }
            all[n].flush()?;
        }
        if now >= until && all.iter().all(|client| client.under_way.is_empty()) {
            break;
        }
    }
    delays.sort_unstable();
    let last = delays.len().checked_sub(1).context("nothing was acknowledged in time")?;
    let at = |share: f64| delays[((last as f64) * share).round() as usize];
    let pace = Pace { per_second: delays.len() as f64 / MEASURED.as_secs_f64(), p50: at(0.5), p99: at(0.99) };
    Ok((pace, all.iter().map(|client| client.sent).sum()))
}

impl Client {
    fn send(&mut self, own: usize, speech: &mut dyn Speech) {
        speech.write(own, self.sent, &mut self.unsent);
        self.sent += 1;
        self.under_way.push_back(Instant::now());
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a client's connection"),
            }
        }
        Ok(())
    }

    /// When those were sent that are acknowledged now.
    fn receive(&mut self, own: usize, speech: &mut dyn Speech, buffer: &mut [u8]) -> Result<Vec<Instant>> {
        let mut done = Vec::new();
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => bail!("a client was cut off: {}", String::from_utf8_lossy(&self.came)),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(done),
                Err(error) => return Err(error).context("a client's connection"),
            };
            self.came.extend_from_slice(&buffer[..read]);
            for number in speech.read(own, &mut self.came, &mut self.unsent)? {
                if number != self.acknowledged {
                    bail!("message {number} was acknowledged where {} was due", self.acknowledged);
                }
                self.acknowledged += 1;
                done.push(self.under_way.pop_front().context("more acknowledgements than messages")?);
            }
        }
    }
}
