//! The configuration a node runs with: the file, the flags over it, and the rules that both must keep.

use std::{fs, io::Read, net::SocketAddr, path::PathBuf};

use contract::config::{LogConfig, NodeConfig, TcpListener, WebListener};

use self::{
    mistake::{Mistake, explain},
    rules::{AND, check},
};

mod mistake;
mod rules;

/// Largest configuration file that is read; a ConfigMap holds no more.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What flags say over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) data: Option<PathBuf>,
    pub(crate) irc: Option<ListenerFlag>,
    pub(crate) web: Option<ListenerFlag>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) workers: Option<usize>,
    pub(crate) network: Option<String>,
    pub(crate) place: PlaceFlags,
}

/// What tells this node from the others of a room whose nodes keep the log; of no use elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceFlags {
    pub(crate) name: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) zone: Option<String>,
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
    #[error("{file}: cannot be read: {reason}; name another file with --config, or leave it out")]
    Unreadable { file: String, reason: String },
    #[error("{file}: {key}: {reason}")]
    Invalid { file: String, key: String, reason: String },
    #[error("{key}: {reason}")]
    InvalidFlag { key: String, reason: String },
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
    let flags = overrides.flags();
    apply(&mut config, overrides);
    check(&config).map_err(|(keys, reason)| blame(file.map(|_| source), &flags, &keys, reason))?;
    Ok(config)
}

impl Overrides {
    /// The keys that flags stand over, and these flags.
    fn flags(&self) -> Vec<(&'static str, &'static str)> {
        let Self { data, irc, web, admin, workers, network, place } = self;
        let PlaceFlags { name, advertise, host: _, zone: _ } = place;
        [
            (data.is_some(), ("data", "--data")),
            (irc.is_some(), ("listeners.irc", "--irc")),
            (web.is_some(), ("listeners.web", "--web")),
            (admin.is_some(), ("listeners.admin", "--admin")),
            (workers.is_some(), ("workers", "--workers")),
            (network.is_some(), ("network", "--network")),
            (name.is_some(), ("log.raft.name", "--name")),
            (advertise.is_some(), ("log.raft.advertise", "--advertise")),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
        .collect()
    }
}

/// Names where each of the keys, joined by [`AND`], was set: by a flag or in the file.
fn blame(file: Option<String>, flags: &[(&str, &str)], keys: &str, reason: String) -> ConfigError {
    let flag_of = |key: &str| {
        let key = key.strip_suffix(".address").unwrap_or(key);
        flags.iter().find(|(of, _)| *of == key).map(|(_, flag)| *flag)
    };
    let all_flags = keys.split(AND).all(|key| flag_of(key).is_some());
    let key = keys.split(AND).map(|key| flag_of(key).unwrap_or(key)).collect::<Vec<_>>().join(AND);
    match file.filter(|_| !all_flags) {
        Some(file) => ConfigError::Invalid { file, key, reason },
        None => ConfigError::InvalidFlag { key, reason },
    }
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
    let mut path = None;
    let parsed = serde_yaml::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            path = Some(error.path().to_string());
            error.into_inner()
        })
    });
    parsed.map_err(|error| {
        let Mistake { key, reason } = explain(path.as_deref().filter(|path| *path != "."), &error);
        ConfigError::Invalid { file: file.to_owned(), key, reason }
    })
}

fn apply(config: &mut NodeConfig, overrides: Overrides) {
    let Overrides { data, irc, web, admin, workers, network, place } = overrides;
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
    if let LogConfig::Raft(raft) = &mut config.log {
        let PlaceFlags { name, advertise, host, zone } = place;
        let over = |value: &mut String, flag: Option<String>| {
            if let Some(flag) = flag {
                *value = flag;
            }
        };
        over(&mut raft.name, name);
        over(&mut raft.advertise, advertise);
        over(&mut raft.domains.host, host);
        over(&mut raft.domains.zone, zone);
    }
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
            ("listeners: {irc: null, web: null}", "listeners.irc and listeners.web: both are off"),
            ("listeners: {irc: {address: 'localhost'}}", "listeners.irc.address: "),
            (
                "listeners: {admin: '0.0.0.0:8080'}",
                "listeners.web.address and listeners.admin: are both `0.0.0.0:8080`",
            ),
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
    fn errors_say_what_to_write_and_nothing_of_the_reader() {
        for (text, says) in [
            ("workers: many", "workers: must be a whole number from 1 to 64 (line 1)"),
            ("workers: -1", "workers: must be a whole number from 1 to 64 (line 1)"),
            ("workers: [1]", "workers: must be a whole number from 1 to 64 (line 1)"),
            (
                "\nlog: {local: {shards: 70000}}",
                "log.local.shards: must be a whole number from 1 to 256 (line 2)",
            ),
            ("workers: 1\nworkers: 2", "workers: is there twice: keep one of them (line 2)"),
            (
                "limits: {maxConnections: 1, maxConnections: 2}",
                "limits.maxConnections: is there twice: keep one of them (line 1)",
            ),
            (
                "listeners: {irc: {adress: x}}",
                "listeners.irc.adress: there is no such key; there are address (line 1)",
            ),
            ("listeners: {irc: {}}", "listeners.irc.address: must be set (line 1)"),
            (
                "listeners: {irc: 6667}",
                "listeners.irc: must be keys with values, such as `key: value` (line 1)",
            ),
            (
                "listeners: {irc: {address: '6667'}}",
                "listeners.irc.address: must be an IP address and a port, such as 0.0.0.0:6667 (line 1)",
            ),
            ("log: {paper: {}}", "log: is `paper`, must be one of local, valkey, raft (line 1)"),
            ("log: {}", "log: must have one key (line 1)"),
            ("log: {local: {shards: 1}, valkey: {}}", "log: must have one key: keep one of them (line 1)"),
            ("chat: {channels: '#a'}", "chat.channels: must be a list, such as `[first, second]` (line 1)"),
            ("network: [a]", "network: must be a single value, neither a list nor keys with values (line 1)"),
            (
                "network: a\n---\nnetwork: b",
                "the file: holds several documents, one after each `---`: keep one (line 3)",
            ),
            ("hello", "the file: must be keys with values, such as `key: value` (line 1)"),
        ] {
            let error = refused(text);
            let (_, said) = error.split_once("node.yaml: ").expect("names the file");
            assert_eq!(said, says, "{text}");
        }
    }

    #[test]
    fn what_a_flag_set_is_blamed_on_the_flag() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.yaml");
        fs::write(&path, "listeners: {web: {address: '0.0.0.0:6667'}}").expect("written");
        let refused = |overrides| load(Some(&path), overrides).expect_err("refused").to_string();
        let workers = Overrides { workers: Some(65), ..Overrides::default() };
        assert_eq!(refused(workers), "--workers: is 65, must be from 1 to 64");
        let irc = Overrides {
            irc: Some(ListenerFlag::At("0.0.0.0:6667".parse().expect("an address"))),
            ..Overrides::default()
        };
        let said = "--irc and listeners.web.address: are both `0.0.0.0:6667`: give one of them another port";
        assert_eq!(refused(irc), format!("{}: {said}", path.display()));
        let off =
            Overrides { irc: Some(ListenerFlag::Off), web: Some(ListenerFlag::Off), ..Overrides::default() };
        assert_eq!(refused(off), "--irc and --web: both are off, so nobody could connect: turn one on");
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
        assert_eq!(error.to_string(), "--workers: is 0, must be from 1 to 64");
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
