//! Growth of the volumes. Kubernetes does not let a StatefulSet's claim template change, so: first the claims grow, then
//! the StatefulSet is deleted without its pods, then it is created with the new template and takes the pods back.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;

use super::{Step, Target};
use crate::{names, observe::Observed, quantity, validate::Room};

/// Volume size for the claim template: as it stands while the StatefulSet stands.
pub(super) fn template_size(room: &Room, observed: &Observed) -> Option<Quantity> {
    let volume = room.volume()?;
    Some(existing_template_size(observed).cloned().unwrap_or_else(|| volume.size.clone()))
}

pub(super) fn step(room: &Room, observed: &Observed) -> Option<Step> {
    let volume = room.volume()?;
    let wanted = quantity::milli(&volume.size.0)?;
    let smaller = |size: &Quantity| quantity::milli(&size.0).is_some_and(|size| size < wanted);
    let small_claim = observed
        .claims
        .iter()
        .filter(|claim| claim.metadata.deletion_timestamp.is_none() && is_used(claim, &room.name, observed))
        .find(|claim| requested(claim).is_some_and(smaller));
    if let Some(claim) = small_claim {
        return Some(Step::GrowClaim { target: Target::of(claim.as_ref()), size: volume.size.0.clone() });
    }
    let set = observed.objects.stateful_set.as_deref()?;
    let template = existing_template_size(observed)?;
    (set.metadata.deletion_timestamp.is_none() && !quantity::same(&template.0, &volume.size.0))
        .then(|| Step::ReplaceStatefulSet { target: Target::of(set) })
}

/// Size that a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn existing_template_size(observed: &Observed) -> Option<&Quantity> {
    let set = observed.objects.stateful_set.as_deref()?;
    let template = set.spec.volume_claim_templates.as_ref()?.first()?;
    requested(template)
}

/// Whether it is the volume of a node that runs: one that nothing mounts would never finish growing.
pub fn is_used(claim: &PersistentVolumeClaim, room: &str, observed: &Observed) -> bool {
    let of = |pod: &std::sync::Arc<Pod>| claim.metadata.name == Some(names::claim(&pod.name_any()));
    let of_room = |pod: &&std::sync::Arc<Pod>| names::ordinal(room, &pod.name_any()).is_some();
    observed.pods.iter().filter(of_room).any(of)
}
