//! One IRC connection, line by line.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use chat_protocol::Line;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// A line from the server, owned.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub tags: BTreeMap<String, String>,
    pub source: String,
    pub verb: String,
    pub params: Vec<String>,
}

impl Received {
    fn parse(text: &str) -> Result<Self> {
        // Lines of the server may be longer than those of a client; tags are taken off first.
        let (tags, rest) = match text.strip_prefix('@') {
            Some(tagged) => tagged.split_once(' ').unwrap_or((tagged, "")),
            None => ("", text),
        };
        let line = Line::parse(rest.as_bytes()).with_context(|| format!("the server sent {text:?}"))?;
        let tags = chat_protocol::Tags::from_raw(tags);
        let tags = tags
            .iter()
            .map(|tag| (tag.key.to_owned(), chat_protocol::tags::unescape(tag.value).into_owned()))
            .collect();
        Ok(Self {
            tags,
            source: line.source.unwrap_or_default().to_owned(),
            verb: line.verb.to_owned(),
            params: line.params.iter().map(|param| (*param).to_owned()).collect(),
        })
    }

    pub fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// The nick in `nick!user@host`.
    pub fn nick(&self) -> &str {
        self.source.split('!').next().unwrap_or_default()
    }
}

/// A TCP connection to a chat node.
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: String,
}

impl Connection {
    pub async fn open(address: SocketAddr, within: Duration) -> Result<Self> {
        let stream = timeout(within, TcpStream::connect(address))
            .await
            .with_context(|| format!("no answer from {address} within {within:?}"))?
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer, line: String::new() })
    }

    pub async fn send(&mut self, line: &str) -> Result<()> {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.context("the connection broke")
    }

    /// The next line. Safe to drop half way: what was read so far is kept.
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            let read = self.reader.read_line(&mut self.line).await.context("the connection broke")?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            if !self.line.ends_with('\n') {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.trim_end_matches(['\r', '\n']);
            if !line.is_empty() {
                return Received::parse(line);
            }
        }
    }

    /// Lines until one fits, answering PINGs.
    pub async fn wait_for(&mut self, within: Duration, fits: impl Fn(&Received) -> bool) -> Result<Received> {
        let mut last = String::from("nothing");
        let found = timeout(within, async {
            loop {
                let line = self.next().await?;
                if line.verb == "PING" {
                    self.send(&format!("PONG :{}", line.param(0))).await?;
                }
                if fits(&line) {
                    return Ok(line);
                }
                last = format!("{} {}", line.verb, line.params.join(" "));
            }
        });
        match found.await {
            Ok(result) => result,
            Err(_) => bail!("the line waited for did not come within {within:?}; the last one was: {last}"),
        }
    }
}
