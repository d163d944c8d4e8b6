//! What can happen, and how often.

use proptest::prelude::*;

use super::{CHANNELS, NICKS};

#[derive(Clone, Debug)]
pub enum Step {
    Open {
        nick: usize,
        resumable: bool,
    },
    Nick {
        who: usize,
        nick: usize,
    },
    Away {
        who: usize,
        away: bool,
    },
    RealName {
        who: usize,
        n: u8,
    },
    Detach {
        who: usize,
    },
    Attach {
        who: usize,
        previous: bool,
        node: usize,
    },
    Confirm {
        who: usize,
    },
    Close {
        who: usize,
    },
    Expire {
        who: usize,
        stale: bool,
    },
    Sweep,
    ForgetOnly {
        who: usize,
    },
    Join {
        who: usize,
        channel: usize,
        key: bool,
    },
    Part {
        who: usize,
        channel: usize,
    },
    Kick {
        who: usize,
        channel: usize,
        target: usize,
    },
    Topic {
        who: usize,
        channel: usize,
        text: u8,
    },
    Mode {
        who: usize,
        channel: usize,
        what: u8,
        target: usize,
    },
    Invite {
        who: usize,
        channel: usize,
        target: usize,
    },
    Say {
        who: usize,
        channel: usize,
        kind: u8,
        id: Option<u64>,
        text: u8,
    },
    Tell {
        who: usize,
        target: usize,
        id: Option<u64>,
        text: u8,
    },
    Copy,
    Settings {
        n: u8,
    },
    Restart {
        node: usize,
    },
    Drop {
        node: usize,
    },
    Later {
        ms: u64,
    },
    Repeat {
        shard: u16,
        back: usize,
    },
    /// The message last sent is sent again, by its session as it is now.
    Again,
    Skip {
        who: usize,
        channel: usize,
    },
    Stale {
        who: usize,
        channel: usize,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let who = 0..8_usize;
    let channel = 0..CHANNELS.len();
    let id = proptest::option::of(prop_oneof![0..6_u64, 1020..1030_u64, 4000..4004_u64]);
    prop_oneof![
        6 => (0..NICKS.len(), any::<bool>()).prop_map(|(nick, resumable)| Step::Open { nick, resumable }),
        3 => (who.clone(), 0..NICKS.len()).prop_map(|(who, nick)| Step::Nick { who, nick }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, away)| Step::Away { who, away }),
        1 => (who.clone(), 0..3_u8).prop_map(|(who, n)| Step::RealName { who, n }),
        2 => who.clone().prop_map(|who| Step::Detach { who }),
        3 => (who.clone(), any::<bool>(), 0..2_usize)
            .prop_map(|(who, previous, node)| Step::Attach { who, previous, node }),
        1 => who.clone().prop_map(|who| Step::Confirm { who }),
        2 => who.clone().prop_map(|who| Step::Close { who }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, stale)| Step::Expire { who, stale }),
        2 => Just(Step::Sweep),
        1 => who.clone().prop_map(|who| Step::ForgetOnly { who }),
        12 => (who.clone(), channel.clone(), any::<bool>())
            .prop_map(|(who, channel, key)| Step::Join { who, channel, key }),
        3 => (who.clone(), channel.clone()).prop_map(|(who, channel)| Step::Part { who, channel }),
        2 => (who.clone(), channel.clone(), who.clone())
            .prop_map(|(who, channel, target)| Step::Kick { who, channel, target }),
        2 => (who.clone(), channel.clone(), 0..3_u8)
            .prop_map(|(who, channel, text)| Step::Topic { who, channel, text }),
        5 => (who.clone(), channel.clone(), 0..14_u8, who.clone())
            .prop_map(|(who, channel, what, target)| Step::Mode { who, channel, what, target }),
        2 => (who.clone(), channel.clone(), who.clone())
            .prop_map(|(who, channel, target)| Step::Invite { who, channel, target }),
        12 => (who.clone(), channel.clone(), 0..6_u8, id.clone(), 0..2_u8)
            .prop_map(|(who, channel, kind, id, text)| Step::Say { who, channel, kind, id, text }),
        6 => (who.clone(), who.clone(), id, 0..2_u8)
            .prop_map(|(who, target, id, text)| Step::Tell { who, target, id, text }),
        2 => Just(Step::Copy),
        4 => Just(Step::Again),
        1 => (0..8_u8).prop_map(|n| Step::Settings { n }),
        1 => (0..2_usize).prop_map(|node| Step::Restart { node }),
        1 => (0..2_usize).prop_map(|node| Step::Drop { node }),
        1 => prop_oneof![1..50_u64, 2_000..9_000_u64].prop_map(|ms| Step::Later { ms }),
        2 => (0..4_u16, 0..4_usize).prop_map(|(shard, back)| Step::Repeat { shard, back }),
        1 => (who.clone(), channel.clone()).prop_map(|(who, channel)| Step::Skip { who, channel }),
        1 => (who, channel).prop_map(|(who, channel)| Step::Stale { who, channel }),
    ]
}
