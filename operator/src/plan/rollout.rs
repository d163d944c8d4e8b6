//! Rolling: the StatefulSet controller replaces pods; a pod that can never become ready must not stop it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Step, Target};
use crate::{names, observe::Observed, pods};

/// A pod of an outdated revision that is stuck is deleted: fixing the spec is then all that a bad image needs.
pub(super) fn step(observed: &Observed) -> Option<Step> {
    let set = observed.objects.stateful_set.as_deref()?;
    let status = set.status.as_ref()?;
    if set.metadata.deletion_timestamp.is_some() || status.observed_generation < set.metadata.generation {
        return None;
    }
    let update = status.update_revision.as_deref()?;
    observed
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_outdated(pod, update))
        .filter(|pod| !pods::is_ready(pod))
        .find_map(|pod| {
            let because = pods::stuck(pod)?;
            Some(Step::DeleteStuckPod { target: Target::of(pod.as_ref()), because: because.message })
        })
}

/// Whether a pod was made from another template than the newest.
pub fn is_outdated(pod: &Pod, update_revision: &str) -> bool {
    pod.labels().get(names::REVISION_LABEL).is_some_and(|revision| revision != update_revision)
}
