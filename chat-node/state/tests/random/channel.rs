//! What people do in channels, and say to each other.

use std::sync::Arc;

use chat_state::{
    command::{
        ChannelCommand, ChannelFlag, Command, ListKind, MemberPrefix, Message, MessageKind, ModeChange,
        Target,
    },
    ids::{Generation, home_shard},
};

use super::{
    super::room::{Room, Who},
    Life, Step,
};

impl Life {
    pub(super) fn take_in_channel(&mut self, who: Who, step: &Step) {
        let (Step::Part { channel, .. }
        | Step::Kick { channel, .. }
        | Step::Topic { channel, .. }
        | Step::Mode { channel, .. }
        | Step::Invite { channel, .. }
        | Step::Say { channel, .. }
        | Step::Skip { channel, .. }
        | Step::Stale { channel, .. }) = *step
        else {
            if let Step::Tell { target, id, text, .. } = *step
                && let Some(target) = self.person(target)
            {
                self.tell(who, target.who, id, text);
            }
            return;
        };
        let Some(channel) = self.channel(channel) else { return };
        if !self.room.reach(who, channel.shard) {
            return;
        }
        let other = |target: usize, life: &Self| life.person(target).map(|person| person.who);
        match *step {
            Step::Part { .. } => drop(self.room.part(who, channel)),
            Step::Kick { target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.kick(who, channel, target.user);
                }
            }
            Step::Topic { text, .. } => {
                drop(self.room.topic(who, channel, ["", "one", "two"][usize::from(text)]));
            }
            Step::Mode { what, target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.mode(who, channel, changes(what, target));
                }
            }
            Step::Invite { target, .. } => {
                if let Some(target) = other(target, self) {
                    self.room.invite(who, channel, target.user);
                }
            }
            Step::Say { kind, id, text, .. } => {
                let (message, at_least) = message(&self.room, who, kind, id, text);
                let target = Target::Channel { channel, at_least };
                let command = ChannelCommand::Message { target, message };
                self.last_sent = Some((who.session, channel.shard, command.clone()));
                self.room.ask(who, channel.shard, command);
            }
            Step::Skip { .. } => {
                // The sequence number of this one never arrives … until the next registration of the node.
                let stamp = self.room.next_stamp(who.node, channel.shard);
                self.room.say(who, channel, "after a gap", None);
                let late = self.room.message(who, MessageKind::Privmsg, "late", None);
                let target = Target::Channel { channel, at_least: None };
                let mut proposal = self.room.proposal(
                    who.node,
                    channel.shard,
                    Some(who),
                    Command::Channel(ChannelCommand::Message { target, message: late }),
                );
                proposal.producer = stamp;
                self.room.apply_one(channel.shard, proposal);
                self.room.rewind_stamp(who.node, channel.shard, stamp.sequence);
            }
            Step::Stale { .. } => {
                let stale = Who { generation: Generation(who.generation.0 - 1), ..who };
                self.room.say(stale, channel, "stale", None);
            }
            _ => {}
        }
    }

    fn tell(&mut self, who: Who, target: Who, id: Option<u64>, text: u8) {
        let shard = home_shard(target.user, self.room.shard_count());
        if !self.room.reach(who, shard) {
            return;
        }
        let (message, _) = message(&self.room, who, text, id, text);
        let target = Target::User { user: target.user };
        let command = ChannelCommand::Message { target, message };
        self.last_sent = Some((who.session, shard, command.clone()));
        self.room.ask(who, shard, command);
    }
}

fn message(
    room: &Room,
    who: Who,
    kind: u8,
    id: Option<u64>,
    text: u8,
) -> (Arc<Message>, Option<MemberPrefix>) {
    let (kind, at_least) = match kind {
        0 => (MessageKind::Tagmsg, None),
        1 => (MessageKind::Notice, None),
        2 => (MessageKind::Privmsg, Some(MemberPrefix::Operator)),
        3 => (MessageKind::Privmsg, Some(MemberPrefix::Voice)),
        _ => (MessageKind::Privmsg, None),
    };
    (room.message(who, kind, &format!("text {text}"), id), at_least)
}

fn changes(what: u8, target: Who) -> Vec<ModeChange> {
    let flag = |flag, set| ModeChange::Flag { flag, set };
    let rank = |prefix, set| ModeChange::Member { prefix, user: target.user, nick: "n".into(), set };
    let list = |list, mask: &str, set| ModeChange::List { list, mask: mask.into(), set };
    match what {
        0 => vec![rank(MemberPrefix::Operator, true)],
        1 => vec![rank(MemberPrefix::Operator, false), rank(MemberPrefix::Voice, true)],
        2 => vec![rank(MemberPrefix::Voice, false)],
        3 => vec![flag(ChannelFlag::NoExternal, false), flag(ChannelFlag::OpTopic, false)],
        4 => vec![flag(ChannelFlag::Moderated, true)],
        5 => vec![flag(ChannelFlag::Moderated, false), flag(ChannelFlag::InviteOnly, false)],
        6 => vec![flag(ChannelFlag::InviteOnly, true)],
        7 => vec![ModeChange::Key { key: Some("key".into()) }],
        8 => vec![ModeChange::Key { key: None }, ModeChange::Limit { limit: None }],
        9 => vec![ModeChange::Limit { limit: Some(2) }],
        10 => vec![list(ListKind::Ban, "ann", true), list(ListKind::Ban, "bob!*@*", true)],
        11 => vec![list(ListKind::Ban, "ANN", false)],
        12 => vec![list(ListKind::Exception, "ann", true), list(ListKind::Invitation, "dee", true)],
        _ => vec![
            rank(MemberPrefix::Operator, true),
            rank(MemberPrefix::Operator, false),
            rank(MemberPrefix::Operator, true),
        ],
    }
}
