//! Random lives of a small room: what its people, nodes and housekeepers do.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

use std::sync::Arc;

use chat_state::{
    command::{
        ChannelCommand, ChannelFlag, Command, CommonCommand, DirectoryCommand, ListKind, MemberPrefix,
        Message, MessageKind, ModeChange, Target, TokenHash,
    },
    entry::Proposal,
    event::EventKind,
    ids::{ChannelId, Generation, Incarnation, Position, SessionId, ShardId, channel_shard, home_shard},
    outcome::Outcome,
    settings::{DeclaredChannel, Settings},
};
use proptest::prelude::*;

use super::room::{DIRECTORY, Room, Who};

/// `PROPTEST_CASES` asks for more lives.
pub fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

pub const CHANNELS: [&str; 4] = ["#a", "#B", "#c", "#d"];
pub const NICKS: [&str; 5] = ["ann", "BOB", "cy", "Ann", "dee"];

#[derive(Clone, Debug)]
pub enum Step {
    Open {
        nick: usize,
        resumable: bool,
    },
    Nick {
        who: usize,
        nick: usize,
    },
    Away {
        who: usize,
        away: bool,
    },
    RealName {
        who: usize,
        n: u8,
    },
    Detach {
        who: usize,
    },
    Attach {
        who: usize,
        previous: bool,
        node: usize,
    },
    Confirm {
        who: usize,
    },
    Close {
        who: usize,
    },
    Expire {
        who: usize,
        stale: bool,
    },
    Sweep,
    ForgetOnly {
        who: usize,
    },
    Join {
        who: usize,
        channel: usize,
        key: bool,
    },
    Part {
        who: usize,
        channel: usize,
    },
    Kick {
        who: usize,
        channel: usize,
        target: usize,
    },
    Topic {
        who: usize,
        channel: usize,
        text: u8,
    },
    Mode {
        who: usize,
        channel: usize,
        what: u8,
        target: usize,
    },
    Invite {
        who: usize,
        channel: usize,
        target: usize,
    },
    Say {
        who: usize,
        channel: usize,
        kind: u8,
        id: Option<u64>,
        text: u8,
    },
    Tell {
        who: usize,
        target: usize,
        id: Option<u64>,
        text: u8,
    },
    Copy,
    Settings {
        n: u8,
    },
    Restart {
        node: usize,
    },
    Drop {
        node: usize,
    },
    Later {
        ms: u64,
    },
    Repeat {
        shard: u16,
        back: usize,
    },
    /// The message last sent is sent again, by its session as it is now.
    Again,
    Skip {
        who: usize,
        channel: usize,
    },
    Stale {
        who: usize,
        channel: usize,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let who = 0..8_usize;
    let channel = 0..CHANNELS.len();
    let id = proptest::option::of(prop_oneof![0..6_u64, 1020..1030_u64, 4000..4004_u64]);
    prop_oneof![
        6 => (0..NICKS.len(), any::<bool>()).prop_map(|(nick, resumable)| Step::Open { nick, resumable }),
        3 => (who.clone(), 0..NICKS.len()).prop_map(|(who, nick)| Step::Nick { who, nick }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, away)| Step::Away { who, away }),
        1 => (who.clone(), 0..3_u8).prop_map(|(who, n)| Step::RealName { who, n }),
        2 => who.clone().prop_map(|who| Step::Detach { who }),
        3 => (who.clone(), any::<bool>(), 0..2_usize)
            .prop_map(|(who, previous, node)| Step::Attach { who, previous, node }),
        1 => who.clone().prop_map(|who| Step::Confirm { who }),
        2 => who.clone().prop_map(|who| Step::Close { who }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, stale)| Step::Expire { who, stale }),
        2 => Just(Step::Sweep),
        1 => who.clone().prop_map(|who| Step::ForgetOnly { who }),
        12 => (who.clone(), channel.clone(), any::<bool>())
            .prop_map(|(who, channel, key)| Step::Join { who, channel, key }),
        3 => (who.clone(), channel.clone()).prop_map(|(who, channel)| Step::Part { who, channel }),
        2 => (who.clone(), channel.clone(), who.clone())
            .prop_map(|(who, channel, target)| Step::Kick { who, channel, target }),
        2 => (who.clone(), channel.clone(), 0..3_u8)
            .prop_map(|(who, channel, text)| Step::Topic { who, channel, text }),
        5 => (who.clone(), channel.clone(), 0..14_u8, who.clone())
            .prop_map(|(who, channel, what, target)| Step::Mode { who, channel, what, target }),
        2 => (who.clone(), channel.clone(), who.clone())
            .prop_map(|(who, channel, target)| Step::Invite { who, channel, target }),
        12 => (who.clone(), channel.clone(), 0..6_u8, id.clone(), 0..2_u8)
            .prop_map(|(who, channel, kind, id, text)| Step::Say { who, channel, kind, id, text }),
        6 => (who.clone(), who.clone(), id, 0..2_u8)
            .prop_map(|(who, target, id, text)| Step::Tell { who, target, id, text }),
        2 => Just(Step::Copy),
        4 => Just(Step::Again),
        1 => (0..8_u8).prop_map(|n| Step::Settings { n }),
        1 => (0..2_usize).prop_map(|node| Step::Restart { node }),
        1 => (0..2_usize).prop_map(|node| Step::Drop { node }),
        1 => prop_oneof![1..50_u64, 2_000..9_000_u64].prop_map(|ms| Step::Later { ms }),
        2 => (0..4_u16, 0..4_usize).prop_map(|(shard, back)| Step::Repeat { shard, back }),
        1 => (who.clone(), channel.clone()).prop_map(|(who, channel)| Step::Skip { who, channel }),
        1 => (who, channel).prop_map(|(who, channel)| Step::Stale { who, channel }),
    ]
}

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

    fn take_in_channel(&mut self, who: Who, step: &Step) {
        let (Step::Part { channel, .. }
        | Step::Kick { channel, .. }
        | Step::Topic { channel, .. }
        | Step::Mode { channel, .. }
        | Step::Invite { channel, .. }
        | Step::Say { channel, .. }
        | Step::Skip { channel, .. }
        | Step::Stale { channel, .. }) = *step
        else {
            if let Step::Tell { target, id, text, .. } = *step
                && let Some(target) = self.person(target)
            {
                self.tell(who, target.who, id, text);
            }
            return;
        };
        let Some(channel) = self.channel(channel) else { return };
        if !self.room.reach(who, channel.shard) {
            return;
        }
        let other = |target: usize, life: &Self| life.person(target).map(|person| person.who);
        match *step {
            Step::Part { .. } => drop(self.room.part(who, channel)),
            Step::Kick { target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.kick(who, channel, target.user);
                }
            }
            Step::Topic { text, .. } => {
                drop(self.room.topic(who, channel, ["", "one", "two"][usize::from(text)]));
            }
            Step::Mode { what, target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.mode(who, channel, changes(what, target));
                }
            }
            Step::Invite { target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.invite(who, channel, target.user);
                }
            }
            Step::Say { kind, id, text, .. } => {
                let (message, at_least) = message(&self.room, who, kind, id, text);
                let target = Target::Channel { channel, at_least };
                let command = ChannelCommand::Message { target, message };
                self.last_sent = Some((who.session, channel.shard, command.clone()));
                self.room.ask(who, channel.shard, command);
            }
            Step::Skip { .. } => {
                // The sequence number of this one never arrives … until the next registration of the node.
                let stamp = self.room.next_stamp(who.node, channel.shard);
                self.room.say(who, channel, "after a gap", None);
                let late = self.room.message(who, MessageKind::Privmsg, "late", None);
                let target = Target::Channel { channel, at_least: None };
                let mut proposal = self.room.proposal(
                    who.node,
                    channel.shard,
                    Some(who),
                    Command::Channel(ChannelCommand::Message { target, message: late }),
                );
                proposal.producer = stamp;
                self.room.apply_one(channel.shard, proposal);
                self.room.rewind_stamp(who.node, channel.shard, stamp.sequence);
            }
            Step::Stale { .. } => {
                let stale = Who { generation: Generation(who.generation.0 - 1), ..who };
                self.room.say(stale, channel, "stale", None);
            }
            _ => {}
        }
    }

    fn tell(&mut self, who: Who, target: Who, id: Option<u64>, text: u8) {
        let shard = home_shard(target.user, self.room.shard_count());
        if !self.room.reach(who, shard) {
            return;
        }
        let (message, _) = message(&self.room, who, text, id, text);
        let target = Target::User { user: target.user };
        let command = ChannelCommand::Message { target, message };
        self.last_sent = Some((who.session, shard, command.clone()));
        self.room.ask(who, shard, command);
    }
}

fn message(
    room: &Room,
    who: Who,
    kind: u8,
    id: Option<u64>,
    text: u8,
) -> (Arc<Message>, Option<MemberPrefix>) {
    let (kind, at_least) = match kind {
        0 => (MessageKind::Tagmsg, None),
        1 => (MessageKind::Notice, None),
        2 => (MessageKind::Privmsg, Some(MemberPrefix::Operator)),
        3 => (MessageKind::Privmsg, Some(MemberPrefix::Voice)),
        _ => (MessageKind::Privmsg, None),
    };
    (room.message(who, kind, &format!("text {text}"), id), at_least)
}

fn changes(what: u8, target: Who) -> Vec<ModeChange> {
    let flag = |flag, set| ModeChange::Flag { flag, set };
    let rank = |prefix, set| ModeChange::Member { prefix, user: target.user, nick: "n".into(), set };
    let list = |list, mask: &str, set| ModeChange::List { list, mask: mask.into(), set };
    match what {
        0 => vec![rank(MemberPrefix::Operator, true)],
        1 => vec![rank(MemberPrefix::Operator, false), rank(MemberPrefix::Voice, true)],
        2 => vec![rank(MemberPrefix::Voice, false)],
        3 => vec![flag(ChannelFlag::NoExternal, false), flag(ChannelFlag::OpTopic, false)],
        4 => vec![flag(ChannelFlag::Moderated, true)],
        5 => vec![flag(ChannelFlag::Moderated, false), flag(ChannelFlag::InviteOnly, false)],
        6 => vec![flag(ChannelFlag::InviteOnly, true)],
        7 => vec![ModeChange::Key { key: Some("key".into()) }],
        8 => vec![ModeChange::Key { key: None }, ModeChange::Limit { limit: None }],
        9 => vec![ModeChange::Limit { limit: Some(2) }],
        10 => vec![list(ListKind::Ban, "ann", true), list(ListKind::Ban, "bob!*@*", true)],
        11 => vec![list(ListKind::Ban, "ANN", false)],
        12 => vec![list(ListKind::Exception, "ann", true), list(ListKind::Invitation, "dee", true)],
        _ => vec![
            rank(MemberPrefix::Operator, true),
            rank(MemberPrefix::Operator, false),
            rank(MemberPrefix::Operator, true),
        ],
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
