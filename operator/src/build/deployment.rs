//! Deployment: the nodes of a stateless room.

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{metadata, node_pod};
use crate::{names, validate::Room};

pub(super) fn build(room: &Room, replicas: i32) -> Deployment {
    Deployment {
        metadata: metadata::of(room, names::deployment(&room.name)),
        spec: DeploymentSpec {
            replicas: Some(replicas),
            selector: metadata::selector(room),
            // A node goes only when another has taken its place; one at a time, as each sends its clients away.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            revision_history_limit: Some(3),
            template: node_pod::template(room),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}
