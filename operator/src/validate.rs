//! Second stage: spec and observation become a typed [`Room`], or the errors of its author. Pure.

use contract::{
    config::{self, ChatSettings, LogConfig, NodeConfig, RaftLog, TcpListener, ValkeyLog},
    duration::Span,
    ports,
};
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};
use kube::Resource;

use crate::{
    api::{self, ChatRoom, DurationText},
    build::{
        CONTROL_DIRECTORY, IRCS_DIRECTORY, PEER_DIRECTORY, STORE_CA_FILE, STORE_URL_FILE, WEBS_DIRECTORY,
    },
    control::{Authority, Root},
    names,
    observe::Observed,
};

/// What an operator is told when it is started, as far as rooms are concerned.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image of rooms that name none.
    pub node_image: Option<String>,
    /// Image of stores that the operator runs.
    pub store_image: String,
    /// Namespace of the operator's own pods, which NetworkPolicies let in.
    pub operator_namespace: Option<String>,
    /// What the authorities of the rooms' control ports follow from.
    pub control_root: Root,
}

/// A ChatRoom whose every value was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    pub name: String,
    pub namespace: String,
    pub owner: OwnerReference,
    pub generation: i64,
    /// `spec.replicas`, where somebody wrote it.
    pub wish: Option<i32>,
    pub paused: bool,
    pub image: String,
    pub image_pull_policy: Option<&'static str>,
    pub resources: ResourceRequirements,
    /// The node's configuration file, still without the revision of its settings.
    pub config: NodeConfig,
    pub shape: Shape,
    /// Ports of the client Service.
    pub ports: ClientPorts,
    pub certificates: ClientCertificates,
    pub service: api::Service,
    pub operator_namespace: Option<String>,
    /// Of the nodes' control ports.
    pub authority: Authority,
}

/// Ports that clients come to, where they are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPorts {
    pub irc: Option<u16>,
    pub ircs: Option<u16>,
    /// Page and WebSocket.
    pub web: Option<u16>,
    pub webs: Option<u16>,
}

impl ClientPorts {
    /// The same with their names, in the order in which a user is told.
    pub fn named(&self) -> Vec<(&'static str, u16)> {
        let Self { irc, ircs, web, webs } = *self;
        let all = [("irc", irc), ("ircs", ircs), ("web", web), ("webs", webs)];
        all.into_iter().filter_map(|(name, port)| port.map(|port| (name, port))).collect()
    }

    /// Names and numbers of the ports in the pods behind them.
    pub fn of_pods(&self) -> Vec<(&'static str, u16)> {
        let Self { irc, ircs, web, webs } = self;
        let all = [
            ("irc", irc, ports::IRC),
            ("ircs", ircs, ports::IRCS),
            ("web", web, ports::WEB),
            ("webs", webs, ports::WEBS),
        ];
        all.into_iter()
            .filter(|(_, served, _)| served.is_some())
            .map(|(name, _, port)| (name, port))
            .collect()
    }
}

/// Secrets with the certificates that clients are shown. Only the nodes read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    pub ircs: Option<String>,
    pub webs: Option<String>,
}

/// Where the log lives.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// On the nodes' own volumes.
    Stateful(Stateful),
    /// In a store.
    Stateless(Store),
}

/// Where a stateless room's log is.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    Managed(ManagedStore),
    Valkey(api::ValkeyStore),
}

/// A store that the operator runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedStore {
    pub size: Quantity,
    pub class_name: Option<String>,
    pub image: String,
    /// Name of its Secret.
    pub secret: String,
}

/// A room whose nodes keep the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Stateful {
    pub volume: Volume,
    /// Nodes that may fail at a time, f.
    pub tolerate: u16,
    /// Channel shards.
    pub shards: u16,
    /// Id of the room as its volumes know it, once it was begun.
    pub cluster: Option<String>,
    /// Id of the member that begins it, once that is written down.
    pub founder: Option<String>,
}

impl Stateful {
    /// What its author and its status say of a stateful room; it is never wrong by itself.
    pub fn of(chat_room: &ChatRoom) -> Option<Self> {
        let api::Mode::Stateful(api::Stateful { shards, tolerate, storage }) = &chat_room.spec.mode else {
            return None;
        };
        let status = chat_room.status.as_ref();
        Some(Self {
            volume: Volume {
                size: Quantity(storage.size.clone()),
                class_name: storage.class_name.clone(),
                retain: storage.retain,
            },
            tolerate: tolerate.node_failures,
            shards: *shards,
            cluster: status.and_then(|status| Some(status.cluster.as_ref()?.id.clone())),
            founder: status.and_then(|status| Some(status.founding.as_ref()?.member.clone())),
        })
    }

    /// Voters of each shard, which is the fewest nodes that the room has.
    pub fn voters(&self) -> u16 {
        2 * self.tolerate + 1
    }
}

/// The volume of each node.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    pub size: Quantity,
    pub class_name: Option<String>,
    pub retain: api::Retain,
}

/// What the author of a spec has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// A value of the spec: where, and what to write instead.
    Spec { field: &'static str, problem: String },
    /// An object of that name exists and is not the room's.
    NameTaken { object: String },
}

impl std::fmt::Display for UserError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spec { field, problem } => write!(f, "{field}: {problem}"),
            Self::NameTaken { object } => write!(
                f,
                "{object} exists and does not belong to this ChatRoom: delete it, or give the room another name"
            ),
        }
    }
}

/// Longest `drainDeadline`: Kubernetes waits that long for a pod, and a Kubernetes node's drain with it.
const MAX_DRAIN: Span = Span::from_secs(600);

/// All errors at once, so that they can be mended in one go.
pub fn validate(
    chat_room: &ChatRoom,
    observed: &Observed,
    defaults: &Defaults,
) -> Result<Room, Vec<UserError>> {
    let mut errors = Errors(Vec::new());
    errors.0.extend(observed.strangers.iter().map(|object| UserError::NameTaken { object: object.clone() }));

    let api::ChatRoomSpec { replicas, mode, node, chat, listeners, service, paused } = &chat_room.spec;
    let image = node.image.clone().or_else(|| defaults.node_image.clone()).unwrap_or_else(|| {
        errors.spec(
            "spec.node.image",
            "name an image: this operator was started without --default-node-image".into(),
        );
        String::new()
    });
    let name = chat_room.metadata.name.clone().unwrap_or_default();
    let namespace = chat_room.metadata.namespace.clone().unwrap_or_default();
    let uid = chat_room.metadata.uid.as_deref().unwrap_or_default();
    let config = NodeConfig {
        network: name.clone(),
        server_name: format!("{name}.{namespace}"),
        revision: None,
        data: "/data".into(),
        workers: usize::from(node.workers),
        log: log(mode, &name, &namespace, uid),
        listeners: node_listeners(listeners, mode, &mut errors),
        limits: config::ConnectionLimits {
            max_connections: node.max_connections,
            max_connections_per_address: node.max_connections_per_address,
            ..config::ConnectionLimits::default()
        },
        chat: settings(chat, &mut errors),
        resume_window: errors.span("spec.node.resumeWindow", &node.resume_window),
        drain_deadline: drain_deadline(&node.drain_deadline, &mut errors),
        telemetry: config::Telemetry {
            level: log_level(node.log_level),
            format: log_format(node.log_format),
        },
    };
    if !errors.0.is_empty() {
        return Err(errors.0);
    }
    let shape = shape(chat_room, &name, uid, defaults);
    let authority = defaults.control_root.authority(&namespace, uid);
    Ok(Room {
        owner: OwnerReference {
            block_owner_deletion: None,
            ..chat_room.controller_owner_ref(&()).expect("an object that was read has a name and a uid")
        },
        name,
        namespace,
        generation: chat_room.metadata.generation.unwrap_or_default(),
        wish: *replicas,
        paused: *paused,
        image,
        image_pull_policy: node.image_pull_policy.map(pull_policy),
        resources: ResourceRequirements {
            claims: None,
            requests: quantities(&node.resources.requests),
            limits: quantities(&node.resources.limits),
        },
        config,
        shape,
        ports: ClientPorts {
            irc: listeners.irc.enabled.then_some(listeners.irc.port),
            ircs: listeners.ircs.as_ref().map(|listener| listener.port),
            web: listeners.web.enabled.then_some(listeners.web.port),
            webs: listeners.webs.as_ref().map(|listener| listener.port),
        },
        certificates: ClientCertificates {
            ircs: listeners.ircs.as_ref().map(|listener| listener.certificate_secret.clone()),
            webs: listeners.webs.as_ref().map(|listener| listener.certificate_secret.clone()),
        },
        authority,
        service: service.clone(),
        operator_namespace: defaults.operator_namespace.clone(),
    })
}

impl Room {
    /// The store that the operator runs, if it runs one.
    pub fn managed_store(&self) -> Option<&ManagedStore> {
        match &self.shape {
            Shape::Stateless(Store::Managed(store)) => Some(store),
            Shape::Stateless(Store::Valkey(_)) | Shape::Stateful(_) => None,
        }
    }

    /// The volume of each node, if they have one.
    pub fn volume(&self) -> Option<&Volume> {
        match &self.shape {
            Shape::Stateful(stateful) => Some(&stateful.volume),
            Shape::Stateless(_) => None,
        }
    }

    /// Whatever concerns rooms alone whose nodes keep the log.
    pub fn stateful(&self) -> Option<&Stateful> {
        match &self.shape {
            Shape::Stateful(stateful) => Some(stateful),
            Shape::Stateless(_) => None,
        }
    }
}

fn shape(chat_room: &ChatRoom, room: &str, uid: &str, defaults: &Defaults) -> Shape {
    let stateless = |stateless: &api::Stateless| match &stateless.store {
        api::Store::Managed(api::ManagedStore { size, class_name }) => Store::Managed(ManagedStore {
            size: Quantity(size.clone()),
            class_name: class_name.clone(),
            image: defaults.store_image.clone(),
            secret: names::store_secret(room, uid),
        }),
        api::Store::Valkey(store) => Store::Valkey(store.clone()),
    };
    match (&chat_room.spec.mode, Stateful::of(chat_room)) {
        (api::Mode::Stateless(mode), _) => Shape::Stateless(stateless(mode)),
        (api::Mode::Stateful(_), stateful) => Shape::Stateful(stateful.expect("the mode says so")),
    }
}

/// Where the nodes look for their log. In a store that several rooms may share, a room is known by its uid: one that is
/// made anew under the same name begins with an empty log.
fn log(mode: &api::Mode, room: &str, namespace: &str, uid: &str) -> LogConfig {
    match mode {
        api::Mode::Stateful(stateful) => LogConfig::Raft(RaftLog {
            shards: stateful.shards,
            tolerate: stateful.tolerate.node_failures,
            peers: vec![format!("{}.{namespace}.svc:{}", names::peer_service(room), ports::PEER)],
            // These differ from node to node: its pod's environment has them.
            name: String::new(),
            advertise: String::new(),
            domains: config::FailureDomains::default(),
        }),
        api::Mode::Stateless(stateless) => LogConfig::Valkey(ValkeyLog {
            shards: stateless.shards,
            room: uid.to_owned(),
            url_file: STORE_URL_FILE.into(),
            ca_file: match &stateless.store {
                api::Store::Valkey(api::ValkeyStore { ca_from: Some(_), .. }) => Some(STORE_CA_FILE.into()),
                api::Store::Valkey(_) | api::Store::Managed(_) => None,
            },
        }),
    }
}

struct Errors(Vec<UserError>);

impl Errors {
    fn spec(&mut self, field: &'static str, problem: String) {
        self.0.push(UserError::Spec { field, problem });
    }

    fn span(&mut self, field: &'static str, text: &DurationText) -> Span {
        text.0.parse().unwrap_or_else(|problem| {
            self.spec(field, problem);
            Span::from_secs(0)
        })
    }
}

fn drain_deadline(text: &DurationText, errors: &mut Errors) -> Span {
    let field = "spec.node.drainDeadline";
    let span = errors.span(field, text);
    if span > MAX_DRAIN {
        errors.spec(field, format!("{span} is too long: write at most {MAX_DRAIN}"));
    }
    span
}

fn node_listeners(listeners: &api::Listeners, mode: &api::Mode, errors: &mut Errors) -> config::Listeners {
    let any = |port| std::net::SocketAddr::from(([0, 0, 0, 0], port));
    let file = |directory: &str, name: &str| std::path::Path::new(directory).join(name);
    config::Listeners {
        irc: listeners.irc.enabled.then(|| TcpListener { address: any(ports::IRC) }),
        ircs: listeners.ircs.as_ref().map(|ircs| config::SecureTcpListener {
            address: any(ports::IRCS),
            certificate_file: file(IRCS_DIRECTORY, names::CERTIFICATE_KEY),
            key_file: file(IRCS_DIRECTORY, names::PRIVATE_KEY_KEY),
            sts_duration: ircs
                .sts_duration
                .as_ref()
                .map(|text| errors.span("spec.listeners.ircs.stsDuration", text)),
            // Clients know the Service.
            sts_port: std::num::NonZeroU16::new(ircs.port),
        }),
        web: listeners.web.enabled.then(|| config::WebListener {
            address: any(ports::WEB),
            allowed_origins: listeners.web.allowed_origins.clone(),
        }),
        webs: listeners.webs.as_ref().map(|webs| config::SecureWebListener {
            address: any(ports::WEBS),
            certificate_file: file(WEBS_DIRECTORY, names::CERTIFICATE_KEY),
            key_file: file(WEBS_DIRECTORY, names::PRIVATE_KEY_KEY),
            allowed_origins: webs.allowed_origins.clone(),
        }),
        admin: any(ports::ADMIN),
        control: Some(config::ControlListener {
            address: any(ports::CONTROL),
            certificate_file: file(CONTROL_DIRECTORY, names::CERTIFICATE_KEY),
            key_file: file(CONTROL_DIRECTORY, names::PRIVATE_KEY_KEY),
            client_ca_file: file(CONTROL_DIRECTORY, names::AUTHORITIES_KEY),
        }),
        peer: match mode {
            api::Mode::Stateful(_) => Some(config::PeerListener {
                address: any(ports::PEER),
                tls: Some(config::PeerTls {
                    certificate_file: file(PEER_DIRECTORY, names::CERTIFICATE_KEY),
                    key_file: file(PEER_DIRECTORY, names::PRIVATE_KEY_KEY),
                    ca_file: file(PEER_DIRECTORY, names::AUTHORITIES_KEY),
                }),
            }),
            api::Mode::Stateless(_) => None,
        },
    }
}

fn settings(chat: &api::Chat, errors: &mut Errors) -> ChatSettings {
    let api::Chat { motd, channels, history, limits } = chat;
    let api::ChatLimits {
        nick_length,
        channels_per_user,
        channel_length,
        topic_length,
        kick_length,
        away_length,
        key_length,
        list_entries,
    } = *limits;
    check_channels(channels, channel_length, topic_length, errors);
    ChatSettings {
        motd: motd.clone(),
        channels: channels
            .iter()
            .map(|api::Channel { name, topic }| config::DeclaredChannel {
                name: name.clone(),
                topic: topic.clone(),
            })
            .collect(),
        history: config::HistorySettings {
            max_age: errors.span("spec.chat.history.maxAge", &history.max_age),
            max_messages: history.max_messages,
        },
        limits: config::ChatLimits {
            nick_length,
            channels_per_user,
            channel_length,
            topic_length,
            kick_length,
            away_length,
            key_length,
            list_entries,
        },
    }
}

fn check_channels(channels: &[api::Channel], name_bytes: u16, topic_bytes: u16, errors: &mut Errors) {
    let field = "spec.chat.channels";
    let mut seen = std::collections::BTreeMap::new();
    for channel in channels {
        let name = &channel.name;
        if name.len() > usize::from(name_bytes) {
            errors.spec(
                field,
                format!("{name} has {} bytes: shorten it, or raise limits.channelLength", name.len()),
            );
        }
        if channel.topic.len() > usize::from(topic_bytes) {
            errors.spec(
                field,
                format!(
                    "the topic of {name} has {} bytes: shorten it, or raise limits.topicLength",
                    channel.topic.len()
                ),
            );
        }
        if let Some(other) = seen.insert(name.to_ascii_lowercase(), name) {
            errors.spec(
                field,
                format!("{other} and {name} are one channel, as case does not count: remove one"),
            );
        }
    }
}

fn quantities(
    map: &std::collections::BTreeMap<String, IntOrString>,
) -> Option<std::collections::BTreeMap<String, Quantity>> {
    let text = |value: &IntOrString| match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    (!map.is_empty()).then(|| map.iter().map(|(key, value)| (key.clone(), Quantity(text(value)))).collect())
}

fn pull_policy(policy: api::ImagePullPolicy) -> &'static str {
    match policy {
        api::ImagePullPolicy::Always => "Always",
        api::ImagePullPolicy::IfNotPresent => "IfNotPresent",
        api::ImagePullPolicy::Never => "Never",
    }
}

fn log_level(level: api::LogLevel) -> config::LogLevel {
    match level {
        api::LogLevel::Error => config::LogLevel::Error,
        api::LogLevel::Warn => config::LogLevel::Warn,
        api::LogLevel::Info => config::LogLevel::Info,
        api::LogLevel::Debug => config::LogLevel::Debug,
        api::LogLevel::Trace => config::LogLevel::Trace,
    }
}

fn log_format(format: api::LogFormat) -> config::LogFormat {
    match format {
        api::LogFormat::Text => config::LogFormat::Text,
        api::LogFormat::Json => config::LogFormat::Json,
    }
}

#[cfg(test)]
mod tests;
