//! What a room promises, next to what holds right now. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{nodes::Nodes, store};
use crate::{
    api::{ChatRoom, ChatRoomStatus, Durability, Guarantees, Mode, Order, Tolerates},
    build,
    observe::Observed,
    plan::scale,
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
    let (wanted, durability) = match chat_room.spec.mode {
        // One node: no failure is survived without a pause.
        Mode::Stateful(_) => (build::NODES, told.or(Some(Durability::LocalFsync))),
        // While its store is away, a room's nodes know what it was.
        Mode::Stateless(_) => (
            scale::wished(chat_room.spec.replicas, observed),
            told.or_else(|| before.and_then(|before| before.durability)),
        ),
    };
    let declared = (wanted - 1).max(0);
    let tolerates = Tolerates { declared, now: (nodes.serving > 0).then(|| nodes.serving - 1) };
    let whole = tolerates.now.is_some_and(|now| now >= declared);
    let lost_before = before.and_then(|before| before.redundancy_lost_since.clone());
    Guarantees {
        order: Order::TotalPerChannel,
        durability,
        tolerates,
        redundancy_lost_since: (!whole).then(|| lost_before.unwrap_or(Time(now))),
    }
}
