//! The number of nodes of a stateless room. Going up is a number; before going down, Kubernetes is told which nodes have
//! the fewest clients.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Rank, Step, Target};
use crate::{
    names,
    nodes::NodeView,
    observe::Observed,
    validate::{Room, Shape},
};

/// How old a rank may be when it is used: time enough for it to reach Kubernetes' controllers and come back to us.
const RANKED_FOR_SECONDS: i64 = 30;

/// What scaling asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scaling {
    /// Replicas of the Deployment.
    pub replicas: i32,
    pub step: Option<Step>,
}

/// How many nodes a stateless room should have; as many as it has while nobody says.
pub fn wished(wish: Option<i32>, observed: &Observed) -> i32 {
    wish.or_else(|| replicas(observed)).unwrap_or(super::FIRST_REPLICAS)
}

pub(super) fn scaling(room: &Room, observed: &Observed, now: Timestamp) -> Scaling {
    let wanted = wished(room.wish, observed);
    let as_wanted = Scaling { replicas: wanted, step: None };
    let Shape::Stateless(_) = room.shape else { return as_wanted };
    let Some(present) = replicas(observed).filter(|&present| wanted < present) else { return as_wanted };
    let pods: Vec<&Pod> = observed
        .pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    // With one number for all there is nothing to choose.
    let choice = wanted > 0 && pods.len() > 1;
    if !choice || pods.iter().all(|pod| is_ranked(pod, now)) {
        return as_wanted;
    }
    let views: Vec<_> = pods.iter().map(|pod| observed.nodes.get(&pod.uid().unwrap_or_default())).collect();
    if views.contains(&Some(&NodeView::Unasked)) {
        return Scaling { replicas: present, step: None };
    }
    let ranks = pods
        .into_iter()
        .zip(views)
        // Those that have theirs may only be ahead of the others in coming back to us.
        .filter(|(pod, _)| !is_ranked(pod, now))
        .map(|(pod, view)| Rank { pod: Target::of(pod), cost: cost(view), at: now.as_second() })
        .collect();
    Scaling { replicas: present, step: Some(Step::RankPods { ranks }) }
}

/// Replicas of the Deployment as it is.
pub fn replicas(observed: &Observed) -> Option<i32> {
    observed.objects.deployment.as_deref()?.spec.replicas
}

/// Clients that would have to move. Of a silent node nobody knows; Kubernetes stops it first if it is not ready.
fn cost(view: Option<&NodeView>) -> i32 {
    match view {
        Some(NodeView::Heard(status)) => i32::try_from(status.connections).unwrap_or(i32::MAX),
        Some(NodeView::Silent(_) | NodeView::Unasked) | None => i32::MAX,
    }
}

fn is_ranked(pod: &Pod, now: Timestamp) -> bool {
    let at = pod.annotations().get(names::RANKED_ANNOTATION).and_then(|at| at.parse::<i64>().ok());
    pod.annotations().contains_key(names::DELETION_COST_ANNOTATION)
        && at.is_some_and(|at| (0..RANKED_FOR_SECONDS).contains(&(now.as_second() - at)))
}
