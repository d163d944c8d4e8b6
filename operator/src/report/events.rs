//! Events of a room: what was done, and what turned. A failed event never fails a reconcile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::conditions::{self, find};
use crate::{api::ChatRoomStatus, apply::Outcome, names, plan::Step};

/// Longest note that the API server takes.
const MAX_NOTE_CHARS: usize = 1_000;

pub async fn publish(client: &Client, room: &impl Resource<DynamicType = ()>, events: Vec<Event>) {
    if events.is_empty() {
        return;
    }
    let reporter = Reporter { controller: names::OPERATOR.into(), instance: std::env::var("POD_NAME").ok() };
    // A recorder of its own for each reconcile: one that lives longer counts events of one reason as one, with the
    // words of the first.
    let recorder = Recorder::new(client.clone(), reporter);
    let reference = room.object_ref(&());
    for event in events {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::warn!(%error, reason = event.reason, "an event could not be published");
        }
    }
}

/// Events for what was written.
pub fn of_outcome(outcome: &Outcome) -> Vec<Event> {
    let mut events = Vec::new();
    if !outcome.written.is_empty() {
        events.push(event(
            EventType::Normal,
            "Applied",
            "Apply",
            &format!("wrote {}", outcome.written.join(", ")),
        ));
    }
    if let Some(step) = &outcome.stepped {
        let (reason, action, note) = match step {
            Step::TellFounder { pod, member, .. } => {
                ("FoundedRoom", "TellFounder", format!("told node {pod} (member {member}) to begin the room"))
            }
            Step::RemoveMember { member, name, because, .. } => (
                "RemovingMember",
                "RemoveMember",
                format!("ordered node {name} (member {member}) to leave the room: {because}"),
            ),
            Step::RestartRemoved { target } => (
                "RestartedRemovedNode",
                "DeletePod",
                format!(
                    "deleted pod {}, so that its node joins the room again, with an empty volume",
                    target.name
                ),
            ),
            Step::DeleteClaim { target } => (
                "ReleasedVolume",
                "DeleteClaim",
                format!(
                    "deleted PersistentVolumeClaim {}: no node is a member with it any more",
                    target.name
                ),
            ),
            Step::DeleteStuckPod { target, because } => (
                "DeletedStuckPod",
                "DeletePod",
                format!("deleted pod {} of an outdated spec: {because}", target.name),
            ),
            Step::RankPods { ranks } => {
                let mut ranks: Vec<_> = ranks.iter().collect();
                ranks.sort_by_key(|rank| rank.cost);
                let order: Vec<_> = ranks.iter().map(|rank| rank.pod.name.as_str()).collect();
                (
                    "RankedNodes",
                    "RankPods",
                    format!("nodes are stopped in this order, emptiest first: {}", order.join(", ")),
                )
            }
            Step::GrowClaim { target, size } => (
                "GrowingVolume",
                "GrowClaim",
                format!("asked for {size} for PersistentVolumeClaim {}", target.name),
            ),
            Step::ReplaceStatefulSet { target } => (
                "ReplacingStatefulSet",
                "DeleteStatefulSet",
                format!(
                    "deleted StatefulSet {} without its pods, to make it anew with larger claims",
                    target.name
                ),
            ),
        };
        events.push(event(EventType::Normal, reason, action, &note));
    }
    events
}

/// Events for conditions that turned or changed their reason; the steps of a start or a roll are none.
pub fn of_status(old: Option<&ChatRoomStatus>, new: &ChatRoomStatus) -> Vec<Event> {
    let old = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    new.conditions
        .iter()
        .filter(|condition| !PASSING.contains(&condition.reason.as_str()))
        .filter(|condition| condition.type_ != conditions::RECONCILING)
        .filter(|condition| condition.type_ != conditions::STORE_REACHABLE || store_turned(old, condition))
        // What has stalled is not ready for the same reason, and that was told.
        .filter(|condition| {
            condition.type_ != conditions::STALLED
                || find(&new.conditions, conditions::READY)
                    .is_none_or(|ready| ready.reason != condition.reason)
        })
        .filter(|condition| {
            find(old, &condition.type_)
                .is_none_or(|old| old.status != condition.status || old.reason != condition.reason)
        })
        .map(|condition| {
            let good = condition.type_ != conditions::STALLED
                && condition.type_ != conditions::SCALING_LIMITED
                && condition.status == "True";
            let type_ = if good { EventType::Normal } else { EventType::Warning };
            event(type_, &condition.reason, "Observe", &condition.message)
        })
        .collect()
}

/// Whether a store was lost, or is back. That it is there at first, or that nobody knows, is no news.
fn store_turned(old: &[Condition], now: &Condition) -> bool {
    let before = find(old, &now.type_).map(|condition| condition.status.as_str());
    match now.status.as_str() {
        "False" => true,
        "True" => before == Some("False"),
        _ => false,
    }
}

/// Reasons for not being ready that are part of a good start or roll.
pub(super) const PASSING: [&str; 12] = [
    conditions::CREATING,
    conditions::STARTING,
    conditions::STOPPING,
    conditions::VOLUME_PENDING,
    conditions::NODE_RECOVERING,
    conditions::NODE_DRAINING,
    conditions::NO_ENDPOINT,
    conditions::SCALING,
    conditions::SCALED_TO_ZERO,
    conditions::NODE_WAITING,
    conditions::NODE_JOINING,
    conditions::NODE_LEAVING,
];

pub fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.into(),
        note: Some(note.chars().take(MAX_NOTE_CHARS).collect()),
        action: action.into(),
        secondary: None,
    }
}
