//! What really happened: every entry that got its place, applied by a replica that never crashes, and what must hold
//! of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    sync::Arc,
};

use chat_state::{
    channels::ChannelShard,
    command::{Command, DirectoryCommand, Target},
    directory::Directory,
    entry::{Entry, Proposal},
    event::{Event, EventKind},
    ids::{ChannelId, Index, Lineage, Position, SessionId, ShardId, UserId},
    outcome::{Outcome, Refusal},
};

use crate::{
    client::first_word,
    violation::{Violation, ensure},
};

/// States are compared at every so many entries.
const COMPARED_EVERY: u64 = 4;

pub(crate) struct Truth {
    lineage: Lineage,
    /// Everything that got its place, in the one order of all shards.
    order: Vec<(ShardId, Arc<Entry>)>,
    /// First words of texts that were stored, and are not any more.
    lost: BTreeSet<String>,
    losses: u64,
    pub(crate) directory: Directory,
    /// Shards 1..=S.
    pub(crate) channels: Vec<ChannelShard>,
    entries: BTreeMap<ShardId, Vec<Arc<Entry>>>,
    events: BTreeMap<ShardId, Vec<Arc<Event>>>,
    states: BTreeMap<(ShardId, Index), u64>,
    /// Where each text was stored, by its first word.
    texts: BTreeMap<String, Vec<(ShardId, Position)>>,
    ids: BTreeMap<(ShardId, SessionId, u64), Position>,
    /// Newest number of each conversation of a channel.
    numbers: BTreeMap<ChannelId, u64>,
    forgotten: BTreeSet<(ShardId, UserId)>,
    /// Whoever was opened, by user name: clients take a new one for each life.
    opened: BTreeMap<String, UserId>,
    gone: BTreeSet<UserId>,
}

impl Truth {
    pub(crate) fn new(shards: u16, lineage: Lineage) -> Self {
        Self {
            lineage,
            order: Vec::new(),
            lost: BTreeSet::new(),
            losses: 0,
            directory: Directory::new(lineage),
            channels: (1..=shards).map(|n| ChannelShard::new(ShardId(n), shards, lineage)).collect(),
            entries: BTreeMap::new(),
            events: BTreeMap::new(),
            states: BTreeMap::new(),
            texts: BTreeMap::new(),
            ids: BTreeMap::new(),
            numbers: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            opened: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..=u16::try_from(self.channels.len()).expect("shards are numbered by u16")).map(ShardId)
    }

    pub(crate) fn shard(&self, shard: ShardId) -> &ChannelShard {
        &self.channels[usize::from(shard.0) - 1]
    }

    pub(crate) fn entry(&self, shard: ShardId, index: Index) -> Option<&Arc<Entry>> {
        self.entries.get(&shard)?.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    pub(crate) fn last(&self, shard: ShardId) -> Index {
        Index(self.entries.get(&shard).map_or(0, |entries| entries.len() as u64))
    }

    /// All events of a shard, oldest first.
    pub(crate) fn events(&self, shard: ShardId) -> &[Arc<Event>] {
        self.events.get(&shard).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn event(&self, shard: ShardId, position: Position) -> Option<&Arc<Event>> {
        self.events(shard).get(usize::try_from(position.0.checked_sub(1)?).ok()?)
    }

    /// Where a text was stored.
    pub(crate) fn stored(&self, text: &str) -> &[(ShardId, Position)] {
        self.texts.get(first_word(text)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn user(&self, username: &str) -> Option<UserId> {
        self.opened.get(username).copied()
    }

    /// Whether the user is on its way out, or out.
    pub(crate) fn is_leaving(&self, username: &str) -> bool {
        self.user(username).is_some_and(|user| self.directory.user(user).is_none())
    }

    pub(crate) fn encoded(&self, shard: ShardId) -> Vec<u8> {
        encoded(&self.directory, &self.channels, shard)
    }

    /// The next entry of a shard got its place.
    pub(crate) fn take(&mut self, shard: ShardId, entry: &Arc<Entry>) -> Result<(), Violation> {
        let last = self.last(shard);
        ensure!(
            entry.index.0 == last.0 + 1,
            Replicas,
            "shard {shard}: entry {} follows entry {last}",
            entry.index
        );
        self.entries.entry(shard).or_default().push(Arc::clone(entry));
        self.order.push((shard, Arc::clone(entry)));
        match shard {
            ShardId::DIRECTORY => self.directory.begin(entry),
            ShardId(n) => self.channels[usize::from(n) - 1].begin(entry),
        }
        for proposal in &entry.proposals {
            let stale = self.is_stale_expiry(&proposal.command);
            let outcome = match shard {
                ShardId::DIRECTORY => self.directory.apply_one(proposal),
                ShardId(n) => self.channels[usize::from(n) - 1].apply_one(proposal),
            };
            match outcome {
                Outcome::Happened(event) => {
                    ensure!(
                        !stale,
                        Identity,
                        "a session that had moved on was ended by {:?}",
                        proposal.command
                    );
                    self.happened(shard, &event)?;
                }
                Outcome::Refused(refusal) => self.refused(shard, proposal, &refusal)?,
                Outcome::Repeated => {}
            }
        }
        match shard {
            ShardId::DIRECTORY => self.directory.end(),
            ShardId(n) => self.channels[usize::from(n) - 1].end(),
        }
        if entry.index.0.is_multiple_of(COMPARED_EVERY) {
            let state = digest(&self.encoded(shard));
            self.states.insert((shard, entry.index), state);
        }
        if shard.is_directory() { self.check_nicks() } else { Ok(()) }
    }

    /// The log came back with no more than its first entries.
    pub(crate) fn rewind(&mut self, kept: usize) -> Result<(), Violation> {
        let shards = u16::try_from(self.channels.len()).expect("shards are numbered by u16");
        let before = std::mem::replace(self, Self::new(shards, self.lineage));
        for (shard, entry) in before.order.iter().take(kept) {
            self.take(*shard, entry)?;
        }
        self.losses = before.losses + 1;
        self.lost = before.lost;
        self.lost.extend(before.texts.into_keys().filter(|text| !self.texts.contains_key(text)));
        Ok(())
    }

    /// The log was without something at some time that it had held.
    pub(crate) fn has_lost(&self) -> bool {
        self.losses > 0
    }

    pub(crate) fn has_lost_text(&self, text: &str) -> bool {
        self.lost.contains(first_word(text))
    }

    pub(crate) fn position(&self, shard: ShardId) -> Position {
        Position(self.events(shard).len() as u64)
    }

    /// That a replica is what this one was at the same place.
    pub(crate) fn compare(
        &self,
        directory: &Directory,
        channels: &[ChannelShard],
        shard: ShardId,
        who: &str,
    ) -> Result<(), Violation> {
        let index = match shard {
            ShardId::DIRECTORY => directory.index(),
            ShardId(n) => channels[usize::from(n) - 1].index(),
        };
        let expected = if index == self.last(shard) {
            digest(&self.encoded(shard))
        } else if let Some(state) = self.states.get(&(shard, index)) {
            *state
        } else {
            return Ok(());
        };
        ensure!(
            digest(&encoded(directory, channels, shard)) == expected,
            Replicas,
            "{who}: shard {shard} at entry {index} is not what the log makes of it"
        );
        Ok(())
    }

    fn is_stale_expiry(&self, command: &Command) -> bool {
        let Command::Directory(DirectoryCommand::Expire { session, generation }) = command else {
            return false;
        };
        self.directory
            .session(*session)
            .is_none_or(|known| known.generation != *generation || known.incarnation.is_some())
    }

    fn happened(&mut self, shard: ShardId, event: &Arc<Event>) -> Result<(), Violation> {
        let events = self.events.entry(shard).or_default();
        let expected = events.len() as u64 + 1;
        ensure!(
            event.position.0 == expected,
            Replicas,
            "shard {shard}: event {} where {expected} was to be",
            event.position
        );
        events.push(Arc::clone(event));
        if let Some(actor) = event.actor {
            ensure!(
                !self.forgotten.contains(&(shard, actor)),
                Identity,
                "user {actor} was forgotten in shard {shard}, and acts there at {}: {:?}",
                event.position,
                event.kind
            );
            ensure!(
                !(shard.is_directory() && self.gone.contains(&actor)),
                Identity,
                "user {actor} was freed, and acts at {}",
                event.position
            );
        }
        match &event.kind {
            EventKind::Opened { user, .. } => {
                if let Some(known) = self.directory.user(*user) {
                    self.opened.insert(known.username.clone(), *user);
                }
            }
            EventKind::Forgotten { user, .. } => {
                self.forgotten.insert((shard, *user));
            }
            EventKind::Freed { user, forgotten, .. } => {
                self.gone.insert(*user);
                let held = forgotten.iter().find(|(shard, _)| !self.forgotten.contains(&(*shard, *user)));
                ensure!(held.is_none(), Identity, "user {user} was freed, and not forgotten in {held:?}");
            }
            EventKind::Message { .. } => self.stored_message(shard, event)?,
            _ => {}
        }
        Ok(())
    }

    fn stored_message(&mut self, shard: ShardId, event: &Event) -> Result<(), Violation> {
        let EventKind::Message { target, message, number, session, .. } = &event.kind else { return Ok(()) };
        let at = event.position;
        self.texts.entry(first_word(&message.text).to_owned()).or_default().push((shard, at));
        if let Some(id) = message.id {
            let first = self.ids.insert((shard, *session, id), at);
            ensure!(
                first.is_none(),
                Deduplication,
                "id {id} of session {session} was stored at {first:?} and {at} of shard {shard}"
            );
        }
        if let (Target::Channel { channel, .. }, true) = (target, *number > 0) {
            let last = self.numbers.insert(*channel, *number).unwrap_or(0);
            ensure!(*number == last + 1, Replicas, "message {number} of {channel:?} follows {last}");
        }
        Ok(())
    }

    fn refused(&self, shard: ShardId, proposal: &Proposal, refusal: &Refusal) -> Result<(), Violation> {
        let Refusal::Duplicate { position } = refusal else { return Ok(()) };
        let Command::Channel(chat_state::command::ChannelCommand::Message { message, .. }) =
            &proposal.command
        else {
            return Ok(());
        };
        let there = self.event(shard, *position).is_some_and(
            |event| matches!(&event.kind, EventKind::Message { message: stored, .. } if message.text.starts_with(&stored.text)),
        );
        ensure!(there, Deduplication, "{:?} is said to be at {position} of shard {shard}", message.text);
        Ok(())
    }

    /// One owner for each nick, those on their way out included.
    fn check_nicks(&self) -> Result<(), Violation> {
        let open = self.directory.users().map(|(user, known)| (user, &known.nick));
        let closing = self.directory.closing().map(|(user, closing)| (user, &closing.user.nick));
        let mut owners = BTreeMap::new();
        for (user, nick) in open.chain(closing) {
            if let Some(other) = owners.insert(nick.to_ascii_lowercase(), user) {
                ensure!(false, Identity, "{nick} belongs to users {other} and {user}");
            }
        }
        Ok(())
    }
}

fn encoded(directory: &Directory, channels: &[ChannelShard], shard: ShardId) -> Vec<u8> {
    match shard {
        ShardId::DIRECTORY => directory.encode_state(),
        ShardId(n) => {
            let channels = &channels[usize::from(n) - 1];
            let mut bytes = channels.encode_state();
            bytes.extend(channels.encode_history(Position(0)));
            bytes
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
