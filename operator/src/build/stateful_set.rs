//! StatefulSet: the nodes, each with a volume.

use contract::{ports, status};
use k8s_openapi::{
    api::{
        apps::v1::{
            RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
            StatefulSetSpec, StatefulSetUpdateStrategy,
        },
        core::v1::{
            Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction,
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec,
            Probe, SeccompProfile, SecurityContext, Toleration, TopologySpreadConstraint, Volume,
            VolumeMount, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{NODES, hash, metadata};
use crate::{api::Retain, names, validate::Room};

/// A user id that no host knows.
const USER: i64 = 65532;
/// Time between the end of a drain and the kill.
const GRACE_AFTER_DRAIN_SECONDS: i64 = 15;
/// How long a node may read its log before it is restarted: an hour.
const STARTUP_FAILURES: i32 = 3_600;
/// How long pods stay bound to a Kubernetes node that does not answer.
const TOLERATION_SECONDS: i64 = 30;
const CONFIG_VOLUME: &str = "config";
const CONFIG_DIRECTORY: &str = "/etc/chat-node";

pub(super) fn build(room: &Room, template_size: &Quantity) -> StatefulSet {
    StatefulSet {
        metadata: metadata::of(room, names::stateful_set(&room.name)),
        spec: StatefulSetSpec {
            replicas: Some(NODES),
            service_name: Some(names::peer_service(&room.name)),
            selector: metadata::selector(room),
            // With OrderedReady a pod of a bad template is never replaced (kubernetes/kubernetes#67250).
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    max_unavailable: None,
                }),
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(
                    match room.storage.retain {
                        Retain::Retain => "Retain",
                        Retain::Delete => "Delete",
                    }
                    .into(),
                ),
                when_scaled: Some("Retain".into()),
            }),
            revision_history_limit: Some(3),
            template: pod_template(room),
            volume_claim_templates: Some(vec![claim_template(room, template_size)]),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

fn claim_template(room: &Room, size: &Quantity) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.into()),
            labels: Some(names::labels(&room.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: room.storage.class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".into(), size.clone())].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn pod_template(room: &Room) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&room.name)),
            // The revision is left out of `room.config`: a rising number alone is no reason to roll.
            annotations: Some([(names::CONFIG_ANNOTATION.into(), hash(&room.config))].into()),
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
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            topology_spread_constraints: Some(vec![TopologySpreadConstraint {
                max_skew: 1,
                topology_key: "kubernetes.io/hostname".into(),
                when_unsatisfiable: "ScheduleAnyway".into(),
                label_selector: Some(metadata::selector(room)),
                ..TopologySpreadConstraint::default()
            }]),
            tolerations: Some(
                ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(leave_soon).into(),
            ),
            containers: vec![container(room)],
            volumes: Some(vec![Volume {
                name: CONFIG_VOLUME.into(),
                config_map: Some(ConfigMapVolumeSource {
                    name: names::config_map(&room.name),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
    }
}

fn leave_soon(taint: &str) -> Toleration {
    Toleration {
        key: Some(taint.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(TOLERATION_SECONDS),
        value: None,
    }
}

fn container(room: &Room) -> Container {
    let client_ports =
        [("irc", room.irc_port.map(|_| ports::IRC)), ("web", room.web_port.map(|_| ports::WEB))];
    Container {
        name: names::NODE_CONTAINER.into(),
        image: Some(room.image.clone()),
        image_pull_policy: room.image_pull_policy.map(Into::into),
        args: Some(vec!["--config".into(), format!("{CONFIG_DIRECTORY}/{}", names::CONFIG_FILE)]),
        ports: Some(
            client_ports
                .into_iter()
                .filter_map(|(name, port)| port.map(|port| container_port(name, port)))
                .chain([container_port("admin", ports::ADMIN)])
                .collect(),
        ),
        resources: (room.resources != k8s_openapi::api::core::v1::ResourceRequirements::default())
            .then(|| room.resources.clone()),
        startup_probe: Some(probe(status::LIVEZ, 1, STARTUP_FAILURES)),
        liveness_probe: Some(probe(status::LIVEZ, 10, 3)),
        readiness_probe: Some(probe(status::READYZ, 1, 3)),
        // The last lines of the log say why a node ended; the status shows them.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount(names::DATA_VOLUME, "/data", None),
            mount(CONFIG_VOLUME, CONFIG_DIRECTORY, Some(true)),
        ]),
        ..Container::default()
    }
}

fn container_port(name: &str, port: u16) -> ContainerPort {
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
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn mount(name: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), read_only, ..VolumeMount::default() }
}
