//! A room without a network: the directory, its channel shards, and nodes that propose to them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

use std::{collections::BTreeMap, sync::Arc};

use chat_state::{
    channels::ChannelShard,
    command::{
        AttachSession, ChannelCommand, Command, CommonCommand, DirectoryCommand, Message, MessageKind,
        OpenSession, Target, TokenHash,
    },
    directory::Directory,
    entry::{Entry, Origin, Proposal, Stamp},
    event::{Event, EventKind},
    ids::{
        ChannelId, FeatureLevel, Generation, Incarnation, Index, Lineage, MemberId, Position, SessionId,
        ShardId, UserId, channel_shard, home_shard,
    },
    outcome::{Outcome, Refusal},
    settings::Settings,
};

pub const DIRECTORY: ShardId = ShardId::DIRECTORY;

pub struct Room {
    pub directory: Directory,
    pub shards: Vec<ChannelShard>,
    pub now_ms: u64,
    /// Every entry, by shard.
    pub log: BTreeMap<ShardId, Vec<Entry>>,
    /// Every outcome, by shard.
    pub outcomes: BTreeMap<ShardId, Vec<Outcome>>,
    sequences: BTreeMap<(Incarnation, ShardId), u64>,
    tokens: u32,
}

/// A client's session as its node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub user: UserId,
    pub session: SessionId,
    pub generation: Generation,
    pub node: Incarnation,
}

pub fn token(n: u8) -> TokenHash {
    TokenHash([n; 32])
}

pub fn happened(outcome: Outcome) -> Arc<Event> {
    match outcome {
        Outcome::Happened(event) => event,
        other => panic!("expected an event, got {other:?}"),
    }
}

pub fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

impl Room {
    pub fn new(shards: u16) -> Self {
        let lineage = Lineage(1);
        Self {
            directory: Directory::new(lineage),
            shards: (1..=shards).map(|n| ChannelShard::new(ShardId(n), shards, lineage)).collect(),
            now_ms: 1_000,
            log: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sequences: BTreeMap::new(),
            tokens: 0,
        }
    }

    /// A room of one shard with one node.
    pub fn small() -> (Self, Incarnation) {
        let mut room = Self::new(1);
        let node = room.register(1, 1);
        (room, node)
    }

    pub fn shard_count(&self) -> u16 {
        self.shards.len() as u16
    }

    pub fn shard(&self, shard: ShardId) -> &ChannelShard {
        &self.shards[usize::from(shard.0) - 1]
    }

    pub fn one(&self) -> &ChannelShard {
        &self.shards[0]
    }

    pub fn apply(&mut self, shard: ShardId, proposals: Vec<Proposal>) -> Vec<Outcome> {
        self.now_ms += 1;
        let index = Index(self.log.get(&shard).map_or(0, |log| log.len() as u64) + 1);
        let entry = Entry { index, time_ms: self.now_ms, proposals };
        let mut outcomes = Vec::new();
        if shard.is_directory() {
            self.directory.apply(&entry, |_, outcome| outcomes.push(outcome));
        } else {
            self.shards[usize::from(shard.0) - 1].apply(&entry, |_, outcome| outcomes.push(outcome));
        }
        assert_eq!(outcomes.len(), entry.proposals.len(), "one outcome each");
        self.log.entry(shard).or_default().push(entry);
        self.outcomes.entry(shard).or_default().extend(outcomes.iter().cloned());
        outcomes
    }

    pub fn apply_one(&mut self, shard: ShardId, proposal: Proposal) -> Outcome {
        self.apply(shard, vec![proposal]).remove(0)
    }

    pub fn next_stamp(&mut self, node: Incarnation, shard: ShardId) -> Stamp {
        let sequence = self.sequences.entry((node, shard)).or_default();
        *sequence += 1;
        Stamp { incarnation: node, sequence: *sequence }
    }

    /// The nodes go on after what the shard took of their streams.
    pub fn resume_streams(&mut self, shard: ShardId) {
        let producers = match shard {
            DIRECTORY => self.directory.producers(),
            shard => self.shard(shard).producers(),
        };
        let last: Vec<_> = producers.open().map(|(node, producer)| (node, producer.last_sequence)).collect();
        for (node, sequence) in last {
            self.sequences.insert((node, shard), sequence);
        }
    }

    /// The next proposal of the node to this shard comes after `sequence`.
    pub fn rewind_stamp(&mut self, node: Incarnation, shard: ShardId, sequence: u64) {
        self.sequences.insert((node, shard), sequence);
    }

    pub fn proposal(
        &mut self,
        node: Incarnation,
        shard: ShardId,
        who: Option<Who>,
        command: Command,
    ) -> Proposal {
        let origin = who.map(|who| Origin {
            user: who.user,
            session: who.session,
            generation: who.generation,
            request: 0,
        });
        let producer = self.next_stamp(node, shard);
        Proposal { producer, origin, dir_at: self.directory.position(), command }
    }

    /// A node's own chore.
    pub fn chore(&mut self, node: Incarnation, shard: ShardId, command: Command) -> Outcome {
        let proposal = self.proposal(node, shard, None, command);
        self.apply_one(shard, proposal)
    }

    pub fn directory_chore(&mut self, node: Incarnation, command: DirectoryCommand) -> Outcome {
        self.chore(node, DIRECTORY, Command::Directory(command))
    }

    pub fn ask_directory(&mut self, who: Who, command: DirectoryCommand) -> Outcome {
        let proposal = self.proposal(who.node, DIRECTORY, Some(who), Command::Directory(command));
        self.apply_one(DIRECTORY, proposal)
    }

    pub fn ask(&mut self, who: Who, shard: ShardId, command: ChannelCommand) -> Outcome {
        let proposal = self.proposal(who.node, shard, Some(who), Command::Channel(command));
        self.apply_one(shard, proposal)
    }

    pub fn register_outcome(&mut self, member: u64, nonce: u64) -> Outcome {
        let command = DirectoryCommand::RegisterNode {
            member: MemberId(member),
            nonce,
            level: FeatureLevel::SUPPORTED,
        };
        let stamp = Stamp { incarnation: Incarnation(0), sequence: 0 };
        let dir_at = self.directory.position();
        let proposal =
            Proposal { producer: stamp, origin: None, dir_at, command: Command::Directory(command) };
        self.apply_one(DIRECTORY, proposal)
    }

    pub fn register(&mut self, member: u64, nonce: u64) -> Incarnation {
        match happened(self.register_outcome(member, nonce)).kind {
            EventKind::NodeRegistered { incarnation, .. } => incarnation,
            ref other => panic!("{other:?}"),
        }
    }

    pub fn new_token(&mut self) -> TokenHash {
        self.tokens += 1;
        let mut hash = [0xff; 32];
        hash[..4].copy_from_slice(&self.tokens.to_be_bytes());
        TokenHash(hash)
    }

    pub fn open_outcome(
        &mut self,
        node: Incarnation,
        nick: &str,
        token: Option<TokenHash>,
        secure: bool,
    ) -> Outcome {
        let open = OpenSession {
            request: 7,
            nick: nick.into(),
            username: "~u".into(),
            host: "host.example".into(),
            real_name: "Real Name".into(),
            secure,
            token,
            shards: self.shard_count(),
        };
        self.directory_chore(node, DirectoryCommand::Open(Box::new(open)))
    }

    /// A client that can resume.
    pub fn open(&mut self, node: Incarnation, nick: &str) -> Who {
        let token = self.new_token();
        self.open_with(node, nick, Some(token))
    }

    pub fn open_with(&mut self, node: Incarnation, nick: &str, token: Option<TokenHash>) -> Who {
        match happened(self.open_outcome(node, nick, token, false)).kind {
            EventKind::Opened { user, session, .. } => Who { user, session, generation: Generation(1), node },
            ref other => panic!("{other:?}"),
        }
    }

    pub fn attach_outcome(
        &mut self,
        node: Incarnation,
        shown: TokenHash,
        new: TokenHash,
        secure: bool,
    ) -> Outcome {
        let attach = AttachSession { request: 8, shown, token: new, secure };
        self.directory_chore(node, DirectoryCommand::Attach(Box::new(attach)))
    }

    pub fn prefix(&self, who: Who) -> Arc<str> {
        self.directory.prefix(who.user).cloned().unwrap_or_else(|| "gone!u@h".into())
    }

    /// A shard is in the user's reach before the first proposal there; not if the user closed before.
    pub fn reach(&mut self, who: Who, shard: ShardId) -> bool {
        self.ask_directory(who, DirectoryCommand::Reach { shards: vec![shard] });
        let closing = self.directory.closing_user(who.user).map(|closing| &closing.user);
        let user = self.directory.user(who.user).or(closing);
        user.is_some_and(|user| user.reach.contains(&shard))
    }

    pub fn join_with(&mut self, who: Who, name: &str, key: Option<&str>) -> Outcome {
        let shard = channel_shard(&name.to_ascii_lowercase(), self.shard_count());
        if !self.reach(who, shard) {
            return Outcome::Refused(Refusal::StaleSession);
        }
        let prefix = self.prefix(who);
        let command = ChannelCommand::Join {
            name: name.into(),
            key: key.map(str::to_owned),
            prefix,
            real_name: "Real Name".into(),
        };
        self.ask(who, shard, command)
    }

    pub fn join(&mut self, who: Who, name: &str) -> ChannelId {
        match happened(self.join_with(who, name, None)).kind {
            EventKind::Joined { channel, .. } => channel,
            ref other => panic!("{other:?}"),
        }
    }

    pub fn part(&mut self, who: Who, channel: ChannelId) -> Outcome {
        let prefix = self.prefix(who);
        self.ask(who, channel.shard, ChannelCommand::Part { channel, reason: None, prefix })
    }

    pub fn message(&self, who: Who, kind: MessageKind, text: &str, id: Option<u64>) -> Arc<Message> {
        Arc::new(Message {
            kind,
            prefix: self.prefix(who),
            to_nick: String::new(),
            text: text.into(),
            tags: String::new(),
            id,
        })
    }

    pub fn say(&mut self, who: Who, channel: ChannelId, text: &str, id: Option<u64>) -> Outcome {
        let message = self.message(who, MessageKind::Privmsg, text, id);
        let target = Target::Channel { channel, at_least: None };
        self.ask(who, channel.shard, ChannelCommand::Message { target, message })
    }

    pub fn tell(&mut self, who: Who, user: UserId, text: &str, id: Option<u64>) -> Outcome {
        let shard = home_shard(user, self.shard_count());
        if !self.reach(who, shard) {
            return Outcome::Refused(Refusal::StaleSession);
        }
        let message = self.message(who, MessageKind::Privmsg, text, id);
        self.ask(who, shard, ChannelCommand::Message { target: Target::User { user }, message })
    }

    pub fn mode(
        &mut self,
        who: Who,
        channel: ChannelId,
        changes: Vec<chat_state::command::ModeChange>,
    ) -> Outcome {
        let prefix = self.prefix(who);
        self.ask(who, channel.shard, ChannelCommand::Mode { channel, changes, prefix })
    }

    pub fn kick(&mut self, who: Who, channel: ChannelId, target: UserId) -> Outcome {
        let prefix = self.prefix(who);
        let reason = "out".to_owned();
        let command = ChannelCommand::Kick { channel, target, target_nick: "t".into(), reason, prefix };
        self.ask(who, channel.shard, command)
    }

    pub fn topic(&mut self, who: Who, channel: ChannelId, topic: &str) -> Outcome {
        let prefix = self.prefix(who);
        self.ask(who, channel.shard, ChannelCommand::Topic { channel, topic: topic.into(), prefix })
    }

    pub fn invite(&mut self, who: Who, channel: ChannelId, target: UserId) -> Outcome {
        let prefix = self.prefix(who);
        let command = ChannelCommand::Invite { channel, target, target_nick: "t".into(), prefix };
        self.ask(who, channel.shard, command)
    }

    pub fn settings(&mut self, node: Incarnation, settings: &Settings) {
        let settings = Arc::new(settings.clone());
        for shard in 0..=self.shard_count() {
            self.chore(node, ShardId(shard), Command::Common(CommonCommand::Settings(Arc::clone(&settings))));
        }
    }

    pub fn close(&mut self, who: Who) -> Outcome {
        let (session, generation) = (who.session, who.generation);
        self.directory_chore(who.node, DirectoryCommand::Close { session, generation, reason: "bye".into() })
    }

    pub fn forget(&mut self, node: Incarnation, shard: ShardId, user: UserId) -> Outcome {
        let closing = self.directory.closing_user(user).map_or(Position(0), |closing| closing.at);
        let command = ChannelCommand::Forget { user, closing, prefix: "x!y@z".into(), reason: "bye".into() };
        self.chore(node, shard, Command::Channel(command))
    }

    /// What the housekeeper does about those who are closing.
    pub fn sweep(&mut self, node: Incarnation) {
        let closing: Vec<(UserId, Vec<ShardId>)> = self
            .directory
            .closing()
            .map(|(user, closing)| (user, closing.user.reach.iter().copied().collect()))
            .collect();
        for (user, reach) in closing {
            let mut forgotten = Vec::new();
            for shard in reach {
                self.forget(node, shard, user);
                let at = self.shard(shard).forgotten(user).expect("it was just forgotten").at;
                forgotten.push((shard, at));
            }
            self.directory_chore(node, DirectoryCommand::Free { user, forgotten });
        }
    }

    /// The rest of [`Self::sweep`] for a user whom every shard forgot.
    pub fn sweep_after_forgetting(&mut self, node: Incarnation, user: UserId) {
        let reach = self.directory.closing_user(user).expect("it is closing").user.reach.clone();
        let at = |shard: ShardId| self.shard(shard).forgotten(user).expect("it was forgotten").at;
        let forgotten = reach.into_iter().map(|shard| (shard, at(shard))).collect();
        self.directory_chore(node, DirectoryCommand::Free { user, forgotten });
    }

    /// What the housekeeper does about direct messages.
    pub fn copy(&mut self, node: Incarnation) {
        for dest in 1..=self.shard_count() {
            let dest = ShardId(dest);
            for source in 1..=self.shard_count() {
                let source = ShardId(source);
                let mark = self.shard(dest).copied(source);
                let due: Vec<_> = self.shard(source).copies_due(dest, mark).collect();
                for command in due {
                    self.chore(node, dest, Command::Channel(command));
                }
            }
        }
    }

    /// Names in the channel by nick, with the highest prefix.
    pub fn names(&self, channel: ChannelId) -> Vec<String> {
        let channel = self.shard(channel.shard).channel(channel).expect("the channel is there");
        let mut names: Vec<String> = channel
            .members
            .iter()
            .map(|(user, member)| {
                let prefix = match member.highest_prefix() {
                    Some(chat_state::command::MemberPrefix::Operator) => "@",
                    Some(chat_state::command::MemberPrefix::Voice) => "+",
                    None => "",
                };
                format!("{prefix}{}", self.directory.user(*user).map_or("?", |user| &user.nick))
            })
            .collect();
        names.sort();
        names
    }

    pub fn texts(&self, channel: ChannelId) -> Vec<String> {
        self.shard(channel.shard)
            .history(channel)
            .map_or(Vec::new(), |history| history.iter().map(text_of).collect())
    }
}

pub fn text_of(record: &chat_state::channels::Record) -> String {
    match &record.event.kind {
        EventKind::Message { message, .. } => message.text.clone(),
        other => panic!("{other:?}"),
    }
}
