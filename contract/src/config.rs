//! The configuration file of a chat node (YAML).
//!
//! Every key has a default: an empty file is a working server. Unknown keys are errors, so that a typing
//! mistake never turns into a silently ignored wish.

use std::{net::SocketAddr, num::NonZeroU16, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{duration::Span, ports};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// What clients see as `NETWORK=`; the ChatRoom's name.
    pub network: String,
    /// The name this server signs its lines with. No spaces; contains a dot or is a host name.
    pub server_name: String,
    /// Rises with every change of `chat` (the ChatRoom's generation). A lone node leaves it out: it then counts by itself.
    pub revision: Option<u64>,
    /// The data directory: write-ahead log, snapshots, history.
    pub data: PathBuf,
    /// Threads with sockets of their own; 1 is the single-threaded server.
    pub workers: usize,
    pub log: LogConfig,
    pub listeners: Listeners,
    pub limits: ConnectionLimits,
    pub chat: ChatSettings,
    /// How long a session outlives its connection.
    pub resume_window: Span,
    /// A drain ends by then at the latest.
    pub drain_deadline: Span,
    pub telemetry: Telemetry,
}

/// Where the log lives: exactly one of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LogConfig {
    /// A write-ahead log in the data directory of this node.
    Local {
        /// Channel shards; fixed once the data directory exists.
        shards: u16,
    },
    /// Valkey or Redis, shared by all nodes of the room; none of them keeps anything.
    Valkey(ValkeyLog),
    /// Write-ahead logs in the data directories of the room's nodes, kept alike by Raft.
    Raft(RaftLog),
}

/// A log that the nodes of a room keep together. An entry is acknowledged when it is on the disks of a majority of its
/// shard's voters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaftLog {
    /// Channel shards; fixed once the room is founded.
    pub shards: u16,
    /// Nodes that may fail at a time, f: every shard has 2f + 1 voters as soon as there are as many nodes.
    #[serde(default = "one")]
    pub tolerate: u16,
    /// This node's name among the others: the pod's, where there is one. No two nodes have the same.
    #[serde(default)]
    pub name: String,
    /// `HOST:PORT` at which the other nodes reach this one's peer listener.
    #[serde(default)]
    pub advertise: String,
    /// `HOST:PORT` of nodes of the room, any of which a node that is new or has moved asks first. A host name may have
    /// several addresses.
    #[serde(default)]
    pub peers: Vec<String>,
    /// What fails together with this node, from the narrowest on: a machine, a rack, a zone. Voters of a shard are spread
    /// over it.
    #[serde(default)]
    pub domains: FailureDomains,
}

/// Where a node runs; empty means that nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureDomains {
    /// The machine: the Kubernetes node.
    pub host: String,
    pub zone: String,
}

/// A log in Valkey (7.2 or newer) or Redis (6.2 or newer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValkeyLog {
    /// Channel shards; fixed once the room exists in the store.
    pub shards: u16,
    /// Tells rooms in one store apart; all nodes of a room say the same, no two rooms do.
    pub room: String,
    /// A file with the store's URL in one line: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` for TLS.
    /// It is read again for every connection, so a password may change while the node runs.
    pub url_file: PathBuf,
    /// Certificates (PEM) of the authorities that the server's is checked against under `rediss://`; the system's if left
    /// out. Read again like the URL.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl LogConfig {
    /// Channel shards of the room.
    pub fn shards(&self) -> u16 {
        match self {
            Self::Local { shards }
            | Self::Valkey(ValkeyLog { shards, .. })
            | Self::Raft(RaftLog { shards, .. }) => *shards,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Listeners {
    /// IRC over TCP; `null` turns it off.
    pub irc: Option<TcpListener>,
    /// IRC over TLS; off unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ircs: Option<SecureTcpListener>,
    /// Page and WebSocket; `null` turns it off.
    pub web: Option<WebListener>,
    /// Page and WebSocket over TLS; off unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webs: Option<SecureWebListener>,
    /// Probes and metrics; also `/v1/*`, unless `control` is set.
    pub admin: SocketAddr,
    /// `/v1/*` for clients with a certificate alone; off unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlListener>,
    /// Where the other nodes of a room with a `raft` log come in; off unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerListener>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpListener {
    pub address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebListener {
    pub address: SocketAddr,
    /// Origins (`https://chat.example.org`) whose pages may open a WebSocket here besides the node's own page.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

/// IRC over TLS. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecureTcpListener {
    #[serde(default = "any_ircs")]
    pub address: SocketAddr,
    /// The certificate and those that it was signed with, but for the root (PEM).
    pub certificate_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// How long clients that know `sts` are told to come over TLS alone; nothing is said if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_duration: Option<Span>,
    /// The port at which clients reach this listener, where something before it has another one; that of `address` if left
    /// out. Clients that know `sts` are told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_port: Option<NonZeroU16>,
}

/// Page and WebSocket over TLS. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecureWebListener {
    #[serde(default = "any_webs")]
    pub address: SocketAddr,
    /// The certificate and those that it was signed with, but for the root (PEM).
    pub certificate_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// As for [`WebListener`].
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

/// `/v1/*` over TLS with certificates on both sides. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlListener {
    #[serde(default = "any_control")]
    pub address: SocketAddr,
    /// The certificate and those that it was signed with, but for the root (PEM).
    pub certificate_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// Certificates (PEM) that a client's must be signed with.
    pub client_ca_file: PathBuf,
}

/// For the other nodes of a room. With certificates on both sides, or with none: a node without them talks to everybody who
/// reaches the port. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerListener {
    #[serde(default = "any_peer")]
    pub address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTls>,
}

/// What a node shows to the others, both where it calls and where it is called, and whom it believes (PEM).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerTls {
    /// Good for the name [`PEER_NAME`], and for both ends of a connection.
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Certificates that the other's must be signed with. They sign for nodes of this room and for nobody else.
    pub ca_file: PathBuf,
}

/// The name in the certificates of nodes, whatever their addresses.
pub const PEER_NAME: &str = "peer.chatroom.dev";

/// Limits of connections; they concern this node alone and are not in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionLimits {
    pub max_connections: u32,
    /// Per client address; loopback is exempt.
    pub max_connections_per_address: u32,
    /// Time to finish registration.
    pub registration: Span,
    /// Silence after which the server sends PING.
    pub ping_after: Span,
    /// Time to answer a PING.
    pub pong_within: Span,
    /// Commands a client may send at once.
    pub command_burst: u32,
    /// Commands a second after the burst.
    pub commands_per_second: u32,
    /// Input kept of a client that is over its rate, in bytes; past it the connection is closed `Excess Flood`.
    pub max_waiting_input: usize,
    /// Output kept for a client that reads slowly, in bytes; past it the connection is closed `SendQ exceeded`.
    pub max_waiting_output: usize,
}

/// Settings of the chat service; they are entries of the log, the same on every node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatSettings {
    /// Message of the day; lines.
    pub motd: String,
    /// Channels that exist without anybody in them.
    pub channels: Vec<DeclaredChannel>,
    pub history: HistorySettings,
    pub limits: ChatLimits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclaredChannel {
    /// With its `#`.
    pub name: String,
    /// Set when the channel is first declared and whenever this text changes.
    #[serde(default)]
    pub topic: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HistorySettings {
    /// Messages older than this are dropped.
    pub max_age: Span,
    /// Messages kept per channel.
    pub max_messages: u32,
}

/// Limits that clients are told in `005` (ISUPPORT); counts and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatLimits {
    /// NICKLEN, bytes.
    pub nick_length: u16,
    /// CHANLIMIT: channels a user may be in.
    pub channels_per_user: u16,
    /// CHANNELLEN, bytes.
    pub channel_length: u16,
    /// TOPICLEN, bytes.
    pub topic_length: u16,
    /// KICKLEN, bytes.
    pub kick_length: u16,
    /// AWAYLEN, bytes.
    pub away_length: u16,
    /// KEYLEN, bytes.
    pub key_length: u16,
    /// MAXLIST: entries of each of the lists b, e, I of a channel.
    pub list_entries: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Nodes that a room may declare to outlive at a time: more would need more voters than it is worth to wait for.
pub const MAX_TOLERATED: u16 = 3;

/// Channel shards a room may have: enough for any node count in sight, few enough to follow all of them.
pub const MAX_SHARDS: u16 = 256;

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            network: "chat".into(),
            server_name: "chat.local".into(),
            revision: None,
            data: "data".into(),
            workers: 1,
            log: LogConfig::default(),
            listeners: Listeners::default(),
            limits: ConnectionLimits::default(),
            chat: ChatSettings::default(),
            resume_window: Span::from_secs(300),
            drain_deadline: Span::from_secs(30),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::Local { shards: 4 }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            irc: Some(TcpListener { address: any(ports::IRC) }),
            ircs: None,
            web: Some(WebListener { address: any(ports::WEB), allowed_origins: Vec::new() }),
            webs: None,
            admin: any(ports::ADMIN),
            control: None,
            peer: None,
        }
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

fn any_ircs() -> SocketAddr {
    any(ports::IRCS)
}

fn any_webs() -> SocketAddr {
    any(ports::WEBS)
}

fn any_control() -> SocketAddr {
    any(ports::CONTROL)
}

fn any_peer() -> SocketAddr {
    any(ports::PEER)
}

fn one() -> u16 {
    1
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 128,
            registration: Span::from_secs(10),
            ping_after: Span::from_secs(60),
            pong_within: Span::from_secs(30),
            command_burst: 20,
            commands_per_second: 5,
            max_waiting_input: 16 * 1024,
            max_waiting_output: 1024 * 1024,
        }
    }
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            motd: "Welcome.".into(),
            channels: Vec::new(),
            history: HistorySettings::default(),
            limits: ChatLimits::default(),
        }
    }
}

impl Default for HistorySettings {
    fn default() -> Self {
        Self { max_age: Span::from_secs(7 * 86_400), max_messages: 10_000 }
    }
}

impl Default for ChatLimits {
    fn default() -> Self {
        Self {
            nick_length: 30,
            channels_per_user: 100,
            channel_length: 64,
            topic_length: 390,
            kick_length: 390,
            away_length: 200,
            key_length: 23,
            list_entries: 100,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(serde_yaml::from_str::<NodeConfig>("{}").unwrap(), NodeConfig::default());
    }

    #[test]
    fn the_default_survives_writing_and_reading() {
        let text = serde_yaml::to_string(&NodeConfig::default()).unwrap();
        assert_eq!(serde_yaml::from_str::<NodeConfig>(&text).unwrap(), NodeConfig::default());
    }

    #[test]
    fn what_is_off_unless_set_is_not_written() {
        let text = serde_yaml::to_string(&NodeConfig::default()).unwrap();
        for key in ["ircs", "webs", "control", "peer"] {
            assert!(!text.contains(key), "a room's file must not change with the program's version: {text}");
        }
        let text = "listeners: {ircs: {certificateFile: a, keyFile: b}}";
        let ircs = serde_yaml::from_str::<NodeConfig>(text).unwrap().listeners.ircs.unwrap();
        assert_eq!(ircs.address, any(6697));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = serde_yaml::from_str::<NodeConfig>("chat: {motdd: hi}").unwrap_err().to_string();
        assert!(error.contains("motdd"), "{error}");
    }
}
