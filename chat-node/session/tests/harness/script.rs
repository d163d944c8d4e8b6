//! The language of transcripts, a line a step:
//!
//! ```text
//! # a comment
//! alice> JOIN #a            alice sends this line (the connection opens with the first); \xNN is a byte
//! alice< :irc.test 366 …    the next line that alice gets, see `pattern`
//! alice<~ …                 as above, in any order among neighbours of this kind
//! alice< ...                skip lines up to the one that the next expectation names
//! alice< -                  nothing came
//! ```
//!
//! What nobody read by the end is an error. Steps that are not lines:
//!
//! | step | what happens |
//! |---|---|
//! | `@set <limit> <value>` | before anything else: a limit of the settings or of the connections, `motd`, `channel`, `shared-log` |
//! | `@connect <name> [websocket] [tls]` | opens a connection |
//! | `@register <name> [<capability> …]` | registers under that nick, and reads up to the MOTD; `${name.token}` is the resume token |
//! | `@crowd <number>` | so many register as `crowd<n>`, with long real names, and say nothing |
//! | `@times <number> <name> <line>` | this client sends the same line so often |
//! | `@disconnect <name>` | the transport is lost |
//! | `@closed <name> [<WebSocket code>]` | the server closed this connection |
//! | `@clear [<name> …]` | forgets what was not read, of these or of all |
//! | `@wait <seconds>` | time passes |
//! | `@hold directory` `@hold channels` | these logs stand still |
//! | `@release directory` `@release channels` | … and go on |
//! | `@lineage <number>` | the log of every shard goes on under that lineage |
//! | `@refuse <reason>` | what waits in logs that stand still is refused |
//! | `@read-only <reason>` `@read-write` | what the log says of itself |
//! | `@restart` | the node is started again, with its state |
//! | `@drain` | the node asks everybody to leave |
//! | `@too-long <name>` | this client sent a line that was dropped for its length |

use std::collections::{BTreeMap, VecDeque};

use chat_session::{ConnectionId, ConnectionLimits, Framing};
use chat_state::{
    ids::Lineage,
    settings::{DeclaredChannel, Settings},
};

use super::{
    pattern::{Names, fill, matches},
    room::Room,
};

struct Player {
    room: Option<Room>,
    shards: u16,
    settings: Settings,
    limits: ConnectionLimits,
    /// Other nodes may be ahead of this one.
    shared_log: bool,
    clients: BTreeMap<String, Client>,
    names: Names,
    /// Expectations whose order does not matter, until their number is known.
    any_order: Vec<String>,
}

struct Client {
    id: ConnectionId,
    framing: Framing,
    unread: VecDeque<String>,
    skipping: bool,
    open: bool,
}

/// Plays a transcript against a room; the error names the line.
pub(crate) fn play(text: &str, shards: u16) -> Result<(), String> {
    let limits = ConnectionLimits { command_burst: 10_000, ..ConnectionLimits::default() };
    let mut player = Player {
        room: None,
        shards,
        settings: Settings::default(),
        limits,
        shared_log: false,
        clients: BTreeMap::new(),
        names: Names::new(),
        any_order: Vec::new(),
    };
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let next = lines.get(number + 1).copied().unwrap_or_default();
        player.step(line, next).map_err(|error| format!("line {}: {error}\n  {line}", number + 1))?;
    }
    for (name, client) in &mut player.clients {
        if let Some(room) = player.room.as_mut().filter(|_| client.open) {
            client.read(room);
        }
        if !client.unread.is_empty() {
            return Err(format!("at the end: {name} got more than was expected:{}", client.rest()));
        }
    }
    Ok(())
}

impl Player {
    fn step(&mut self, line: &str, next: &str) -> Result<(), String> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(step) = line.strip_prefix('@') {
            return self.happen(step);
        }
        let at = line.find(['<', '>']).ok_or("neither `name> line`, `name< line` nor `@step`")?;
        let (name, rest) = (&line[..at], &line[at + 1..]);
        if line[at..].starts_with('>') {
            let text = fill(rest.strip_prefix(' ').unwrap_or(rest), &self.names)?;
            let id = self.client(name).id;
            self.room().send(id, &unescape(&text)?);
            return Ok(());
        }
        let any_order = format!("{name}<~");
        match rest.strip_prefix('~') {
            Some(rest) => {
                self.any_order.push(fill(rest.trim_start(), &self.names)?);
                if next.starts_with(&any_order) { Ok(()) } else { self.expect_any_order(name) }
            }
            None => self.expect(name, rest.strip_prefix(' ').unwrap_or(rest)),
        }
    }

    fn expect(&mut self, name: &str, expected: &str) -> Result<(), String> {
        let expected = fill(expected, &self.names)?;
        let client = self.read(name)?;
        match &*expected {
            "..." => {
                client.skipping = true;
                return Ok(());
            }
            "-" if client.unread.is_empty() => return Ok(()),
            "-" => return Err(format!("there came{}", client.rest())),
            _ => {}
        }
        let skipping = std::mem::take(&mut client.skipping);
        let mut first = None;
        while let Some(line) = client.unread.pop_front() {
            if let Some(names) = matches(&expected, &line)? {
                self.names.extend(names);
                return Ok(());
            }
            let line = first.get_or_insert(line);
            if !skipping {
                return Err(format!("there came\n  {line}{}", client.rest()));
            }
        }
        Err(match first {
            Some(line) => format!("no such line came; the first was\n  {line}"),
            None => "nothing came".into(),
        })
    }

    fn expect_any_order(&mut self, name: &str) -> Result<(), String> {
        let mut expected = std::mem::take(&mut self.any_order);
        let client = self.read(name)?;
        let mut remembered = Names::new();
        while !expected.is_empty() {
            let line =
                client.unread.pop_front().ok_or_else(|| format!("nothing more came for\n  {expected:?}"))?;
            let mut found = None;
            for (at, pattern) in expected.iter().enumerate() {
                if let Some(names) = matches(pattern, &line)? {
                    found = Some(at);
                    remembered.extend(names);
                    break;
                }
            }
            let at = found.ok_or_else(|| format!("there came\n  {line}{}", client.rest()))?;
            expected.remove(at);
        }
        self.names.extend(remembered);
        Ok(())
    }

    fn happen(&mut self, step: &str) -> Result<(), String> {
        let step = fill(step, &self.names)?;
        let (verb, rest) = step.split_once(' ').unwrap_or((&step, ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let first = words.first().copied().unwrap_or_default();
        match verb {
            "set" => return self.set(first, rest[first.len()..].trim_start()),
            "connect" => self.connect(first, &words[1..]),
            "register" => return self.register(first, &words[1..]),
            "crowd" => {
                let number: u32 = first.parse().map_err(|_| "`@crowd <number>`")?;
                for n in 0..number {
                    let real_name = "long ".repeat(30);
                    let id = self.room().connect("crowd.example", Framing::Tcp, false);
                    self.room().send(id, format!("NICK crowd{n}").as_bytes());
                    self.room().send(id, format!("USER crowd 0 * :{real_name}").as_bytes());
                    self.room().output(id);
                }
            }
            "times" => {
                let (number, rest) = rest.split_once(' ').ok_or("`@times <number> <name> <line>`")?;
                let (name, line) = rest.split_once(' ').ok_or("`@times <number> <name> <line>`")?;
                let number: u32 = number.parse().map_err(|_| "`@times <number> <name> <line>`")?;
                let id = self.client(name).id;
                for _ in 0..number {
                    self.room().send(id, line.as_bytes());
                }
            }
            "disconnect" => {
                let client = self.read(first)?;
                client.open = false;
                let id = client.id;
                self.room().disconnect(id);
            }
            "closed" => {
                let client = self.read(first)?;
                client.open = false;
                let id = client.id;
                let close = self.room().closed.remove(&id).ok_or("the connection is open")?;
                self.room().worker.forget(id);
                if let Some(code) = words.get(1).filter(|code| **code != close.web_socket_code.to_string()) {
                    return Err(format!("closed with {}, not {code}", close.web_socket_code));
                }
            }
            "clear" => {
                let all: Vec<String> = self.clients.keys().cloned().collect();
                for name in all.iter().filter(|name| words.is_empty() || words.contains(&&***name)) {
                    self.read(name)?.unread.clear();
                }
            }
            "wait" => {
                let seconds: u64 = first.parse().map_err(|_| "`@wait <seconds>`")?;
                self.room().pass(seconds * 1000);
            }
            "hold" => self.room().hold(first == "directory", true),
            "release" => self.room().hold(first == "directory", false),
            "lineage" => {
                let number = first.parse().map_err(|_| "`@lineage <number>`")?;
                self.room().begin_lineage(Lineage(number));
            }
            "refuse" => self.room().refuse(rest),
            "read-only" => self.room().worker.set_read_only(Some(rest.to_owned())),
            "read-write" => self.room().worker.set_read_only(None),
            "restart" => {
                self.room().restart();
                self.clients.clear();
            }
            "drain" => self.room().drain(),
            "too-long" => {
                let id = self.client(first).id;
                self.room().send_too_long(id);
            }
            _ => return Err("there is no such step".into()),
        }
        Ok(())
    }

    fn set(&mut self, what: &str, value: &str) -> Result<(), String> {
        if self.room.is_some() {
            return Err("`@set` comes before everything else".into());
        }
        let number = || value.parse::<u64>().map_err(|_| format!("{what} is a number"));
        let short = || value.parse::<u16>().map_err(|_| format!("{what} is a number up to 65535"));
        match what {
            "motd" => self.settings.motd = value.replace("\\n", "\n"),
            "channel" => {
                let (name, topic) = value.split_once(' ').unwrap_or((value, ""));
                self.settings.channels.push(DeclaredChannel { name: name.into(), topic: topic.into() });
            }
            "resume-window" => self.settings.resume_window_ms = number()? * 1000,
            "history-messages" => self.settings.history_max_messages = short()?.into(),
            "channels-per-user" => self.settings.limits.channels_per_user = short()?,
            "list-entries" => self.settings.limits.list_entries = short()?,
            "topic-length" => self.settings.limits.topic_length = short()?,
            "kick-length" => self.settings.limits.kick_length = short()?,
            "away-length" => self.settings.limits.away_length = short()?,
            "shared-log" => self.shared_log = value == "yes",
            "waiting-output" => self.limits.max_waiting_output = short()?.into(),
            "waiting-input" => self.limits.max_waiting_input = short()?.into(),
            "burst" => self.limits.command_burst = short()?.into(),
            _ => return Err("there is no such setting".into()),
        }
        Ok(())
    }

    fn room(&mut self) -> &mut Room {
        let (shards, limits) = (self.shards, self.limits);
        let shared_log = self.shared_log;
        self.room.get_or_insert_with(|| {
            let mut room = Room::new(shards, self.settings.clone(), limits);
            if !shared_log {
                room.worker.follows_own_log();
            }
            room
        })
    }

    fn client(&mut self, name: &str) -> &mut Client {
        if !self.clients.contains_key(name) {
            self.connect(name, &[]);
        }
        self.clients.get_mut(name).expect("it was just connected")
    }

    fn connect(&mut self, name: &str, how: &[&str]) {
        let framing = if how.contains(&"websocket") { Framing::WebSocketText } else { Framing::Tcp };
        // A second connection of somebody comes from the same place.
        let host = format!("{}.example", name.trim_end_matches(|char: char| char.is_ascii_digit()));
        let id = self.room().connect(&host, framing, how.contains(&"tls"));
        let client = Client { id, framing, unread: VecDeque::new(), skipping: false, open: true };
        self.clients.insert(name.to_owned(), client);
    }

    fn register(&mut self, name: &str, capabilities: &[&str]) -> Result<(), String> {
        let id = self.client(name).id;
        let mut lines = vec![format!("NICK {name}"), format!("USER {name} 0 * :{name} the user")];
        if !capabilities.is_empty() {
            lines.insert(0, format!("CAP REQ :{}", capabilities.join(" ")));
            lines.push("CAP END".into());
        }
        for line in lines {
            self.room().send(id, line.as_bytes());
        }
        let client = self.read(name)?;
        let end = client.unread.iter().position(|line| line.contains(" 376 ") || line.contains(" 422 "));
        let end = end.ok_or_else(|| format!("no end of the MOTD among\n  {:?}", client.unread))?;
        client.unread.drain(..=end);
        if capabilities.contains(&"chatroom.dev/resume") {
            self.expect(name, &format!(":irc.test RESUME TOKEN {{{name}.token:word}}"))?;
        }
        Ok(())
    }

    /// The client with all that came for it.
    fn read(&mut self, name: &str) -> Result<&mut Client, String> {
        let client = self.clients.get_mut(name).ok_or_else(|| format!("nobody is called {name}"))?;
        if client.open {
            client.read(self.room.as_mut().ok_or("nothing happened yet")?);
        }
        Ok(client)
    }
}

impl Client {
    /// What was not read, to be shown.
    fn rest(&self) -> String {
        self.unread.iter().take(20).map(|line| format!("\n  {line}")).collect()
    }

    fn read(&mut self, room: &mut Room) {
        let bytes = room.output(self.id);
        let lines = match self.framing {
            Framing::Tcp => {
                let text = String::from_utf8(bytes).expect("the server writes UTF-8");
                assert!(text.is_empty() || text.ends_with("\r\n"), "the last line is whole: {text}");
                text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            Framing::WebSocketText | Framing::WebSocketBinary => frames(&bytes),
        };
        for line in &lines {
            let body = line
                .strip_prefix('@')
                .and_then(|line| line.split_once(' '))
                .map_or(&**line, |(_, body)| body);
            assert!(body.len() <= 510, "a body is at most 512 bytes: {line}");
        }
        self.unread.extend(lines);
    }
}

/// The texts of unmasked text frames.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [opcode, short, rest @ ..] = bytes {
        assert_eq!(*opcode, 0x81, "whole text frames");
        let (length, rest) = match short {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(*short), rest),
        };
        let (text, rest) = rest.split_at(length);
        texts.push(String::from_utf8(text.to_vec()).expect("a text frame is UTF-8"));
        bytes = rest;
    }
    texts
}

/// `\xNN` is that byte.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, after) = after.split_at_checked(2).ok_or("`\\x` wants two digits")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "`\\x` wants two hexadecimal digits")?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}
