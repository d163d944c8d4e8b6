//! Rolling: the StatefulSet controller replaces pods from the highest ordinal down to its `partition`, which is lowered one
//! pod at a time. A pod that can never become ready must not stop it.

use std::sync::Arc;

use contract::status::Membership;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::ResourceExt;

use super::{Step, Target};
use crate::{
    build,
    members::{Ensemble, Node, ensemble},
    names,
    observe::Observed,
    pods,
    validate::{Room, Stateful},
};

/// A pod that is not ready and not of the revision that is meant for it is deleted: it serves nobody, and some versions of
/// the StatefulSet controller wait for it before they replace it. Fixing the spec is then all that a bad image needs. A
/// Deployment needs no such help.
pub(super) fn step(room: &Room, observed: &Observed) -> Option<Step> {
    let Observed { objects, pods, store_pods, .. } = observed;
    let needed = |pod: &Pod| {
        room.stateful().is_some_and(|stateful| {
            let ensemble = ensemble(&room.name, stateful.cluster.as_deref(), observed);
            let node = ensemble.nodes.iter().find(|node| node.pod.metadata.uid == pod.metadata.uid);
            node.is_some_and(|node| is_needed(node, stateful, &ensemble))
        })
    };
    replace_stuck(objects.stateful_set.as_deref(), pods, needed)
        .or_else(|| replace_stuck(objects.store_stateful_set.as_deref(), store_pods, |_| false))
}

fn replace_stuck(
    set: Option<&StatefulSet>,
    pods: &[Arc<Pod>],
    needed: impl Fn(&Pod) -> bool,
) -> Option<Step> {
    let set = set?;
    if set.metadata.deletion_timestamp.is_some() || !was_looked_at(set) {
        return None;
    }
    let stuck = pods.iter().find(|pod| {
        let ordinal = names::ordinal(&set.name_any(), &pod.name_any());
        let meant = ordinal.and_then(|ordinal| meant_for(set, ordinal));
        pod.metadata.deletion_timestamp.is_none()
            && meant.is_some_and(|revision| is_outdated(pod, revision))
            && !pods::is_ready(pod)
            && !needed(pod)
    })?;
    let because = pods::trouble(stuck).map_or_else(|| "it is not ready".into(), |trouble| trouble.message);
    Some(Step::DeleteStuckPod { target: Target::of(stuck.as_ref()), because })
}

/// Whether a shard may have no majority without this node, though it serves nobody.
fn is_needed(node: &Node<'_>, stateful: &Stateful, ensemble: &Ensemble<'_>) -> bool {
    node.member().is_some_and(|id| {
        ensemble.member(id).is_some_and(|member| ensemble.lives(member))
            && !ensemble.can_do_without(id, stateful)
    })
}

/// The revision that the StatefulSet controller makes a pod of that ordinal from.
fn meant_for(set: &StatefulSet, ordinal: i32) -> Option<&str> {
    let status = set.status.as_ref()?;
    let revision = if ordinal < partition(set) { &status.current_revision } else { &status.update_revision };
    revision.as_deref()
}

/// Whether the status speaks of the spec as it is.
fn was_looked_at(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.observed_generation >= set.metadata.generation)
}

/// Whether a pod was made from another template than that of this revision.
pub fn is_outdated(pod: &Pod, revision: &str) -> bool {
    pod.labels().get(names::REVISION_LABEL).is_some_and(|own| own != revision)
}

pub fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or_default()
}

/// Where a roll stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roll {
    /// All pods are of one template, and a new one changes none by itself.
    AtRest,
    /// Kubernetes has not said yet what the pods are to be.
    Unknown,
    /// The pod of this ordinal is being replaced.
    Replaces { ordinal: i32 },
    /// It is the next, and nothing stands in its way. That may change before Kubernetes gets to it, and is then taken back.
    Next { ordinal: i32 },
    /// It is the next, when what is missing is there.
    Waits { ordinal: i32, missing: String },
}

/// Partition of the StatefulSet for a template of that hash. One that nothing was made from yet touches no pod.
pub(super) fn next_partition(set: Option<&StatefulSet>, template: &str, replicas: i32, roll: &Roll) -> i32 {
    let Some(set) = set else { return replicas };
    if build::template_hash(set) != Some(template) {
        return replicas;
    }
    match roll {
        Roll::AtRest => replicas,
        Roll::Unknown => partition(set),
        Roll::Replaces { ordinal } | Roll::Next { ordinal } => *ordinal,
        Roll::Waits { ordinal, .. } => ordinal + 1,
    }
}

/// `held` is what else is under way and must come to its end first.
pub fn roll(stateful: &Stateful, ensemble: &Ensemble<'_>, observed: &Observed, held: Option<&str>) -> Roll {
    let Some(set) = observed.objects.stateful_set.as_deref() else { return Roll::AtRest };
    let Some(status) = set.status.as_ref().filter(|_| was_looked_at(set)) else { return Roll::Unknown };
    let Some(update) = status.update_revision.as_deref() else { return Roll::Unknown };
    let outdated = ensemble.nodes.iter().rev().find(|node| is_outdated(node.pod, update));
    let Some(node) = outdated else {
        // Below the partition pods are made from the revision before, until the controller has seen all of the new one.
        let done = status.current_revision.as_deref() == Some(update);
        return if done { Roll::AtRest } else { Roll::Unknown };
    };
    let ordinal = node.ordinal;
    if !node.stays() {
        return Roll::Replaces { ordinal };
    }
    let replicas = set.spec.replicas.unwrap_or_default();
    let alone = replicas == 1;
    let useless = !pods::is_ready(node.pod) && !is_needed(node, stateful, ensemble);
    let missing = held.map(str::to_owned).or_else(|| missing(stateful, ensemble, replicas));
    match missing {
        Some(missing) if !alone && !useless => Roll::Waits { ordinal, missing },
        _ => Roll::Next { ordinal },
    }
}

/// What keeps the room from being able to miss a node for a while.
fn missing(stateful: &Stateful, ensemble: &Ensemble<'_>, replicas: i32) -> Option<String> {
    let not_whole = (0..replicas).find_map(|ordinal| {
        let Some(node) = ensemble.node(ordinal) else { return Some(format!("node {ordinal} has no pod")) };
        let pod = node.pod.name_any();
        if !node.stays() {
            Some(format!("pod {pod} is being stopped"))
        } else if !pods::is_ready(node.pod) {
            Some(format!("pod {pod} is not ready"))
        } else if node.membership() != Some(Membership::Member) {
            Some(format!("node {pod} has not said that it is a member"))
        } else {
            None
        }
    });
    not_whole.or_else(|| ensemble.missing(stateful, None))
}
