//! The rules that a configuration must keep, whether a file or flags set it.

use std::collections::{BTreeMap, BTreeSet};

use chat_protocol::name;
use contract::{
    config::{LogConfig, MAX_SHARDS, MAX_TOLERATED, NodeConfig, RaftLog},
    duration::Span,
};

const MAX_MOTD_LINES: usize = 200;
const MAX_MOTD_LINE_BYTES: usize = 400;

/// Between keys that are wrong together.
pub(super) const AND: &str = " and ";

/// Numbers, and from where to where they may be.
const RANGES: &[(&str, u64, u64)] = &[
    // More threads than this is a typing mistake.
    ("workers", 1, 64),
    ("revision", 1, u64::MAX),
    ("log.local.shards", 1, MAX_SHARDS as u64),
    ("log.valkey.shards", 1, MAX_SHARDS as u64),
    ("log.raft.shards", 1, MAX_SHARDS as u64),
    ("log.raft.tolerate", 0, MAX_TOLERATED as u64),
    ("limits.maxConnections", 1, 1_000_000),
    ("limits.maxConnectionsPerAddress", 1, 1_000_000),
    ("limits.commandBurst", 1, 1_000_000_000),
    ("limits.commandsPerSecond", 1, 1_000_000_000),
    // One line with all its tags must fit.
    ("limits.maxWaitingInput", 8_192, 16 * 1024 * 1024),
    ("limits.maxWaitingOutput", 65_536, 256 * 1024 * 1024),
    ("chat.limits.nickLength", 1, 64),
    ("chat.limits.channelsPerUser", 1, 10_000),
    ("chat.limits.channelLength", 2, 200),
    ("chat.limits.topicLength", 1, 390),
    ("chat.limits.kickLength", 1, 390),
    ("chat.limits.awayLength", 1, 390),
    ("chat.limits.keyLength", 1, 100),
    ("chat.limits.listEntries", 1, 10_000),
    ("chat.history.maxMessages", 0, 10_000_000),
];

/// The first rule that is broken: its key, or keys joined by [`AND`], and the reason.
pub(super) fn check(config: &NodeConfig) -> Result<(), (String, String)> {
    check_names(config)?;
    within("workers", config.workers as u64)?;
    check_log(config)?;
    check_listeners(config)?;
    check_limits(config)?;
    check_chat(config)?;
    span("drainDeadline", config.drain_deadline, 1, 3_600)?;
    span("resumeWindow", config.resume_window, 1, 30 * 86_400)
}

fn check_names(config: &NodeConfig) -> Result<(), (String, String)> {
    let word = |key: &str, text: &str| {
        let plain = !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'!' | b'@' | b'=' | b':' | b','));
        rule(plain, key, || {
            format!(
                "`{text}` must be 1 to 63 visible ASCII characters without spaces, `!`, `@`, `=`, `:` or `,`"
            )
        })
    };
    word("network", &config.network)?;
    word("serverName", &config.server_name)?;
    rule(!config.data.as_os_str().is_empty(), "data", || "must name a directory".to_owned())?;
    // Left out, the node counts.
    within("revision", config.revision.unwrap_or(1))
}

fn check_log(config: &NodeConfig) -> Result<(), (String, String)> {
    let log = &config.log;
    let kind = match log {
        LogConfig::Local { .. } => "local",
        LogConfig::Valkey(log) => {
            let fits =
                (1..=253).contains(&log.room.len()) && log.room.bytes().all(|byte| byte.is_ascii_graphic());
            rule(fits, "log.valkey.room", || {
                "must be 1 to 253 visible ASCII characters without spaces".to_owned()
            })?;
            rule(!log.url_file.as_os_str().is_empty(), "log.valkey.urlFile", || {
                "must name a file".to_owned()
            })?;
            "valkey"
        }
        LogConfig::Raft(raft) => {
            check_raft(config, raft)?;
            "raft"
        }
    };
    within(&format!("log.{kind}.shards"), log.shards().into())
}

fn check_raft(config: &NodeConfig, raft: &RaftLog) -> Result<(), (String, String)> {
    within("log.raft.tolerate", raft.tolerate.into())?;
    let plain =
        |text: &str| (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    rule(plain(&raft.name), "log.raft.name", || {
        "must be 1 to 253 visible ASCII characters without spaces, and another one on each node".to_owned()
    })?;
    let address = |key: &str, text: &str| {
        rule(is_host_and_port(text), key, || {
            format!("`{text}` must be HOST:PORT, such as chat-0.example.org:7000")
        })
    };
    address("log.raft.advertise", &raft.advertise)?;
    for (n, peer) in raft.peers.iter().enumerate() {
        address(&format!("log.raft.peers[{n}]"), peer)?;
    }
    rule(config.listeners.peer.is_some(), "listeners.peer", || {
        "must be set where the log is raft: the other nodes come in there".to_owned()
    })
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_graphic())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn check_listeners(config: &NodeConfig) -> Result<(), (String, String)> {
    let listeners = &config.listeners;
    let secure = listeners.ircs.is_some() || listeners.webs.is_some();
    let open = listeners.irc.is_some() || listeners.web.is_some();
    rule(open || secure, "listeners.irc and listeners.web", || {
        "both are off, so nobody could connect: turn one on".to_owned()
    })?;
    let mut taken = BTreeMap::new();
    let named = [
        ("listeners.irc.address", listeners.irc.as_ref().map(|irc| irc.address)),
        ("listeners.web.address", listeners.web.as_ref().map(|web| web.address)),
        ("listeners.ircs.address", listeners.ircs.as_ref().map(|ircs| ircs.address)),
        ("listeners.webs.address", listeners.webs.as_ref().map(|webs| webs.address)),
        ("listeners.admin", Some(listeners.admin)),
        ("listeners.control.address", listeners.control.as_ref().map(|control| control.address)),
        ("listeners.peer.address", listeners.peer.as_ref().map(|peer| peer.address)),
    ];
    for (key, address) in named.into_iter().filter_map(|(key, address)| Some((key, address?))) {
        // Port 0 asks the system for a free one.
        let other = if address.port() == 0 { None } else { taken.insert(address, key) };
        if let Some(other) = other {
            return Err((
                format!("{other}{AND}{key}"),
                format!("are both `{address}`: give one of them another port"),
            ));
        }
    }
    let origins = listeners.web.iter().map(|web| ("web", &web.allowed_origins));
    let more = listeners.webs.iter().map(|webs| ("webs", &webs.allowed_origins));
    for (listener, origins) in origins.chain(more) {
        for (n, origin) in origins.iter().enumerate() {
            rule(is_origin(origin), &format!("listeners.{listener}.allowedOrigins[{n}]"), || {
                format!(
                    "`{origin}` is not an origin: write scheme and host, such as https://chat.example.org"
                )
            })?;
        }
    }
    let sts = listeners.ircs.as_ref().and_then(|ircs| ircs.sts_duration);
    sts.map_or(Ok(()), |sts| span("listeners.ircs.stsDuration", sts, 0, contract::duration::MAX_SECONDS))
}

/// `http(s)://host[:port]` without a path, in lower case as browsers send it.
fn is_origin(text: &str) -> bool {
    let Some(host) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    !host.is_empty()
        && host.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b'[' | b']')
        })
}

fn check_limits(config: &NodeConfig) -> Result<(), (String, String)> {
    let limits = &config.limits;
    within("limits.maxConnections", limits.max_connections.into())?;
    within("limits.maxConnectionsPerAddress", limits.max_connections_per_address.into())?;
    span("limits.registration", limits.registration, 1, 3_600)?;
    span("limits.pingAfter", limits.ping_after, 1, 86_400)?;
    span("limits.pongWithin", limits.pong_within, 1, 86_400)?;
    within("limits.commandBurst", limits.command_burst.into())?;
    within("limits.commandsPerSecond", limits.commands_per_second.into())?;
    within("limits.maxWaitingInput", limits.max_waiting_input as u64)?;
    within("limits.maxWaitingOutput", limits.max_waiting_output as u64)
}

fn check_chat(config: &NodeConfig) -> Result<(), (String, String)> {
    let chat = &config.chat;
    let limits = &chat.limits;
    for (key, value) in [
        ("nickLength", limits.nick_length),
        ("channelsPerUser", limits.channels_per_user),
        ("channelLength", limits.channel_length),
        ("topicLength", limits.topic_length),
        ("kickLength", limits.kick_length),
        ("awayLength", limits.away_length),
        ("keyLength", limits.key_length),
        ("listEntries", limits.list_entries),
    ] {
        within(&format!("chat.limits.{key}"), value.into())?;
    }
    span("chat.history.maxAge", chat.history.max_age, 1, contract::duration::MAX_SECONDS)?;
    within("chat.history.maxMessages", chat.history.max_messages.into())?;

    rule(chat.motd.lines().count() <= MAX_MOTD_LINES, "chat.motd", || {
        format!("has more than {MAX_MOTD_LINES} lines")
    })?;
    for (n, line) in chat.motd.lines().enumerate() {
        let fits = line.len() <= MAX_MOTD_LINE_BYTES && !line.contains(['\0', '\r']);
        rule(fits, "chat.motd", || {
            format!("line {} must be at most {MAX_MOTD_LINE_BYTES} bytes without NUL or CR", n + 1)
        })?;
    }

    let mut names = BTreeSet::new();
    for (n, channel) in chat.channels.iter().enumerate() {
        let key = format!("chat.channels[{n}].name");
        rule(name::is_channel(&channel.name, limits.channel_length.into()), &key, || {
            format!(
                "`{}` is not a channel name: `#`, then no space, comma or control character, at most {} bytes",
                channel.name, limits.channel_length
            )
        })?;
        let folded = chat_protocol::Folded::new(&channel.name).as_str().to_owned();
        rule(names.insert(folded), &key, || format!("`{}` is there twice", channel.name))?;
        let fits = channel.topic.len() <= usize::from(limits.topic_length)
            && !channel.topic.contains(['\0', '\r', '\n']);
        rule(fits, &format!("chat.channels[{n}].topic"), || {
            format!("must be one line of at most {} bytes", limits.topic_length)
        })?;
    }
    Ok(())
}

fn rule(kept: bool, key: &str, reason: impl FnOnce() -> String) -> Result<(), (String, String)> {
    if kept { Ok(()) } else { Err((key.to_owned(), reason())) }
}

/// From where to where a number may be.
pub(super) fn range_of(key: &str) -> Option<(u64, u64)> {
    RANGES.iter().find(|(of, ..)| *of == key).map(|(_, low, high)| (*low, *high))
}

fn within(key: &str, value: u64) -> Result<(), (String, String)> {
    let (low, high) = range_of(key).expect("every number that is checked has a range");
    rule((low..=high).contains(&value), key, || format!("is {value}, must be from {low} to {high}"))
}

fn span(key: &str, value: Span, low: u64, high: u64) -> Result<(), (String, String)> {
    rule((low..=high).contains(&value.as_secs()), key, || {
        format!("is {value}, must be from {} to {}", Span::from_secs(low), Span::from_secs(high))
    })
}
