//! What peers notice of messages: who may speak, exactly once, direct messages and their copies, history's bounds.

mod room;

use chat_state::{
    channels::{Anchor, ChannelShard, ID_WINDOW},
    command::{
        ChannelCommand, ChannelFlag, Command, ListKind, MemberPrefix, MessageKind, ModeChange, Target,
    },
    event::EventKind,
    ids::{ChannelId, Incarnation, Position, ShardId, UserId, home_shard},
    kept::KEPT_EVENTS,
    outcome::{Outcome, Refusal},
    settings::{Bounds, Settings},
};
use room::{Room, Who, happened, refused, text_of};

fn lounge() -> (Room, Incarnation, Who, Who, ChannelId) {
    let (mut room, node) = Room::small();
    let op = room.open(node, "op");
    let guest = room.open(node, "guest");
    let channel = room.join(op, "#lounge");
    (room, node, op, guest, channel)
}

fn send(
    room: &mut Room,
    who: Who,
    target: Target,
    kind: MessageKind,
    text: &str,
    id: Option<u64>,
) -> Outcome {
    let message = room.message(who, kind, text, id);
    room.ask(who, ShardId(1), ChannelCommand::Message { target, message })
}

/// Each row: the modes, whether the guest is a member, and with which prefix; whether it may speak.
#[test]
fn who_may_speak() {
    let set = |flag, set| ModeChange::Flag { flag, set };
    let ban = || ModeChange::List { list: ListKind::Ban, mask: "guest".into(), set: true };
    let except =
        || ModeChange::List { list: ListKind::Exception, mask: "*!*@host.example".into(), set: true };
    let open = || set(ChannelFlag::NoExternal, false);
    let voice = Some(MemberPrefix::Voice);
    let rows: Vec<(Vec<ModeChange>, bool, Option<MemberPrefix>, bool)> = vec![
        (vec![], false, None, false),
        (vec![], true, None, true),
        (vec![open()], false, None, true),
        (vec![open(), set(ChannelFlag::Moderated, true)], false, None, false),
        (vec![set(ChannelFlag::Moderated, true)], true, None, false),
        (vec![set(ChannelFlag::Moderated, true)], true, voice, true),
        (vec![set(ChannelFlag::Moderated, true)], true, Some(MemberPrefix::Operator), true),
        (vec![ban()], true, None, false),
        (vec![ban()], true, voice, true),
        (vec![ban(), except()], true, None, true),
        (vec![open(), ban()], false, None, false),
    ];
    for (modes, member, prefix, may) in rows {
        for kind in [MessageKind::Privmsg, MessageKind::Notice, MessageKind::Tagmsg] {
            let (mut room, _, op, guest, channel) = lounge();
            if member {
                room.join(guest, "#lounge");
            }
            if let Some(prefix) = prefix {
                let change = ModeChange::Member { prefix, user: guest.user, nick: "guest".into(), set: true };
                happened(room.mode(op, channel, vec![change]));
            }
            room.mode(op, channel, modes.clone());
            let target = Target::Channel { channel, at_least: None };
            match send(&mut room, guest, target, kind, "x", None) {
                Outcome::Happened(_) => assert!(may, "{modes:?} {member} {prefix:?}"),
                outcome => {
                    assert_eq!(refused(outcome), Refusal::CannotSend);
                    assert!(!may, "{modes:?} {member} {prefix:?}");
                }
            }
        }
    }
}

#[test]
fn history_has_what_was_said_to_everybody() {
    let (mut room, _, op, _, channel) = lounge();
    let everybody = Target::Channel { channel, at_least: None };
    let operators = Target::Channel { channel, at_least: Some(MemberPrefix::Operator) };
    happened(send(&mut room, op, everybody.clone(), MessageKind::Privmsg, "one", None));
    happened(send(&mut room, op, operators, MessageKind::Privmsg, "for some", None));
    happened(send(&mut room, op, everybody.clone(), MessageKind::Tagmsg, "", None));
    happened(send(&mut room, op, everybody.clone(), MessageKind::Notice, "two", None));
    assert_eq!(room.texts(channel), ["one", "two"]);
    let numbers: Vec<u64> = room
        .one()
        .history(channel)
        .unwrap()
        .iter()
        .map(|record| match record.event.kind {
            EventKind::Message { number, .. } => number,
            _ => 0,
        })
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(refused(send(&mut room, op, everybody, MessageKind::Privmsg, "", None)), Refusal::Malformed);
}

#[test]
fn messages_to_some_need_membership() {
    let (mut room, _, op, guest, channel) = lounge();
    happened(room.mode(op, channel, vec![ModeChange::Flag { flag: ChannelFlag::NoExternal, set: false }]));
    let operators = Target::Channel { channel, at_least: Some(MemberPrefix::Operator) };
    assert_eq!(
        refused(send(&mut room, guest, operators.clone(), MessageKind::Privmsg, "x", None)),
        Refusal::NotOnChannel
    );
    room.join(guest, "#lounge");
    happened(send(&mut room, guest, operators, MessageKind::Privmsg, "x", None));
}

#[test]
fn an_id_is_stored_once_and_answered_in_order() {
    let (mut room, _, op, guest, channel) = lounge();
    let first = happened(room.say(op, channel, "hello", Some(2000))).position;
    assert_eq!(refused(room.say(op, channel, "hello", Some(2000))), Refusal::Duplicate { position: first });
    assert_eq!(refused(room.say(op, channel, "other", Some(2000))), Refusal::IdReused);
    let notice = Target::Channel { channel, at_least: None };
    assert_eq!(
        refused(send(&mut room, op, notice, MessageKind::Notice, "hello", Some(2000))),
        Refusal::IdReused
    );
    assert_eq!(refused(room.tell(op, guest.user, "hello", Some(2000))), Refusal::IdReused, "another target");
    assert_eq!(refused(room.say(op, channel, "old", Some(2000 - ID_WINDOW - 1))), Refusal::DuplicateWindow);
    happened(room.say(op, channel, "edge", Some(2000 - ID_WINDOW)));
    assert_eq!(room.texts(channel), ["hello", "edge"]);
    room.join(guest, "#lounge");
    happened(room.say(guest, channel, "hello", Some(2000)));
}

#[test]
fn a_repeat_is_recognised_though_the_world_moved_on() {
    let (mut room, node, op, guest, channel) = lounge();
    room.join(guest, "#lounge");
    let first = happened(room.say(guest, channel, "hello", Some(1))).position;
    happened(
        room.ask_directory(guest, chat_state::command::DirectoryCommand::Nick { nick: "renamed".into() }),
    );
    assert_eq!(refused(room.say(guest, channel, "hello", Some(1))), Refusal::Duplicate { position: first });
    happened(room.kick(op, channel, guest.user));
    let moved = Who { generation: chat_state::ids::Generation(2), ..guest };
    assert_eq!(refused(room.say(moved, channel, "hello", Some(1))), Refusal::Duplicate { position: first });
    happened(room.part(op, channel));
    assert_eq!(refused(room.say(moved, channel, "hello", Some(1))), Refusal::Duplicate { position: first });
    assert_eq!(refused(room.say(moved, channel, "hello", Some(2))), Refusal::NoSuchChannel);
    let restored = ChannelShard::restore(
        &room.one().encode_state(),
        [&*room.one().encode_history(Position(0))].into_iter(),
    );
    room.shards[0] = restored.unwrap();
    assert_eq!(refused(room.say(moved, channel, "hello", Some(1))), Refusal::Duplicate { position: first });
    let _ = node;
}

/// The line that a receiver gets has 510 bytes at most, and a longer nick leaves less of them for the text.
#[test]
fn a_long_text_is_cut_to_fit_and_recognised_under_any_nick() {
    let (mut room, _, op, guest, channel) = lounge();
    let text = "é".repeat(245);
    let line = |room: &Room, target: &str| {
        let stored = room.texts(channel).pop().unwrap();
        format!(":{} PRIVMSG {target} :{stored}", room.prefix(op)).len()
    };
    let first = happened(room.say(op, channel, &text, Some(1))).position;
    assert!(
        (509..=510).contains(&line(&room, "#lounge")),
        "cut between letters, and no shorter than it must"
    );
    for nick in ["a-much-longer-nick", "o"] {
        let command = chat_state::command::DirectoryCommand::Nick { nick: nick.into() };
        happened(room.ask_directory(op, command));
        assert_eq!(
            refused(room.say(op, channel, &text, Some(1))),
            Refusal::Duplicate { position: first },
            "as {nick}"
        );
    }
    let other = format!("{text}!");
    assert_eq!(refused(room.say(op, channel, &other, Some(1))), Refusal::IdReused, "another end");
    let operators = Target::Channel { channel, at_least: Some(MemberPrefix::Operator) };
    match &happened(send(&mut room, op, operators, MessageKind::Privmsg, &text, None)).kind {
        EventKind::Message { message, .. } => {
            let line = format!(":{} PRIVMSG @#lounge :{}", message.prefix, message.text);
            assert!((509..=510).contains(&line.len()));
        }
        other => panic!("{other:?}"),
    }
    let mut named = (*room.message(op, MessageKind::Privmsg, &text, None)).clone();
    named.to_nick = "guest".into();
    let (target, message) = (Target::User { user: guest.user }, named.into());
    match &happened(room.ask(op, ShardId(1), ChannelCommand::Message { target, message })).kind {
        EventKind::Message { message, .. } => {
            let line = format!(":{} PRIVMSG guest :{}", message.prefix, message.text);
            assert!((509..=510).contains(&line.len()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_message_leaves_its_id_free() {
    let (mut room, _, op, guest, channel) = lounge();
    assert_eq!(refused(room.say(guest, channel, "hello", Some(1))), Refusal::CannotSend);
    room.join(guest, "#lounge");
    happened(room.say(guest, channel, "hello", Some(1)));
    let _ = op;
}

/// Two users at home in different shards of four.
fn far_apart() -> (Room, Incarnation, Who, Who) {
    let mut room = Room::new(4);
    let node = room.register(1, 1);
    let alice = room.open(node, "alice");
    for n in 0.. {
        let bob = room.open(node, &format!("bob{n}"));
        if home(&room, bob.user) != home(&room, alice.user) {
            return (room, node, alice, bob);
        }
    }
    unreachable!("some shard is another one")
}

fn home(room: &Room, user: UserId) -> ShardId {
    home_shard(user, room.shard_count())
}

fn direct(room: &Room, owner: UserId, peer: UserId) -> Vec<String> {
    let shard = room.shard(home(room, owner));
    shard.direct_history(owner, peer).map_or(Vec::new(), |history| history.iter().map(text_of).collect())
}

#[test]
fn direct_messages_are_in_the_history_of_both_under_one_msgid() {
    let (mut room, node, alice, bob) = far_apart();
    let event = happened(room.tell(alice, bob.user, "one", None));
    happened(room.tell(bob, alice.user, "two", None));
    happened(room.tell(alice, bob.user, "three", None));
    assert_eq!(direct(&room, bob.user, alice.user), ["one", "three"], "not copied yet");
    room.copy(node);
    assert_eq!(direct(&room, bob.user, alice.user), ["one", "two", "three"]);
    assert_eq!(direct(&room, alice.user, bob.user), ["one", "two", "three"]);
    let copied = room.shard(home(&room, alice.user)).direct_history(alice.user, bob.user).unwrap();
    let first = copied.oldest().unwrap();
    assert_eq!((first.source, first.event.position), (home(&room, bob.user), event.position));
    assert_eq!(first.event.time_ms, event.time_ms);
    let peers: Vec<_> = room.shard(home(&room, alice.user)).direct_peers(alice.user).collect();
    assert_eq!(peers, [bob.user]);
}

#[test]
fn a_copy_is_taken_once_whoever_brings_it() {
    let (mut room, node, alice, bob) = far_apart();
    for n in 0..5 {
        happened(room.tell(alice, bob.user, &format!("m{n}"), None));
    }
    let (source, dest) = (home(&room, bob.user), home(&room, alice.user));
    let due: Vec<_> = room.shard(source).copies_due(dest, room.shard(dest).copied(source)).collect();
    assert_eq!(due.len(), 5);
    for command in &due[..3] {
        happened(room.chore(node, dest, Command::Channel(command.clone())));
    }
    // The housekeeper dies; the next one goes on from what the copies themselves say.
    let other = room.register(2, 1);
    let rest: Vec<_> = room.shard(source).copies_due(dest, room.shard(dest).copied(source)).collect();
    assert_eq!(rest, due[3..]);
    for command in due {
        room.chore(other, dest, Command::Channel(command));
    }
    assert_eq!(direct(&room, alice.user, bob.user), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(room.shard(source).copies_due(dest, room.shard(dest).copied(source)).count(), 0);
}

#[test]
fn copies_are_found_in_history_when_the_kept_events_are_gone() {
    let (mut room, node, alice, bob) = far_apart();
    happened(room.tell(alice, bob.user, "one", None));
    room.now_ms += 3_600_000;
    happened(room.tell(alice, bob.user, "two", None));
    room.now_ms += 1;
    let source = home(&room, bob.user);
    assert!(room.shard(source).events_since(Position(0)).is_err());
    room.copy(node);
    assert_eq!(direct(&room, alice.user, bob.user), ["one", "two"]);
}

#[test]
fn a_copy_for_the_wrong_shard_is_malformed() {
    let (mut room, node, alice, bob) = far_apart();
    happened(room.tell(alice, bob.user, "one", None));
    let (source, dest) = (home(&room, bob.user), home(&room, alice.user));
    let due: Vec<_> = room.shard(source).copies_due(dest, Default::default()).collect();
    assert_eq!(refused(room.chore(node, source, Command::Channel(due[0].clone()))), Refusal::Malformed);
}

#[test]
fn what_two_wrote_is_gone_with_those_at_home() {
    let (mut room, node, alice, bob) = far_apart();
    happened(room.tell(alice, bob.user, "one", None));
    room.copy(node);
    happened(room.close(alice));
    room.sweep(node);
    assert_eq!(direct(&room, bob.user, alice.user), ["one"], "bob still has it");
    assert!(room.shard(home(&room, alice.user)).direct_history(alice.user, bob.user).is_none());
    happened(room.close(bob));
    room.sweep(node);
    assert!(room.shard(home(&room, bob.user)).direct_history(bob.user, alice.user).is_none());
    let next = room.open(node, "alice");
    assert_eq!(direct(&room, next.user, bob.user), [""; 0], "who takes the nick sees none of it");
}

#[test]
fn one_may_write_to_oneself() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    happened(room.tell(alice, alice.user, "note", None));
    assert_eq!(direct(&room, alice.user, alice.user), ["note"]);
    happened(room.close(alice));
    room.sweep(node);
    assert!(room.one().direct_history(alice.user, alice.user).is_none());
}

#[test]
fn history_is_bounded_by_count_and_by_age() {
    let (mut room, node, op, _, channel) = lounge();
    let settings =
        Settings { revision: 1, history_max_messages: 3, history_max_age_ms: 1_000, ..Settings::default() };
    room.settings(node, &settings);
    for n in 0..5 {
        happened(room.say(op, channel, &format!("m{n}"), None));
    }
    assert_eq!(room.texts(channel), ["m2", "m3", "m4"]);
    room.now_ms += 997;
    let other = room.join(op, "#other");
    assert_eq!(room.texts(channel), ["m3", "m4"], "by the time of the entry, wherever it was about");
    room.now_ms += 1_000;
    happened(room.say(op, other, "x", None));
    assert_eq!(room.texts(channel), [""; 0]);
    let number = match happened(room.say(op, channel, "next", None)).kind {
        EventKind::Message { number, .. } => number,
        _ => 0,
    };
    assert_eq!(number, 6, "numbers go on");
}

/// Small bounds in bytes; a message of these tests takes about 190, and the large ones 1,000 more.
fn bounded(room: &mut Room, node: Incarnation, history_bytes: u64, history_bytes_per_shard: u64) {
    let revision = room.one().settings().revision + 1;
    let bounds = Bounds { history_bytes, history_bytes_per_shard, ..Bounds::default() };
    room.settings(node, &Settings { revision, bounds, ..Settings::default() });
}

fn say_large(room: &mut Room, who: Who, channel: ChannelId, text: &str) {
    let mut message = (*room.message(who, MessageKind::Privmsg, text, None)).clone();
    message.tags = format!("+filler={}", "x".repeat(992));
    let target = Target::Channel { channel, at_least: None };
    happened(room.ask(who, channel.shard, ChannelCommand::Message { target, message: message.into() }));
}

#[test]
fn history_is_bounded_by_bytes_tags_included() {
    let (mut room, node, op, _, channel) = lounge();
    bounded(&mut room, node, 4_000, 1 << 20);
    for text in ["1", "2", "3", "4", "5", "6"] {
        say_large(&mut room, op, channel, text);
    }
    assert_eq!(room.texts(channel), ["4", "5", "6"]);
    assert!((3_000..=4_000).contains(&room.one().history(channel).unwrap().bytes()));
    for n in 0..30 {
        happened(room.say(op, channel, &format!("small {n}"), None));
    }
    assert!(room.texts(channel).len() > 15, "small ones take less");
    bounded(&mut room, node, 400, 1 << 20);
    assert_eq!(room.texts(channel), ["small 28", "small 29"], "a lower bound holds for what is there");
}

/// Who floods one channel pays with that one's history.
#[test]
fn the_largest_conversations_of_a_shard_give_way() {
    let (mut room, node, op, guest, flooded) = lounge();
    let quiet = room.join(guest, "#quiet");
    happened(room.say(guest, quiet, "kept", None));
    happened(room.tell(guest, op.user, "kept too", None));
    bounded(&mut room, node, 1 << 20, 5_000);
    for n in 0..50 {
        say_large(&mut room, op, flooded, &n.to_string());
        assert!(room.one().history_bytes() <= 5_000);
        if n == 25 {
            let restored = ChannelShard::restore(
                &room.one().encode_state(),
                [&*room.one().encode_history(Position(0))].into_iter(),
            );
            let before = room.one().history_bytes();
            room.shards[0] = restored.unwrap();
            assert_eq!(room.one().history_bytes(), before);
        }
    }
    assert_eq!(room.texts(quiet), ["kept"]);
    assert_eq!(direct(&room, op.user, guest.user), ["kept too"]);
    assert_eq!(room.texts(flooded), ["47", "48", "49"]);
    happened(room.part(op, flooded));
    assert!(room.one().history_bytes() < 1_000, "an ended channel takes its bytes along");
    bounded(&mut room, node, 1 << 20, 200);
    assert_eq!((room.texts(quiet).len(), direct(&room, op.user, guest.user).len()), (1, 0));
}

#[test]
fn a_lower_bound_holds_for_what_is_there() {
    let (mut room, node, op, _, channel) = lounge();
    for n in 0..5 {
        happened(room.say(op, channel, &format!("m{n}"), None));
    }
    room.settings(node, &Settings { revision: 1, history_max_messages: 2, ..Settings::default() });
    assert_eq!(room.texts(channel), ["m3", "m4"]);
}

#[test]
fn pages_of_history() {
    let (mut room, _, op, _, channel) = lounge();
    let mut at = Vec::new();
    let mut times = Vec::new();
    for n in 0..10 {
        let event = happened(room.say(op, channel, &n.to_string(), None));
        at.push(Anchor::Message { source: ShardId(1), position: event.position });
        times.push(Anchor::Time(event.time_ms));
        happened(room.topic(op, channel, "something between"));
    }
    let history = room.one().history(channel).unwrap();
    for at in [at, times] {
        let page = |records: Vec<&chat_state::channels::Record>| {
            records.into_iter().map(text_of).collect::<Vec<_>>().concat()
        };
        assert_eq!(page(history.before(at[5], 3).collect()), "234");
        assert_eq!(page(history.before(at[1], 3).collect()), "0");
        assert_eq!(page(history.after(at[5], 3).collect()), "678");
        assert_eq!(page(history.after(at[8], 3).collect()), "9");
        assert_eq!(page(history.after(at[9], 3).collect()), "");
        assert_eq!(page(history.latest(None, 3).collect()), "789");
        assert_eq!(page(history.latest(Some(at[7]), 3).collect()), "89");
        assert_eq!(page(history.around(at[5], 5).collect()), "34567");
        assert_eq!(page(history.around(at[0], 5).collect()), "01234");
        assert_eq!(page(history.around(at[9], 5).collect()), "56789");
        assert_eq!(page(history.between(at[2], at[8], 3).collect()), "345");
        assert_eq!(page(history.between(at[8], at[2], 3).collect()), "567");
        assert_eq!(page(history.between(at[2], at[4], 30).collect()), "3");
        assert_eq!(page(history.between(at[2], at[2], 30).collect()), "");
        assert_eq!(page(history.latest(None, 0).collect()), "");
        assert_eq!(page(history.around(at[5], 0).collect()), "");
    }
    // What is no longer kept, or never was a message, is still a place.
    let gone = Anchor::Message { source: ShardId(1), position: Position(1) };
    assert_eq!(history.after(gone, 2).map(text_of).collect::<Vec<_>>().concat(), "01");
    assert_eq!(history.before(gone, 2).count(), 0);
}

#[test]
fn events_for_resumes_are_kept_for_the_window_and_within_a_bound() {
    let (mut room, node, op, _, channel) = lounge();
    let first = room.one().position();
    happened(room.say(op, channel, "x", None));
    assert_eq!(room.one().events_since(first).unwrap().count(), 1);
    room.now_ms += 300_000;
    happened(room.say(op, channel, "y", None));
    assert_eq!(room.one().events_since(first).err(), Some(Position(first.0 + 2)));
    assert_eq!(room.one().events_since(room.one().position()).unwrap().count(), 0);
    for _ in 0..KEPT_EVENTS / 1000 + 1 {
        let proposals = (0..1000)
            .map(|_| {
                let message = room.message(op, MessageKind::Privmsg, "z", None);
                let target = Target::Channel { channel, at_least: None };
                room.proposal(
                    node,
                    ShardId(1),
                    Some(op),
                    Command::Channel(ChannelCommand::Message { target, message }),
                )
            })
            .collect();
        room.apply(ShardId(1), proposals);
    }
    assert_eq!(room.one().kept().len(), KEPT_EVENTS);
    let oldest = room.one().kept().oldest();
    assert_eq!(room.one().position().0 - oldest.0 + 1, KEPT_EVENTS as u64);
    assert_eq!(room.one().kept().get(oldest).unwrap().position, oldest);
}
