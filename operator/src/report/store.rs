//! Whether a stateless room's store is reached, by the word of its nodes. Pure.

use contract::status::{Membership, NodeState, NodeStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    conditions::{self, Claim, Truth},
    nodes,
};
use crate::{
    api::{Durability, Mode, Stateless, Store},
    observe::Observed,
    pods,
};

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    Managed,
    Valkey,
}

impl From<&Store> for StoreKind {
    fn from(store: &Store) -> Self {
        match store {
            Store::Managed(_) => Self::Managed,
            Store::Valkey(_) => Self::Valkey,
        }
    }
}

/// Exit code of a node that cannot use its configuration, the store in it included.
const CANNOT_USE: i32 = 2;

/// How a node's last words begin if it is a listener that it cannot have, such as one with a certificate of another key.
const OF_LISTENERS: &str = "chat-node: listeners.";

/// The condition of a stateless room.
pub(super) fn reachable(mode: &Mode, observed: &Observed) -> Option<Claim> {
    let Mode::Stateless(Stateless { store, .. }) = mode else { return None };
    let store = StoreKind::from(store);
    let claim = |status, reason: &str, message| Claim {
        type_: conditions::STORE_REACHABLE,
        status,
        reason: reason.into(),
        message,
    };
    let live: Vec<&Pod> = observed
        .pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    let refused = live.iter().find_map(|pod| refusal(observed, pod));
    let away = live.iter().find_map(|pod| Some((pod.name_any(), away(said(observed, pod)?)?)));
    let reached = live.iter().find(|pod| said(observed, pod).is_some_and(has_log));
    Some(if let Some(message) = refused {
        claim(Truth::False, conditions::STORE_REFUSED, message)
    } else if let Some((pod, why)) = away {
        let message = format!("node {pod}: {why}{}", managed_trouble(store, observed));
        claim(Truth::False, conditions::STORE_UNREACHABLE, message)
    } else if reached.is_some() {
        let worth = observed_durability(observed)
            .and_then(|durability| weakness(store, durability))
            .map_or_else(String::new, |words| format!("; {words}"));
        claim(Truth::True, conditions::STORE_ANSWERS, format!("the nodes reach the store{worth}"))
    } else {
        let message = format!("no node has said yet{}", managed_trouble(store, observed));
        claim(Truth::Unknown, conditions::NO_NODE_KNOWS, message)
    })
}

fn said<'a>(observed: &'a Observed, pod: &Pod) -> Option<&'a NodeStatus> {
    nodes::heard(observed.nodes.get(pod.metadata.uid.as_deref()?))
}

/// Whether the node has opened its log: before, most of its status is empty.
pub(super) fn has_log(status: &NodeStatus) -> bool {
    !status.member.is_empty()
}

/// Why the node does not reach the store, in its own words.
fn away(status: &NodeStatus) -> Option<String> {
    let waits = !has_log(status) && !says_nothing(status);
    (waits || status.state == NodeState::ReadOnly).then(|| status.reason.clone())
}

/// A node that is about to look at its store says that it waits for it, and not yet why.
fn says_nothing(status: &NodeStatus) -> bool {
    status.reason.is_empty() || status.reason.trim_end().ends_with(':')
}

/// A node's last words, if it ended because it cannot use its store (or another part of its configuration), and nothing
/// better was heard of its next life.
pub(super) fn refusal(observed: &Observed, pod: &Pod) -> Option<String> {
    if pods::is_ready(pod) || pods::exit_code(pod) != Some(CANNOT_USE) {
        return None;
    }
    if said(observed, pod).is_some_and(|status| has_log(status) || !says_nothing(status)) {
        return None;
    }
    let words = pods::stuck(pod).or_else(|| pods::ended_before(pod))?.message;
    (!words.contains(OF_LISTENERS)).then_some(words)
}

/// What keeps the room's own store from running, as an addition to a sentence.
fn managed_trouble(store: StoreKind, observed: &Observed) -> String {
    if store != StoreKind::Managed {
        return String::new();
    }
    let trouble = observed.store_pods.iter().find_map(|pod| {
        pods::trouble(pod).map(|trouble| trouble.message).or_else(|| {
            (!pods::is_ready(pod)).then(|| format!("pod {} of the store is not ready yet", pod.name_any()))
        })
    });
    match trouble {
        Some(trouble) => format!("; {trouble}"),
        None if observed.store_pods.is_empty() => "; the store has no pod yet".into(),
        None => String::new(),
    }
}

/// The weakest durability that a node with a log tells of.
pub(super) fn observed_durability(observed: &Observed) -> Option<Durability> {
    observed
        .nodes
        .values()
        .filter_map(|view| nodes::heard(Some(view)))
        .filter(|status| has_log(status) && takes_part(status))
        .map(|status| Durability::from(status.durability))
        .min()
}

/// Whether the node acknowledges anything: one that its room has not let in, or has let go, does not.
fn takes_part(status: &NodeStatus) -> bool {
    let membership = status.cluster.as_ref().map(|cluster| cluster.membership);
    matches!(membership, None | Some(Membership::Member | Membership::Leaving))
}

/// What an acknowledgement is worth where it is not worth what one expects, and what would change that.
pub(super) fn weakness(store: StoreKind, durability: Durability) -> Option<String> {
    let lost = match durability {
        Durability::Memory => {
            "messages that were acknowledged are lost when the store ends, as it keeps nothing on disk"
        }
        Durability::BestEffort => {
            "messages acknowledged in the last second or so are lost when the store's machine fails"
        }
        Durability::LocalFsync | Durability::QuorumFsync => return None,
    };
    let change = match store {
        StoreKind::Valkey => "set appendonly yes and appendfsync always in the store to keep them",
        StoreKind::Managed => "somebody changed the store's settings: delete its pod to have them back",
    };
    Some(format!("{lost}: {change}"))
}

#[cfg(test)]
mod tests;
