//! The configuration a node runs with: the file, the flags over it, and the rules that both must keep.

use std::{collections::BTreeSet, fs, io::Read, net::SocketAddr, path::PathBuf};

use chat_protocol::name;
use contract::{
    config::{LogConfig, MAX_SHARDS, NodeConfig, TcpListener, WebListener},
    duration::Span,
};

/// Largest configuration file that is read; a ConfigMap holds no more.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// More threads than this is a typing mistake.
const MAX_WORKERS: usize = 64;
const MAX_MOTD_LINES: usize = 200;
const MAX_MOTD_LINE_BYTES: usize = 400;

/// What flags say over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) data: Option<PathBuf>,
    pub(crate) irc: Option<ListenerFlag>,
    pub(crate) web: Option<ListenerFlag>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) workers: Option<usize>,
    pub(crate) network: Option<String>,
}

/// Where to listen, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerFlag {
    At(SocketAddr),
    Off,
}

/// Why a configuration is refused. Its text names the file (or the flags) and the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{file}: cannot be read: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}: {key}: {reason}")]
    Invalid { file: String, key: String, reason: String },
}

/// Reads the file, if one is named, puts the flags over it and checks the whole.
pub(crate) fn load(file: Option<&PathBuf>, overrides: Overrides) -> Result<NodeConfig, ConfigError> {
    let (source, text) = match file {
        Some(path) => {
            let source = path.display().to_string();
            let text =
                read(path).map_err(|reason| ConfigError::Unreadable { file: source.clone(), reason })?;
            (source, text)
        }
        None => ("command line".to_owned(), String::new()),
    };
    let mut config = parse(&source, &text)?;
    apply(&mut config, overrides);
    check(&config).map_err(|(key, reason)| ConfigError::Invalid { file: source, key, reason })?;
    Ok(config)
}

fn read(path: &PathBuf) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

fn parse(file: &str, text: &str) -> Result<NodeConfig, ConfigError> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(NodeConfig::default());
    }
    let mut key = None;
    let parsed = serde_yaml::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            key = Some(error.path().to_string());
            error.into_inner()
        })
    });
    parsed.map_err(|error| ConfigError::Invalid {
        file: file.to_owned(),
        key: key.filter(|key| key != ".").unwrap_or_else(|| "the file".to_owned()),
        reason: error.without_snippet().to_string(),
    })
}

fn apply(config: &mut NodeConfig, overrides: Overrides) {
    let Overrides { data, irc, web, admin, workers, network } = overrides;
    if let Some(data) = data {
        config.data = data;
    }
    match irc {
        Some(ListenerFlag::At(address)) => config.listeners.irc = Some(TcpListener { address }),
        Some(ListenerFlag::Off) => config.listeners.irc = None,
        None => {}
    }
    match web {
        Some(ListenerFlag::At(address)) => {
            let allowed_origins =
                config.listeners.web.take().map_or_else(Vec::new, |web| web.allowed_origins);
            config.listeners.web = Some(WebListener { address, allowed_origins });
        }
        Some(ListenerFlag::Off) => config.listeners.web = None,
        None => {}
    }
    if let Some(admin) = admin {
        config.listeners.admin = admin;
    }
    if let Some(workers) = workers {
        config.workers = workers;
    }
    if let Some(network) = network {
        config.network = network;
    }
}

/// The first rule that is broken: key and reason.
fn check(config: &NodeConfig) -> Result<(), (String, String)> {
    check_names(config)?;
    within("workers", config.workers as u64, 1, MAX_WORKERS as u64)?;
    check_log(&config.log)?;
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
    rule(config.revision != Some(0), "revision", || {
        "must be at least 1; leave it out to let the node count".to_owned()
    })
}

fn check_log(log: &LogConfig) -> Result<(), (String, String)> {
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
    };
    within(&format!("log.{kind}.shards"), log.shards().into(), 1, MAX_SHARDS.into())
}

fn check_listeners(config: &NodeConfig) -> Result<(), (String, String)> {
    let listeners = &config.listeners;
    rule(listeners.irc.is_some() || listeners.web.is_some(), "listeners", || {
        "irc and web are both off: nobody could connect".to_owned()
    })?;
    let mut taken = BTreeSet::new();
    let named = [
        ("listeners.irc.address", listeners.irc.as_ref().map(|irc| irc.address)),
        ("listeners.web.address", listeners.web.as_ref().map(|web| web.address)),
        ("listeners.admin", Some(listeners.admin)),
    ];
    for (key, address) in named.into_iter().filter_map(|(key, address)| Some((key, address?))) {
        // Port 0 asks the system for a free one.
        let free = address.port() == 0 || taken.insert(address);
        rule(free, key, || format!("`{address}` is taken by another listener of this file"))?;
    }
    for (n, origin) in listeners.web.iter().flat_map(|web| &web.allowed_origins).enumerate() {
        rule(is_origin(origin), &format!("listeners.web.allowedOrigins[{n}]"), || {
            format!("`{origin}` is not an origin: write scheme and host, such as https://chat.example.org")
        })?;
    }
    Ok(())
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
    within("limits.maxConnections", limits.max_connections.into(), 1, 1_000_000)?;
    within("limits.maxConnectionsPerAddress", limits.max_connections_per_address.into(), 1, 1_000_000)?;
    span("limits.registration", limits.registration, 1, 3_600)?;
    span("limits.pingAfter", limits.ping_after, 1, 86_400)?;
    span("limits.pongWithin", limits.pong_within, 1, 86_400)?;
    within("limits.commandBurst", limits.command_burst.into(), 1, 1_000_000_000)?;
    within("limits.commandsPerSecond", limits.commands_per_second.into(), 1, 1_000_000_000)?;
    // One line with all its tags must fit.
    within("limits.maxWaitingInput", limits.max_waiting_input as u64, 8_192, 16 * 1024 * 1024)?;
    within("limits.maxWaitingOutput", limits.max_waiting_output as u64, 65_536, 256 * 1024 * 1024)
}

fn check_chat(config: &NodeConfig) -> Result<(), (String, String)> {
    let chat = &config.chat;
    let limits = &chat.limits;
    for (key, value, low, high) in [
        ("nickLength", limits.nick_length, 1, 64),
        ("channelsPerUser", limits.channels_per_user, 1, 10_000),
        ("channelLength", limits.channel_length, 2, 200),
        ("topicLength", limits.topic_length, 1, 390),
        ("kickLength", limits.kick_length, 1, 390),
        ("awayLength", limits.away_length, 1, 390),
        ("keyLength", limits.key_length, 1, 100),
        ("listEntries", limits.list_entries, 1, 10_000),
    ] {
        within(&format!("chat.limits.{key}"), value.into(), low, high)?;
    }
    span("chat.history.maxAge", chat.history.max_age, 1, contract::duration::MAX_SECONDS)?;
    within("chat.history.maxMessages", chat.history.max_messages.into(), 0, 10_000_000)?;

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

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), (String, String)> {
    rule((low..=high).contains(&value), key, || format!("is {value}, must be from {low} to {high}"))
}

fn span(key: &str, value: Span, low: u64, high: u64) -> Result<(), (String, String)> {
    rule((low..=high).contains(&value.as_secs()), key, || {
        format!("is {value}, must be from {} to {}", Span::from_secs(low), Span::from_secs(high))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole error for a file of this text.
    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.yaml");
        fs::write(&path, text).expect("written");
        let error = load(Some(&path), Overrides::default()).expect_err(text).to_string();
        assert!(error.starts_with(&path.display().to_string()), "names the file: {error}");
        error
    }

    #[test]
    fn every_error_names_its_key() {
        for (text, key) in [
            ("workers: 0", "workers: is 0"),
            ("workers: many", "workers: "),
            ("limits: {maxConections: 1}", "maxConections"),
            ("limits: {maxConnections: -1}", "limits.maxConnections: "),
            ("limits: {pingAfter: 5 minutes}", "limits.pingAfter: "),
            ("limits: {maxWaitingInput: 100}", "limits.maxWaitingInput: "),
            ("log: {local: {shards: 0}}", "log.local.shards: "),
            ("log: {paper: {}}", "paper"),
            ("network: two words", "network: "),
            ("serverName: ''", "serverName: "),
            ("revision: 0", "revision: "),
            ("listeners: {irc: null, web: null}", "listeners: irc and web are both off"),
            ("listeners: {irc: {address: 'localhost'}}", "listeners.irc.address: "),
            ("listeners: {admin: '0.0.0.0:8080'}", "listeners.admin: "),
            (
                "listeners: {web: {address: '0.0.0.0:1', allowedOrigins: ['chat.example.org']}}",
                "allowedOrigins[0]: ",
            ),
            ("chat: {channels: [{name: lounge}]}", "chat.channels[0].name: "),
            ("chat: {channels: [{name: '#a'}, {name: '#A'}]}", "chat.channels[1].name: "),
            ("chat: {channels: [{name: '#a', topic: \"a\\nb\"}]}", "chat.channels[0].topic: "),
            ("chat: {limits: {nickLength: 0}}", "chat.limits.nickLength: "),
            ("drainDeadline: 0s", "drainDeadline: "),
            ("telemetry: {level: loud}", "telemetry.level: "),
        ] {
            let error = refused(text);
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn broken_yaml_and_missing_files_are_said() {
        assert!(refused("a: [").contains("line"), "{}", refused("a: ["));
        let missing = PathBuf::from("no/such/file.yaml");
        let error = load(Some(&missing), Overrides::default()).expect_err("missing").to_string();
        assert!(error.contains("no/such/file.yaml") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn flags_stand_over_the_file_and_are_checked_alike() {
        let overrides = Overrides {
            data: Some("elsewhere".into()),
            irc: Some(ListenerFlag::Off),
            workers: Some(3),
            network: Some("lounge".into()),
            ..Overrides::default()
        };
        let config = load(None, overrides).expect("valid");
        assert_eq!(config.data, PathBuf::from("elsewhere"));
        assert_eq!((config.workers, config.network.as_str()), (3, "lounge"));
        assert!(config.listeners.irc.is_none() && config.listeners.web.is_some());

        let error =
            load(None, Overrides { workers: Some(0), ..Overrides::default() }).expect_err("no workers");
        assert_eq!(error.to_string(), "command line: workers: is 0, must be from 1 to 64");
    }

    #[test]
    fn a_flag_keeps_the_files_origins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.yaml");
        fs::write(&path, "listeners: {web: {address: '0.0.0.0:1', allowedOrigins: ['https://a.example']}}")
            .expect("ok");
        let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let overrides = Overrides { web: Some(ListenerFlag::At(address)), ..Overrides::default() };
        let web = load(Some(&path), overrides).expect("valid").listeners.web.expect("on");
        assert_eq!((web.address, web.allowed_origins), (address, vec!["https://a.example".to_owned()]));
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("f", "").expect("valid"), NodeConfig::default());
        assert_eq!(parse("f", "# nothing yet\n\n").expect("valid"), NodeConfig::default());
    }
}
