//! The chores of a node: what has to be proposed though no client asked for it.
//!
//! One of a node's workers does them. Everything it asks for is idempotent and read off the state, so what was
//! refused or lost is asked again, and a node that starts goes on where the last one stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chat_state::{
    channels::{ChannelShard, CopyMark},
    command::{ChannelCommand, Command, CommonCommand, DirectoryCommand},
    directory::{Closing, Directory},
    entry::Request,
    ids::{FeatureLevel, Generation, Incarnation, MemberId, Position, SessionId, ShardId, UserId},
    settings::Settings,
};

use crate::{config::Now, worker::Worker};

/// A chore that was asked for and did not come back is asked for again after this time.
const ASK_AGAIN_MS: u64 = 2_000;

/// A node that registered and never showed a sign of life since is taken for dead after so long.
const NEVER_SEEN_MS: u64 = 5_000;

/// Direct messages copied at a time for each pair of shards.
const COPIES_AT_ONCE: usize = 256;

/// Whether the settings of this node's file carry a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// The one in the settings; the log takes them if it is higher than what it has.
    Given,
    /// None: whenever the settings differ from those in the log, they are the next revision.
    Counted,
}

/// What this node knows of itself among the nodes of its room.
#[derive(Clone, Debug)]
pub struct Standing {
    /// It does the chores that one node of a room does for all.
    pub leads: bool,
    /// Lives of nodes that show signs of life; `None` where there is but one node.
    pub alive: Option<Arc<BTreeSet<Incarnation>>>,
}

impl Standing {
    /// The room has no other node.
    pub const ALONE: Self = Self { leads: true, alive: None };
}

pub struct Housekeeper {
    member: MemberId,
    nonce: u64,
    settings: Settings,
    revision: Revision,
    standing: Standing,
    /// Lives that showed a sign of life at some time.
    seen: BTreeSet<Incarnation>,
    /// Since when lives are missed that never did.
    missed: BTreeMap<Incarnation, u64>,
    /// When each chore was last asked for.
    asked: BTreeMap<Chore, u64>,
    /// Since when each detached session is seen to be so.
    detached: BTreeMap<(SessionId, Generation), u64>,
    /// Up to where the direct messages of a shard were proposed to be copied to another.
    copied: BTreeMap<(ShardId, ShardId), CopyMark>,
    /// Where each shard was when all of its direct messages had been proposed: one that stands there has nothing new.
    looked_at: BTreeMap<ShardId, Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    Register,
    Settings(ShardId, u64),
    Level(ShardId),
    Hello(ShardId),
    Drop(ShardId, Incarnation),
    Forget(UserId, ShardId),
    Free(UserId),
    Expire(SessionId, Generation),
}

impl Housekeeper {
    pub fn new(member: MemberId, nonce: u64, settings: Settings, revision: Revision) -> Self {
        Self {
            member,
            nonce,
            settings,
            revision,
            standing: Standing::ALONE,
            seen: BTreeSet::new(),
            missed: BTreeMap::new(),
            asked: BTreeMap::new(),
            detached: BTreeMap::new(),
            copied: BTreeMap::new(),
            looked_at: BTreeMap::new(),
        }
    }

    /// What is known of the other nodes now; a node that is never told is alone.
    pub fn stand(&mut self, standing: Standing) {
        if let Some(alive) = &standing.alive {
            self.seen.extend(alive.iter());
        }
        if !standing.leads {
            // Whoever leads next measures anew.
            self.detached.clear();
            self.missed.clear();
        }
        self.standing = standing;
    }

    /// After every batch of entries: what others wait for.
    pub fn run(&mut self, worker: &Worker, now: Now) -> Vec<(ShardId, Request)> {
        let mut asks = Asks { asked: &mut self.asked, now, dir_at: worker.dir_at(), requests: Vec::new() };
        if worker.incarnation().is_none() {
            let level = FeatureLevel::SUPPORTED;
            let register = DirectoryCommand::RegisterNode { member: self.member, nonce: self.nonce, level };
            asks.once(Chore::Register, ShardId::DIRECTORY, Command::Directory(register));
            return asks.requests;
        }
        if !self.standing.leads {
            return asks.requests;
        }
        for (user, closing) in worker.directory.closing() {
            close(worker, user, closing, &mut asks);
        }
        let requests = asks.requests;
        self.copy_direct_messages(worker, requests)
    }

    /// About every second: what nobody waits for.
    pub fn tick(&mut self, worker: &Worker, now: Now) -> Vec<(ShardId, Request)> {
        let mut requests = self.run(worker, now);
        let Some(incarnation) = worker.incarnation() else { return requests };
        let wanted = self.wanted_settings(&worker.directory);
        self.asked.retain(|_, asked_ms| now.monotonic_ms.saturating_sub(*asked_ms) < ASK_AGAIN_MS);
        let mut asks = Asks { asked: &mut self.asked, now, dir_at: worker.dir_at(), requests: Vec::new() };
        let all = [(ShardId::DIRECTORY, worker.directory.settings().revision, worker.directory.level())];
        let all = all.into_iter().chain(
            worker.channels.iter().map(|shard| (shard.shard(), shard.settings().revision, shard.level())),
        );
        let supported = worker.directory.nodes().map(|(_, node)| node.level).min().unwrap_or_default();
        for (shard, revision, level) in all {
            if revision < wanted.revision {
                let command = Command::Common(CommonCommand::Settings(Arc::clone(&wanted)));
                asks.once(Chore::Settings(shard, wanted.revision), shard, command);
            }
            if level < supported {
                let command = Command::Common(CommonCommand::RaiseLevel(supported));
                asks.once(Chore::Level(shard), shard, command);
            }
        }
        // A life that a shard never heard of ends there with any later one's end, and one that is long silent keeps it
        // from letting go of users who left.
        let unheard = |shard: &&ChannelShard| {
            shard.producers().get(incarnation).is_none() || shard.waits_to_hear(incarnation)
        };
        for shard in worker.channels.iter().filter(unheard) {
            let command = Command::Common(CommonCommand::RaiseLevel(shard.level()));
            asks.once(Chore::Hello(shard.shard()), shard.shard(), command);
        }
        if self.standing.leads {
            for shard in &worker.channels {
                drop_ended_lives(worker, shard, incarnation, &mut asks);
            }
        }
        requests.append(&mut asks.requests);
        if self.standing.leads {
            requests.append(&mut self.expire(worker, now));
            requests.append(&mut self.drop_dead_nodes(worker, incarnation, now));
        }
        requests
    }

    /// The log refused a chore: nothing of it is taken for granted.
    pub fn refused(&mut self) {
        self.copied.clear();
        self.looked_at.clear();
    }

    /// The node is registered and its settings are in force in every shard.
    pub fn is_settled(&self, worker: &Worker) -> bool {
        let wanted = self.wanted_settings(&worker.directory).revision;
        worker.incarnation().is_some()
            && worker.directory.settings().revision >= wanted
            && worker.channels.iter().all(|shard| {
                let known = worker.incarnation().and_then(|incarnation| shard.producers().get(incarnation));
                shard.settings().revision >= wanted && known.is_some()
            })
    }

    fn wanted_settings(&self, directory: &Directory) -> Arc<Settings> {
        let present = directory.settings();
        let revision = match self.revision {
            Revision::Given if self.settings.revision > present.revision => self.settings.revision,
            Revision::Given => return Arc::clone(present),
            Revision::Counted => {
                let same = Settings { revision: present.revision, ..self.settings.clone() } == **present;
                if same && present.revision > 0 {
                    return Arc::clone(present);
                }
                present.revision + 1
            }
        };
        Arc::new(Settings { revision, ..self.settings.clone() })
    }

    /// Ends sessions that were detached for longer than the resume window, by this node's own clock.
    fn expire(&mut self, worker: &Worker, now: Now) -> Vec<(ShardId, Request)> {
        let window_ms = worker.directory.settings().resume_window_ms;
        let mut since = BTreeMap::new();
        let mut asks = Asks { asked: &mut self.asked, now, dir_at: worker.dir_at(), requests: Vec::new() };
        for (session, known) in worker.directory.detached() {
            let key = (session, known.generation);
            let seen_ms = self.detached.get(&key).copied().unwrap_or(now.monotonic_ms);
            since.insert(key, seen_ms);
            if now.monotonic_ms.saturating_sub(seen_ms) >= window_ms {
                let generation = known.generation;
                let command = Command::Directory(DirectoryCommand::Expire { session, generation });
                asks.once(Chore::Expire(session, generation), ShardId::DIRECTORY, command);
            }
        }
        let requests = asks.requests;
        self.detached = since;
        requests
    }

    /// Ends the lives of nodes that show no sign of life any more.
    fn drop_dead_nodes(&mut self, worker: &Worker, own: Incarnation, now: Now) -> Vec<(ShardId, Request)> {
        let mut asks = Asks { asked: &mut self.asked, now, dir_at: worker.dir_at(), requests: Vec::new() };
        let Some(alive) = &self.standing.alive else { return asks.requests };
        let mut missed = BTreeMap::new();
        for (incarnation, _) in worker.directory.nodes() {
            if incarnation == own || alive.contains(&incarnation) {
                continue;
            }
            let since = self.missed.get(&incarnation).copied().unwrap_or(now.monotonic_ms);
            missed.insert(incarnation, since);
            if self.seen.contains(&incarnation) || now.monotonic_ms.saturating_sub(since) >= NEVER_SEEN_MS {
                let command = Command::Common(CommonCommand::DropNode(incarnation));
                asks.once(Chore::Drop(ShardId::DIRECTORY, incarnation), ShardId::DIRECTORY, command);
            }
        }
        let requests = asks.requests;
        self.missed = missed;
        self.seen.retain(|incarnation| {
            alive.contains(incarnation) || worker.directory.node(*incarnation).is_some()
        });
        requests
    }

    fn copy_direct_messages(
        &mut self,
        worker: &Worker,
        mut requests: Vec<(ShardId, Request)>,
    ) -> Vec<(ShardId, Request)> {
        for source in &worker.channels {
            if self.looked_at.get(&source.shard()) == Some(&source.position()) {
                continue;
            }
            let mut all = true;
            for dest in source.copied_to() {
                all &= self.copy_between(worker, source, dest, &mut requests);
            }
            if all {
                self.looked_at.insert(source.shard(), source.position());
            }
        }
        requests
    }

    /// False if there is more than may be asked for at once.
    fn copy_between(
        &mut self,
        worker: &Worker,
        source: &ChannelShard,
        dest: ShardId,
        requests: &mut Vec<(ShardId, Request)>,
    ) -> bool {
        let pair = (source.shard(), dest);
        let done = worker.shard(dest).copied(source.shard());
        let from = self.copied.get(&pair).copied().unwrap_or(done).max(done);
        if from.position >= source.position() {
            return true;
        }
        let mut upto = CopyMark { lineage: source.lineage(), position: source.position() };
        let mut all = true;
        for (count, command) in source.copies_due(dest, from).enumerate() {
            let ChannelCommand::Copy { position, .. } = &command else { continue };
            if count == COPIES_AT_ONCE {
                upto.position = Position(position.0 - 1);
                all = false;
                break;
            }
            let command = Command::Channel(command);
            requests.push((dest, Request { origin: None, dir_at: worker.dir_at(), command }));
        }
        self.copied.insert(pair, upto);
        all
    }
}

/// Requests of chores, each once within [`ASK_AGAIN_MS`].
struct Asks<'a> {
    asked: &'a mut BTreeMap<Chore, u64>,
    now: Now,
    dir_at: Position,
    requests: Vec<(ShardId, Request)>,
}

impl Asks<'_> {
    fn once(&mut self, chore: Chore, shard: ShardId, command: Command) {
        let now = self.now.monotonic_ms;
        match self.asked.get(&chore) {
            Some(asked) if now.saturating_sub(*asked) < ASK_AGAIN_MS => {}
            _ => {
                self.asked.insert(chore, now);
                self.requests.push((shard, Request { origin: None, dir_at: self.dir_at, command }));
            }
        }
    }
}

/// A closing user: every shard it could reach forgets it, then its nick is freed.
fn close(worker: &Worker, user: UserId, closing: &Closing, asks: &mut Asks<'_>) {
    let mut forgotten = Vec::new();
    for shard in &closing.user.reach {
        match worker.shard(*shard).forgotten(user) {
            Some(mark) => forgotten.push((*shard, mark.at)),
            None => {
                let (prefix, reason) = (Arc::clone(&closing.user.prefix), closing.reason.clone());
                let command = ChannelCommand::Forget { user, closing: closing.at, prefix, reason };
                asks.once(Chore::Forget(user, *shard), *shard, Command::Channel(command));
            }
        }
    }
    if forgotten.len() == closing.user.reach.len() {
        let command = Command::Directory(DirectoryCommand::Free { user, forgotten });
        asks.once(Chore::Free(user), ShardId::DIRECTORY, command);
    }
}

/// Lives of nodes that the directory no longer knows are dropped from a shard.
fn drop_ended_lives(worker: &Worker, shard: &ChannelShard, own: Incarnation, asks: &mut Asks<'_>) {
    for (incarnation, _) in shard.producers().open() {
        let known = worker.directory.position().0 >= incarnation.0;
        if incarnation != own && known && worker.directory.node(incarnation).is_none() {
            let command = Command::Common(CommonCommand::DropNode(incarnation));
            asks.once(Chore::Drop(shard.shard(), incarnation), shard.shard(), command);
        }
    }
}
