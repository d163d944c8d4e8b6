//! What holds for every life of a room.

mod random;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use chat_state::{
    channels::{ChannelShard, Conversation},
    command::{Message, MessageKind},
    directory::Directory,
    entry::Entry,
    event::EventKind,
    ids::{Lineage, Position, SessionId, ShardId, UserId},
    outcome::Outcome,
};
use proptest::prelude::*;
use random::{Life, Step, all_shards, bytes, config, step};
use room::{DIRECTORY, Room};

fn live(steps: &[Step]) -> Life {
    let mut life = Life::new(4_000);
    for step in steps {
        life.take(step);
    }
    life
}

fn reread(entry: &Entry) -> Entry {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    Entry::decode(&bytes).expect("an entry reads back")
}

/// The same entries on another replica; with `change` between them.
fn follow(leader: &Room, mut change: impl FnMut(ShardId, usize, &mut Room)) -> Room {
    let mut replica = Room::new(leader.shard_count());
    for shard in all_shards(leader) {
        for (n, entry) in leader.log.get(&shard).into_iter().flatten().enumerate() {
            change(shard, n, &mut replica);
            let entry = reread(entry);
            let mut outcomes = Vec::new();
            if shard.is_directory() {
                replica.directory.apply(&entry, |_, outcome| outcomes.push(outcome));
            } else {
                let machine = &mut replica.shards[usize::from(shard.0) - 1];
                machine.apply(&entry, |_, outcome| outcomes.push(outcome));
            }
            replica.outcomes.entry(shard).or_default().extend(outcomes);
        }
    }
    replica
}

fn events(room: &Room, shard: ShardId) -> impl Iterator<Item = &chat_state::event::Event> {
    room.outcomes.get(&shard).into_iter().flatten().filter_map(|outcome| match outcome {
        Outcome::Happened(event) => Some(&**event),
        _ => None,
    })
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn replicas_are_equal(steps in proptest::collection::vec(step(), 1..150)) {
        let life = live(&steps);
        let replica = follow(&life.room, |_, _, _| {});
        prop_assert_eq!(&replica.outcomes, &life.room.outcomes);
        prop_assert!(bytes(&replica) == bytes(&life.room), "equal states have equal bytes");
    }

    /// History is written in chunks: one at each of some earlier points, the rest at the restore.
    #[test]
    fn a_restart_from_a_snapshot_is_invisible(
        steps in proptest::collection::vec(step(), 1..150),
        restarts in proptest::collection::vec(1..40_usize, 1..6),
    ) {
        let life = live(&steps);
        let mut chunks: BTreeMap<ShardId, (Position, Vec<Vec<u8>>)> = BTreeMap::new();
        let mut cycle = restarts.iter().copied().cycle();
        let mut next = cycle.next().unwrap_or(1);
        let mut restore = false;
        let replica = follow(&life.room, |shard, n, replica| {
            if n % next != next - 1 {
                return;
            }
            next = cycle.next().unwrap_or(1);
            restore = !restore;
            if shard.is_directory() {
                let before = replica.directory.encode_state();
                replica.directory = Directory::restore(&before).expect("a snapshot restores");
                assert!(replica.directory.encode_state() == before, "identical bytes");
                return;
            }
            let machine = &mut replica.shards[usize::from(shard.0) - 1];
            let (written, chunks) = chunks.entry(shard).or_default();
            let snapshot = machine.snapshot();
            chunks.push(snapshot.encode_history(*written));
            *written = snapshot.position();
            if restore {
                let before = snapshot.encode_state();
                let restored = ChannelShard::restore(&before, chunks.iter().map(Vec::as_slice));
                *machine = restored.expect("a snapshot restores");
                assert!(machine.encode_state() == before, "identical bytes");
            }
        });
        prop_assert_eq!(&replica.outcomes, &life.room.outcomes);
        prop_assert!(bytes(&replica) == bytes(&life.room));
    }

    #[test]
    fn positions_have_no_holes_and_time_does_not_go_back(steps in proptest::collection::vec(step(), 1..150)) {
        let room = live(&steps).room;
        for shard in all_shards(&room) {
            let mut last = (0, 0);
            for event in events(&room, shard) {
                prop_assert_eq!(event.position.0, last.0 + 1);
                prop_assert!(event.time_ms >= last.1);
                last = (event.position.0, event.time_ms);
            }
        }
    }

    #[test]
    fn a_nick_has_one_owner_at_each_position(steps in proptest::collection::vec(step(), 1..200)) {
        let room = live(&steps).room;
        let mut owners: BTreeMap<String, UserId> = BTreeMap::new();
        for event in events(&room, DIRECTORY) {
            match &event.kind {
                EventKind::Opened { user, nick, .. } => {
                    prop_assert_eq!(owners.insert(nick.to_ascii_lowercase(), *user), None);
                }
                EventKind::NickChanged { user, nick, .. } => {
                    owners.retain(|_, owner| owner != user);
                    prop_assert_eq!(owners.insert(nick.to_ascii_lowercase(), *user), None);
                }
                EventKind::Freed { user, .. } => owners.retain(|_, owner| owner != user),
                _ => {}
            }
        }
        for (nick, owner) in owners {
            prop_assert_eq!(room.directory.nick_owner(&nick), Some(owner));
        }
    }

    #[test]
    fn an_id_is_stored_at_most_once(steps in proptest::collection::vec(step(), 1..200)) {
        let room = live(&steps).room;
        for shard in all_shards(&room) {
            let mut stored: BTreeSet<(SessionId, u64)> = BTreeSet::new();
            for event in events(&room, shard) {
                if let EventKind::Message { message, session, .. } = &event.kind
                    && let Some(id) = message.id
                {
                    prop_assert!(stored.insert((*session, id)), "{session} {id} twice");
                }
            }
        }
    }

    #[test]
    fn nothing_happens_for_a_user_once_forgotten(steps in proptest::collection::vec(step(), 1..200)) {
        let room = live(&steps).room;
        for shard in all_shards(&room).skip(1) {
            let mut gone = BTreeSet::new();
            for event in events(&room, shard) {
                if let EventKind::Forgotten { user, .. } = event.kind {
                    prop_assert!(gone.insert(user), "forgotten once");
                } else if let Some(actor) = event.actor {
                    prop_assert!(!gone.contains(&actor), "{actor} acted at {}", event.position);
                }
            }
            for user in gone {
                prop_assert_eq!(room.shard(shard).channels_of(user).count(), 0);
            }
        }
    }

    #[test]
    fn membership_is_the_same_from_both_sides(steps in proptest::collection::vec(step(), 1..150)) {
        let room = live(&steps).room;
        for shard in &room.shards {
            for channel in shard.channels() {
                prop_assert!(!channel.members.is_empty() || channel.declared.is_some());
                for user in channel.members.keys() {
                    prop_assert!(shard.channels_of(*user).any(|id| id == channel.id));
                }
                prop_assert!(channel.limit.is_none_or(|limit| limit > 0));
                let listed = channel.bans.len() + channel.exceptions.len() + channel.invitations.len();
                prop_assert!(listed <= 3, "the limit of the settings");
            }
        }
    }

    #[test]
    fn history_is_whole_and_within_its_bounds(steps in proptest::collection::vec(step(), 1..200)) {
        let room = live(&steps).room;
        for shard in &room.shards {
            let settings = shard.settings();
            let youngest_gone = shard.time_ms().saturating_sub(settings.history_max_age_ms);
            for channel in shard.channels() {
                let said: Vec<(u64, &std::sync::Arc<Message>)> = events(&room, shard.shard())
                    .filter_map(|event| match &event.kind {
                        EventKind::Message { target, message, number, .. }
                            if *target
                                == (chat_state::command::Target::Channel { channel: channel.id, at_least: None })
                                && message.kind != MessageKind::Tagmsg =>
                        {
                            Some((*number, message))
                        }
                        _ => None,
                    })
                    .collect();
                for (n, (number, _)) in said.iter().enumerate() {
                    prop_assert_eq!(*number, n as u64 + 1, "numbers have no holes");
                }
                let kept: Vec<_> = shard.history(channel.id).into_iter().flat_map(Conversation::iter).collect();
                prop_assert!(kept.len() <= settings.history_max_messages as usize);
                let bytes = shard.history(channel.id).map_or(0, Conversation::bytes);
                prop_assert!(bytes <= settings.bounds.history_bytes);
                let least = kept.iter().map(|record| room::text_of(record).len() as u64).sum::<u64>();
                prop_assert!(bytes >= least && (bytes == 0) == kept.is_empty());
                for (record, (_, message)) in kept.iter().rev().zip(said.iter().rev()) {
                    prop_assert!(record.event.time_ms >= youngest_gone);
                    match &record.event.kind {
                        EventKind::Message { message: kept, .. } => prop_assert_eq!(kept, *message),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
        }
    }

    /// After the housekeeper's round: the sender's home shard has what the recipient's has.
    #[test]
    fn both_sides_of_a_conversation_are_equal(steps in proptest::collection::vec(step(), 1..150)) {
        let mut life = live(&steps);
        life.take(&Step::Copy);
        let room = &life.room;
        for (one, _) in room.directory.users() {
            for (other, _) in room.directory.users() {
                let at = |user| room.shard(chat_state::ids::home_shard(user, room.shard_count()));
                let msgids = |shard: &ChannelShard| -> BTreeSet<(ShardId, Position)> {
                    let oldest = shard.time_ms().saturating_sub(shard.settings().history_max_age_ms / 2);
                    shard
                        .direct_history(one, other)
                        .into_iter()
                        .flat_map(Conversation::iter)
                        .filter(|record| record.event.time_ms > oldest)
                        .map(|record| (record.source, record.event.position))
                        .collect()
                };
                let (here, there) = (msgids(at(one)), msgids(at(other)));
                // Each shard trims by its own clock and settings: compare what both still have room for.
                if here.len() < 3 && there.len() < 3 && at(one).time_ms() == at(other).time_ms() {
                    prop_assert_eq!(here, there);
                }
            }
        }
    }

    #[test]
    fn damaged_snapshots_are_refused_or_read_but_never_panic(
        steps in proptest::collection::vec(step(), 1..40),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let room = live(&steps).room;
        let mut bytes = room.directory.encode_state();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        let _ = Directory::restore(&bytes);
        let mut bytes = room.shards[0].encode_state();
        let history = room.shards[0].encode_history(Position(0));
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        let _ = ChannelShard::restore(&bytes, [&*history].into_iter());
    }
}

#[test]
fn a_snapshot_names_what_is_wrong_with_it() {
    use chat_state::snapshot::RestoreError;
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let channel = room.join(alice, "#a");
    let at = room::happened(room.say(alice, channel, "x", None)).position;
    let state = room.one().encode_state();
    let none = ChannelShard::restore(&state, [].into_iter()).err();
    assert_eq!(none, Some(RestoreError::MissingMessage { shard: ShardId(1), position: at }));
    assert_eq!(ChannelShard::restore(&[], [].into_iter()).err(), Some(RestoreError::Empty));
    assert_eq!(Directory::restore(&[9, 1]).err(), Some(RestoreError::Version { found: 9 }));
    assert_eq!(Directory::restore(&state).err(), Some(RestoreError::Content { found: 2, wanted: 1 }));
    let cut = &state[..state.len() / 2];
    assert!(matches!(ChannelShard::restore(cut, [].into_iter()), Err(RestoreError::Unreadable(_))));
    let _ = Lineage(1);
}
