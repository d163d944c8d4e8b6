//! What a client missed is what it would have seen.

mod random;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use chat_state::{
    channels::ChannelShard,
    command::{ChannelCommand, DirectoryCommand, MemberPrefix, MessageKind, ModeChange, Target},
    directory::Directory,
    event::{Event, EventKind},
    ids::{ChannelId, Position, ShardId, UserId},
    replay::{Gap, Replay, replay},
};
use proptest::prelude::*;
use random::{Life, Step, config, step};
use room::{Room, Who, happened};

type Place = (ShardId, Position);

fn places(replay: &Replay) -> Vec<Place> {
    replay.events.iter().map(|replayed| (replayed.shard, replayed.event.position)).collect()
}

/// In a channel that is still there.
fn channel_gap(room: &Room, channel: ChannelId, oldest: Position) -> Gap {
    let known = room.shard(channel.shard).channel(channel).expect("the channel is there");
    Gap::Channel { channel, name: known.name.clone(), oldest }
}

fn positions(room: &Room) -> BTreeMap<ShardId, Position> {
    let directory = (ShardId::DIRECTORY, room.directory.position());
    std::iter::once(directory)
        .chain(room.shards.iter().map(|shard| (shard.shard(), shard.position())))
        .collect()
}

/// Looks on while a room lives, as clients that are always there would.
#[derive(Default)]
struct Onlooker {
    /// Every event in the order in which it happened, with those who were shown it.
    shown: Vec<(ShardId, std::sync::Arc<Event>, BTreeSet<UserId>)>,
    /// Who was forgotten, and by whom the QUIT is still to be seen.
    leaving: BTreeMap<UserId, BTreeSet<UserId>>,
}

impl Onlooker {
    fn members(shard: &ChannelShard, channel: ChannelId) -> BTreeSet<UserId> {
        shard.channel(channel).map(|channel| channel.members.keys().copied().collect()).unwrap_or_default()
    }

    fn sees_channel(&mut self, before: &ChannelShard, after: &ChannelShard, event: &std::sync::Arc<Event>) {
        let viewers = match &event.kind {
            EventKind::Parted { channel, .. } | EventKind::Kicked { channel, .. } => {
                Self::members(before, *channel)
            }
            EventKind::Joined { channel, .. }
            | EventKind::TopicChanged { channel, .. }
            | EventKind::ModeChanged { channel, .. } => Self::members(after, *channel),
            EventKind::Invited { channel, target, .. } => {
                Self::members(after, *channel).into_iter().chain([*target]).collect()
            }
            EventKind::Message { target: Target::Channel { channel, at_least }, .. } => {
                let channel = after.channel(*channel).expect("it was spoken in");
                let ranked = channel.members.iter().filter(|(_, member)| match at_least {
                    None => true,
                    Some(MemberPrefix::Voice) => member.voice || member.operator,
                    Some(MemberPrefix::Operator) => member.operator,
                });
                ranked.map(|(user, _)| *user).chain(event.actor).collect()
            }
            EventKind::Message { target: Target::User { user }, .. } => {
                event.actor.into_iter().chain([*user]).collect()
            }
            EventKind::Settings { topics, .. } => {
                topics.iter().flat_map(|(channel, _)| Self::members(after, *channel)).collect()
            }
            EventKind::Forgotten { user, channels } => {
                let sharing = channels.iter().flat_map(|channel| Self::members(before, *channel));
                self.leaving.entry(*user).or_default().extend(sharing);
                BTreeSet::new()
            }
            _ => BTreeSet::new(),
        };
        self.shown.push((after.shard(), event.clone(), viewers));
    }

    fn sees_directory(&mut self, room: &Room, event: &std::sync::Arc<Event>) {
        let viewers = match &event.kind {
            EventKind::NickChanged { user, .. }
            | EventKind::AwayChanged { user, .. }
            | EventKind::RealNameChanged { user, .. } => room
                .shards
                .iter()
                .flat_map(|shard| {
                    shard
                        .channels_of(*user)
                        .flat_map(|channel| Self::members(shard, channel))
                        .collect::<Vec<_>>()
                })
                .chain([*user])
                .collect(),
            EventKind::UserModesChanged { user, .. } => BTreeSet::from([*user]),
            EventKind::Freed { user, .. } => self.leaving.remove(user).unwrap_or_default(),
            _ => BTreeSet::new(),
        };
        self.shown.push((ShardId::DIRECTORY, event.clone(), viewers));
    }
}

/// Lives again by the log, in the order of time, with an onlooker. Stops say where machines were after each event.
fn look_on(life: &Life) -> (Room, Onlooker, Vec<BTreeMap<ShardId, Position>>) {
    let mut room = Room::new(life.room.shard_count());
    let mut onlooker = Onlooker::default();
    let mut stops = vec![positions(&room)];
    let mut entries: Vec<_> =
        life.room.log.iter().flat_map(|(shard, log)| log.iter().map(|entry| (*shard, entry))).collect();
    entries.sort_by_key(|(_, entry)| entry.time_ms);
    for (shard, entry) in entries {
        let mut events = Vec::new();
        let mut note = |outcome| {
            if let chat_state::outcome::Outcome::Happened(event) = outcome {
                events.push(event);
            }
        };
        if shard.is_directory() {
            room.directory.apply(entry, |_, outcome| note(outcome));
            events.iter().for_each(|event| onlooker.sees_directory(&room, event));
        } else {
            let machine = usize::from(shard.0) - 1;
            let before = room.shards[machine].clone();
            room.shards[machine].apply(entry, |_, outcome| note(outcome));
            events.iter().for_each(|event| onlooker.sees_channel(&before, &room.shards[machine], event));
        }
        assert!(events.len() <= 1, "one proposal an entry");
        if !events.is_empty() {
            stops.push(positions(&room));
        }
    }
    (room, onlooker, stops)
}

fn alive(room: &Room) -> Vec<UserId> {
    room.directory.users().map(|(user, _)| user).collect()
}

fn live(steps: &[Step], resume_window_ms: u64) -> Life {
    let mut life = Life::new(resume_window_ms);
    steps.iter().for_each(|step| life.take(step));
    life
}

proptest! {
    #![proptest_config(config(128))]

    /// Whenever the connection was lost: what is replayed is what would have been seen live, in that order.
    #[test]
    fn nothing_is_missed_nothing_is_more(
        steps in proptest::collection::vec(step(), 1..150),
        lost in any::<prop::sample::Index>(),
    ) {
        let (room, onlooker, stops) = look_on(&live(&steps, 1 << 40));
        let lost = lost.index(stops.len());
        for user in alive(&room) {
            let expected: Vec<Place> = onlooker.shown[lost..]
                .iter()
                .filter(|(_, _, viewers)| viewers.contains(&user))
                .map(|(shard, event, _)| (*shard, event.position))
                .collect();
            let replay = replay(user, &room.directory, &room.shards, &stops[lost]);
            prop_assert_eq!(places(&replay), expected, "user {}", user);
            prop_assert_eq!(replay.gaps, []);
        }
    }

    /// A client that names only the streams it saw something of.
    #[test]
    fn what_was_seen_last_is_enough(
        steps in proptest::collection::vec(step(), 1..150),
        lost in any::<prop::sample::Index>(),
    ) {
        let (room, onlooker, stops) = look_on(&live(&steps, 1 << 40));
        let lost = lost.index(stops.len());
        for user in alive(&room) {
            let is_shown = |(_, _, viewers): &&(_, _, BTreeSet<UserId>)| viewers.contains(&user);
            let seen: BTreeMap<ShardId, Position> = onlooker.shown[..lost]
                .iter()
                .filter(is_shown)
                .map(|(shard, event, _)| (*shard, event.position))
                .collect();
            let expected: BTreeSet<Place> = onlooker.shown[lost..]
                .iter()
                .filter(is_shown)
                .map(|(shard, event, _)| (*shard, event.position))
                .collect();
            let replay = replay(user, &room.directory, &room.shards, &seen);
            let got = places(&replay);
            prop_assert_eq!(got.len(), expected.len(), "user {}", user);
            prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    /// With a short window: what is still kept is replayed, what is not is told as a gap, and only that.
    #[test]
    fn a_gap_is_told_where_something_is_missing(
        steps in proptest::collection::vec(step(), 1..200),
        lost in any::<prop::sample::Index>(),
    ) {
        let (room, onlooker, stops) = look_on(&live(&steps, 3_000));
        let lost = lost.index(stops.len());
        let oldest = |shard: ShardId| match shard {
            ShardId::DIRECTORY => room.directory.kept().oldest(),
            shard => room.shard(shard).kept().oldest(),
        };
        for user in alive(&room) {
            let replay = replay(user, &room.directory, &room.shards, &stops[lost]);
            let mut missing_in: BTreeSet<ChannelId> = BTreeSet::new();
            let mut own_missing: BTreeSet<ChannelId> = BTreeSet::new();
            let mut missing_direct: BTreeSet<ShardId> = BTreeSet::new();
            let mut missed_invitation: BTreeSet<ShardId> = BTreeSet::new();
            let mut names_missing = false;
            let mut kept = Vec::new();
            for (shard, event, viewers) in &onlooker.shown[lost..] {
                if !viewers.contains(&user) {
                    continue;
                }
                if event.position >= oldest(*shard) {
                    kept.push((*shard, event.position));
                    continue;
                }
                match &event.kind {
                    EventKind::Parted { channel, .. } if event.actor == Some(user) => {
                        missing_in.remove(channel);
                        missing_direct.insert(*shard);
                    }
                    EventKind::Kicked { channel, target, .. } if *target == user => {
                        missing_in.remove(channel);
                        missing_direct.insert(*shard);
                    }
                    EventKind::Invited { target, .. } if *target == user => {
                        // Told only where the shard knows the user.
                        missed_invitation.insert(*shard);
                    }
                    EventKind::Message { target: Target::User { .. }, .. } => {
                        missing_direct.insert(*shard);
                    }
                    // From outside it was, perhaps, and then it is no gap of a channel of the user's.
                    EventKind::Message { target: Target::Channel { channel, .. }, .. }
                        if event.actor == Some(user) =>
                    {
                        own_missing.insert(*channel);
                    }
                    EventKind::Message { target: Target::Channel { channel, .. }, .. }
                    | EventKind::Parted { channel, .. }
                    | EventKind::Joined { channel, .. }
                    | EventKind::TopicChanged { channel, .. }
                    | EventKind::ModeChanged { channel, .. }
                    | EventKind::Invited { channel, .. }
                    | EventKind::Kicked { channel, .. } => {
                        missing_in.insert(*channel);
                    }
                    EventKind::Settings { topics, .. } => missing_in.extend(topics.iter().map(|(id, _)| *id)),
                    EventKind::NickChanged { .. }
                    | EventKind::AwayChanged { .. }
                    | EventKind::RealNameChanged { .. }
                    | EventKind::Freed { .. } => names_missing = true,
                    _ => {}
                }
            }
            let got: BTreeSet<Place> = places(&replay).into_iter().collect();
            for place in &kept {
                prop_assert!(got.contains(place), "{place:?} is kept, and was missed by {user}");
            }
            let in_channel = |id: &ChannelId| {
                room.shard(id.shard).channel(*id).is_some_and(|channel| channel.member(user).is_some())
            };
            for channel in missing_in.iter().filter(|id| in_channel(id)) {
                let gap = channel_gap(&room, *channel, oldest(channel.shard));
                prop_assert!(replay.gaps.contains(&gap), "user {user}: {gap:?} not in {:?}", replay.gaps);
            }
            for shard in &missing_direct {
                let gap = Gap::Direct { shard: *shard, oldest: oldest(*shard) };
                prop_assert!(replay.gaps.contains(&gap), "user {user}: {gap:?} not in {:?}", replay.gaps);
            }
            let forgotten_missing = onlooker.shown[lost..].iter().any(|(shard, event, _)| {
                matches!(event.kind, EventKind::Forgotten { .. }) && event.position < oldest(*shard)
            });
            // A message to some of a channel is taken for one that the user may have missed.
            let missed_by_some = |channel: &ChannelId| {
                onlooker.shown[lost..].iter().any(|(shard, event, _)| {
                    matches!(&event.kind, EventKind::Message { target: Target::Channel { channel: to, at_least: Some(_) }, .. } if to == channel)
                        && event.position < oldest(*shard)
                })
            };
            // Whose names changed before they left is not known once they are gone.
            let directory_behind = stops[lost][&ShardId::DIRECTORY].0 + 1 < oldest(ShardId::DIRECTORY).0;
            let leaver_gone = directory_behind
                && onlooker.shown[lost..].iter().any(|(_, event, _)| match &event.kind {
                    EventKind::Parted { .. } => event.actor.is_some_and(|user| room.directory.user(user).is_none()),
                    EventKind::Kicked { target, .. } => room.directory.user(*target).is_none(),
                    EventKind::Forgotten { user, .. } => room.directory.user(*user).is_none(),
                    _ => false,
                });
            for gap in &replay.gaps {
                match gap {
                    Gap::Channel { channel, .. } => prop_assert!(
                        missing_in.contains(channel) || own_missing.contains(channel) || missed_by_some(channel) || names_missing || forgotten_missing || leaver_gone,
                        "user {user}: {gap:?} though nothing is missing"
                    ),
                    Gap::Direct { shard, .. } => {
                        prop_assert!(missing_direct.contains(shard) || missed_invitation.contains(shard));
                    },
                }
            }
        }
    }
}

fn two_in_lounge() -> (Room, Who, Who, ChannelId) {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let bob = room.open(node, "bob");
    let channel = room.join(alice, "#lounge");
    room.join(bob, "#lounge");
    (room, alice, bob, channel)
}

fn kinds(room: &Room, user: UserId, seen: &BTreeMap<ShardId, Position>) -> Vec<&'static str> {
    replay(user, &room.directory, &room.shards, seen)
        .events
        .iter()
        .map(|replayed| match &replayed.event.kind {
            EventKind::Joined { .. } => "JOIN",
            EventKind::Parted { .. } => "PART",
            EventKind::Message { .. } => "PRIVMSG",
            EventKind::NickChanged { .. } => "NICK",
            EventKind::Freed { .. } => "QUIT",
            EventKind::ModeChanged { .. } => "MODE",
            _ => "?",
        })
        .collect()
}

#[test]
fn a_nick_change_stands_between_the_messages_it_parts() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let seen = positions(&room);
    room.say(bob, channel, "before", None);
    room.ask_directory(bob, DirectoryCommand::Nick { nick: "rob".into() });
    room.say(bob, channel, "after", None);
    assert_eq!(kinds(&room, alice.user, &seen), ["PRIVMSG", "NICK", "PRIVMSG"]);
    assert_eq!(kinds(&room, bob.user, &seen), ["PRIVMSG", "NICK", "PRIVMSG"], "own echoes too");
}

#[test]
fn the_log_orders_where_clocks_do_not() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let seen = positions(&room);
    room.now_ms += 60_000;
    room.ask_directory(bob, DirectoryCommand::Nick { nick: "rob".into() });
    room.now_ms -= 50_000;
    // Stamped earlier, but its proposer had seen the new nick.
    room.say(bob, channel, "after", None);
    assert_eq!(kinds(&room, alice.user, &seen), ["NICK", "PRIVMSG"]);
}

#[test]
fn a_quit_is_shown_to_those_who_shared_a_channel() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let node = alice.node;
    let carol = room.open(node, "carol");
    let seen = positions(&room);
    room.say(bob, channel, "bye", None);
    happened(room.close(bob));
    room.sweep(node);
    assert_eq!(kinds(&room, alice.user, &seen), ["PRIVMSG", "QUIT"]);
    assert_eq!(kinds(&room, carol.user, &seen), [""; 0]);
}

#[test]
fn a_quit_waits_for_the_last_lines_though_the_clocks_differ() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let seen = positions(&room);
    happened(room.close(bob));
    room.now_ms += 60_000;
    room.say(alice, channel, "who else?", None);
    room.forget(alice.node, ShardId(1), bob.user);
    room.now_ms -= 50_000;
    room.sweep_after_forgetting(alice.node, bob.user);
    assert_eq!(kinds(&room, alice.user, &seen), ["PRIVMSG", "QUIT"]);
}

#[test]
fn changes_are_shown_of_those_who_were_there_then() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let late = room.open(alice.node, "late");
    let seen = positions(&room);
    let nick = |nick: &str| DirectoryCommand::Nick { nick: nick.into() };
    room.ask_directory(late, nick("later"));
    room.ask_directory(bob, nick("rob"));
    room.part(bob, channel);
    room.ask_directory(bob, nick("robert"));
    room.join(late, "#lounge");
    assert_eq!(kinds(&room, alice.user, &seen), ["NICK", "PART", "JOIN"]);
}

#[test]
fn a_missed_nick_is_a_gap_of_the_channels_shared() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let quiet = room.join(alice, "#quiet");
    let seen = positions(&room);
    room.ask_directory(bob, DirectoryCommand::Nick { nick: "rob".into() });
    room.now_ms += 400_000;
    room.open(alice.node, "passer");
    let oldest = room.one().kept().oldest();
    let gaps = |room: &Room, seen| replay(alice.user, &room.directory, &room.shards, seen).gaps;
    assert_eq!(gaps(&room, &seen), [channel_gap(&room, channel, oldest)]);
    assert_eq!(gaps(&room, &positions(&room)), []);
    let _ = quiet;
}

#[test]
fn a_quit_is_owed_though_the_forgetting_was_seen() {
    let (mut room, alice, bob, _) = two_in_lounge();
    happened(room.close(bob));
    room.forget(alice.node, ShardId(1), bob.user);
    let seen = positions(&room);
    room.sweep_after_forgetting(alice.node, bob.user);
    assert_eq!(kinds(&room, alice.user, &seen), ["QUIT"]);
}

/// Seen: the forgetting. Not seen, and gone: the QUIT. Whoever did not share a channel with it misses nothing.
#[test]
fn a_quit_that_is_gone_leaves_a_gap_though_the_forgetting_was_seen() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let other = room.join(alice, "#other");
    let stranger = room.open(alice.node, "stranger");
    room.join(stranger, "#other");
    happened(room.close(bob));
    room.forget(alice.node, ShardId(1), bob.user);
    let seen = positions(&room);
    room.sweep_after_forgetting(alice.node, bob.user);
    let seen_all = positions(&room);
    room.now_ms += 400_000;
    room.open(alice.node, "passer");
    room.directory = Directory::restore(&room.directory.encode_state()).unwrap();
    happened(room.say(alice, channel, "still here", None));
    let oldest = room.one().kept().oldest();
    let gaps = |user, seen| replay(user, &room.directory, &room.shards, seen).gaps;
    assert_eq!(gaps(alice.user, &seen), [channel_gap(&room, channel, oldest)]);
    assert_eq!(gaps(alice.user, &seen_all), []);
    assert_eq!(gaps(stranger.user, &seen), []);
    let _ = other;
}

#[test]
fn messages_to_operators_are_replayed_to_who_was_one() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let seen = positions(&room);
    let operators = Target::Channel { channel, at_least: Some(MemberPrefix::Operator) };
    let rank =
        |set| ModeChange::Member { prefix: MemberPrefix::Operator, user: bob.user, nick: "bob".into(), set };
    let ask = |room: &mut Room| {
        let message = room.message(alice, MessageKind::Privmsg, "psst", None);
        let target = operators.clone();
        happened(room.ask(alice, ShardId(1), ChannelCommand::Message { target, message }));
    };
    ask(&mut room);
    happened(room.mode(alice, channel, vec![rank(true)]));
    ask(&mut room);
    happened(room.part(bob, channel));
    ask(&mut room);
    assert_eq!(kinds(&room, bob.user, &seen), ["MODE", "PRIVMSG", "PART"]);
}

#[test]
fn a_quiet_client_has_no_gap_though_the_window_moved_on() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let quiet = room.join(bob, "#quiet");
    room.say(bob, quiet, "hello?", None);
    room.ask_directory(bob, DirectoryCommand::Nick { nick: "rob".into() });
    let seen_by_bob = positions(&room);
    room.part(bob, channel);
    let left = positions(&room);
    for _ in 0..10 {
        room.now_ms += 100_000;
        room.say(alice, channel, "busy", None);
        let passer = room.open(alice.node, "passer");
        room.close(passer);
        room.sweep(alice.node);
    }
    assert!(room.one().kept().oldest() > left[&ShardId(1)]);
    let after_leaving = replay(bob.user, &room.directory, &room.shards, &left);
    assert_eq!((after_leaving.gaps, after_leaving.events), (vec![], vec![]));
    let oldest = room.one().kept().oldest();
    let before_leaving = replay(bob.user, &room.directory, &room.shards, &seen_by_bob);
    assert_eq!(before_leaving.gaps, [Gap::Direct { shard: ShardId(1), oldest }], "its own PART is gone");
    let alices = replay(alice.user, &room.directory, &room.shards, &left);
    assert_eq!(alices.gaps, [channel_gap(&room, channel, oldest)]);
}

#[test]
fn a_restored_room_replays_the_same() {
    let (mut room, alice, bob, channel) = two_in_lounge();
    let seen = positions(&room);
    room.say(bob, channel, "one", None);
    room.tell(bob, alice.user, "two", None);
    room.kick(alice, channel, bob.user);
    let before = replay(bob.user, &room.directory, &room.shards, &seen);
    room.directory = Directory::restore(&room.directory.encode_state()).unwrap();
    let chunk = room.one().encode_history(Position(0));
    room.shards[0] = ChannelShard::restore(&room.one().encode_state(), [&*chunk].into_iter()).unwrap();
    assert_eq!(replay(bob.user, &room.directory, &room.shards, &seen), before);
    assert_eq!(before.events.len(), 3);
}
