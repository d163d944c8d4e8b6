//! What tests share: a room, a node, and a model of Kubernetes.

mod cluster;
mod model;
mod stateful;
mod stateless;

use contract::status::{Durability, NodeState, NodeStatus};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use crate::{
    api::{ChatRoom, ChatRoomSpec},
    control::Root,
    validate::Defaults,
};

pub(crate) use model::Model;
pub(crate) use stateless::busiest_first;

pub(crate) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A room as the API server would store it.
pub(crate) fn room(spec: serde_json::Value) -> ChatRoom {
    let spec: ChatRoomSpec = serde_json::from_value(spec).expect("a test writes a spec that can be read");
    let mut room = ChatRoom::new("lounge", spec);
    room.metadata.namespace = Some("default".into());
    room.metadata.uid = Some("room-uid".into());
    room.metadata.generation = Some(1);
    room.metadata.resource_version = Some("1".into());
    room
}

/// The smallest room.
pub(crate) fn small_room() -> ChatRoom {
    stateful_room(1, 0)
}

/// A stateful room that survives so many failures.
pub(crate) fn stateful_room(replicas: i32, failures: u16) -> ChatRoom {
    let mut room = room(serde_json::json!({"mode": {"stateful": {"tolerate": {"nodeFailures": failures}}}}));
    // One that nobody wrote is seeded.
    room.spec.replicas = (replicas != i32::from(2 * failures + 1)).then_some(replicas);
    room
}

/// A stateless room with that store.
pub(crate) fn stateless_room(replicas: i32, store: &serde_json::Value) -> ChatRoom {
    room(serde_json::json!({"replicas": replicas, "mode": {"stateless": {"store": store}}}))
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        node_image: Some("chat-node:1".into()),
        store_image: "store:1".into(),
        operator_namespace: Some("chatroom-system".into()),
        control_root: Root::new([7; 32]),
    }
}

/// A node on which clients can join and talk.
pub(crate) fn serving_node() -> NodeStatus {
    NodeStatus {
        version: "0.1.0".into(),
        member: "c0ffee".into(),
        state: NodeState::Serving,
        reason: String::new(),
        connections: 3,
        sessions: 3,
        detached: 0,
        users: 3,
        channels: 1,
        settings_revision: u64::MAX,
        durability: Durability::LocalFsync,
        shards: Vec::new(),
        draining_remaining: 0,
        cluster: None,
    }
}

/// A pod with that status.
pub(crate) fn pod(name: &str, status: &serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("{name}-uid")},
        "spec": {"containers": [{"name": "chat-node", "image": "nowhere/chat-node:2"}]},
        "status": status,
    }))
    .expect("a test writes a pod that can be read")
}
