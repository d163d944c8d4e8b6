//! A client that never gives up: it sends numbered messages, reconnects, resumes, sends again what was not
//! acknowledged, and remembers everything. Or a stock client, which does none of that but reconnect under its nick.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use crate::{
    irc::{Connection, Received},
    places::{Place, Places},
    record::{Record, Seen, Stay},
};

const CAPABILITIES: &str = "message-tags server-time batch echo-message labeled-response standard-replies \
     chatroom.dev/id chatroom.dev/resume";
const STOCK_CAPABILITIES: &str = "message-tags server-time batch echo-message standard-replies";
/// The channel everybody talks in.
pub const CHANNEL: &str = "#lounge";
/// A connection on which nothing came for so long is given up.
const SILENCE: Duration = Duration::from_secs(4);
/// Time between two messages of a writer: within the default rate, with its PINGs.
pub const PACE: Duration = Duration::from_millis(300);
const PING_EVERY: Duration = Duration::from_secs(1);
/// Time between two tries of what was refused for now.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Time between two connections.
const COME_BACK: Duration = Duration::from_millis(200);
/// Messages on their way at a time.
const WINDOW: usize = 8;
/// Streams named in one line of a resume.
const STREAMS_A_LINE: usize = 6;
/// What a client asks to learn that its answer to the server's PING has taken effect.
const CONFIRM: &str = "confirm";

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Time between two messages; none for one who only listens.
    pub sends_every: Option<Duration>,
    /// Whether it knows ids and resumes.
    pub resumes: bool,
}

/// A client in the background.
pub struct Client {
    record: Arc<Mutex<Record>>,
    paused: watch::Sender<bool>,
    leave: watch::Sender<()>,
    pub habits: Habits,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts a client; it tries one place after the other until one answers.
    pub fn start(name: &str, places: Places, habits: Habits) -> Self {
        let record = Arc::new(Mutex::new(Record { name: name.to_owned(), ..Record::default() }));
        let (paused, is_paused) = watch::channel(false);
        let (leave, told_to_leave) = watch::channel(());
        let life = Life {
            name: name.to_owned(),
            places,
            habits,
            record: Arc::clone(&record),
            is_paused,
            told_to_leave,
            tokens: Vec::new(),
            streams: BTreeMap::new(),
            joined: false,
            next_id: 1,
            come_back: COME_BACK,
        };
        Self { record, paused, leave, habits, task: tokio::spawn(life.live()) }
    }

    /// What it remembers so far.
    pub fn record(&self) -> Record {
        self.with(|record| record.clone())
    }

    /// A look at what it remembers.
    pub fn with<T>(&self, look: impl FnOnce(&mut Record) -> T) -> T {
        look(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.with(|record| record.acknowledged.len())
    }

    /// Whether it sends; while paused it goes on to listen, to reconnect and to send again.
    pub fn pause(&self, paused: bool) {
        // A pause that was asked for is none of the room's.
        self.with(|record| record.heard_at = None);
        self.paused.send_replace(paused);
    }

    /// Has it leave its connection and come back to wherever it is led.
    pub fn move_on(&self) {
        self.leave.send_replace(());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's own view of itself.
struct Life {
    name: String,
    places: Places,
    habits: Habits,
    record: Arc<Mutex<Record>>,
    is_paused: watch::Receiver<bool>,
    told_to_leave: watch::Receiver<()>,
    /// The newest last; the one before is kept until the server has it that the newest arrived.
    tokens: Vec<String>,
    /// Last position seen of each stream.
    streams: BTreeMap<String, u64>,
    joined: bool,
    next_id: u64,
    /// When to come back, as the server said.
    come_back: Duration,
}

/// What goes on in one connection.
#[derive(Default)]
struct Phase {
    pod: Option<String>,
    /// In a `chathistory` batch nothing counts as seen.
    history: Option<String>,
    resuming: bool,
    /// The resume was shown whole.
    resumed: bool,
    ready: bool,
    heard: Option<Instant>,
    /// Writing was refused: when to try with one message again.
    asks_again: Option<Instant>,
}

impl Life {
    async fn live(mut self) {
        loop {
            self.come_back = COME_BACK;
            match self.places.next() {
                Some(place) => {
                    let error = match self.connection(place).await {
                        Ok(never) => match never {},
                        Err(error) => format!("{error:#}"),
                    };
                    self.ended(&error);
                }
                None => self.record(|record| record.problem("there is nowhere to connect to")),
            }
            sleep(self.come_back).await;
        }
    }

    fn record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ended(&mut self, why: &str) {
        let resumes = self.habits.resumes;
        self.record(|record| {
            record.problem(why);
            if let Some(stay) = record.stays.last_mut().filter(|stay| stay.ended.is_none()) {
                stay.ended = Some(why.to_owned());
            }
            if !resumes {
                record.give_up();
            }
        });
    }

    async fn connection(&mut self, place: Place) -> Result<std::convert::Infallible> {
        let mut connection = Connection::open(place.address, Duration::from_secs(2)).await?;
        let mut phase = Phase { heard: Some(Instant::now()), pod: place.pod, ..Phase::default() };
        connection.send("CAP LS 302").await?;
        let capabilities = if self.habits.resumes { CAPABILITIES } else { STOCK_CAPABILITIES };
        connection.send(&format!("CAP REQ :{capabilities}")).await?;
        match self.tokens.last() {
            Some(token) => {
                phase.resuming = true;
                self.resume(token, &mut connection).await?;
            }
            None => self.register(&mut connection).await?,
        }
        connection.send("CAP END").await?;
        self.told_to_leave.mark_unchanged();
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
                    self.say(&mut connection, &mut phase).await?;
                }
                told = self.told_to_leave.changed() => {
                    self.record(|record| {
                        record.stays.iter_mut().rev().take(1).for_each(|stay| stay.on_request = true);
                    });
                    return Err(told.map_or_else(Into::into, |()| anyhow!("told to leave")));
                }
            }
        }
    }

    async fn resume(&self, token: &str, connection: &mut Connection) -> Result<()> {
        let seen: Vec<String> = self.streams.iter().map(|(stream, at)| format!("{stream}-{at}")).collect();
        let mut lines = seen.chunks(STREAMS_A_LINE);
        let first = lines.next().map_or_else(|| "*".to_owned(), |seen| seen.join(","));
        connection.send(&format!("RESUME {token} {first}")).await?;
        for more in lines {
            connection.send(&format!("RESUME + {}", more.join(","))).await?;
        }
        Ok(())
    }

    /// Begins a session.
    async fn register(&self, connection: &mut Connection) -> Result<()> {
        self.record(|record| {
            if record.runs.last().is_none_or(|run| !run.is_empty()) {
                record.runs.push(Vec::new());
            }
        });
        connection.send(&format!("NICK {}", self.name)).await?;
        connection.send(&format!("USER {} 0 * :{}", self.name, self.name)).await
    }

    async fn say(&mut self, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        if let Some(at) = phase.asks_again {
            let pending = self.record(|record| record.pending().into_iter().next());
            match pending {
                Some((id, text)) if Instant::now() >= at => {
                    phase.asks_again = Some(Instant::now() + ASK_AGAIN);
                    return self.send(connection, id, &text).await;
                }
                Some(_) => return Ok(()),
                None => phase.asks_again = None,
            }
        }
        if *self.is_paused.borrow() || self.record(|record| record.pending().len()) >= WINDOW {
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let text = format!("{} says {id}", self.name);
        self.record(|record| record.send(id, text.clone()));
        self.send(connection, id, &text).await
    }

    async fn send(&self, connection: &mut Connection, id: u64, text: &str) -> Result<()> {
        let tags = if self.habits.resumes { format!("@chatroom.dev/id={id} ") } else { String::new() };
        connection.send(&format!("{tags}PRIVMSG {CHANNEL} :{text}")).await
    }

    async fn hear(&mut self, line: &Received, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        match line.verb.as_str() {
            "PING" => {
                connection.send(&format!("PONG :{}", line.param(0))).await?;
                if phase.resumed && self.tokens.len() > 1 {
                    connection.send(&format!("PING :{CONFIRM}")).await?;
                }
            }
            "PONG" if line.param(1) == CONFIRM => {
                self.tokens.drain(..self.tokens.len().saturating_sub(1));
            }
            "RESUME" => self.resumed(line),
            "BATCH" => self.batch(line, connection, phase).await?,
            "FAIL" => self.failed(line, connection, phase).await?,
            "NOTE" if line.param(1) == "DUPLICATE" => {
                if let Ok(id) = line.param(2).parse() {
                    self.acknowledged(id, line.param(3), connection, phase).await?;
                }
            }
            "RECONNECT" => {
                let seconds = line.param(1).parse().unwrap_or_default();
                self.come_back = self.come_back.max(Duration::from_secs(seconds));
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
            self.saw(line, connection, phase).await?;
        }
        Ok(())
    }

    fn resumed(&mut self, line: &Received) {
        match line.param(0) {
            "TOKEN" => self.tokens.push(line.param(1).to_owned()),
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
                phase.resumed = true;
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
            let stay = Stay { pod: phase.pod.clone(), ended: None, on_request: false };
            self.record(|record| record.stays.push(stay));
            self.send_again(connection).await?;
        }
        Ok(())
    }

    async fn send_again(&self, connection: &mut Connection) -> Result<()> {
        for (id, text) in self.record(|record| record.pending()) {
            self.send(connection, id, &text).await?;
        }
        Ok(())
    }

    async fn acknowledged(
        &self,
        id: u64,
        msgid: &str,
        connection: &mut Connection,
        phase: &mut Phase,
    ) -> Result<()> {
        self.record(|record| record.acknowledge(id, msgid));
        match phase.asks_again.take() {
            Some(_) => self.send_again(connection).await,
            None => Ok(()),
        }
    }

    async fn failed(
        &mut self,
        line: &Received,
        connection: &mut Connection,
        phase: &mut Phase,
    ) -> Result<()> {
        match (line.param(0), line.param(1)) {
            ("RESUME", "INVALID_TOKEN") => {
                self.tokens.pop();
                if !self.tokens.is_empty() {
                    bail!("the newest token is not known; the one before is tried");
                }
                self.record(|record| record.sessions_lost.push(line.params.join(" ")));
                self.joined = false;
                self.streams.clear();
                phase.resuming = false;
                self.register(connection).await?;
                connection.send("CAP END").await
            }
            ("PRIVMSG", "READ_ONLY" | "UNKNOWN_RESULT") if phase.ready => {
                self.record(|record| {
                    record.refused += 1;
                    if !self.habits.resumes {
                        record.give_up();
                    }
                });
                if self.habits.resumes {
                    phase.asks_again.get_or_insert(Instant::now() + ASK_AGAIN);
                }
                Ok(())
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

    async fn saw(&mut self, line: &Received, connection: &mut Connection, phase: &mut Phase) -> Result<()> {
        let Some(msgid) = line.tags.get("msgid") else { return Ok(()) };
        for place in [Some(msgid), line.tags.get("chatroom.dev/seen")].into_iter().flatten() {
            if let Some((stream, at)) = place.rsplit_once('-')
                && let Ok(at) = at.parse::<u64>()
            {
                let last = self.streams.entry(stream.to_owned()).or_default();
                *last = at.max(*last);
            }
        }
        if line.verb != "PRIVMSG" || line.param(0) != CHANNEL {
            return Ok(());
        }
        let sender = line.nick().to_owned();
        let own = if self.habits.resumes {
            line.tags.get("chatroom.dev/id").and_then(|id| id.parse().ok())
        } else if sender == self.name {
            line.param(1).rsplit(' ').next().and_then(|number| number.parse().ok())
        } else {
            None
        };
        self.record(|record| {
            record.saw(Seen { msgid: msgid.clone(), sender, text: line.param(1).to_owned() });
        });
        match own {
            Some(id) => self.acknowledged(id, msgid, connection, phase).await,
            None => Ok(()),
        }
    }
}
