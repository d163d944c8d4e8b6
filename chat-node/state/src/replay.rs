//! What a client missed: the events that its user would have been shown since the last ones it saw.
//!
//! Exact, from the events still kept:
//! - channel events, direct messages with own echoes, TAGMSG, STATUSMSG: shown if the user was a member (of that rank)
//!   at that position, found by walking back from the present;
//! - changes of nick, away and real name: shown if the two shared a channel at that place of the merged order; QUIT
//!   (`Freed`) if they did when a shard forgot the one who left;
//! - gaps: told for a channel only if an event of *it* is gone, not because the window moved past a quiet client; so too
//!   if the QUIT of somebody who was in it is gone and only the forgetting, which nobody sees, went before.
//!
//! Not known, and decided:
//! - a change of nick that a node delivered before a JOIN whose proposer had not seen it yet counts as after that JOIN,
//!   unless the client names the change or a later place of the directory: with such a JOIN it is told one to name
//!   ([`names_changed`]);
//! - a QUIT whose forgetting is no longer kept is shown; one that is gone itself is known of the last 1,024 who left;
//! - a gap in a channel that ended since is told while the user's own leaving of it is kept, not later: then that is
//!   what is missing;
//! - one that held only an invitation to a shard where the user never acted, or only own messages from outside, is not.
//!
//! Streams are merged by time under the log's order: nothing goes before the directory events it has seen, no `Freed`
//! before the forgettings it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    sync::Arc,
};

use crate::{
    channels::{ChannelShard, Forgotten, Member},
    command::{ModeChange, Target},
    directory::Directory,
    event::{Event, EventKind},
    ids::{ChannelId, Position, ShardId, UserId},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    pub gaps: Vec<Gap>,
    /// In the order in which they are to be shown.
    pub events: Vec<Replayed>,
    /// Users who were forgotten in a shared channel and are not freed yet: their QUIT is still to be shown.
    pub leaving: BTreeSet<UserId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    pub shard: ShardId,
    pub event: Arc<Event>,
    /// Directory position that the client is at when it is shown this: names are those of there.
    pub directory_at: Position,
}

/// Something was missed that is no longer kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// In a channel that the user was in where the replay begins, and may have left since; `oldest` is the first
    /// position of its shard that is kept.
    Channel { channel: ChannelId, name: Arc<str>, oldest: Position },
    /// Direct messages, invitations, or the user's own leaving of a channel.
    Direct { shard: ShardId, oldest: Position },
}

/// What `user` missed after the positions in `seen`; a shard not named was never seen. Every machine was applied up to
/// what `seen` names.
pub fn replay<'a>(
    user: UserId,
    directory: &'a Directory,
    shards: impl IntoIterator<Item = &'a ChannelShard>,
    seen: &BTreeMap<ShardId, Position>,
) -> Replay {
    let shards: Vec<&ChannelShard> = shards.into_iter().collect();
    let seen_of = |shard: ShardId| seen.get(&shard).copied().unwrap_or_default();
    // Nothing of the directory is missed from before the user was opened, nor of what went before an event that was
    // seen: had it been for the user, it would have been seen too.
    let behind_seen =
        shards.iter().filter_map(|shard| Some(shard.kept().get(seen_of(shard.shard()))?.dir_at));
    let directory_seen = behind_seen.fold(seen_of(ShardId::DIRECTORY).max(Position(user.0)), Ord::max);
    let named = named_by(directory, directory_seen);
    let mut gaps = BTreeSet::new();
    let mut view =
        View { user, shards: BTreeMap::new(), standing: BTreeMap::new(), leaving: BTreeSet::new() };
    for shard in shards {
        let after = seen_of(shard.shard());
        view.walk_back(shard, after, &named);
        view.find_gaps(directory, directory_seen, shard, after, &mut gaps);
    }
    let events = view.merge(directory, directory_seen);
    view.add_forgotten_before(directory);
    Replay { gaps: gaps.into_iter().collect(), events, leaving: view.leaving }
}

/// The users whose directory events may have to be shown.
fn named_by(directory: &Directory, after: Position) -> BTreeSet<UserId> {
    directory.kept().after(after).filter_map(|event| subject(&event.kind)).collect()
}

/// Whose change others see.
fn subject(kind: &EventKind) -> Option<UserId> {
    match kind {
        EventKind::NickChanged { user, .. }
        | EventKind::AwayChanged { user, .. }
        | EventKind::RealNameChanged { user, .. }
        | EventKind::Freed { user, .. } => Some(*user),
        _ => None,
    }
}

/// Whether a change that others see went between two places of the directory, or may have gone that is not kept.
pub fn names_changed(directory: &Directory, after: Position, up_to: Position) -> bool {
    let kept = directory.kept();
    let mut between = kept.after(after).take_while(|event| event.position <= up_to);
    after.0 + 1 < kept.oldest().0 || between.any(|event| subject(&event.kind).is_some())
}

/// Who left a channel after a position.
fn leavers(shard: &ChannelShard, channel: ChannelId, after: Position) -> impl Iterator<Item = UserId> + '_ {
    shard
        .kept()
        .after(after)
        .flat_map(|event| membership_changes(event))
        .filter(move |(_, left, is_in)| *left == channel && !is_in)
        .map(|(user, ..)| user)
}

/// The name of a channel that is there, or was left after a position.
fn name_of(shard: &ChannelShard, channel: ChannelId, after: Position) -> Option<Arc<str>> {
    let present = shard.channel(channel).map(|channel| &channel.name);
    let left = || {
        shard.kept().after(after).find_map(|event| match &event.kind {
            EventKind::Parted { channel: left, name, .. } | EventKind::Kicked { channel: left, name, .. } => {
                (*left == channel).then_some(name)
            }
            _ => None,
        })
    };
    present.or_else(left).cloned()
}

/// Whether a change of the name of somebody who left, or its QUIT, may be among what is not kept.
fn is_leaver_gone(directory: &Directory, user: UserId, shown: Position) -> bool {
    lost_of(directory, user).is_none_or(|lost| lost > shown)
}

/// The newest change of a name that is not kept; none if the user is gone.
fn lost_of(directory: &Directory, user: UserId) -> Option<Position> {
    let known = directory.user(user).or_else(|| directory.closing_user(user).map(|closing| &closing.user));
    known.map(|user| user.lost)
}

/// A user's place in a channel while the replay goes on.
#[derive(Clone, Copy)]
struct Standing(Member);

impl Standing {
    fn joined(operator: bool) -> Self {
        Self(Member { voice: false, operator, joined: Position(0), joined_dir_at: Position(0) })
    }
}

/// A membership that began or ended.
struct Change {
    position: Position,
    is_in: bool,
}

struct ShardView<'a> {
    shard: &'a ChannelShard,
    after: Position,
    /// Up to where the replay got.
    cursor: Position,
    /// Of the users who are named by the directory's events, in order.
    changes: BTreeMap<(UserId, ChannelId), Vec<Change>>,
}

/// What the user sees at one place of the replay.
struct View<'a> {
    user: UserId,
    shards: BTreeMap<ShardId, ShardView<'a>>,
    standing: BTreeMap<ChannelId, Standing>,
    /// Users that were forgotten in a shared channel, and whose QUIT is to come.
    leaving: BTreeSet<UserId>,
}

/// Who came into a channel or left it by an event.
fn membership_changes(event: &Event) -> Vec<(UserId, ChannelId, bool)> {
    match (&event.kind, event.actor) {
        (EventKind::Joined { channel, .. }, Some(actor)) => vec![(actor, *channel, true)],
        (EventKind::Parted { channel, .. }, Some(actor)) => vec![(actor, *channel, false)],
        (EventKind::Kicked { channel, target, .. }, _) => vec![(*target, *channel, false)],
        (EventKind::Forgotten { user, channels }, _) => {
            channels.iter().map(|channel| (*user, *channel, false)).collect()
        }
        _ => Vec::new(),
    }
}

impl<'a> View<'a> {
    /// From the present membership back to what it was after the event at `after`.
    fn walk_back(&mut self, shard: &'a ChannelShard, after: Position, named: &BTreeSet<UserId>) {
        for id in shard.channels_of(self.user) {
            if let Some(member) = shard.channel(id).and_then(|channel| channel.member(self.user)) {
                self.standing.insert(id, Standing(*member));
            }
        }
        let mut changes: BTreeMap<(UserId, ChannelId), Vec<Change>> = BTreeMap::new();
        for event in shard.kept().after(after).rev() {
            for (who, channel, is_in) in membership_changes(event) {
                if who == self.user {
                    if is_in {
                        self.standing.remove(&channel);
                    } else if let Some(member) = shard.left(event.position) {
                        self.standing.insert(channel, Standing(*member));
                    }
                } else if named.contains(&who) {
                    changes
                        .entry((who, channel))
                        .or_default()
                        .push(Change { position: event.position, is_in });
                }
            }
            self.turn_modes(event, true);
        }
        for list in changes.values_mut() {
            list.reverse();
        }
        let cursor = Position(after.0.max(shard.kept().oldest().0.saturating_sub(1)));
        self.shards.insert(shard.shard(), ShardView { shard, after, cursor, changes });
    }

    /// Of the channels that the user was in where the replay begins.
    fn find_gaps(
        &self,
        directory: &Directory,
        directory_seen: Position,
        shard: &ChannelShard,
        after: Position,
        gaps: &mut BTreeSet<Gap>,
    ) {
        let oldest = shard.kept().oldest();
        let oldest_name = directory.kept().oldest();
        let quits: Vec<&Forgotten> =
            directory.freed_unseen(directory_seen).filter_map(|user| shard.forgotten(user)).collect();
        for (id, Standing(own)) in self.standing.iter().filter(|(id, _)| id.shard == shard.shard()) {
            let events_gone = shard.dropped_in(*id).is_some_and(|gone| gone > after && gone >= own.joined);
            let shown = directory_seen.max(own.joined_dir_at);
            let is_name_gone = |(other, member): (&UserId, &Member)| {
                lost_of(directory, *other).is_some_and(|lost| lost > shown.max(member.joined_dir_at))
            };
            let names_gone = || {
                shard.channel(*id).is_some_and(|channel| channel.members.iter().any(is_name_gone))
                    || leavers(shard, *id, after).any(|user| is_leaver_gone(directory, user, shown))
            };
            // The forgetting was seen, or was not to be seen, and the QUIT that came of it is gone.
            let is_quit_gone =
                |left: &&Forgotten| left.channels.contains(id) && (own.joined..=after).contains(&left.at);
            let quits_gone = || quits.iter().any(is_quit_gone);
            if events_gone || (directory_seen.0 + 1 < oldest_name.0 && (names_gone() || quits_gone())) {
                let name =
                    name_of(shard, *id, after).expect("it is there, or the user's leaving of it is kept");
                gaps.insert(Gap::Channel { channel: *id, name, oldest });
            }
        }
        if shard.dropped_for(self.user).is_some_and(|gone| gone > after) {
            gaps.insert(Gap::Direct { shard: shard.shard(), oldest });
        }
    }

    /// Own rank over a mode change: forwards, or back.
    fn turn_modes(&mut self, event: &Event, back: bool) {
        let EventKind::ModeChanged { channel, changes, .. } = &event.kind else { return };
        let Some(standing) = self.standing.get_mut(channel) else { return };
        let own = changes.iter().filter_map(|change| match change {
            ModeChange::Member { prefix, user, set, .. } if *user == self.user => Some((*prefix, *set)),
            _ => None,
        });
        if back {
            let mut own: Vec<_> = own.collect();
            own.reverse();
            for (prefix, set) in own {
                standing.0.set(prefix, !set);
            }
        } else {
            for (prefix, set) in own {
                standing.0.set(prefix, set);
            }
        }
    }

    /// Those on their way out whose forgetting was before the replay, and whose freeing is not yet.
    fn add_forgotten_before(&mut self, directory: &Directory) {
        for (user, closing) in directory.closing() {
            let marks = closing
                .user
                .reach
                .iter()
                .filter_map(|shard| Some((*shard, self.shards.get(shard)?.shard.forgotten(user)?.at)));
            let mut marks: Vec<(ShardId, Position)> = marks.collect();
            marks.retain(|(shard, at)| self.shared_before_replay(user, *shard, *at));
            if !marks.is_empty() {
                self.leaving.insert(user);
            }
        }
    }

    fn merge(&mut self, directory: &'a Directory, directory_seen: Position) -> Vec<Replayed> {
        let mut shown = Vec::new();
        let mut passed = directory_seen;
        let mut directory_events = directory.kept().after(directory_seen).peekable();
        let mut streams: Vec<(ShardId, Peekable<_>)> = self
            .shards
            .values()
            .map(|view| (view.shard.shard(), view.shard.kept().after(view.after).peekable()))
            .collect();
        loop {
            let directory_at = directory_events.peek().map_or(Position(u64::MAX), |event| event.position);
            let heads = streams.iter_mut().enumerate().filter_map(|(n, (shard, events))| {
                let event = events.peek()?;
                // What it has seen of the directory goes first.
                let waits = event.dir_at >= directory_at;
                Some(((waits, event.time_ms, *shard), Some(n)))
            });
            let directory_head = directory_events
                .peek()
                .map(|event| ((self.waits_for_shards(event), event.time_ms, ShardId::DIRECTORY), None));
            // When everything waits for something, the oldest goes.
            let Some((_, next)) = heads.chain(directory_head).min_by_key(|(order, _)| *order) else {
                return shown;
            };
            let (shard, event) = match next {
                Some(n) => (streams[n].0, streams[n].1.next()),
                None => (ShardId::DIRECTORY, directory_events.next()),
            };
            let event = event.expect("it was peeked at");
            let visible = if shard.is_directory() {
                passed = event.position;
                self.shows_directory(event)
            } else {
                self.shows(shard, event)
            };
            if visible {
                shown.push(Replayed { shard, event: Arc::clone(event), directory_at: passed });
            }
        }
    }

    fn waits_for_shards(&self, event: &Event) -> bool {
        let EventKind::Freed { forgotten, .. } = &event.kind else { return false };
        forgotten.iter().any(|(shard, at)| {
            self.shards
                .get(shard)
                .is_some_and(|view| view.cursor < *at && view.cursor < view.shard.position())
        })
    }

    /// Takes the next event of a channel shard, and says whether the user is shown it.
    fn shows(&mut self, shard: ShardId, event: &Event) -> bool {
        if let Some(view) = self.shards.get_mut(&shard) {
            view.cursor = event.position;
        }
        let own = event.actor == Some(self.user);
        match &event.kind {
            EventKind::Joined { channel, created, .. } => {
                if own {
                    self.standing.insert(*channel, Standing::joined(*created));
                }
                self.standing.contains_key(channel)
            }
            EventKind::Parted { channel, .. } => {
                let was_in = self.standing.contains_key(channel);
                if own {
                    self.standing.remove(channel);
                }
                was_in
            }
            EventKind::Kicked { channel, target, .. } => {
                let was_in = self.standing.contains_key(channel);
                if *target == self.user {
                    self.standing.remove(channel);
                }
                was_in
            }
            EventKind::TopicChanged { channel, .. } => self.standing.contains_key(channel),
            EventKind::ModeChanged { channel, .. } => {
                self.turn_modes(event, false);
                self.standing.contains_key(channel)
            }
            EventKind::Invited { channel, target, .. } => {
                *target == self.user || self.standing.contains_key(channel)
            }
            EventKind::Message { target: Target::Channel { channel, at_least }, .. } => {
                own || self.standing.get(channel).is_some_and(|standing| standing.0.is_at_least(*at_least))
            }
            EventKind::Message { target: Target::User { user }, .. } => own || *user == self.user,
            EventKind::Settings { topics, .. } => {
                topics.iter().any(|(channel, _)| self.standing.contains_key(channel))
            }
            EventKind::Forgotten { user, channels } => {
                if channels.iter().any(|channel| self.standing.contains_key(channel)) {
                    self.leaving.insert(*user);
                }
                false
            }
            _ => false,
        }
    }

    fn shows_directory(&mut self, event: &Event) -> bool {
        match &event.kind {
            EventKind::UserModesChanged { user, .. } => *user == self.user,
            EventKind::Freed { user, forgotten, .. } => {
                self.leaving.remove(user)
                    || forgotten.iter().any(|(shard, at)| self.shared_before_replay(*user, *shard, *at))
            }
            kind => subject(kind).is_some_and(|other| other == self.user || self.shares_channel(other)),
        }
    }

    fn shares_channel(&self, other: UserId) -> bool {
        self.standing.keys().any(|channel| {
            self.shards.get(&channel.shard).is_some_and(|view| view.was_member(other, *channel))
        })
    }

    /// Whether the two shared a channel when `other` was forgotten, if that was before the replay begins; yes if it is
    /// not known any more.
    fn shared_before_replay(&self, other: UserId, shard: ShardId, at: Position) -> bool {
        let Some(view) = self.shards.get(&shard) else { return false };
        if at > view.after && at >= view.shard.kept().oldest() {
            // It was replayed.
            return false;
        }
        match view.shard.kept().get(at).map(|event| &event.kind) {
            Some(EventKind::Forgotten { user, channels }) if *user == other => {
                channels.iter().any(|channel| self.was_in(view.shard, *channel, at))
            }
            // The position is a later one than that of the forgetting.
            Some(_) => false,
            None => true,
        }
    }

    /// Own membership at a position before the replay.
    fn was_in(&self, shard: &ChannelShard, channel: ChannelId, at: Position) -> bool {
        let next_change = shard
            .kept()
            .after(at)
            .flat_map(|event| membership_changes(event))
            .find(|(who, changed, _)| *who == self.user && *changed == channel);
        match next_change {
            Some((_, _, is_in)) => !is_in,
            None => shard.channel(channel).is_some_and(|channel| channel.member(self.user).is_some()),
        }
    }
}

impl ShardView<'_> {
    /// Membership of another user where the replay got to.
    fn was_member(&self, user: UserId, channel: ChannelId) -> bool {
        let changes = self.changes.get(&(user, channel)).map_or(&[][..], Vec::as_slice);
        let next = changes.partition_point(|change| change.position <= self.cursor);
        if let Some(last) = next.checked_sub(1).and_then(|last| changes.get(last)) {
            return last.is_in;
        }
        match changes.get(next) {
            Some(change) => !change.is_in,
            None => self.shard.channel(channel).is_some_and(|channel| channel.member(user).is_some()),
        }
    }
}
