//! Pods of nodes, the same in both shapes but for where their log is.

use contract::{ports, status};
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, PodSpec,
        PodTemplateSpec, Probe, ResourceRequirements, Toleration, TopologySpreadConstraint, Volume,
        VolumeMount,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{
    CONTROL_DIRECTORY, IRCS_DIRECTORY, PEER_DIRECTORY, STORE_CA_FILE, STORE_URL_FILE, WEBS_DIRECTORY, hash,
    metadata, security, volumes,
};
use crate::{
    api::{CaSource, ValkeyStore},
    names,
    validate::{Room, Shape, Store},
};

/// Time between the end of a drain and the kill.
const GRACE_AFTER_DRAIN_SECONDS: i64 = 15;
/// How long a node may read its log before it is restarted: an hour.
const STARTUP_FAILURES: i32 = 3_600;
/// How long pods stay bound to a Kubernetes node that does not answer.
const TOLERATION_SECONDS: i64 = 30;
const HOST_LABEL: &str = "kubernetes.io/hostname";
const CONFIG_VOLUME: &str = "config";
const CONFIG_DIRECTORY: &str = "/etc/chat-node";
/// Volume of the URL of a store.
pub const STORE_URL_VOLUME: &str = "store-url";
const STORE_CA_VOLUME: &str = "store-ca";
const CONTROL_VOLUME: &str = "control";
const PEER_VOLUME: &str = "peers";
const IRCS_VOLUME: &str = "ircs";
const WEBS_VOLUME: &str = "webs";
/// Volumes of certificates that clients are shown.
pub const CERTIFICATE_VOLUMES: [&str; 2] = [IRCS_VOLUME, WEBS_VOLUME];

pub(super) fn template(room: &Room) -> PodTemplateSpec {
    let (sources, mounts): (Vec<_>, Vec<_>) =
        [log_volumes(room), certificate_volumes(room)].concat().into_iter().unzip();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&room.name)),
            // The revision is left out of `room.config`: a rising number alone is no reason to roll.
            annotations: Some(
                [
                    (names::CONFIG_ANNOTATION.into(), hash(&room.config)),
                    (names::ROOM_UID_ANNOTATION.into(), room.owner.uid.clone()),
                ]
                .into(),
            ),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::service_account(&room.name)),
            automount_service_account_token: Some(false),
            // The variables would grow with every Service of the namespace.
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(
                i64::try_from(room.config.drain_deadline.as_secs()).expect("validated to minutes")
                    + GRACE_AFTER_DRAIN_SECONDS,
            ),
            security_context: Some(security::of_pod()),
            topology_spread_constraints: Some(match room.shape {
                Shape::Stateful(_) => vec![spread(room, HOST_LABEL), spread(room, names::ZONE_LABEL)],
                // Else the pods that a roll is about to end would decide where the new ones go.
                Shape::Stateless(_) => vec![TopologySpreadConstraint {
                    match_label_keys: Some(vec![names::TEMPLATE_HASH_LABEL.into()]),
                    ..spread(room, HOST_LABEL)
                }],
            }),
            tolerations: Some(leave_soon()),
            containers: vec![container(room, mounts.into_iter().flatten().collect())],
            volumes: Some(
                [volumes::config_map(CONFIG_VOLUME, &names::config_map(&room.name))]
                    .into_iter()
                    .chain(sources.into_iter().flatten())
                    .collect(),
            ),
            ..PodSpec::default()
        }),
    }
}

/// Where there is room for it: a node in a bad place is better than none.
fn spread(room: &Room, over: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: over.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(metadata::selector(room)),
        ..TopologySpreadConstraint::default()
    }
}

/// What the log needs, each with its mount. The volume of a stateful node comes from its claim.
fn log_volumes(room: &Room) -> Vec<(Option<Volume>, Option<VolumeMount>)> {
    match &room.shape {
        Shape::Stateful(_) => vec![(None, Some(volumes::mount(names::DATA_VOLUME, "/data")))],
        Shape::Stateless(Store::Managed(store)) => vec![url(&store.secret, names::STORE_URL_KEY)],
        Shape::Stateless(Store::Valkey(ValkeyStore { url_from, ca_from })) => {
            let reference = &url_from.secret_key_ref;
            let mut volumes = vec![url(&reference.name, &reference.key)];
            volumes.extend(ca_from.as_ref().map(certificates));
            volumes
        }
    }
}

fn url(secret: &str, key: &str) -> (Option<Volume>, Option<VolumeMount>) {
    let (directory, file) = place(STORE_URL_FILE);
    (
        Some(volumes::secret_key(STORE_URL_VOLUME, secret, key, file)),
        Some(volumes::read_only(STORE_URL_VOLUME, directory)),
    )
}

fn certificates(source: &CaSource) -> (Option<Volume>, Option<VolumeMount>) {
    let (directory, file) = place(STORE_CA_FILE);
    let volume = match source {
        CaSource::SecretKeyRef(key) => volumes::secret_key(STORE_CA_VOLUME, &key.name, &key.key, file),
        CaSource::ConfigMapKeyRef(key) => volumes::config_map_key(STORE_CA_VOLUME, &key.name, &key.key, file),
    };
    (Some(volume), Some(volumes::read_only(STORE_CA_VOLUME, directory)))
}

/// Certificates of the node itself, for its operator, the other nodes and its clients.
fn certificate_volumes(room: &Room) -> Vec<(Option<Volume>, Option<VolumeMount>)> {
    const PAIR: &[&str] = &[names::CERTIFICATE_KEY, names::PRIVATE_KEY_KEY];
    const ALL: &[&str] = &[names::CERTIFICATE_KEY, names::PRIVATE_KEY_KEY, names::AUTHORITIES_KEY];
    let control = names::control_secret(&room.name, &room.owner.uid);
    let peers = room.stateful().map(|_| names::peer_secret(&room.name, &room.owner.uid));
    let sources = [
        (CONTROL_VOLUME, Some(&control), ALL, CONTROL_DIRECTORY),
        (PEER_VOLUME, peers.as_ref(), ALL, PEER_DIRECTORY),
        (IRCS_VOLUME, room.certificates.ircs.as_ref(), PAIR, IRCS_DIRECTORY),
        (WEBS_VOLUME, room.certificates.webs.as_ref(), PAIR, WEBS_DIRECTORY),
    ];
    let volume = |(volume, secret, keys, directory): (&str, Option<&String>, &[&str], &str)| {
        let secret = volumes::secret_keys(volume, secret?, keys);
        Some((Some(secret), Some(volumes::read_only(volume, directory))))
    };
    sources.into_iter().filter_map(volume).collect()
}

/// Directory and name of a file.
fn place(path: &str) -> (&str, &str) {
    path.rsplit_once('/').expect("the path is absolute")
}

fn container(room: &Room, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: names::NODE_CONTAINER.into(),
        image: Some(room.image.clone()),
        image_pull_policy: room.image_pull_policy.map(Into::into),
        args: Some(vec!["--config".into(), format!("{CONFIG_DIRECTORY}/{}", names::CONFIG_FILE)]),
        env: room.stateful().map(|_| identity(room)),
        ports: Some(
            room.ports
                .of_pods()
                .into_iter()
                .chain([(names::ADMIN_PORT, ports::ADMIN), (names::CONTROL_PORT, ports::CONTROL)])
                .chain(room.stateful().map(|_| (names::PEER_PORT, ports::PEER)))
                .map(|(name, port)| container_port(name, port))
                .collect(),
        ),
        resources: (room.resources != ResourceRequirements::default()).then(|| room.resources.clone()),
        startup_probe: Some(probe(status::LIVEZ, 1, STARTUP_FAILURES)),
        liveness_probe: Some(probe(status::LIVEZ, 10, 3)),
        readiness_probe: Some(probe(status::READYZ, 1, 3)),
        // The last lines of the log say why a node ended; the status shows them.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(security::of_container()),
        volume_mounts: Some(
            mounts.into_iter().chain([volumes::read_only(CONFIG_VOLUME, CONFIG_DIRECTORY)]).collect(),
        ),
        ..Container::default()
    }
}

/// What differs from node to node: who it is, where the others find it, what fails together with it. The zone is empty
/// where pods do not have the label.
fn identity(room: &Room) -> Vec<EnvVar> {
    let value =
        |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() };
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let service = format!("{}.{}.svc", names::peer_service(&room.name), room.namespace);
    vec![
        field("CHAT_NODE_NAME", "metadata.name"),
        value("CHAT_NODE_ADVERTISE", format!("$(CHAT_NODE_NAME).{service}:{}", ports::PEER)),
        field("CHAT_NODE_HOST", "spec.nodeName"),
        field("CHAT_NODE_ZONE", &format!("metadata.labels['{}']", names::ZONE_LABEL)),
    ]
}

pub(super) fn container_port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(port),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(names::ADMIN_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// A pod on a Kubernetes node that does not answer is given up sooner than by default.
pub(super) fn leave_soon() -> Vec<Toleration> {
    let toleration = |taint: &str| Toleration {
        key: Some(taint.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(TOLERATION_SECONDS),
        value: None,
    };
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(toleration).into()
}
