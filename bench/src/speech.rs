//! What clients say to the servers that `commit` compares, and how they understand them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::closed::Speech;

/// Bytes of a message's text.
const TEXT_BYTES: usize = 128;
const PATIENCE: Duration = Duration::from_secs(20);

fn text(number: u32) -> String {
    let mut text = format!("@{number} ");
    while text.len() < TEXT_BYTES {
        text.push('x');
    }
    text
}

pub(crate) fn connect(server: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Reads until that has come.
fn hear(socket: &mut TcpStream, what: &str) -> Result<String> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let so_far = String::from_utf8_lossy(&heard);
        if so_far.contains(what) {
            return Ok(so_far.into_owned());
        }
        let read = socket.read(&mut buffer).with_context(|| format!("{what:?} did not come"))?;
        if read == 0 {
            bail!("closed before {what:?} came: {so_far}");
        }
        heard.extend_from_slice(&buffer[..read]);
    }
}

/// Whole lines, taken out of what came.
fn lines(came: &mut Vec<u8>) -> String {
    let end = came.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<u8> = came.drain(..end).collect();
    String::from_utf8_lossy(&lines).into_owned()
}

/// A client in a channel of its own: the server sends its messages back when they are stored.
pub(crate) struct Irc {
    /// By client.
    pub(crate) channels: Vec<String>,
}

impl Irc {
    pub(crate) fn enter(&self, client: usize, server: SocketAddr, nick: &str) -> Result<TcpStream> {
        let mut socket = connect(server)?;
        let channel = &self.channels[client];
        write!(
            socket,
            "CAP REQ :echo-message\r\nNICK {nick}\r\nUSER bench 0 * :bench\r\nCAP END\r\nJOIN {channel}\r\n"
        )?;
        hear(&mut socket, " 366 ")?;
        Ok(socket)
    }
}

impl Speech for Irc {
    fn write(&mut self, client: usize, number: u32, out: &mut Vec<u8>) {
        let line = format!("PRIVMSG {} :{}\r\n", self.channels[client], text(number));
        out.extend_from_slice(line.as_bytes());
    }

    fn read(&mut self, _: usize, came: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for line in lines(came).lines() {
            if let Some((_, text)) = line.split_once(" :@") {
                numbers
                    .push(text.split(' ').next().unwrap_or_default().parse().context("a message's number")?);
            } else if line.contains("FAIL ") || line.starts_with("ERROR ") {
                bail!("refused: {line}");
            } else if let Some(token) = line.strip_prefix("PING ") {
                out.extend_from_slice(format!("PONG {token}\r\n").as_bytes());
            }
        }
        Ok(numbers)
    }
}

/// Pushes onto a list, whose length the server answers.
#[derive(Default)]
pub(crate) struct Redis {
    answered: Vec<u32>,
    pub(crate) longest: u64,
}

impl Redis {
    pub(crate) fn for_clients(clients: usize) -> Self {
        Self { answered: vec![0; clients], longest: 0 }
    }
}

impl Speech for Redis {
    fn write(&mut self, _: usize, number: u32, out: &mut Vec<u8>) {
        let text = text(number);
        let command = format!("*3\r\n$5\r\nRPUSH\r\n$5\r\nbench\r\n${}\r\n{text}\r\n", text.len());
        out.extend_from_slice(command.as_bytes());
    }

    /// The server answers in the order of what it was told.
    fn read(&mut self, client: usize, came: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for line in lines(came).lines() {
            let length = line.strip_prefix(':').with_context(|| format!("the store answers {line}"))?;
            self.longest = self.longest.max(length.parse()?);
            numbers.push(self.answered[client]);
            self.answered[client] += 1;
        }
        Ok(numbers)
    }
}

/// Publishes into streams, client by client the next; the server answers with the message's number in its stream.
pub(crate) struct JetStream {
    streams: usize,
    /// By stream's name: the first and the last number of what was stored now.
    numbers: BTreeMap<String, (u64, u64)>,
}

impl JetStream {
    pub(crate) fn new(streams: usize) -> Self {
        Self { streams, numbers: BTreeMap::new() }
    }

    /// Messages that the streams have got from this.
    pub(crate) fn stored(&self) -> u64 {
        self.numbers.values().map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn greet(client: usize, server: SocketAddr) -> Result<TcpStream> {
        let mut socket = connect(server)?;
        write!(
            socket,
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB _a.{client}.* 1\r\nPING\r\n"
        )?;
        hear(&mut socket, "PONG\r\n")?;
        Ok(socket)
    }

    /// One attempt: the servers may not have found each other yet.
    pub(crate) fn create(server: SocketAddr, stream: usize, replicas: usize) -> Result<String> {
        let mut socket = Self::greet(0, server)?;
        let wanted = format!(
            "{{\"name\":\"S{stream}\",\"subjects\":[\"s{stream}\"],\"storage\":\"file\",\"retention\":\"limits\",\
             \"discard\":\"old\",\"num_replicas\":{replicas}}}"
        );
        let length = wanted.len();
        write!(socket, "PUB $JS.API.STREAM.CREATE.S{stream} _a.0.0 {length}\r\n{wanted}\r\n")?;
        let answer = hear(&mut socket, "}\r\n")?;
        if answer.contains("\"error\"") || !answer.contains("\"config\"") {
            bail!("no stream: {answer}");
        }
        Ok(answer)
    }

    fn acknowledged(&mut self, subject: &str, body: &str) -> Result<u32> {
        let answer: serde_json::Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
        let stream = answer["stream"].as_str().with_context(|| format!("refused: {body}"))?;
        let number = answer["seq"].as_u64().with_context(|| format!("refused: {body}"))?;
        let (first, last) = self.numbers.entry(stream.to_owned()).or_insert((number, number));
        (*first, *last) = (number.min(*first), number.max(*last));
        subject.rsplit('.').next().and_then(|number| number.parse().ok()).context("a subject of ours")
    }
}

impl Speech for JetStream {
    fn write(&mut self, client: usize, number: u32, out: &mut Vec<u8>) {
        let (text, stream) = (text(number), client % self.streams);
        let length = text.len();
        let command = format!("PUB s{stream} _a.{client}.{number} {length}\r\n{text}\r\n");
        out.extend_from_slice(command.as_bytes());
    }

    fn read(&mut self, _: usize, came: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        let mut taken = 0;
        while let Some(end) = came[taken..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&came[taken..taken + end]).trim_end().to_owned();
            let mut after = taken + end + 1;
            if line == "PING" {
                out.extend_from_slice(b"PONG\r\n");
            } else if line.starts_with("-ERR") {
                bail!("refused: {line}");
            } else if let Some(head) = line.strip_prefix("MSG ") {
                let words: Vec<&str> = head.split(' ').collect();
                let length: usize = words.last().context("a length")?.parse()?;
                let Some(body) = came.get(after..after + length + 2) else { break };
                let body = String::from_utf8_lossy(body).into_owned();
                after += length + 2;
                numbers.push(self.acknowledged(words[0], body.trim_end())?);
            }
            taken = after;
        }
        came.drain(..taken);
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_in_two_pieces_is_one() {
        let mut speech = JetStream::new(1);
        let whole = b"MSG _a.3.7 1 25\r\n{\"stream\":\"S0\",\"seq\":912}\r\n";
        let (mut came, mut out) = (whole[..30].to_vec(), Vec::new());
        assert!(speech.read(3, &mut came, &mut out).unwrap().is_empty());
        came.extend_from_slice(&whole[30..]);
        assert_eq!(speech.read(3, &mut came, &mut out).unwrap(), [7]);
        assert_eq!((came.len(), speech.stored()), (0, 1));
    }

    #[test]
    fn lines_are_taken_when_they_are_whole() {
        let mut came = b":1\r\n:2\r\n:".to_vec();
        let mut redis = Redis::for_clients(1);
        assert_eq!(redis.read(0, &mut came, &mut Vec::new()).unwrap(), [0, 1]);
        assert_eq!((came, redis.longest), (b":".to_vec(), 2));
    }
}
