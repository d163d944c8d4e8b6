//! A simulated client: speaks real lines, remembers what it was told, and complains when that cannot be.

mod act;
mod hear;
mod life;
mod line;
mod loss;
mod view;

use std::collections::BTreeMap;

pub(crate) use self::{
    life::{Kind, Life, Seen, first_word, what},
    view::View,
};
use crate::{chance::Chance, env::Env, truth::Truth, violation::Violation};

/// A message without an answer is sent again after this time, with the same id.
const RETRY_MS: u64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Offline,
    Registering,
    Resuming,
    Ready,
}

pub(crate) struct Client {
    number: usize,
    kind: Kind,
    pub(crate) phase: Phase,
    /// The last is the present one.
    pub(crate) lives: Vec<Life>,
    pub(crate) view: View,
    resume_window_ms: u64,
    token: Option<String>,
    /// The one before: good as long as the newest was not confirmed.
    previous_token: Option<String>,
    /// Newest position seen of each stream, and the command it came with.
    newest: BTreeMap<String, (u64, String)>,
    /// Newest message of each channel that it is in.
    newest_message: BTreeMap<String, u64>,
    batches: BTreeMap<String, Batch>,
    /// Sent and not answered, by id.
    sends: BTreeMap<u64, Sending>,
    next_id: u64,
    texts: u64,
    /// The server said that the session goes on.
    attached: bool,
    /// A gap was told, and the channels not shown anew yet.
    told_a_gap: bool,
    /// Since when the session is without its connection, as far as the client knows.
    cut_at_ms: u64,
    /// When the server ended the present connection, of which the client may hear late.
    ended_at_ms: Option<u64>,
    resumed_nick: String,
    nicks_tried: u64,
    pub(crate) connect_at_ms: u64,
    /// Does not read or write until then.
    pub(crate) stalled_until_ms: u64,
    output: Vec<u8>,
    input: Vec<u8>,
}

struct Sending {
    target: String,
    text: String,
    sent_at_ms: u64,
}

struct Batch {
    kind: String,
    label: Option<String>,
    /// Positions, with the shard, of the messages in a history batch.
    history: Vec<(u16, u64)>,
    target: String,
}

impl Client {
    pub(crate) fn new(number: usize, resume_window_ms: u64, chance: &mut Chance) -> Self {
        let extras = u8::try_from(chance.below(64)).unwrap_or(0);
        let kind = match if number == 0 { 0 } else { chance.below(4) } {
            0 | 1 => {
                Kind { resume: true, ids: true, echo: true, labels: !chance.one_in(3), tags: true, extras }
            }
            2 => {
                let tags = chance.one_in(2);
                let echo = tags && chance.one_in(2);
                Kind {
                    resume: false,
                    ids: tags && echo && chance.one_in(2),
                    echo,
                    labels: tags,
                    tags,
                    extras,
                }
            }
            _ => Kind::default(),
        };
        Self {
            number,
            kind,
            phase: Phase::Offline,
            lives: Vec::new(),
            view: View::default(),
            resume_window_ms,
            token: None,
            previous_token: None,
            newest: BTreeMap::new(),
            newest_message: BTreeMap::new(),
            batches: BTreeMap::new(),
            sends: BTreeMap::new(),
            next_id: 1,
            texts: 0,
            attached: false,
            told_a_gap: false,
            cut_at_ms: 0,
            ended_at_ms: None,
            resumed_nick: String::new(),
            nicks_tried: 0,
            connect_at_ms: 0,
            stalled_until_ms: 0,
            output: Vec::new(),
            input: Vec::new(),
        }
    }

    pub(crate) fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("a client that speaks has begun a life")
    }

    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Connected, and nothing of its own is open.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase == Phase::Ready
            && self.sends.is_empty()
            && self.batches.is_empty()
            && self.view.is_complete()
            && self.output.is_empty()
    }

    pub(crate) fn open_sends(&self) -> usize {
        self.sends.len()
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// A connection stands.
    pub(crate) fn connected(&mut self, env: &mut Env) {
        self.ended_at_ms = None;
        self.input.clear();
        self.output.clear();
        self.batches.clear();
        let capabilities = self.kind.capabilities();
        if !capabilities.is_empty() {
            self.say("CAP LS 302");
            self.say(&format!("CAP REQ :{capabilities}"));
        }
        match self.token.clone() {
            Some(token) => {
                self.phase = Phase::Resuming;
                self.ask_to_resume(&token, env);
            }
            None => self.register(env),
        }
        if !capabilities.is_empty() {
            self.say("CAP END");
        }
    }

    fn ask_to_resume(&mut self, token: &str, env: &mut Env) {
        let seen: Vec<String> =
            self.newest.iter().map(|(stream, (position, _))| format!("{stream}-{position}")).collect();
        if seen.is_empty() {
            self.say(&format!("RESUME {token} *"));
        } else if !self.output.ends_with(b"\r\n") {
            // Negotiation is over, and the first line will be acted upon.
            self.say(&format!("RESUME {token} {}", seen.join(",")));
        } else {
            let (first, more) = seen.split_at(1 + env.chance.index(seen.len()));
            self.say(&format!("RESUME {token} {}", first.join(",")));
            if !more.is_empty() {
                self.say(&format!("RESUME + {}", more.join(",")));
            }
        }
    }

    /// A new life, as somebody whom nobody knows.
    fn register(&mut self, env: &mut Env) {
        if let Some(life) = self.lives.last_mut() {
            life.over = true;
        }
        let username = format!("c{}l{}", self.number, self.lives.len());
        // Nobody vouches for the name, and the server says so.
        self.lives.push(Life { username: format!("~{username}"), kind: self.kind, ..Life::default() });
        self.view = View::default();
        self.newest.clear();
        self.newest_message.clear();
        self.sends.clear();
        self.next_id = 1 + env.chance.below(3);
        self.token = None;
        self.previous_token = None;
        self.attached = false;
        self.phase = Phase::Registering;
        let nick = self.new_nick(env);
        self.say(&format!("NICK {nick}"));
        self.say(&format!("USER {username} 0 * :client {}", self.number));
    }

    fn new_nick(&mut self, env: &mut Env) -> String {
        self.nicks_tried += 1;
        // Some that others want as well.
        if env.chance.one_in(4) {
            return (*env.chance.pick(&["fox", "Owl", "hare"])).to_owned();
        }
        format!("n{}x{}", self.number, self.nicks_tried)
    }

    /// The server ends the connection.
    pub(crate) fn ended(&mut self, env: &Env) {
        self.ended_at_ms = Some(env.now_ms());
    }

    /// The connection is gone, for whatever reason.
    pub(crate) fn disconnected(&mut self, env: &mut Env) {
        self.phase = Phase::Offline;
        self.view.stop_naming();
        let was_told_a_gap = std::mem::take(&mut self.told_a_gap);
        if let Some(life) = self.lives.last_mut() {
            life.lost_sight |= was_told_a_gap;
        }
        self.output.clear();
        self.input.clear();
        self.batches.clear();
        if std::mem::take(&mut self.attached) {
            self.cut_at_ms = self.ended_at_ms.unwrap_or_else(|| env.now_ms());
        }
        if let (Some(life), false) = (self.lives.last_mut(), self.sends.is_empty()) {
            // One of them may have been refused and the answer lost: then it comes after later ones.
            life.reordered = true;
        }
        let over = self.lives.last().is_some_and(|life| life.over);
        if self.token.is_none() || over {
            self.token = None;
            if let Some(life) = self.lives.last_mut() {
                life.over = true;
            }
        }
        let window = self.resume_window_ms;
        let wait = match env.chance.below(8) {
            0 if window <= 20_000 => window.saturating_sub(500) + env.chance.below(1_500),
            1 if window <= 20_000 => window + env.chance.below(2_000),
            2 => env.chance.below(5_000),
            _ => env.chance.below(300),
        };
        self.connect_at_ms = env.now_ms() + wait;
    }

    /// Bytes from the server.
    pub(crate) fn receive(&mut self, bytes: &[u8], env: &mut Env, truth: &Truth) -> Result<(), Violation> {
        self.input.extend_from_slice(bytes);
        while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = self.input.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            env.note(format_args!("c{} < {text}", self.number));
            self.hear(&line::Line::parse(&text), env, truth).map_err(|mut violation| {
                violation.what = format!("client {} on {text:?}: {}", self.number, violation.what);
                violation
            })?;
        }
        Ok(())
    }
}
