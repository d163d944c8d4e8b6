//! Rolling: the StatefulSet controller replaces pods; a pod that can never become ready must not stop it.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::ResourceExt;

use super::{Step, Target};
use crate::{names, observe::Observed, pods};

/// A pod of an outdated revision that is not ready is deleted: it serves nobody, and some versions of the StatefulSet
/// controller wait for it before they replace it. Fixing the spec is then all that a bad image needs. A Deployment needs
/// no such help.
pub(super) fn step(observed: &Observed) -> Option<Step> {
    let Observed { objects, pods, store_pods, .. } = observed;
    replace_stuck(objects.stateful_set.as_deref(), pods)
        .or_else(|| replace_stuck(objects.store_stateful_set.as_deref(), store_pods))
}

fn replace_stuck(set: Option<&StatefulSet>, pods: &[Arc<Pod>]) -> Option<Step> {
    let set = set?;
    let status = set.status.as_ref()?;
    if set.metadata.deletion_timestamp.is_some() || status.observed_generation < set.metadata.generation {
        return None;
    }
    let update = status.update_revision.as_deref()?;
    let stuck = pods.iter().find(|pod| {
        pod.metadata.deletion_timestamp.is_none() && is_outdated(pod, update) && !pods::is_ready(pod)
    })?;
    let because = pods::trouble(stuck).map_or_else(|| "it is not ready".into(), |trouble| trouble.message);
    Some(Step::DeleteStuckPod { target: Target::of(stuck.as_ref()), because })
}

/// Whether a pod was made from another template than the newest.
pub fn is_outdated(pod: &Pod, update_revision: &str) -> bool {
    pod.labels().get(names::REVISION_LABEL).is_some_and(|revision| revision != update_revision)
}
