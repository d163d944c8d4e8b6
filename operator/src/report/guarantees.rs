//! What a room promises, next to what holds right now. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;

use super::{nodes::Nodes, store};
use crate::{
    api::{ChatRoom, ChatRoomStatus, Durability, Guarantees, Order, Tolerates},
    members::ensemble,
    observe::Observed,
    plan::scale,
    validate::Stateful,
};

pub(super) fn guarantees(
    chat_room: &ChatRoom,
    nodes: &Nodes,
    observed: &Observed,
    old: Option<&ChatRoomStatus>,
    now: Timestamp,
) -> Guarantees {
    let told = store::observed_durability(observed);
    let before = old.and_then(|status| status.guarantees.as_ref());
    let (tolerates, durability) = if let Some(stateful) = Stateful::of(chat_room) {
        let ensemble = ensemble(&chat_room.name_any(), stateful.cluster.as_deref(), observed);
        let now = ensemble.survives(&stateful).filter(|_| nodes.serving > 0);
        let declared = i32::from(stateful.tolerate);
        (Tolerates { declared, now }, Some(told.unwrap_or(Durability::QuorumFsync)))
    } else {
        let declared = (scale::wished(chat_room.spec.replicas, observed) - 1).max(0);
        let now = (nodes.serving > 0).then(|| nodes.serving - 1);
        // While its store is away, a room's nodes know what it was.
        let durability = told.or_else(|| before.and_then(|before| before.durability));
        (Tolerates { declared, now }, durability)
    };
    let whole = tolerates.now.is_some_and(|now| now >= tolerates.declared);
    let lost_before = before.and_then(|before| before.redundancy_lost_since.clone());
    Guarantees {
        order: Order::TotalPerChannel,
        durability,
        tolerates,
        redundancy_lost_since: (!whole).then(|| lost_before.unwrap_or(Time(now))),
    }
}
