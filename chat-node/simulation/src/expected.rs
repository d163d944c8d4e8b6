//! What each client should have seen, read off the log; and the checks at the end of a run.
//!
//! The rules of who sees what are written here a second time, as plainly as can be, on purpose.

use std::collections::{BTreeMap, BTreeSet};

use chat_state::{
    command::{MemberPrefix, Message, MessageKind, ModeChange, Target},
    event::{Event, EventKind},
    ids::{ChannelId, Position, ShardId, UserId},
};

use crate::{
    client::{Client, Life, Seen, first_word, what},
    truth::Truth,
    violation::{Violation, ensure},
};

/// Everything about messages and subscriptions. `whole` lives must have seen everything.
pub(crate) fn check_life(life: &Life, whole: bool, truth: &Truth) -> Result<(), Violation> {
    check_messages(life, truth)?;
    if !life.began || life.unknowable {
        return Ok(());
    }
    ensure!(
        !whole || life.deceived.is_empty(),
        Acknowledged,
        "{} was never told what was lost of shards {:?}",
        life.username,
        life.deceived
    );
    let Some(user) = truth.user(&life.username) else {
        ensure!(
            truth.has_lost() && !whole,
            Acknowledged,
            "{} was welcomed, and is not in the log",
            life.username
        );
        return Ok(());
    };
    for shard in truth.shards().filter(|shard| !shard.is_directory()) {
        check_stream(life, user, shard, whole, truth)?;
    }
    Ok(())
}

fn check_messages(life: &Life, truth: &Truth) -> Result<(), Violation> {
    for text in &life.acknowledged {
        let stored = truth.stored(text);
        let once = stored.len() == 1 || (stored.len() > 1 && is_to_several(stored, truth));
        let lost = stored.is_empty() && truth.has_lost_text(text);
        ensure!(once || lost, Acknowledged, "{text:?} was acknowledged, and is stored at {stored:?}");
    }
    let mut newest: BTreeMap<ShardId, (u64, &str)> = BTreeMap::new();
    for text in &life.sent {
        let stored = truth.stored(text);
        let once = stored.len() <= 1 || is_to_several(stored, truth);
        ensure!(once, Deduplication, "{text:?} is stored at {stored:?}");
        let Some((shard, at)) = stored.first() else { continue };
        let (last, before) = newest.insert(*shard, (at.0, text)).unwrap_or((0, ""));
        ensure!(
            last < at.0 || life.reordered,
            Reading,
            "{text:?} was sent after {before:?}, and is before it in shard {shard}: {at} and {last}"
        );
    }
    Ok(())
}

/// Sent again to a nick that somebody else has by now, at home in another shard: that an id is used for another target
/// is noticed within a shard only.
fn is_to_several(stored: &[(ShardId, Position)], truth: &Truth) -> bool {
    let shards: BTreeSet<ShardId> = stored.iter().map(|(shard, _)| *shard).collect();
    let is_direct = |(shard, at): &(ShardId, Position)| {
        truth.event(*shard, *at).is_some_and(|event| {
            matches!(&event.kind, EventKind::Message { target: Target::User { .. }, .. })
        })
    };
    shards.len() == stored.len() && stored.iter().all(is_direct)
}

fn check_stream(
    life: &Life,
    user: UserId,
    shard: ShardId,
    whole: bool,
    truth: &Truth,
) -> Result<(), Violation> {
    let expected = expected(life, user, shard, truth);
    let none = Vec::new();
    let seen = life.seen.get(&shard.0).unwrap_or(&none);
    let gaps = life.gaps.get(&shard.0).map_or(&[][..], Vec::as_slice);
    let mut next = expected.iter().peekable();
    for (n, Seen { position, what }) in seen.iter().enumerate() {
        // What a gap told of may be missing.
        let gone = gaps.iter().filter(|(at, _)| *at <= n).map(|(_, oldest)| *oldest).max().unwrap_or(0);
        let same = |due: &Due| position.unwrap_or(due.at) == due.at && *what == due.what;
        while next.peek().is_some_and(|due| (due.at < gone || due.may_be_gone) && !same(due)) {
            next.next();
        }
        let due = next.next();
        ensure!(
            due.is_some_and(same),
            Subscription,
            "{} (user {user}) saw {position:?} {what:?} in shard {shard}, where {due:?} was due; before it {:?}",
            life.username,
            n.checked_sub(1).map(|before| &seen[before])
        );
    }
    let end = gaps.iter().map(|(_, oldest)| *oldest).max().unwrap_or(0);
    let missed = next.find(|due| due.at >= end && !due.may_be_gone);
    ensure!(
        !whole || missed.is_none(),
        Subscription,
        "{} (user {user}) never saw {missed:?} in shard {shard}",
        life.username
    );
    Ok(())
}

/// Positions and what is to be seen there.
fn expected(life: &Life, user: UserId, shard: ShardId, truth: &Truth) -> Vec<Due> {
    let mut walk =
        Walk { life, user, truth, ranks: BTreeMap::new(), names: BTreeMap::new(), shard, out: Vec::new() };
    for event in truth.events(shard) {
        walk.take(event);
    }
    walk.out
}

struct Walk<'a> {
    life: &'a Life,
    user: UserId,
    truth: &'a Truth,
    /// The channels that the user is in, and its rank.
    ranks: BTreeMap<ChannelId, BTreeSet<MemberPrefix>>,
    /// Of channels that settings name.
    names: BTreeMap<ChannelId, String>,
    shard: ShardId,
    out: Vec<Due>,
}

/// What is to be seen, and where.
#[derive(Debug)]
struct Due {
    at: u64,
    what: String,
    /// Of a channel that ended, and not kept for resumes any more: no gap is told for it.
    may_be_gone: bool,
}

fn channel_of(kind: &EventKind) -> Option<ChannelId> {
    match kind {
        EventKind::Joined { channel, .. }
        | EventKind::Parted { channel, .. }
        | EventKind::Kicked { channel, .. }
        | EventKind::TopicChanged { channel, .. }
        | EventKind::ModeChanged { channel, .. }
        | EventKind::Message { target: Target::Channel { channel, .. }, .. } => Some(*channel),
        _ => None,
    }
}

impl Walk<'_> {
    fn show(&mut self, event: &Event, what: String) {
        let (shard, at) = (self.truth.shard(self.shard), event.position);
        let ended = channel_of(&event.kind).is_some_and(|channel| shard.channel(channel).is_none());
        let may_be_gone = self.life.kind.resume && ended && at < shard.kept().oldest();
        self.out.push(Due { at: at.0, what, may_be_gone });
    }

    fn take(&mut self, event: &Event) {
        let own = event.actor == Some(self.user);
        match &event.kind {
            EventKind::Joined { channel, name, prefix, created, .. } => {
                self.names.insert(*channel, name.to_string());
                if own {
                    let rank = created.then_some(MemberPrefix::Operator);
                    self.ranks.insert(*channel, rank.into_iter().collect());
                }
                if self.ranks.contains_key(channel) {
                    self.show(event, what("JOIN", username(prefix), name, ""));
                }
            }
            EventKind::Parted { channel, name, prefix, reason } => {
                if self.ranks.contains_key(channel) {
                    let reason = reason.as_deref().unwrap_or_default();
                    self.show(event, what("PART", username(prefix), name, reason));
                }
                if own {
                    self.ranks.remove(channel);
                }
            }
            EventKind::Kicked { channel, name, prefix, target, reason, .. } => {
                if self.ranks.contains_key(channel) {
                    self.show(event, what("KICK", username(prefix), name, reason));
                }
                if *target == self.user {
                    self.ranks.remove(channel);
                }
            }
            EventKind::TopicChanged { channel, name, prefix, topic } if self.ranks.contains_key(channel) => {
                self.show(event, what("TOPIC", username(prefix), name, topic));
            }
            EventKind::ModeChanged { channel, name, prefix, changes } => {
                self.change_rank(*channel, changes);
                if self.ranks.contains_key(channel) {
                    self.show(event, what("MODE", username(prefix), name, ""));
                }
            }
            EventKind::Message { target, name, message, .. } => {
                self.take_message(event, own, target, name, message);
            }
            EventKind::Settings { topics, .. } => {
                for (channel, topic) in topics {
                    if self.ranks.contains_key(channel) {
                        let name = self.names.get(channel).cloned().unwrap_or_default();
                        self.show(event, what("TOPIC", "server", &name, topic));
                    }
                }
            }
            EventKind::Forgotten { user, .. } if *user == self.user => self.ranks.clear(),
            _ => {}
        }
    }

    fn change_rank(&mut self, channel: ChannelId, changes: &[ModeChange]) {
        let Some(rank) = self.ranks.get_mut(&channel) else { return };
        for change in changes {
            if let ModeChange::Member { prefix, user, set, .. } = change
                && *user == self.user
            {
                if *set {
                    rank.insert(*prefix);
                } else {
                    rank.remove(prefix);
                }
            }
        }
    }

    fn take_message(&mut self, event: &Event, own: bool, target: &Target, name: &str, message: &Message) {
        let verb = match message.kind {
            MessageKind::Privmsg => "PRIVMSG",
            MessageKind::Notice => "NOTICE",
            MessageKind::Tagmsg => return,
        };
        let shown = match target {
            Target::Channel { channel, at_least } => self
                .ranks
                .get(channel)
                .is_some_and(|rank| at_least.is_none_or(|least| rank.iter().max() >= Some(&least))),
            Target::User { user } => *user == self.user,
        };
        if own && matches!(target, Target::User { user } if *user == self.user) {
            // Echo and message: seen twice or once, as capabilities have it.
            return;
        }
        let shown = if own { self.life.kind.echo } else { shown };
        if shown {
            let place = match target {
                Target::Channel { at_least: None, .. } => name.to_owned(),
                Target::Channel { at_least: Some(MemberPrefix::Voice), .. } => format!("+{name}"),
                Target::Channel { at_least: Some(MemberPrefix::Operator), .. } => format!("@{name}"),
                Target::User { .. } => String::new(),
            };
            // The stored prefix is that of the sender, whatever nick it has by now.
            debug_assert!(self.truth.user(username(&message.prefix)).is_some());
            let text = first_word(&message.text);
            self.show(event, what(verb, username(&message.prefix), &place, text));
        }
    }
}

fn username(prefix: &str) -> &str {
    prefix.split_once('!').and_then(|(_, rest)| rest.split_once('@')).map_or(prefix, |(username, _)| username)
}

/// That a client which has seen everything knows everything.
pub(crate) fn check_view(client: &Client, life: &Life, truth: &Truth) -> Result<(), Violation> {
    let Some(user) = truth.user(&life.username) else { return Ok(()) };
    let Some(known) = truth.directory.user(user) else {
        ensure!(false, Identity, "{} is connected, and is not in the directory", life.username);
        return Ok(());
    };
    let view = &client.view;
    ensure!(
        known.nick == view.nick,
        Identity,
        "{} is {}, and thinks it is {}",
        life.username,
        known.nick,
        view.nick
    );
    let nick = |user: UserId| {
        truth.directory.user(user).map_or_else(|| format!("user {user}"), |user| user.nick.clone())
    };
    let mut channels = BTreeMap::new();
    for channel in truth.channels.iter().flat_map(chat_state::channels::ChannelShard::channels) {
        if channel.member(user).is_some() {
            let members: BTreeSet<String> = channel.members.keys().map(|member| nick(*member)).collect();
            channels.insert(channel.name.to_ascii_lowercase(), members);
        }
    }
    let seen: BTreeMap<String, BTreeSet<String>> = view
        .channels
        .iter()
        .map(|(name, channel)| (name.clone(), channel.members.clone().unwrap_or_default()))
        .collect();
    ensure!(seen == channels, Subscription, "{} believes {seen:?}, and it is {channels:?}", life.username);
    Ok(())
}

/// That the history of every channel is what was stored, numbered from 1.
pub(crate) fn check_history(truth: &Truth) -> Result<(), Violation> {
    for shard in &truth.channels {
        for channel in shard.channels() {
            let stored: Vec<(u64, u64)> =
                truth
                    .events(shard.shard())
                    .iter()
                    .filter_map(|event| match &event.kind {
                        EventKind::Message {
                            target: Target::Channel { channel: of, .. }, number, ..
                        } if *of == channel.id && *number > 0 => Some((event.position.0, *number)),
                        _ => None,
                    })
                    .collect();
            let history =
                shard.history(channel.id).into_iter().flat_map(chat_state::channels::Conversation::iter);
            let kept: Vec<u64> = history.map(|record| record.event.position.0).collect();
            let positions: Vec<u64> = stored.iter().map(|(position, _)| *position).collect();
            ensure!(
                kept == positions,
                Acknowledged,
                "{} keeps {kept:?}, stored were {positions:?}",
                channel.name
            );
        }
    }
    Ok(())
}
