//! What peers notice of the directory's rules.

mod room;

use chat_state::{
    command::{Command, CommonCommand, DirectoryCommand, UserModes},
    directory::Directory,
    entry::{DecodeError, Entry, Proposal, Stamp},
    event::EventKind,
    ids::{FeatureLevel, Generation, Incarnation, Index, Lineage, MemberId, Place, Position, ShardId},
    outcome::{Outcome, Refusal},
    settings::{Bounds, Settings},
};
use room::{DIRECTORY, Room, Who, happened, refused, token};

fn nick(room: &mut Room, who: Who, nick: &str) -> Outcome {
    room.ask_directory(who, DirectoryCommand::Nick { nick: nick.into() })
}

#[test]
fn a_nick_has_one_owner_whatever_its_case() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "Alice");
    let bob = room.open(node, "bob");
    assert_eq!(refused(room.open_outcome(node, "aLICE", None, false)), Refusal::NickInUse);
    assert_eq!(refused(nick(&mut room, bob, "ALICE")), Refusal::NickInUse);
    assert_eq!(refused(nick(&mut room, bob, "bob")), Refusal::NoChange);
    happened(nick(&mut room, alice, "ALICE"));
    assert_eq!(room.directory.user(alice.user).unwrap().nick, "ALICE", "one's own nick in another case");
    assert_eq!(&**room.directory.prefix(alice.user).unwrap(), "ALICE!~u@host.example");
    happened(nick(&mut room, alice, "carol"));
    assert_eq!(room.directory.user_by_nick("alice"), None);
    happened(nick(&mut room, bob, "alice"));
    assert_eq!(room.directory.user_by_nick("alice"), Some(bob.user));
}

#[test]
fn a_nick_change_tells_the_prefix_before_it() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    match &happened(nick(&mut room, alice, "anna")).kind {
        EventKind::NickChanged { prefix, nick, .. } => {
            assert_eq!((&**prefix, nick.as_str()), ("alice!~u@host.example", "anna"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_nicks_and_people_are_refused() {
    let (mut room, node) = Room::small();
    for bad in ["", "1a", "a b", "a!b", &"n".repeat(31)] {
        assert_eq!(refused(room.open_outcome(node, bad, None, false)), Refusal::InvalidNick, "{bad}");
    }
    let mut open = chat_state::command::OpenSession {
        request: 1,
        nick: "a".into(),
        username: "u u".into(),
        host: "h".into(),
        real_name: "r".into(),
        secure: false,
        token: None,
        shards: 1,
    };
    assert_eq!(
        refused(room.directory_chore(node, DirectoryCommand::Open(Box::new(open.clone())))),
        Refusal::Malformed
    );
    open.username = "u".into();
    open.real_name = "r\r\nQUIT".into();
    assert_eq!(
        refused(room.directory_chore(node, DirectoryCommand::Open(Box::new(open)))),
        Refusal::Malformed
    );
}

#[test]
fn the_settings_entry_decides_the_length_of_nicks() {
    let (mut room, node) = Room::small();
    let mut settings = Settings { revision: 2, ..Settings::default() };
    settings.limits.nick_length = 3;
    room.settings(node, &settings);
    assert_eq!(refused(room.open_outcome(node, "four", None, false)), Refusal::InvalidNick);
    settings.limits.nick_length = 9;
    settings.revision = 2;
    room.settings(node, &settings);
    assert_eq!(room.directory.settings().limits.nick_length, 3, "not a higher revision");
    settings.revision = 3;
    room.settings(node, &settings);
    room.open(node, "four");
}

#[test]
fn the_nick_of_a_closing_user_is_taken_until_every_shard_forgot_it() {
    let mut room = Room::new(4);
    let node = room.register(1, 1);
    let alice = room.open(node, "alice");
    room.ask_directory(alice, DirectoryCommand::Reach { shards: vec![ShardId(1), ShardId(2), ShardId(3)] });
    let reach = room.directory.user(alice.user).unwrap().reach.clone();
    happened(room.close(alice));
    assert_eq!(room.directory.user_by_nick("alice"), None, "nobody to talk to");
    assert!(room.directory.prefix(alice.user).is_some(), "its last lines can still be rendered");
    assert_eq!(refused(room.open_outcome(node, "alice", None, false)), Refusal::NickInUse);
    let user = alice.user;
    let some: Vec<_> = reach.iter().skip(1).map(|shard| (*shard, Position(1))).collect();
    assert_eq!(
        refused(room.directory_chore(node, DirectoryCommand::Free { user, forgotten: some })),
        Refusal::Malformed,
        "one shard is missing"
    );
    room.sweep(node);
    assert_eq!(room.directory.closing().count(), 0);
    room.open(node, "alice");
    assert_eq!(
        refused(room.directory_chore(node, DirectoryCommand::Free { user, forgotten: Vec::new() })),
        Refusal::NoChange
    );
}

#[test]
fn a_ghost_gives_way_to_who_claims_its_nick() {
    let (mut room, node) = Room::small();
    let ghost = room.open_with(node, "alice", None);
    let other = room.register(2, 1);
    assert_eq!(refused(room.open_outcome(other, "alice", None, false)), Refusal::NickInUse, "its node lives");
    happened(room.chore(other, DIRECTORY, Command::Common(CommonCommand::DropNode(node))));
    assert_eq!(room.directory.user_by_nick("alice"), Some(ghost.user), "it stays for the resume window");
    match &happened(room.open_outcome(other, "alice", None, false)).kind {
        EventKind::Closing { user, .. } => assert_eq!(*user, ghost.user),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(room.open_outcome(other, "alice", None, false)), Refusal::NickInUse, "not yet freed");
    room.sweep(other);
    room.open(other, "alice");
}

#[test]
fn who_can_resume_does_not_give_way() {
    let (mut room, node) = Room::small();
    room.open(node, "alice");
    let other = room.register(2, 1);
    happened(room.chore(other, DIRECTORY, Command::Common(CommonCommand::DropNode(node))));
    assert_eq!(refused(room.open_outcome(other, "alice", None, false)), Refusal::NickInUse);
    let bob = room.open(other, "bob");
    assert_eq!(refused(nick(&mut room, bob, "alice")), Refusal::NickInUse);
}

#[test]
fn without_resume_a_session_ends_with_its_connection() {
    let (mut room, node) = Room::small();
    let plain = room.open_with(node, "plain", None);
    let resuming = room.open(node, "resuming");
    for who in [plain, resuming] {
        let (session, generation) = (who.session, who.generation);
        let reason = "Connection reset".to_owned();
        room.directory_chore(node, DirectoryCommand::Detach { session, generation, reason });
    }
    assert!(room.directory.user(plain.user).is_none());
    assert!(room.directory.user(resuming.user).is_some());
    room.directory = Directory::restore(&room.directory.encode_state()).unwrap();
    assert_eq!(room.directory.detached().map(|(id, _)| id).collect::<Vec<_>>(), [resuming.session]);
    let (session, generation) = (resuming.session, resuming.generation);
    happened(room.directory_chore(node, DirectoryCommand::Expire { session, generation }));
    assert_eq!(room.directory.closing_user(resuming.user).unwrap().reason, "Connection reset");
}

#[test]
fn a_resume_moves_the_session_and_the_old_connection_is_stale() {
    let (mut room, node) = Room::small();
    let other = room.register(2, 1);
    let alice = room.open_with(node, "alice", Some(token(1)));
    let event = happened(room.attach_outcome(other, token(1), token(2), false));
    match event.kind {
        EventKind::Attached { session, generation, .. } => {
            assert_eq!((session, generation), (alice.session, Generation(2)));
        }
        ref other => panic!("{other:?}"),
    }
    assert_eq!(room.directory.session(alice.session).unwrap().incarnation, Some(other));
    assert_eq!(refused(nick(&mut room, alice, "anna")), Refusal::StaleSession);
    assert_eq!(refused(room.close(alice)), Refusal::StaleSession);
    let (session, generation) = (alice.session, alice.generation);
    let detach = DirectoryCommand::Detach { session, generation, reason: "late".into() };
    assert_eq!(refused(room.directory_chore(node, detach)), Refusal::StaleSession);
    assert_eq!(
        refused(room.directory_chore(node, DirectoryCommand::Expire { session, generation })),
        Refusal::NoChange,
        "a stale expiry"
    );
    let moved = Who { generation: Generation(2), node: other, ..alice };
    happened(nick(&mut room, moved, "anna"));
    happened(room.attach_outcome(other, token(2), token(3), false));
    assert_eq!(refused(nick(&mut room, moved, "anne")), Refusal::StaleSession, "two connections of one node");
}

#[test]
fn an_expiry_names_the_generation_it_saw() {
    let (mut room, node) = Room::small();
    let alice = room.open_with(node, "alice", Some(token(1)));
    let session = alice.session;
    let detach = |generation| DirectoryCommand::Detach { session, generation, reason: "gone".into() };
    happened(room.directory_chore(node, detach(Generation(1))));
    happened(room.attach_outcome(node, token(1), token(2), false));
    let expire = |generation| DirectoryCommand::Expire { session, generation };
    assert_eq!(refused(room.directory_chore(node, expire(Generation(2)))), Refusal::NoChange, "it is here");
    happened(room.directory_chore(node, detach(Generation(2))));
    assert_eq!(refused(room.directory_chore(node, expire(Generation(1)))), Refusal::NoChange);
    assert!(room.directory.user(alice.user).is_some());
    happened(room.directory_chore(node, expire(Generation(2))));
    assert!(room.directory.user(alice.user).is_none());
}

/// Each story: tokens shown in turn (a new one is issued for each: 2, 3, 4 …; `0` confirms), then those that are good.
#[test]
fn the_previous_token_is_good_until_the_new_one_arrived() {
    let stories: [(&[u8], &[u8]); 6] = [
        (&[], &[1]),
        (&[1], &[1, 2]),
        (&[1, 2], &[2, 3]),
        (&[1, 1], &[1, 3]),
        (&[1, 0], &[2]),
        (&[1, 2, 0], &[3]),
    ];
    for (shown, good) in stories {
        let (mut room, node) = Room::small();
        let alice = room.open_with(node, "alice", Some(token(1)));
        let mut next = 2;
        for shown in shown {
            if *shown == 0 {
                let session = alice.session;
                let generation = room.directory.session(session).unwrap().generation;
                happened(room.directory_chore(node, DirectoryCommand::ConfirmToken { session, generation }));
            } else {
                happened(room.attach_outcome(node, token(*shown), token(next), false));
                next += 1;
            }
        }
        let found: Vec<u8> =
            (1..=9).filter(|n| room.directory.session_by_token(&token(*n)).is_some()).collect();
        assert_eq!(found, good, "after {shown:?}");
        for bad in (1..=9).filter(|n| !good.contains(n)) {
            let outcome = room.attach_outcome(node, token(bad), token(99), false);
            assert_eq!(refused(outcome), Refusal::InvalidToken);
        }
    }
}

#[test]
fn a_token_issued_over_tls_is_good_over_tls_only() {
    let (mut room, node) = Room::small();
    happened(room.open_outcome(node, "alice", Some(token(1)), true));
    assert_eq!(refused(room.attach_outcome(node, token(1), token(2), false)), Refusal::InvalidToken);
    happened(room.attach_outcome(node, token(1), token(2), true));
    assert_eq!(refused(room.attach_outcome(node, token(2), token(3), false)), Refusal::InvalidToken);

    happened(room.open_outcome(node, "bob", Some(token(11)), false));
    happened(room.attach_outcome(node, token(11), token(12), true));
    assert_eq!(refused(room.attach_outcome(node, token(12), token(13), false)), Refusal::InvalidToken);
    happened(room.attach_outcome(node, token(11), token(13), false));
}

#[test]
fn tokens_end_with_their_session() {
    let (mut room, node) = Room::small();
    let alice = room.open_with(node, "alice", Some(token(1)));
    happened(room.close(alice));
    assert_eq!(refused(room.attach_outcome(node, token(1), token(2), false)), Refusal::InvalidToken);
}

#[test]
fn a_node_registers_once_and_its_next_life_ends_the_one_before() {
    let mut room = Room::new(1);
    let first = room.register(1, 100);
    let alice = room.open(first, "alice");
    let plain = room.open_with(first, "plain", None);
    assert_eq!(room.register_outcome(1, 100), Outcome::Repeated);
    assert_eq!(room.directory.incarnation_of(MemberId(1), 100), Some(first));
    let second = room.register(1, 101);
    assert!(second > first);
    assert_eq!(room.directory.nodes().count(), 1);
    for who in [alice, plain] {
        assert!(room.directory.session(who.session).unwrap().is_detached());
    }
    assert_eq!(refused(nick(&mut room, alice, "anna")), Refusal::UnknownNode);
    assert_eq!(room.register_outcome(1, 100), Outcome::Repeated, "a late copy ends nobody");
    assert_eq!(room.directory.incarnation_of(MemberId(1), 101), Some(second));
}

#[test]
fn who_is_not_registered_is_unknown() {
    let (mut room, node) = Room::small();
    assert_eq!(refused(room.open_outcome(Incarnation(77), "a", None, false)), Refusal::UnknownNode);
    assert_eq!(refused(room.open_outcome(Incarnation(0), "a", None, false)), Refusal::UnknownNode);
    happened(room.chore(node, DIRECTORY, Command::Common(CommonCommand::DropNode(node))));
    assert_eq!(refused(room.open_outcome(node, "a", None, false)), Refusal::UnknownNode);
}

#[test]
fn a_late_detachment_by_a_dropped_node_does_not_hit_who_moved_on() {
    let (mut room, node) = Room::small();
    let other = room.register(2, 1);
    let alice = room.open_with(node, "alice", Some(token(1)));
    happened(room.chore(other, DIRECTORY, Command::Common(CommonCommand::DropNode(node))));
    happened(room.attach_outcome(other, token(1), token(2), false));
    let (session, generation) = (alice.session, alice.generation);
    let reason = String::new();
    let late = DirectoryCommand::Detach { session, generation, reason };
    assert_eq!(refused(room.directory_chore(other, late)), Refusal::StaleSession);
    assert!(!room.directory.session(session).unwrap().is_detached());
}

#[test]
fn away_real_name_and_modes() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let long = "é".repeat(150);
    happened(room.ask_directory(alice, DirectoryCommand::Away { message: Some(long) }));
    assert_eq!(room.directory.user(alice.user).unwrap().away.as_ref().unwrap().len(), 200);
    happened(room.ask_directory(alice, DirectoryCommand::Away { message: None }));
    assert_eq!(room.directory.user(alice.user).unwrap().away, None);
    happened(room.ask_directory(alice, DirectoryCommand::RealName { real_name: "New".into() }));
    let same = DirectoryCommand::RealName { real_name: "New".into() };
    assert_eq!(refused(room.ask_directory(alice, same)), Refusal::NoChange);
    let set = UserModes { invisible: true, bot: true };
    let clear = UserModes { invisible: false, bot: true };
    happened(room.ask_directory(alice, DirectoryCommand::UserModes { set, clear }));
    assert_eq!(room.directory.user(alice.user).unwrap().modes, UserModes { invisible: true, bot: false });
}

#[test]
fn reach_only_grows_and_never_names_the_directory() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let reach = |shards| DirectoryCommand::Reach { shards };
    assert_eq!(refused(room.ask_directory(alice, reach(vec![ShardId(1)]))), Refusal::NoChange, "home");
    happened(room.ask_directory(alice, reach(vec![ShardId(3)])));
    assert_eq!(refused(room.ask_directory(alice, reach(vec![DIRECTORY]))), Refusal::Malformed);
}

#[test]
fn a_level_rises_when_every_node_supports_it() {
    let mut room = Room::new(1);
    let node = room.register(1, 1);
    let raise = |level| Command::Common(CommonCommand::RaiseLevel(FeatureLevel(level)));
    let old = chat_state::command::DirectoryCommand::RegisterNode {
        member: MemberId(9),
        nonce: 1,
        level: FeatureLevel(0),
    };
    let stamp = Stamp { incarnation: Incarnation(0), sequence: 0 };
    let proposal = |command| Proposal {
        producer: stamp,
        origin: None,
        dir_at: Position(0),
        command: Command::Directory(command),
    };
    let registered = happened(room.apply_one(DIRECTORY, proposal(old.clone())));
    assert_eq!(refused(room.chore(node, DIRECTORY, raise(1))), Refusal::NoChange, "one cannot");
    let life = Incarnation(registered.position.0);
    happened(room.chore(node, DIRECTORY, Command::Common(CommonCommand::DropNode(life))));
    happened(room.chore(node, DIRECTORY, raise(1)));
    assert_eq!(refused(room.chore(node, DIRECTORY, raise(1))), Refusal::NoChange);
    let late = match old {
        DirectoryCommand::RegisterNode { member, level, .. } => {
            DirectoryCommand::RegisterNode { member, nonce: 2, level }
        }
        other => other,
    };
    assert_eq!(refused(room.apply_one(DIRECTORY, proposal(late))), Refusal::Malformed, "it could not follow");
}

#[test]
fn a_level_past_this_program_stops_it() {
    let stamp = Stamp { incarnation: Incarnation(1), sequence: 1 };
    let command = Command::Common(CommonCommand::RaiseLevel(FeatureLevel(u16::MAX)));
    let proposals = vec![Proposal { producer: stamp, origin: None, dir_at: Position(0), command }];
    let mut bytes = Vec::new();
    Entry { index: Index(1), time_ms: 1, proposals }.encode(&mut bytes);
    assert_eq!(Entry::decode(&bytes), Err(DecodeError::Level { found: u16::MAX }));
}

#[test]
fn time_never_goes_back() {
    let (mut room, node) = Room::small();
    room.now_ms = 50_000;
    let first = room.open_with(node, "a", None);
    room.now_ms = 10;
    let second = room.open_with(node, "b", None);
    let opened = |who: Who| room.directory.user(who.user).unwrap().opened_at_ms;
    assert_eq!(opened(first), opened(second));
}

#[test]
fn commands_of_channels_are_malformed_here() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let command = chat_state::command::ChannelCommand::Join {
        name: "#a".into(),
        key: None,
        prefix: "p".into(),
        real_name: String::new(),
    };
    assert_eq!(refused(room.ask(alice, DIRECTORY, command)), Refusal::Malformed);
    let nick = DirectoryCommand::Nick { nick: "x".into() };
    assert_eq!(refused(room.directory_chore(node, nick)), Refusal::Malformed, "nobody asked");
}

#[test]
fn a_msgid_keeps_the_lineage_under_which_it_was_given() {
    let (mut room, node) = Room::small();
    room.open(node, "a");
    let left = room.directory.position();
    room.directory.begin_lineage(Lineage(2));
    room.open(node, "b");
    assert_eq!(room.directory.lineage_at(left), Lineage(1));
    assert_eq!(room.directory.lineage_at(Position(left.0 + 1)), Lineage(2));
    let restored = Directory::restore(&room.directory.encode_state()).unwrap();
    assert_eq!(restored.lineage_at(left), Lineage(1));
}

/// The entry that began lineage 3 was lost with all that followed it; 5 began in its place.
#[test]
fn a_lineage_that_was_lost_had_what_goes_before_the_next_one() {
    let (mut room, node) = Room::small();
    room.open(node, "a");
    let left = room.directory.position();
    room.directory.begin_lineage(Lineage(5));
    room.open(node, "b");
    let place = |lineage, position| room.directory.place_of(Lineage(lineage), Position(position));
    assert_eq!(place(3, left.0 + 40), Place::Replaced(left));
    assert_eq!(place(1, left.0 + 1), Place::Lost(left), "past the end of one that is known");
    assert_eq!(place(5, left.0 + 1), Place::Here(Position(left.0 + 1)));
    assert_eq!(place(5, left.0), Place::Here(left), "nothing of it was seen");
    assert_eq!(place(7, left.0 + 1), Place::Later, "one that may be yet to come");
}

#[test]
fn an_address_that_left_enough_behind_keeps_no_more() {
    let (mut room, node) = Room::small();
    let bounds = Bounds { detached_per_address: 2, ..Bounds::default() };
    room.settings(node, &Settings { revision: 1, bounds, ..Settings::default() });
    let people: Vec<Who> = ["ann", "bob", "cy", "dee"].map(|nick| room.open(node, nick)).into();
    let detach = |room: &mut Room, who: Who| {
        let (session, generation, reason) = (who.session, who.generation, "Ping timeout".to_owned());
        happened(room.directory_chore(node, DirectoryCommand::Detach { session, generation, reason }))
    };
    for who in &people[..2] {
        assert!(matches!(detach(&mut room, *who).kind, EventKind::Detached { .. }));
    }
    match &detach(&mut room, people[2]).kind {
        EventKind::Closing { user, reason, .. } => {
            assert_eq!((*user, &**reason), (people[2].user, "Ping timeout"));
        }
        other => panic!("{other:?}"),
    }
    // Those that were kept still are, also after a restart; one that comes back makes room for another.
    room.directory = Directory::restore(&room.directory.encode_state()).unwrap();
    assert_eq!(room.directory.detached_count(), 2);
    let session = room.directory.session(people[0].session).unwrap();
    let shown = session.token.unwrap().hash;
    let new = room.new_token();
    happened(room.attach_outcome(node, shown, new, false));
    assert!(matches!(detach(&mut room, people[3]).kind, EventKind::Detached { .. }));
    // A node's death is nobody's doing: all of its sessions stay.
    room.register(1, 2);
    assert_eq!(room.directory.detached_count(), 3);
}
