//! Fifth stage: tells the user. Writes the status only where it changed, and an event where something turned.

pub mod conditions;
pub mod events;
mod guarantees;
pub mod nodes;
mod stateful;
pub mod status;
mod store;
mod verdict;

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::{ChatRoom, ChatRoomStatus},
    counters,
    error::Error,
    metrics::Metrics,
    names,
};

/// Writes the status if it tells something new; says when it has to be looked at again for its counters' sake.
pub async fn report(
    client: &Client,
    metrics: &Metrics,
    room: &ChatRoom,
    fresh: ChatRoomStatus,
    now: Timestamp,
) -> Result<Option<Duration>, Error> {
    let (status, revisit) = worth_telling(room.status.as_ref(), fresh, now);
    if let Some(status) = status
        && write(client, metrics, room, &status).await?
    {
        events::publish(client, room, events::of_status(room.status.as_ref(), &status)).await;
    }
    Ok(revisit)
}

/// Writes a status as it is; says whether it stands.
///
/// It holds what must not be forgotten, who begins a stateful room, so that it is never written over one that was not seen.
async fn write(
    client: &Client,
    metrics: &Metrics,
    room: &ChatRoom,
    status: &ChatRoomStatus,
) -> Result<bool, Error> {
    let name = room.name_any();
    let api = Api::<ChatRoom>::namespaced(client.clone(), &room.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": ChatRoom::api_version(&()),
        "kind": ChatRoom::kind(&()),
        // A room made anew under this name, or changed meanwhile, is not the one that was looked at.
        "metadata": {"name": name, "uid": room.uid(), "resourceVersion": room.resource_version()},
        "status": status,
    });
    metrics.wrote("ChatRoom");
    match api.patch_status(&name, &PatchParams::apply(names::OPERATOR).force(), &Patch::Apply(patch)).await {
        Ok(_) => Ok(true),
        // It was deleted meanwhile, or changed, and that brings us back.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(Error::write("status of ChatRoom", &name, error)),
    }
}

/// The status to write, if it tells something new, and when to look again.
pub fn worth_telling(
    old: Option<&ChatRoomStatus>,
    mut fresh: ChatRoomStatus,
    now: Timestamp,
) -> (Option<ChatRoomStatus>, Option<Duration>) {
    let Some(old) = old else {
        fresh.counters_at = Some(Time(now));
        return (Some(fresh), None);
    };
    let moved = counters::moved(old.connections, fresh.connections)
        || old
            .nodes
            .iter()
            .zip(&fresh.nodes)
            .any(|(old, new)| counters::moved(old.connections, new.connections));
    let wait = old.counters_at.as_ref().map_or(Duration::ZERO, |at| {
        let since = now.duration_since(at.0).max(SignedDuration::ZERO).unsigned_abs();
        counters::REWRITE_AFTER.saturating_sub(since)
    });
    let same_but_counters = without_counters(old) == without_counters(&fresh);
    match (same_but_counters, moved) {
        (true, false) => (None, None),
        (true, true) if !wait.is_zero() => (None, Some(wait)),
        _ => {
            fresh.counters_at = old.counters_at.clone().filter(|_| !moved).or(Some(Time(now)));
            (Some(fresh), None)
        }
    }
}

fn without_counters(status: &ChatRoomStatus) -> ChatRoomStatus {
    let mut status = status.clone();
    status.connections = 0;
    status.counters_at = None;
    for row in &mut status.nodes {
        row.connections = 0;
    }
    status
}

#[cfg(test)]
mod tests;
