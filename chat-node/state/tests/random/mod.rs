//! Random lives of a small room: what its people, nodes and housekeepers do.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

mod channel;
mod step;

use chat_state::{
    command::{ChannelCommand, Command, CommonCommand, DirectoryCommand, TokenHash},
    entry::Proposal,
    event::EventKind,
    ids::{ChannelId, Generation, Incarnation, Position, SessionId, ShardId, channel_shard},
    outcome::Outcome,
    settings::{DeclaredChannel, Settings},
};
use proptest::prelude::*;

pub use self::step::{Step, step};
use super::room::{DIRECTORY, Room, Who};

/// `PROPTEST_CASES` asks for more lives.
pub fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

pub const CHANNELS: [&str; 4] = ["#a", "#B", "#c", "#d"];
pub const NICKS: [&str; 5] = ["ann", "BOB", "cy", "Ann", "dee"];

/// A room with the people who ever came, alive or not.
pub struct Life {
    pub room: Room,
    pub people: Vec<Person>,
    nodes: [Incarnation; 2],
    nonce: u64,
    revision: u64,
    /// Channels as they were first seen, ended ones too: late proposals name them.
    channels: [Option<ChannelId>; 4],
    last_sent: Option<(SessionId, ShardId, ChannelCommand)>,
    pub resume_window_ms: u64,
}

#[derive(Clone, Debug)]
pub struct Person {
    pub who: Who,
    tokens: Vec<TokenHash>,
}

impl Life {
    pub fn new(resume_window_ms: u64) -> Self {
        let mut room = Room::new(3);
        let nodes = [room.register(1, 1), room.register(2, 1)];
        let mut life = Self {
            room,
            people: Vec::new(),
            nodes,
            nonce: 1,
            revision: 0,
            channels: [None; 4],
            last_sent: None,
            resume_window_ms,
        };
        life.set(0);
        life
    }

    fn set(&mut self, n: u8) {
        self.revision += 1;
        let mut settings = Settings {
            revision: self.revision,
            resume_window_ms: self.resume_window_ms,
            history_max_messages: if n & 1 == 0 { 6 } else { 3 },
            history_max_age_ms: 5_000,
            ..Settings::default()
        };
        settings.limits.list_entries = 3;
        if n & 1 == 0 {
            // Four or five messages.
            settings.bounds.history_bytes = 900;
        }
        if n & 2 != 0 {
            let topic = if n & 4 == 0 { "" } else { "declared" };
            settings.channels = vec![
                DeclaredChannel { name: "#b".into(), topic: topic.into() },
                DeclaredChannel { name: "#e".into(), topic: "e".into() },
                DeclaredChannel { name: "#f".into(), topic: "f".into() },
            ];
        }
        let node = self.nodes[0];
        self.room.settings(node, &settings);
    }

    fn person(&self, n: usize) -> Option<Person> {
        // The newest ones, so that most are alive.
        self.people.iter().rev().nth(n).cloned()
    }

    fn channel(&mut self, n: usize) -> Option<ChannelId> {
        let folded = CHANNELS[n].to_ascii_lowercase();
        let shard = channel_shard(&folded, self.room.shard_count());
        if let Some(channel) = self.room.shard(shard).channel_by_name(&folded) {
            self.channels[n] = Some(channel.id);
        }
        self.channels[n]
    }

    /// A node that lost its life registers anew, as the real one does.
    fn revive(&mut self) {
        for n in 0..2 {
            if self.room.directory.node(self.nodes[n]).is_none() {
                self.nonce += 1;
                self.nodes[n] = self.room.register(n as u64 + 1, self.nonce);
            }
        }
    }

    pub fn take(&mut self, step: &Step) {
        self.revive();
        let node = self.nodes[0];
        match *step {
            Step::Open { nick, resumable } => {
                let token = resumable.then(|| self.room.new_token());
                let node = self.nodes[nick % 2];
                if let Outcome::Happened(event) = self.room.open_outcome(node, NICKS[nick], token, false)
                    && let EventKind::Opened { user, session, .. } = event.kind
                {
                    let who = Who { user, session, generation: Generation(1), node };
                    self.people.push(Person { who, tokens: token.into_iter().collect() });
                }
            }
            Step::Attach { who, previous, node } => self.attach(who, previous, node),
            Step::Sweep => self.room.sweep(node),
            Step::Copy => self.room.copy(node),
            Step::Again => self.send_again(),
            Step::Settings { n } => self.set(n),
            Step::Restart { node } => {
                self.nonce += 1;
                self.nodes[node] = self.room.register(node as u64 + 1, self.nonce);
            }
            Step::Drop { node } => {
                let (dropped, by) = (self.nodes[node], self.nodes[1 - node]);
                for shard in 0..=self.room.shard_count() {
                    self.room.chore(by, ShardId(shard), Command::Common(CommonCommand::DropNode(dropped)));
                }
            }
            Step::Later { ms } => self.room.now_ms += ms,
            Step::Repeat { shard, back } => {
                let shard = ShardId(shard);
                let again: Option<Vec<Proposal>> = self
                    .room
                    .log
                    .get(&shard)
                    .and_then(|log| Some(log.iter().rev().nth(back)?.proposals.clone()));
                if let Some(proposals) = again {
                    self.room.apply(shard, proposals);
                    // One that came after a gap may be the next one now.
                    self.room.resume_streams(shard);
                }
            }
            _ => self.take_of_person(step),
        }
    }

    fn send_again(&mut self) {
        let Some((session, shard, command)) = self.last_sent.clone() else { return };
        let found = self.people.iter().find(|person| person.who.session == session);
        let Some(who) = found.map(|person| person.who) else { return };
        self.room.ask(who, shard, command);
    }

    fn attach(&mut self, who: usize, previous: bool, node: usize) {
        let Some(person) = self.person(who) else { return };
        let Some(shown) = person.tokens.iter().rev().nth(usize::from(previous)).copied() else { return };
        let (new, node) = (self.room.new_token(), self.nodes[node]);
        if let Outcome::Happened(event) = self.room.attach_outcome(node, shown, new, false)
            && let EventKind::Attached { session, generation, .. } = event.kind
            && let Some(person) = self.people.iter_mut().find(|person| person.who.session == session)
        {
            person.who = Who { generation, node, ..person.who };
            person.tokens.push(new);
        }
    }

    fn take_of_person(&mut self, step: &Step) {
        let (Step::Nick { who, .. }
        | Step::Away { who, .. }
        | Step::RealName { who, .. }
        | Step::Detach { who }
        | Step::Confirm { who }
        | Step::Close { who }
        | Step::Expire { who, .. }
        | Step::ForgetOnly { who }
        | Step::Join { who, .. }
        | Step::Part { who, .. }
        | Step::Kick { who, .. }
        | Step::Topic { who, .. }
        | Step::Mode { who, .. }
        | Step::Invite { who, .. }
        | Step::Say { who, .. }
        | Step::Tell { who, .. }
        | Step::Skip { who, .. }
        | Step::Stale { who, .. }) = *step
        else {
            return;
        };
        let Some(Person { who, .. }) = self.person(who) else { return };
        let (session, generation) = (who.session, who.generation);
        let node = self.nodes[1];
        let room = &mut self.room;
        match *step {
            Step::Nick { nick, .. } => {
                room.ask_directory(who, DirectoryCommand::Nick { nick: NICKS[nick].into() });
            }
            Step::Away { away, .. } => {
                room.ask_directory(who, DirectoryCommand::Away { message: away.then(|| "away".into()) });
            }
            Step::RealName { n, .. } => {
                room.ask_directory(who, DirectoryCommand::RealName { real_name: format!("name {n}") });
            }
            Step::Detach { .. } => {
                let reason = "lost".into();
                room.directory_chore(who.node, DirectoryCommand::Detach { session, generation, reason });
            }
            Step::Confirm { .. } => {
                room.directory_chore(who.node, DirectoryCommand::ConfirmToken { session, generation });
            }
            Step::Close { .. } => {
                room.close(who);
            }
            Step::Expire { stale, .. } => {
                let generation = Generation(generation.0 - u32::from(stale));
                room.directory_chore(node, DirectoryCommand::Expire { session, generation });
            }
            Step::ForgetOnly { .. } => {
                // One shard is ahead of the others.
                let closing = room.directory.closing_user(who.user);
                if closing.is_some_and(|closing| closing.user.reach.contains(&ShardId(1))) {
                    room.forget(node, ShardId(1), who.user);
                }
            }
            Step::Join { channel, key, .. } => {
                room.join_with(who, CHANNELS[channel], key.then_some("key"));
            }
            _ => self.take_in_channel(who, step),
        }
    }
}

/// Everything that replicas must agree on.
pub fn bytes(room: &Room) -> Vec<Vec<u8>> {
    let mut all = vec![room.directory.encode_state()];
    for shard in &room.shards {
        all.push(shard.encode_state());
        all.push(shard.encode_history(Position(0)));
    }
    all
}

pub fn all_shards(room: &Room) -> impl Iterator<Item = ShardId> + use<> {
    std::iter::once(DIRECTORY).chain((1..=room.shard_count()).map(ShardId))
}
