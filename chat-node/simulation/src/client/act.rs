//! What a client does of its own accord.

use super::{Client, Phase, RETRY_MS, Sending};
use crate::env::Env;

const CHANNELS: &[&str] = &["#a", "#Bee", "#c", "#lounge"];
/// Messages without an answer that a client lets pile up.
const MOST_OPEN: usize = 24;
/// What a client may send in a line, without tags and line ending.
const LINE_BYTES: usize = 510;

impl Client {
    /// One thing that a person might do.
    pub(crate) fn act(&mut self, others: &[String], env: &mut Env) {
        let channel = self.some_channel(env);
        let known = channel.clone().filter(|channel| self.view.channels[channel].members.is_some());
        match (env.chance.below(100), channel) {
            (0..=54, Some(channel)) => {
                for _ in 0..env.chance.between(1, 3) {
                    self.send_message(&channel, env);
                }
            }
            (55..=64, _) if !others.is_empty() => {
                let other = env.chance.pick(others).clone();
                if !other.eq_ignore_ascii_case(&self.view.nick) {
                    self.send_message(&other, env);
                }
            }
            (65..=68, Some(channel)) => {
                let reason = self.new_text();
                self.say(&format!("PART {channel} :{reason}"));
            }
            (69..=72, Some(channel)) => {
                let topic = self.new_text();
                self.say(&format!("TOPIC {channel} :{topic}"));
            }
            (73..=77, _) => {
                let nick = self.new_nick(env);
                self.say(&format!("NICK {nick}"));
            }
            (78..=80, Some(channel)) => self.say(&format!("NAMES {channel}")),
            (81..=87, _) if known.is_some() => self.moderate(&known.unwrap_or_default(), env),
            (88, _) => {
                let message = self.new_text();
                self.say(&if env.chance.one_in(2) { format!("AWAY :{message}") } else { "AWAY".to_owned() });
            }
            (89, _) => {
                let name = self.new_text();
                self.say(&format!("SETNAME :{name}"));
            }
            (90, _) if env.chance.one_in(3) => {
                self.say("QUIT :enough");
                self.life().over = true;
            }
            (91..=93, Some(channel)) if self.kind.reads_history() => {
                self.say(&format!("CHATHISTORY LATEST {channel} * {}", env.chance.between(1, 60)));
            }
            (94, _) => self.say("PING still-here"),
            _ => {
                let channel = *env.chance.pick(CHANNELS);
                self.say(&format!("JOIN {channel}"));
            }
        }
    }

    fn some_channel(&self, env: &mut Env) -> Option<String> {
        let mine: Vec<&String> = self.view.channels.keys().collect();
        (!mine.is_empty()).then(|| (*env.chance.pick(&mine)).clone())
    }

    fn moderate(&mut self, channel: &str, env: &mut Env) {
        let members = self.view.channels.get(channel).and_then(|channel| channel.members.as_ref());
        let members: Vec<String> = members.into_iter().flatten().cloned().collect();
        if members.is_empty() {
            return;
        }
        let member = env.chance.pick(&members).clone();
        let line = match env.chance.below(5) {
            0 | 1 if member != self.view.nick => {
                let reason = self.new_text();
                format!("KICK {channel} {member} :{reason}")
            }
            2 => format!("MODE {channel} +o {member}"),
            3 => format!("MODE {channel} {}v {member}", env.chance.pick(&["+", "-"])),
            _ => format!("MODE {channel} {}t", env.chance.pick(&["+", "-"])),
        };
        self.say(&line);
    }

    /// A text that nobody ever sent before.
    fn new_text(&mut self) -> String {
        self.texts += 1;
        format!("m{}.{}.{}", self.number, self.lives.len(), self.texts)
    }

    fn send_message(&mut self, target: &str, env: &mut Env) {
        if self.sends.len() >= MOST_OPEN {
            return;
        }
        let mut text = self.new_text();
        self.life().sent.push(text.clone());
        if env.chance.one_in(6) {
            // Some as long as a line can be: the server cuts them to what fits behind the sender's name.
            let line = "PRIVMSG  : ".len() + target.len() + text.len();
            let most = if env.chance.one_in(3) { LINE_BYTES - line } else { 300 };
            let least = if most == 300 { 0 } else { most - 20 };
            let filler = env.chance.between(least as u64, most as u64);
            text = format!("{text} {}", "y".repeat(usize::try_from(filler).unwrap_or(0)));
        }
        let text = text.trim_end().to_owned();
        if !self.kind.ids {
            self.say(&format!("PRIVMSG {target} :{text}"));
            return;
        }
        let id = self.next_id;
        self.next_id += 1 + env.chance.below(2);
        let is_long = text.len() > 300;
        self.sends.insert(id, Sending { target: target.to_owned(), text, sent_at_ms: env.now_ms() });
        self.send(id);
        if is_long && env.chance.one_in(3) {
            // Whatever is sent again is the same message under another nick, which leaves it less room.
            let nick = self.new_nick(env);
            self.say(&format!("NICK {nick}-the-longer"));
        }
    }

    fn send(&mut self, id: u64) {
        let Some(sending) = self.sends.get(&id) else { return };
        let label = if self.kind.labels { format!("label=m{id};") } else { String::new() };
        let line = format!("@{label}chatroom.dev/id={id} PRIVMSG {} :{}", sending.target, sending.text);
        self.say(&line);
    }

    /// Sends everything again that has no answer, in order.
    pub(super) fn send_again(&mut self, env: &mut Env) {
        let open: Vec<u64> = self.sends.keys().copied().collect();
        // A copy of one that is refused may be taken later, when there is such a nick.
        self.life().reordered |= !open.is_empty();
        for id in open {
            if let Some(sending) = self.sends.get_mut(&id) {
                sending.sent_at_ms = env.now_ms();
            }
            self.send(id);
        }
    }

    pub(crate) fn retry_is_due(&self, now_ms: u64) -> bool {
        self.phase == Phase::Ready && self.retry_at_ms().is_some_and(|at| at <= now_ms)
    }

    pub(crate) fn retry_at_ms(&self) -> Option<u64> {
        self.sends.values().map(|sending| sending.sent_at_ms + RETRY_MS).min()
    }

    pub(crate) fn retry(&mut self, env: &mut Env) {
        self.send_again(env);
    }
}
