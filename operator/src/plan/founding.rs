//! How a stateful room begins: once. The member that is to begin it is written into the status before it is told, and
//! whoever reads the status tells nobody else.
//!
//! A room whose status was lost is known again by what its volumes say. A room whose volumes are all empty although it was
//! begun is not begun again: it would be another one under the same name.

use contract::status::Membership;
use kube::ResourceExt;

use crate::{
    members::{Node, nodes},
    names,
    nodes::NodeView,
    observe::Observed,
    validate::Stateful,
};

/// What there is to do for a room to have been begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// It was, or nobody can tell.
    Settled,
    /// Write down that this member begins it.
    Record { member: String },
    /// Tell the member that was written down.
    Tell { pod: String, uid: String, member: String },
    /// Write down the room that the volumes hold.
    Adopt { id: String },
    /// It cannot be had.
    Broken(Broken),
}

/// Why a room cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It was begun, and all its volumes are empty.
    VolumesLost { id: String },
    /// The member that was to begin it is gone with its volume.
    FounderLost { member: String },
    /// The volumes hold another room, or several.
    VolumesMixed { ids: Vec<String> },
}

pub fn founding(room: &str, stateful: &Stateful, observed: &Observed) -> Founding {
    let nodes = nodes(room, observed);
    let told: std::collections::BTreeSet<&str> = nodes.iter().filter_map(holds).collect();
    let mixed = || {
        let ids = told.iter().map(|&id| id.to_owned()).collect();
        Founding::Broken(Broken::VolumesMixed { ids })
    };
    let empty = || all_are_empty(room, &nodes, observed);
    match (&stateful.cluster, told.len()) {
        (Some(id), 0) if empty() => Founding::Broken(Broken::VolumesLost { id: id.clone() }),
        (Some(id), 1..) if told.iter().any(|told| told != id) => mixed(),
        (Some(_), _) => Founding::Settled,
        (None, 1) => Founding::Adopt { id: told.iter().map(|&id| id.to_owned()).collect() },
        (None, 2..) => mixed(),
        (None, 0) => match &stateful.founder {
            Some(member) => tell(member, &nodes, empty),
            None => record(&nodes, empty),
        },
    }
}

/// The room that a node's volume holds.
fn holds<'a>(node: &Node<'a>) -> Option<&'a str> {
    let cluster = node.cluster()?;
    (cluster.membership != Membership::Removed && !cluster.id.is_empty()).then_some(cluster.id.as_str())
}

fn record(nodes: &[Node<'_>], empty: impl Fn() -> bool) -> Founding {
    let first = nodes.iter().find(|node| node.ordinal == 0 && node.stays() && node.waits());
    match first.and_then(Node::member) {
        Some(member) if empty() => Founding::Record { member: member.to_owned() },
        _ => Founding::Settled,
    }
}

fn tell(member: &str, nodes: &[Node<'_>], empty: impl Fn() -> bool) -> Founding {
    let meant = nodes.iter().find(|node| node.member() == Some(member) && node.waits());
    match meant {
        Some(node) => Founding::Tell {
            pod: node.pod.name_any(),
            uid: node.pod.metadata.uid.clone().unwrap_or_default(),
            member: member.to_owned(),
        },
        None if empty() && nodes.iter().any(|node| node.ordinal == 0 && node.member().is_some()) => {
            Founding::Broken(Broken::FounderLost { member: member.to_owned() })
        }
        None => Founding::Settled,
    }
}

/// Whether every node says that its volume is empty, or has none yet.
fn all_are_empty(room: &str, nodes: &[Node<'_>], observed: &Observed) -> bool {
    observed.objects.stateful_set.is_some()
        && nodes.iter().any(|node| node.waits() && node.stays())
        && !may_be_held(room, nodes, observed)
}

/// Whether a volume may hold the room: one of a node that is silent may.
pub(super) fn may_be_held(room: &str, nodes: &[Node<'_>], observed: &Observed) -> bool {
    let replicas = observed.objects.stateful_set.as_ref().and_then(|set| set.spec.replicas);
    let highest = nodes.iter().map(|node| node.ordinal + 1).max();
    (0..replicas.max(highest).unwrap_or_default()).any(|ordinal| {
        match nodes.iter().find(|node| node.ordinal == ordinal) {
            Some(node) if node.heard().is_some() => !node.waits(),
            Some(node) if node.view == Some(&NodeView::Unasked) => true,
            Some(_) | None => has_volume(&names::pod(room, ordinal), observed),
        }
    })
}

fn has_volume(pod: &str, observed: &Observed) -> bool {
    let claim = names::claim(pod);
    observed.claims.iter().any(|found| {
        found.metadata.name.as_deref() == Some(claim.as_str())
            && found.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Pending")
    })
}
