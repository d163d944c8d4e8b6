//! PodDisruptionBudget: whoever empties Kubernetes nodes takes the nodes of a room one at a time, in either shape.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::{names, validate::Room};

/// A room of one node has it too: it then holds up nobody, and need not come and go with the number of nodes.
pub(super) fn build(room: &Room) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata::of(room, names::disruption_budget(&room.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(metadata::selector(room)),
            // A node that serves nobody must not keep a Kubernetes node from being emptied.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
