//! The plain install: everything that `kubectl apply -f` needs, for the whole cluster or for one namespace.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        coordination::v1::Lease,
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Namespace,
            ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, SecurityContext, ServiceAccount,
        },
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde_json::Value;

use super::rbac;
use crate::names;

/// No registry of the project exists: build the images and give them these names, or edit the file.
const OPERATOR_IMAGE: &str = concat!("localhost/chat/operator:", env!("CARGO_PKG_VERSION"));
const NODE_IMAGE: &str = concat!("localhost/chat/chat-node:", env!("CARGO_PKG_VERSION"));
const NAMESPACE: &str = "chatroom-system";
const HTTP_PORT: i32 = 8080;

/// For rooms in all namespaces.
pub(super) fn objects(crd: &CustomResourceDefinition) -> anyhow::Result<Vec<Value>> {
    let mut objects = vec![json(crd)?, json(&namespace())?, json(&account())?];
    objects.push(json(&ClusterRole {
        metadata: ObjectMeta { namespace: None, ..metadata(names::OPERATOR) },
        rules: Some([rbac::room_rules(), rbac::cluster_rules()].concat()),
        aggregation_rule: None,
    })?);
    objects.push(json(&ClusterRoleBinding {
        metadata: ObjectMeta { namespace: None, ..metadata(names::OPERATOR) },
        role_ref: role("ClusterRole", names::OPERATOR),
        subjects: Some(vec![subject()]),
    })?);
    objects.extend(lease(names::CLUSTER_LEASE_NAMESPACE, names::CLUSTER_LEASE)?);
    objects.extend(control()?);
    objects.push(json(&deployment(&[]))?);
    Ok(objects)
}

/// For rooms in the operator's own namespace alone.
pub(super) fn namespaced_objects(crd: &CustomResourceDefinition) -> anyhow::Result<Vec<Value>> {
    let name = format!("{}-rooms", names::OPERATOR);
    let mut objects = vec![json(crd)?, json(&namespace())?, json(&account())?];
    objects.push(json(&Role { metadata: metadata(&name), rules: Some(rbac::room_rules()) })?);
    objects.push(json(&RoleBinding {
        metadata: metadata(&name),
        role_ref: role("Role", &name),
        subjects: Some(vec![subject()]),
    })?);
    objects.extend(lease(NAMESPACE, names::NAMESPACE_LEASE)?);
    objects.extend(control()?);
    objects.push(json(&deployment(&[("WATCH_NAMESPACE", NAMESPACE)]))?);
    Ok(objects)
}

/// The Lease, still without a holder, and the right to hold it.
fn lease(namespace: &str, name: &str) -> anyhow::Result<Vec<Value>> {
    let metadata = || ObjectMeta { namespace: Some(namespace.into()), ..metadata(name) };
    Ok(vec![
        json(&Lease { metadata: metadata(), spec: None })?,
        json(&Role { metadata: metadata(), rules: Some(rbac::lease_rules(name)) })?,
        json(&RoleBinding {
            metadata: metadata(),
            role_ref: role("Role", name),
            subjects: Some(vec![subject()]),
        })?,
    ])
}

/// The right to the operator's own Secret, which it makes itself.
fn control() -> anyhow::Result<Vec<Value>> {
    let name = names::control_root(names::OPERATOR);
    Ok(vec![
        json(&Role { metadata: metadata(&name), rules: Some(rbac::control_rules(&name)) })?,
        json(&RoleBinding {
            metadata: metadata(&name),
            role_ref: role("Role", &name),
            subjects: Some(vec![subject()]),
        })?,
    ])
}

fn json(object: &impl serde::Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(object)?)
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(NAMESPACE.into()),
        labels: Some(names::own_labels()),
        ..ObjectMeta::default()
    }
}

fn namespace() -> Namespace {
    let mut labels = names::own_labels();
    labels.insert("pod-security.kubernetes.io/enforce".into(), "restricted".into());
    Namespace {
        metadata: ObjectMeta { name: Some(NAMESPACE.into()), labels: Some(labels), ..ObjectMeta::default() },
        ..Namespace::default()
    }
}

fn account() -> ServiceAccount {
    ServiceAccount { metadata: metadata(names::OPERATOR), ..ServiceAccount::default() }
}

fn role(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some("rbac.authorization.k8s.io".into()), kind: kind.into(), name: name.into() }
}

fn subject() -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: names::OPERATOR.into(),
        namespace: Some(NAMESPACE.into()),
        api_group: None,
    }
}

fn deployment(env: &[(&str, &str)]) -> Deployment {
    Deployment {
        metadata: metadata(names::OPERATOR),
        spec: DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(names::own_labels()), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy { type_: Some("RollingUpdate".into()), rolling_update: None }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(names::own_labels()), ..ObjectMeta::default() }),
                spec: Some(pod(env)),
            },
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn pod(env: &[(&str, &str)]) -> PodSpec {
    PodSpec {
        service_account_name: Some(names::OPERATOR.into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(65532),
            run_as_group: Some(65532),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: "operator".into(),
            image: Some(OPERATOR_IMAGE.into()),
            env: Some(environment(env)),
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: HTTP_PORT,
                ..ContainerPort::default()
            }]),
            liveness_probe: Some(probe("/livez")),
            readiness_probe: Some(probe("/readyz")),
            resources: Some(ResourceRequirements {
                requests: Some(
                    [("cpu".into(), Quantity("20m".into())), ("memory".into(), Quantity("32Mi".into()))]
                        .into(),
                ),
                limits: Some([("memory".into(), Quantity("128Mi".into()))].into()),
                claims: None,
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    }
}

fn environment(more: &[(&str, &str)]) -> Vec<EnvVar> {
    let value = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..EnvVar::default()
    };
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    [
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        value("DEFAULT_NODE_IMAGE", NODE_IMAGE),
        value("STORE_IMAGE", names::STORE_IMAGE),
    ]
    .into_iter()
    .chain(more.iter().map(|(name, text)| value(name, text)))
    .collect()
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("http".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(5),
        ..Probe::default()
    }
}
