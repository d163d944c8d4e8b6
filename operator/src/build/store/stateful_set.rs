//! StatefulSet of the store: one server with a volume, which acknowledges what is on its disk.

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{Container, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, TCPSocketAction},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{PORT, metadata_of, selector};
use crate::{
    build::{node_pod, security, volumes},
    names,
    validate::{ManagedStore, Room},
};

/// What all images of Valkey and Redis call the server.
const PROGRAM: &str = "redis-server";
const AUTH_VOLUME: &str = "auth";
const AUTH_DIRECTORY: &str = "/etc/chat-store";
const DATA_DIRECTORY: &str = "/data";
/// Past it the server refuses writes, and the nodes say so.
const MAX_MEMORY: &str = "256mb";
/// A copy of the memory, while the log is rewritten, and the server's own.
const MEMORY_LIMIT: &str = "640Mi";
/// How long the server may read its log before it is restarted: half an hour.
const STARTUP_FAILURES: i32 = 1_800;

pub(in crate::build) fn build(room: &Room, store: &ManagedStore) -> StatefulSet {
    let name = names::store(&room.name);
    StatefulSet {
        metadata: metadata_of(room, name.clone()),
        spec: StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(name),
            selector: selector(room),
            // With OrderedReady a pod of a bad template is never replaced (kubernetes/kubernetes#67250).
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: None,
            }),
            // A room that is made anew has another uid and finds nothing of its own in an old volume.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".into()),
                when_scaled: Some("Retain".into()),
            }),
            revision_history_limit: Some(3),
            template: pod_template(room, store),
            volume_claim_templates: Some(vec![volumes::claim_template(
                names::store_labels(&room.name),
                store.class_name.as_ref(),
                &store.size,
            )]),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

fn pod_template(room: &Room, store: &ManagedStore) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(names::store_labels(&room.name)), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            // It has no rights; the namespace's default might.
            service_account_name: Some(names::service_account(&room.name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(security::of_pod()),
            tolerations: Some(node_pod::leave_soon()),
            containers: vec![container(store)],
            volumes: Some(vec![volumes::secret_key(
                AUTH_VOLUME,
                &store.secret,
                names::STORE_AUTH_KEY,
                names::STORE_AUTH_KEY,
            )]),
            ..PodSpec::default()
        }),
    }
}

fn container(store: &ManagedStore) -> Container {
    let quantity = |text: &str| Quantity(text.into());
    Container {
        name: names::STORE_CONTAINER.into(),
        image: Some(store.image.clone()),
        // Named, because an image's own entry point may want to be root first.
        command: Some(vec![PROGRAM.into()]),
        args: Some(arguments()),
        working_dir: Some(DATA_DIRECTORY.into()),
        ports: Some(vec![node_pod::container_port("store", PORT)]),
        resources: Some(ResourceRequirements {
            requests: Some([("cpu".into(), quantity("50m")), ("memory".into(), quantity("64Mi"))].into()),
            limits: Some([("memory".into(), quantity(MEMORY_LIMIT))].into()),
            claims: None,
        }),
        startup_probe: Some(probe(1, STARTUP_FAILURES)),
        liveness_probe: Some(probe(10, 3)),
        readiness_probe: Some(probe(1, 1)),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(security::of_container()),
        volume_mounts: Some(vec![
            volumes::mount(names::DATA_VOLUME, DATA_DIRECTORY),
            volumes::read_only(AUTH_VOLUME, AUTH_DIRECTORY),
        ]),
        ..Container::default()
    }
}

/// The file with the password first, then what makes the server keep its word.
fn arguments() -> Vec<String> {
    let options = [
        ("--port", PORT.to_string()),
        ("--dir", DATA_DIRECTORY.into()),
        ("--appendonly", "yes".into()),
        ("--appendfsync", "always".into()),
        ("--maxmemory", MAX_MEMORY.into()),
        ("--maxmemory-policy", "noeviction".into()),
        // The append-only file is the only one; a failed dump would stop writes.
        ("--save", String::new()),
    ];
    [format!("{AUTH_DIRECTORY}/{}", names::STORE_AUTH_KEY)]
        .into_iter()
        .chain(options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]))
        .collect()
}

/// That it listens: asking it more needs a client program, which an image may not have, and the password.
fn probe(period_seconds: i32, failures: i32) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::String("store".into()), host: None }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
