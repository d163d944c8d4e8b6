//! A client that never gives up: it sends numbered messages, reconnects, resumes, sends again what was not
//! acknowledged, and remembers everything.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use crate::{
    checkers,
    irc::{Connection, Received},
    record::{Record, Seen},
};

const CAPABILITIES: &str = "message-tags server-time batch echo-message labeled-response standard-replies \
     chatroom.dev/id chatroom.dev/resume";
/// The channel everybody talks in.
pub const CHANNEL: &str = "#lounge";
/// A connection on which nothing came for so long is given up.
const SILENCE: Duration = Duration::from_secs(4);
/// Time between two messages of a writer: within the default rate, with its PINGs.
const PACE: Duration = Duration::from_millis(300);
const PING_EVERY: Duration = Duration::from_secs(1);
/// Messages on their way at a time.
const WINDOW: usize = 8;

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Time between two messages; none for one who only listens.
    pub sends_every: Option<Duration>,
}

/// A client in the background.
pub struct Client {
    record: Arc<Mutex<Record>>,
    paused: watch::Sender<bool>,
    writes: bool,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts a client; it tries the addresses in turn until one answers.
    pub fn start(name: &str, addresses: Vec<SocketAddr>, habits: Habits) -> Self {
        let record = Arc::new(Mutex::new(Record { name: name.to_owned(), ..Record::default() }));
        let (paused, is_paused) = watch::channel(false);
        let life = Life {
            name: name.to_owned(),
            addresses,
            habits,
            record: Arc::clone(&record),
            is_paused,
            token: None,
            streams: BTreeMap::new(),
            joined: false,
            next_id: 1,
        };
        Self { record, paused, writes: habits.sends_every.is_some(), task: tokio::spawn(life.live()) }
    }

    /// What it remembers so far.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len()
    }

    /// Whether it sends; while paused it goes on to listen, to reconnect and to send again.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Clients that talk with each other.
pub struct Group {
    clients: Vec<Client>,
    addresses: Vec<SocketAddr>,
    checks: usize,
}

impl Group {
    /// Starts writers and readers, and waits until all writers were heard.
    pub async fn start(addresses: Vec<SocketAddr>, writers: usize, readers: usize) -> Result<Self> {
        let writer =
            |n| Client::start(&format!("writer{n}"), addresses.clone(), Habits { sends_every: Some(PACE) });
        let reader =
            |n| Client::start(&format!("reader{n}"), addresses.clone(), Habits { sends_every: None });
        let clients = (0..readers).map(reader).chain((0..writers).map(writer)).collect();
        let group = Self { clients, addresses, checks: 0 };
        group.progress(Duration::from_secs(30)).await?;
        Ok(group)
    }

    /// Waits until every writer got further acknowledgements.
    pub async fn progress(&self, within: Duration) -> Result<()> {
        let before: Vec<usize> = self.clients.iter().map(Client::acknowledged).collect();
        let deadline = Instant::now() + within;
        loop {
            let stuck =
                |(client, before): &(&Client, &usize)| client.writes && client.acknowledged() < *before + 3;
            let Some((client, _)) = self.clients.iter().zip(&before).find(stuck) else { return Ok(()) };
            if Instant::now() > deadline {
                let record = client.record();
                bail!(
                    "{} got no further acknowledgements within {within:?}; {} are pending; last problem: {}",
                    record.name,
                    record.pending().len(),
                    record.last_problem
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets everything be acknowledged, reads history as a newcomer, and holds all that was seen against it.
    pub async fn check(&mut self, within: Duration) -> Result<String> {
        self.pause(true);
        let deadline = Instant::now() + within;
        while self.records().iter().any(|record| !record.pending().is_empty()) {
            if Instant::now() > deadline {
                let records = self.records();
                let record = records.iter().find(|record| !record.pending().is_empty());
                let (name, problem) = record.map(|record| (&record.name, &record.last_problem)).unzip();
                bail!(
                    "not everything of {name:?} was acknowledged within {within:?}; last problem: {problem:?}"
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.checks += 1;
        let history = history(self.addresses[0], &format!("newcomer{}", self.checks)).await?;
        // What was said last may still be on its way to those who just came back.
        let mut wrong = checkers::check(&self.records(), &history);
        while !wrong.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(200)).await;
            wrong = checkers::check(&self.records(), &history);
        }
        if !wrong.is_empty() {
            bail!("{} promises were broken:\n  {}", wrong.len(), wrong.join("\n  "));
        }
        self.pause(false);
        Ok(checkers::summary(&self.records()))
    }

    fn pause(&self, paused: bool) {
        for client in &self.clients {
            client.pause(paused);
        }
    }

    pub fn records(&self) -> Vec<Record> {
        self.clients.iter().map(Client::record).collect()
    }

    /// Reconnects of all clients so far.
    pub fn reconnects(&self) -> usize {
        self.records().iter().map(|record| record.reconnects).sum()
    }
}

/// A client's own view of itself.
struct Life {
    name: String,
    addresses: Vec<SocketAddr>,
    habits: Habits,
    record: Arc<Mutex<Record>>,
    is_paused: watch::Receiver<bool>,
    token: Option<String>,
    /// Last position seen of each stream.
    streams: BTreeMap<String, u64>,
    joined: bool,
    next_id: u64,
}

/// What goes on in one connection.
#[derive(Default)]
struct Phase {
    /// In a `chathistory` batch nothing counts as seen.
    history: Option<String>,
    resuming: bool,
    ready: bool,
    heard: Option<Instant>,
}

impl Life {
    async fn live(mut self) {
        let mut attempt = 0;
        loop {
            let address = self.addresses[attempt % self.addresses.len()];
            attempt += 1;
            if let Err(error) = self.connection(address).await {
                self.record(|record| record.last_problem = format!("{error:#}"));
            }
            self.record(|record| record.reconnects += 1);
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connection(&mut self, address: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(address, Duration::from_secs(2)).await?;
        connection.send("CAP LS 302").await?;
        connection.send(&format!("CAP REQ :{CAPABILITIES}")).await?;
        let mut phase = Phase { heard: Some(Instant::now()), ..Phase::default() };
        match &self.token {
            Some(token) => {
                let seen: Vec<String> =
                    self.streams.iter().map(|(stream, at)| format!("{stream}-{at}")).collect();
                let seen = if seen.is_empty() { "*".to_owned() } else { seen.join(",") };
                connection.send(&format!("RESUME {token} {seen}")).await?;
                phase.resuming = true;
            }
            None => self.register(&mut connection).await?,
        }
        connection.send("CAP END").await?;
        let pace = self.habits.sends_every.unwrap_or(Duration::from_secs(3600));
        let (mut sends, mut pings) = (interval(pace), interval(PING_EVERY));
        loop {
            tokio::select! {
                line = connection.next() => {
                    phase.heard = Some(Instant::now());
                    self.hear(&line?, &mut connection, &mut phase).await?;
                }
                _ = pings.tick() => {
                    if phase.heard.is_some_and(|heard| heard.elapsed() > SILENCE) {
                        bail!("silence");
                    }
                    if phase.ready {
                        connection.send("PING :still there").await?;
                    }
                }
                _ = sends.tick(), if phase.ready && self.habits.sends_every.is_some() => {
                    self.say(&mut connection).await?;
                }
            }
        }
    }

    async fn register(&self, connection: &mut Connection) -> Result<()> {
        connection.send(&format!("NICK {}", self.name)).await?;
        connection.send(&format!("USER {} 0 * :{}", self.name, self.name)).await
    }

    async fn say(&mut self, connection: &mut Connection) -> Result<()> {
        if *self.is_paused.borrow() || self.record(|record| record.pending().len()) >= WINDOW {
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let text = format!("{} says {id}", self.name);
        self.record(|record| record.send(id, text.clone()));
        send_message(connection, id, &text).await
    }

    async fn hear(&mut self, line: &Received, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        match line.verb.as_str() {
            "PING" => connection.send(&format!("PONG :{}", line.param(0))).await?,
            "RESUME" => self.resumed(line),
            "BATCH" => self.batch(line, connection, phase).await?,
            "FAIL" => self.failed(line, connection, phase).await?,
            "NOTE" if line.param(1) == "DUPLICATE" => {
                if let Ok(id) = line.param(2).parse() {
                    self.record(|record| record.acknowledge(id, line.param(3)));
                }
            }
            "376" | "422" if !phase.resuming => connection.send(&format!("JOIN {CHANNEL}")).await?,
            "366" if line.param(1) == CHANNEL => {
                self.joined = true;
                self.ready(connection, phase).await?;
            }
            "433" => bail!("the nick is taken"),
            "ERROR" => bail!("{}", line.param(0)),
            _ => {}
        }
        if phase.history.as_ref().is_none_or(|batch| line.tags.get("batch") != Some(batch)) {
            self.saw(line);
        }
        Ok(())
    }

    fn resumed(&mut self, line: &Received) {
        match line.param(0) {
            "TOKEN" => self.token = Some(line.param(1).to_owned()),
            "GAP" => self.record(|record| record.gaps.push(format!("{} {}", line.param(1), line.param(2)))),
            _ => {}
        }
    }

    async fn batch(&mut self, line: &Received, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        let reference = line.param(0);
        match (reference.strip_prefix('+'), line.param(1)) {
            (Some(reference), "chathistory") => phase.history = Some(reference.to_owned()),
            (None, _) if phase.resuming && reference == "-resume" => {
                phase.resuming = false;
                if self.joined {
                    self.ready(connection, phase).await?;
                } else {
                    connection.send(&format!("JOIN {CHANNEL}")).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn ready(&mut self, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        if !phase.ready {
            phase.ready = true;
            for (id, text) in self.record(|record| record.pending()) {
                send_message(connection, id, &text).await?;
            }
        }
        Ok(())
    }

    async fn failed(
        &mut self,
        line: &Received,
        connection: &mut Connection,
        phase: &mut Phase,
    ) -> Result<()> {
        match (line.param(0), line.param(1)) {
            ("RESUME", "INVALID_TOKEN") => {
                self.record(|record| record.sessions_lost.push(line.params.join(" ")));
                self.token = None;
                self.joined = false;
                self.streams.clear();
                phase.resuming = false;
                self.register(connection).await?;
                connection.send("CAP END").await
            }
            // To be tried again, on another connection.
            ("RESUME", "TRY_AGAIN") | (_, "READ_ONLY" | "UNKNOWN_RESULT") => {
                bail!("{}", line.params.join(" "))
            }
            _ => {
                self.record(|record| record.complaints.insert(line.params.join(" ")));
                Ok(())
            }
        }
    }

    fn saw(&mut self, line: &Received) {
        let Some(msgid) = line.tags.get("msgid") else { return };
        if let Some((stream, at)) = msgid.rsplit_once('-')
            && let Ok(at) = at.parse::<u64>()
        {
            let last = self.streams.entry(stream.to_owned()).or_default();
            *last = at.max(*last);
        }
        if line.verb != "PRIVMSG" || line.param(0) != CHANNEL {
            return;
        }
        let seen =
            Seen { msgid: msgid.clone(), sender: line.nick().to_owned(), text: line.param(1).to_owned() };
        let own = line.tags.get("chatroom.dev/id").and_then(|id| id.parse().ok());
        self.record(|record| {
            record.seen.push(seen);
            if let Some(id) = own {
                record.acknowledge(id, msgid);
            }
        });
    }
}

async fn send_message(connection: &mut Connection, id: u64, text: &str) -> Result<()> {
    connection.send(&format!("@chatroom.dev/id={id} PRIVMSG {CHANNEL} :{text}")).await
}

/// The whole history of the channel, oldest first, as a newcomer reads it.
pub async fn history(address: SocketAddr, name: &str) -> Result<Vec<Seen>> {
    let wait = Duration::from_secs(10);
    let mut connection = Connection::open(address, wait).await?;
    connection.send("CAP REQ :message-tags server-time batch draft/chathistory").await?;
    connection.send(&format!("NICK {name}")).await?;
    connection.send(&format!("USER {name} 0 * :{name}")).await?;
    connection.send("CAP END").await?;
    connection.wait_for(wait, |line| matches!(line.verb.as_str(), "376" | "422")).await?;
    connection.send(&format!("JOIN {CHANNEL}")).await?;
    connection.wait_for(wait, |line| line.verb == "366").await?;
    let mut pages: Vec<Vec<Seen>> = Vec::new();
    let mut before = "*".to_owned();
    loop {
        let request = match &*before {
            "*" => format!("CHATHISTORY LATEST {CHANNEL} * 500"),
            msgid => format!("CHATHISTORY BEFORE {CHANNEL} msgid={msgid} 500"),
        };
        // Within the rate that is allowed.
        sleep(Duration::from_millis(250)).await;
        connection.send(&request).await?;
        let mut page = Vec::new();
        loop {
            let line = connection.wait_for(wait, |_| true).await?;
            match line.verb.as_str() {
                "PRIVMSG" => page.push(Seen {
                    msgid: line.tags.get("msgid").cloned().unwrap_or_default(),
                    sender: line.nick().to_owned(),
                    text: line.param(1).to_owned(),
                }),
                "BATCH" if line.param(0).starts_with('-') => break,
                "FAIL" => bail!("history was refused: {}", line.params.join(" ")),
                _ => {}
            }
        }
        match page.first() {
            None => break,
            Some(oldest) => before.clone_from(&oldest.msgid),
        }
        pages.push(page);
    }
    connection.send("QUIT").await?;
    Ok(pages.into_iter().rev().flatten().collect())
}
