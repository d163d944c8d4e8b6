//! What peers notice of the rules of channels: joining, leaving, modes, topics, declared channels.

mod room;

use chat_state::{
    channels::ChannelShard,
    command::{ChannelCommand, ChannelFlag, Command, CommonCommand, ListKind, MemberPrefix, ModeChange},
    event::EventKind,
    ids::{ChannelId, Generation, Incarnation, Position, ShardId},
    outcome::{Outcome, Refusal},
    settings::{DeclaredChannel, Settings},
};
use room::{Room, Who, happened, refused};

fn flag(flag: ChannelFlag, set: bool) -> ModeChange {
    ModeChange::Flag { flag, set }
}

fn list(list: ListKind, mask: &str, set: bool) -> ModeChange {
    ModeChange::List { list, mask: mask.into(), set }
}

fn rank(prefix: MemberPrefix, who: Who, set: bool) -> ModeChange {
    ModeChange::Member { prefix, user: who.user, nick: "n".into(), set }
}

fn changes(outcome: Outcome) -> Vec<ModeChange> {
    match &happened(outcome).kind {
        EventKind::ModeChanged { changes, .. } => changes.clone(),
        other => panic!("{other:?}"),
    }
}

/// A channel with an operator, and somebody outside.
fn lounge() -> (Room, Incarnation, Who, Who, ChannelId) {
    let (mut room, node) = Room::small();
    let op = room.open(node, "op");
    let guest = room.open(node, "guest");
    let channel = room.join(op, "#Lounge");
    (room, node, op, guest, channel)
}

#[test]
fn the_first_to_join_makes_the_channel_and_runs_it() {
    let (mut room, _, _, guest, channel) = lounge();
    assert_eq!(room.names(channel), ["@op"]);
    let found = room.one().channel(channel).unwrap();
    assert!(found.has(ChannelFlag::NoExternal) && found.has(ChannelFlag::OpTopic));
    match &happened(room.join_with(guest, "#lOUNGE", None)).kind {
        EventKind::Joined { created, name, .. } => assert_eq!((*created, &**name), (false, "#Lounge")),
        other => panic!("{other:?}"),
    }
    assert_eq!(room.names(channel), ["@op", "guest"]);
    assert_eq!(refused(room.join_with(guest, "#lounge", None)), Refusal::AlreadyJoined);
}

#[test]
fn bad_names_and_too_many_channels() {
    let (mut room, _, _, guest, _) = lounge();
    for bad in ["lounge", "#a b", "#a,b", &format!("#{}", "c".repeat(64))] {
        assert_eq!(refused(room.join_with(guest, bad, None)), Refusal::BadChannelName, "{bad}");
    }
    for n in 0..100 {
        room.join(guest, &format!("#c{n}"));
    }
    assert_eq!(refused(room.join_with(guest, "#one-more", None)), Refusal::TooManyChannels);
}

#[test]
fn a_channel_of_another_shard_is_malformed() {
    let mut room = Room::new(4);
    let node = room.register(1, 1);
    let alice = room.open(node, "alice");
    let channel = room.join(alice, "#rust");
    let wrong = ShardId(channel.shard.0 % 4 + 1);
    let join =
        ChannelCommand::Join { name: "#rust".into(), key: None, prefix: "p".into(), real_name: "".into() };
    assert_eq!(refused(room.ask(alice, wrong, join)), Refusal::Malformed);
}

#[test]
fn a_channel_ends_with_its_last_member_history_included() {
    let (mut room, _, op, guest, channel) = lounge();
    happened(room.say(op, channel, "hello", None));
    happened(room.topic(op, channel, "old"));
    happened(room.part(op, channel));
    assert!(room.one().channel(channel).is_none());
    assert!(room.one().history(channel).is_none());
    let again = room.join(guest, "#lounge");
    assert_ne!(again, channel);
    assert_eq!(room.one().channel(again).unwrap().topic, None);
    assert!(room.texts(again).is_empty());
    assert_eq!(refused(room.part(op, channel)), Refusal::NoSuchChannel);
}

#[test]
fn parting_and_kicking() {
    let (mut room, node, op, guest, channel) = lounge();
    assert_eq!(refused(room.part(guest, channel)), Refusal::NotOnChannel);
    assert_eq!(refused(room.kick(guest, channel, op.user)), Refusal::NotOnChannel);
    assert_eq!(refused(room.kick(op, channel, guest.user)), Refusal::UserNotInChannel);
    room.join(guest, "#lounge");
    assert_eq!(refused(room.kick(guest, channel, op.user)), Refusal::NotOperator);
    happened(room.kick(op, channel, guest.user));
    assert_eq!(room.names(channel), ["@op"]);
    assert_eq!(room.one().channels_of(guest.user).count(), 0);
    let third = room.open(node, "third");
    room.join(third, "#lounge");
    happened(room.part(op, channel));
    assert_eq!(room.names(channel), ["third"], "nobody inherits");
}

#[test]
fn topics() {
    let (mut room, _, op, guest, channel) = lounge();
    assert_eq!(refused(room.topic(guest, channel, "x")), Refusal::NotOnChannel);
    room.join(guest, "#lounge");
    assert_eq!(refused(room.topic(guest, channel, "x")), Refusal::NotOperator);
    happened(room.mode(op, channel, vec![flag(ChannelFlag::OpTopic, false)]));
    happened(room.topic(guest, channel, "x"));
    happened(room.topic(op, channel, "x"));
    let topic = room.one().channel(channel).unwrap().topic.clone().unwrap();
    assert_eq!((topic.text.as_str(), &*topic.by), ("x", "op!~u@host.example"), "set again by another");
    happened(room.topic(op, channel, &"é".repeat(300)));
    assert_eq!(room.one().channel(channel).unwrap().topic.as_ref().unwrap().text.len(), 390);
    happened(room.topic(op, channel, ""));
    assert_eq!(room.one().channel(channel).unwrap().topic, None);
}

#[test]
fn modes_need_an_operator_and_only_what_changes_happens() {
    let (mut room, _, op, guest, channel) = lounge();
    assert_eq!(
        refused(room.mode(guest, channel, vec![flag(ChannelFlag::Secret, true)])),
        Refusal::NotOnChannel
    );
    room.join(guest, "#lounge");
    assert_eq!(
        refused(room.mode(guest, channel, vec![flag(ChannelFlag::Secret, true)])),
        Refusal::NotOperator
    );
    let asked = vec![
        flag(ChannelFlag::NoExternal, true),
        flag(ChannelFlag::Secret, true),
        ModeChange::Limit { limit: Some(5) },
        ModeChange::Limit { limit: Some(5) },
        rank(MemberPrefix::Voice, guest, true),
    ];
    let done = changes(room.mode(op, channel, asked.clone()));
    assert_eq!(done, [asked[1].clone(), asked[2].clone(), asked[4].clone()]);
    assert_eq!(room.names(channel), ["+guest", "@op"]);
    assert_eq!(refused(room.mode(op, channel, asked)), Refusal::NoChange);
    let nobody = ModeChange::Member {
        prefix: MemberPrefix::Voice,
        user: chat_state::ids::UserId(999),
        nick: "x".into(),
        set: true,
    };
    assert_eq!(refused(room.mode(op, channel, vec![nobody.clone()])), Refusal::UserNotInChannel);
    assert_eq!(changes(room.mode(op, channel, vec![nobody, flag(ChannelFlag::Secret, false)])).len(), 1);
    for bad in [ModeChange::Limit { limit: Some(0) }, ModeChange::Key { key: Some("a b".into()) }] {
        assert_eq!(refused(room.mode(op, channel, vec![bad])), Refusal::Malformed);
    }
}

#[test]
fn highest_and_all_prefixes() {
    let (mut room, _, op, _, channel) = lounge();
    happened(room.mode(op, channel, vec![rank(MemberPrefix::Voice, op, true)]));
    let member = *room.one().channel(channel).unwrap().member(op.user).unwrap();
    assert_eq!(member.highest_prefix(), Some(MemberPrefix::Operator));
    assert_eq!(member.prefixes().collect::<Vec<_>>(), [MemberPrefix::Operator, MemberPrefix::Voice]);
}

#[test]
fn lists_hold_full_masks_once_and_have_a_limit() {
    let (mut room, _, op, _, channel) = lounge();
    let done = changes(room.mode(op, channel, vec![list(ListKind::Ban, "Troll", true)]));
    assert_eq!(done, [list(ListKind::Ban, "Troll!*@*", true)]);
    let entry = room.one().channel(channel).unwrap().bans[0].clone();
    assert_eq!((&*entry.by, entry.at_ms), ("op!~u@host.example", room.now_ms));
    assert_eq!(
        refused(room.mode(op, channel, vec![list(ListKind::Ban, "troll!*@*", true)])),
        Refusal::NoChange
    );
    for n in 0..99 {
        happened(room.mode(op, channel, vec![list(ListKind::Exception, &format!("n{n}"), true)]));
    }
    assert_eq!(refused(room.mode(op, channel, vec![list(ListKind::Ban, "more", true)])), Refusal::ListFull);
    let done = changes(room.mode(op, channel, vec![list(ListKind::Ban, "tROLL", false)]));
    assert_eq!(done, [list(ListKind::Ban, "Troll!*@*", false)], "as it was set");
    assert_eq!(refused(room.mode(op, channel, vec![list(ListKind::Ban, "tROLL", false)])), Refusal::NoChange);
}

/// Each row: the modes, whether an operator invited, the key that is shown, and the answer.
#[test]
fn who_may_join() {
    let key = |key: &str| ModeChange::Key { key: Some(key.into()) };
    let ban = || list(ListKind::Ban, "*!*@HOST.example", true);
    let rows = [
        (vec![key("k")], false, None, Some(Refusal::BadKey)),
        (vec![key("k")], false, Some("K"), Some(Refusal::BadKey)),
        (vec![key("k")], false, Some("k"), None),
        (vec![key("k")], true, None, Some(Refusal::BadKey)),
        (vec![ModeChange::Limit { limit: Some(1) }], false, None, Some(Refusal::ChannelFull)),
        (vec![ModeChange::Limit { limit: Some(2) }], false, None, None),
        (vec![flag(ChannelFlag::InviteOnly, true)], false, None, Some(Refusal::InviteOnly)),
        (vec![flag(ChannelFlag::InviteOnly, true)], true, None, None),
        (
            vec![flag(ChannelFlag::InviteOnly, true), list(ListKind::Invitation, "gue?t", true)],
            false,
            None,
            None,
        ),
        (vec![ban()], false, None, Some(Refusal::Banned)),
        (vec![ban()], true, None, None),
        (vec![ban(), list(ListKind::Exception, "guest", true)], false, None, None),
        (vec![list(ListKind::Ban, "*!*@other", true)], false, None, None),
        (vec![ban(), flag(ChannelFlag::InviteOnly, true)], false, None, Some(Refusal::Banned)),
    ];
    for (modes, invited, shown, answer) in rows {
        let (mut room, _, op, guest, channel) = lounge();
        happened(room.mode(op, channel, modes.clone()));
        if invited {
            happened(room.invite(op, channel, guest.user));
        }
        let outcome = room.join_with(guest, "#lounge", shown);
        match answer {
            Some(answer) => assert_eq!(refused(outcome), answer, "{modes:?} {invited} {shown:?}"),
            None => drop(happened(outcome)),
        }
    }
}

#[test]
fn invitations() {
    let (mut room, node, op, guest, channel) = lounge();
    assert_eq!(refused(room.invite(guest, channel, op.user)), Refusal::NotOnChannel);
    room.join(guest, "#lounge");
    let third = room.open(node, "third");
    assert_eq!(refused(room.invite(op, channel, guest.user)), Refusal::UserOnChannel);
    happened(room.invite(guest, channel, third.user));
    happened(room.mode(op, channel, vec![flag(ChannelFlag::InviteOnly, true)]));
    assert_eq!(refused(room.invite(guest, channel, third.user)), Refusal::NotOperator);
    assert_eq!(refused(room.join_with(third, "#lounge", None)), Refusal::InviteOnly, "not by an operator");
    happened(room.invite(op, channel, third.user));
    room.join(third, "#lounge");
    happened(room.part(third, channel));
    assert_eq!(refused(room.join_with(third, "#lounge", None)), Refusal::InviteOnly, "used up");
}

fn declaring(revision: u64, channels: &[(&str, &str)]) -> Settings {
    let channels = channels
        .iter()
        .map(|(name, topic)| DeclaredChannel { name: (*name).into(), topic: (*topic).into() })
        .collect();
    Settings { revision, channels, ..Settings::default() }
}

fn topic_of(shard: &ChannelShard, name: &str) -> Option<String> {
    shard.channel_by_name(name).expect("declared").topic.as_ref().map(|topic| topic.text.clone())
}

#[test]
fn declared_channels_exist_without_members_and_keep_their_history() {
    let (mut room, node, _, guest, _) = lounge();
    room.settings(node, &declaring(1, &[("#Help", "ask"), ("#news", ""), ("bad name", "x")]));
    assert_eq!(room.one().channel_count(), 3);
    let ids: Vec<ChannelId> =
        ["#help", "#news"].iter().map(|name| room.one().channel_by_name(name).unwrap().id).collect();
    assert_ne!(ids[0], ids[1], "one entry, two channels");
    assert_eq!(topic_of(room.one(), "#help").as_deref(), Some("ask"));
    assert_eq!(topic_of(room.one(), "#news"), None);
    let help = room.join(guest, "#help");
    assert_eq!(room.names(help), ["guest"], "run by the settings, not by who came first");
    happened(room.say(guest, help, "hi", None));
    happened(room.part(guest, help));
    assert_eq!(room.join(guest, "#help"), help);
    assert_eq!(room.texts(help), ["hi"]);
}

#[test]
fn a_declared_topic_is_set_when_its_text_changes() {
    let (mut room, node, op, _, lounge) = lounge();
    happened(room.topic(op, lounge, "ours"));
    room.settings(node, &declaring(1, &[("#lounge", "")]));
    assert_eq!(topic_of(room.one(), "#lounge").as_deref(), Some("ours"), "none declared: none set");
    room.settings(node, &declaring(2, &[("#lounge", "declared")]));
    assert_eq!(topic_of(room.one(), "#lounge").as_deref(), Some("declared"));
    happened(room.topic(op, lounge, "ours again"));
    room.settings(node, &declaring(3, &[("#lounge", "declared"), ("#other", "")]));
    assert_eq!(topic_of(room.one(), "#lounge").as_deref(), Some("ours again"), "the text did not change");
    room.settings(node, &declaring(2, &[("#lounge", "an older one")]));
    assert_eq!(topic_of(room.one(), "#lounge").as_deref(), Some("ours again"), "no higher revision");
    room.settings(node, &declaring(4, &[("#lounge", "")]));
    assert_eq!(topic_of(room.one(), "#lounge"), None);
}

#[test]
fn who_is_there_is_told_of_a_declared_topic() {
    let (mut room, node, _, _, lounge) = lounge();
    room.settings(node, &declaring(1, &[("#lounge", "new"), ("#quiet", "")]));
    let last = room.outcomes[&ShardId(1)].last().unwrap().clone();
    match &happened(last).kind {
        EventKind::Settings { topics, .. } => assert_eq!(topics, &[(lounge, "new".to_owned())]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_undeclared_channel_ends_when_it_is_empty() {
    let (mut room, node, op, _, lounge) = lounge();
    room.settings(node, &declaring(1, &[("#lounge", ""), ("#empty", "")]));
    room.settings(node, &declaring(2, &[]));
    assert!(room.one().channel_by_name("#empty").is_none());
    assert!(room.one().channel(lounge).is_some());
    happened(room.part(op, lounge));
    assert!(room.one().channel(lounge).is_none());
}

#[test]
fn a_forgotten_user_is_gone_and_stays_gone() {
    let (mut room, node, op, guest, channel) = lounge();
    room.join(guest, "#lounge");
    let late = room.proposal(
        guest.node,
        ShardId(1),
        Some(guest),
        Command::Channel(ChannelCommand::Join {
            name: "#lounge".into(),
            key: None,
            prefix: "guest!u@h".into(),
            real_name: String::new(),
        }),
    );
    happened(room.close(guest));
    // The chore overtakes the late proposal: it is of another node.
    let other = room.register(2, 1);
    match &happened(room.forget(other, ShardId(1), guest.user)).kind {
        EventKind::Forgotten { channels, .. } => assert_eq!(channels, &[channel]),
        other => panic!("{other:?}"),
    }
    assert_eq!(room.names(channel), ["@op"]);
    assert_eq!(refused(room.forget(other, ShardId(1), guest.user)), Refusal::NoChange);
    assert_eq!(refused(room.apply_one(ShardId(1), late)), Refusal::UnknownUser);
    assert_eq!(refused(room.tell(op, guest.user, "there?", None)), Refusal::NoSuchNick);
    assert_eq!(refused(room.invite(op, channel, guest.user)), Refusal::NoSuchNick);
    let _ = node;
}

#[test]
fn a_user_long_forgotten_is_told_from_a_new_one_by_what_the_proposer_saw() {
    let (mut room, node) = Room::small();
    let ghost = room.open(node, "ghost");
    room.join(ghost, "#a");
    let silent = room.register(2, 1);
    let join = |room: &Room, who: Who, name: &str| {
        let prefix = room.prefix(who);
        Command::Channel(ChannelCommand::Join { name: name.into(), key: None, prefix, real_name: "".into() })
    };
    // A node that was never heard here has a late proposal of the user.
    let command = join(&room, ghost, "#a");
    let late = room.proposal(silent, ShardId(1), Some(ghost), command);
    happened(room.close(ghost));
    room.sweep(node);
    for n in 0..chat_state::channels::FORGOTTEN_KEPT + 10 {
        let passer = room.open(node, &format!("n{n}"));
        happened(room.close(passer));
        room.sweep(node);
    }
    assert!(room.one().forgotten(ghost.user).is_none(), "let go: every open node was heard past it");
    assert_eq!(refused(room.apply_one(ShardId(1), late)), Refusal::UnknownUser, "still not let in");
    let fresh = Who { node: silent, ..room.open(silent, "fresh") };
    room.join(fresh, "#a");
}

#[test]
fn the_forgotten_are_kept_while_a_node_lags() {
    let (mut room, node) = Room::small();
    let lagging = room.register(2, 1);
    let someone = room.open(lagging, "someone");
    room.join(someone, "#a");
    let ghost = room.open(node, "ghost");
    happened(room.close(ghost));
    room.sweep(node);
    for n in 0..chat_state::channels::FORGOTTEN_KEPT + 10 {
        let passer = room.open(node, &format!("n{n}"));
        happened(room.close(passer));
        room.sweep(node);
    }
    assert!(room.one().forgotten(ghost.user).is_some(), "one node was last heard before the closing");
    happened(room.chore(node, ShardId(1), Command::Common(CommonCommand::DropNode(lagging))));
    let passer = room.open(node, "last");
    happened(room.close(passer));
    room.sweep(node);
    assert!(room.one().forgotten(ghost.user).is_none(), "it is over");
}

/// A node without clients here says something now and then, and that is enough.
#[test]
fn a_silent_node_that_speaks_lets_the_forgotten_go() {
    let (mut room, node) = Room::small();
    let silent = room.register(2, 1);
    let hello = |room: &Room| Command::Common(CommonCommand::RaiseLevel(room.one().level()));
    let first = hello(&room);
    assert_eq!(refused(room.chore(silent, ShardId(1), first)), Refusal::NoChange);
    let ghost = room.open(node, "ghost");
    happened(room.close(ghost));
    room.sweep(node);
    let mut asked = 0;
    for n in 0..2 * chat_state::channels::FORGOTTEN_KEPT {
        let passer = room.open(node, &format!("n{n}"));
        happened(room.close(passer));
        room.sweep(node);
        assert!(!room.one().waits_to_hear(node), "it was heard a moment ago");
        if room.one().waits_to_hear(silent) {
            asked += 1;
            let hello = hello(&room);
            refused(room.chore(silent, ShardId(1), hello));
            assert!(!room.one().waits_to_hear(silent));
        }
    }
    assert!(room.one().forgotten(ghost.user).is_none(), "let go");
    assert!((1..=5).contains(&asked), "rarely: {asked} times for 2,048 users");
}

#[test]
fn a_shard_refuses_generations_below_the_highest_it_saw() {
    let (mut room, _, op, guest, channel) = lounge();
    room.join(guest, "#lounge");
    let moved = Who { generation: Generation(2), ..op };
    assert!(happened(room.say(op, channel, "first", None)).position > Position(0));
    happened(room.say(moved, channel, "moved on", None));
    assert_eq!(refused(room.say(op, channel, "late", None)), Refusal::StaleSession);
    assert_eq!(room.texts(channel), ["first", "moved on"]);
}

#[test]
fn streams_of_nodes_are_kept_in_order_here_too() {
    let (mut room, node, op, _, channel) = lounge();
    let message = |room: &Room, text: &str| {
        let message = room.message(op, chat_state::command::MessageKind::Privmsg, text, None);
        let target = chat_state::command::Target::Channel { channel, at_least: None };
        Command::Channel(ChannelCommand::Message { target, message })
    };
    let (one, two) = (message(&room, "one"), message(&room, "two"));
    let one = room.proposal(node, ShardId(1), Some(op), one);
    let two = room.proposal(node, ShardId(1), Some(op), two);
    let expected = one.producer.sequence;
    assert_eq!(refused(room.apply_one(ShardId(1), two.clone())), Refusal::Gap { expected });
    happened(room.apply_one(ShardId(1), one.clone()));
    assert_eq!(room.apply_one(ShardId(1), one), Outcome::Repeated);
    happened(room.apply_one(ShardId(1), two));
    assert_eq!(room.texts(channel), ["one", "two"]);
    let drop = Command::Common(CommonCommand::DropNode(node));
    let other = room.register(2, 1);
    happened(room.chore(other, ShardId(1), drop.clone()));
    assert_eq!(refused(room.chore(other, ShardId(1), drop)), Refusal::NoChange);
    assert_eq!(refused(room.say(op, channel, "three", None)), Refusal::UnknownNode);
}
