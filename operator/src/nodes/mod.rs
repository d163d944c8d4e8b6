//! What the nodes say of themselves, and what they are told: one follower a running pod, started and ended by the pods'
//! watch.

mod door;
mod follow;
mod order;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use contract::{ports, status::NodeStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::{reflector::ObjectRef, watcher},
};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    control::Root,
    names,
    observe::{StoredRoom, room_of},
};
use door::Door;

pub use order::Order;

/// What is known of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeView {
    /// It is being asked for the first time; that ends within seconds, one way or the other.
    Unasked,
    /// Nothing yet, or nothing any more; why.
    Silent(String),
    /// What it said last, on a connection that still stands.
    Heard(NodeStatus),
}

/// Rooms whose nodes said something that matters. A full channel drops a notice: the room is then about to be looked at
/// for another reason, and every room is looked at again after some minutes.
pub type Notices = mpsc::Receiver<ObjectRef<StoredRoom>>;

/// Notices that may wait for their room's reconcile.
const NOTICES: usize = 1_024;

/// An index of nodes by the uid of their pods. It does no I/O; its followers do.
pub struct Followers {
    control_root: Root,
    nodes: Mutex<BTreeMap<String, Follower>>,
    notices: mpsc::Sender<ObjectRef<StoredRoom>>,
}

struct Follower {
    room: ObjectRef<StoredRoom>,
    door: Door,
    view: NodeView,
    task: AbortHandle,
    /// Whether the pod was seen since the pods' watch began anew.
    seen: bool,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followers {
    pub fn new(control_root: Root) -> (Arc<Self>, Notices) {
        let (notices, receiver) = mpsc::channel(NOTICES);
        (Arc::new(Self { control_root, nodes: Mutex::default(), notices }), receiver)
    }

    pub fn view(&self, uid: &str) -> NodeView {
        match self.lock().get(uid) {
            Some(follower) => follower.view.clone(),
            None => NodeView::Silent("its pod is not running".into()),
        }
    }

    /// How many nodes are followed.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Ends every follower; for a leader that steps down.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Called with every event of the pods' watch.
    pub fn pod_changed(self: &Arc<Self>, event: &watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.lock().values_mut().for_each(|follower| follower.seen = false),
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => self.pod_exists(pod),
            watcher::Event::InitDone => self.lock().retain(|_, follower| follower.seen),
            watcher::Event::Delete(pod) => {
                if let Some(uid) = pod.uid() {
                    self.lock().remove(&uid);
                }
            }
        }
    }

    fn pod_exists(self: &Arc<Self>, pod: &Pod) {
        let (Some(uid), Some(room)) = (pod.uid(), room_of(pod)) else { return };
        if names::is_of_store(pod) {
            return;
        }
        let mut nodes = self.lock();
        let Some(door) = door(&self.control_root, pod) else {
            nodes.remove(&uid);
            return;
        };
        match nodes.get_mut(&uid) {
            Some(follower) if follower.door == door => follower.seen = true,
            _ => {
                let task = tokio::spawn(follow::follow(Arc::clone(self), uid.clone(), door.clone()));
                let follower =
                    Follower { room, door, view: NodeView::Unasked, task: task.abort_handle(), seen: true };
                nodes.insert(uid, follower);
            }
        }
    }

    /// Stores what a follower found and wakes the room if it matters.
    fn heard(&self, uid: &str, view: NodeView) {
        let mut nodes = self.lock();
        let Some(follower) = nodes.get_mut(uid) else { return };
        if matters(&follower.view, &view) {
            let _ = self.notices.try_send(follower.room.clone());
            follower.view = view;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Follower>> {
        // The map is whole after every statement under the lock, so a panic elsewhere does not spoil it.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a pod's node is asked, while its containers may run. The pod itself says whether it has a control port, so that
/// nodes before and after an upgrade are both heard.
fn door(root: &Root, pod: &Pod) -> Option<Door> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    let address = status.pod_ip.as_deref()?.parse().ok()?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let control = ports.find(|port| port.name.as_deref() == Some(names::CONTROL_PORT));
    let control = control.and_then(|port| u16::try_from(port.container_port).ok());
    let namespace = pod.namespace().unwrap_or_default();
    Some(match (control, pod.annotations().get(names::ROOM_UID_ANNOTATION)) {
        (Some(port), Some(uid)) => {
            Door { address: SocketAddr::new(address, port), authority: Some(root.authority(&namespace, uid)) }
        }
        _ => Door { address: SocketAddr::new(address, ports::ADMIN), authority: None },
    })
}

/// Whether a change is worth a reconcile: anything but counters, and counters by a tenth.
fn matters(old: &NodeView, new: &NodeView) -> bool {
    match (old, new) {
        (NodeView::Heard(old), NodeView::Heard(new)) => {
            state(old) != state(new) || crate::counters::moved(old.connections, new.connections)
        }
        (old, new) => old != new,
    }
}

/// The parts of a status that a room's status shows or its next step hangs on, besides counters.
fn state(status: &NodeStatus) -> impl PartialEq + use<'_> {
    let NodeStatus {
        version,
        member,
        state,
        reason,
        connections: _,
        sessions: _,
        detached: _,
        users: _,
        channels: _,
        settings_revision,
        durability,
        shards: _,
        draining_remaining: _,
        cluster,
    } = status;
    (version, member, state, reason, settings_revision, durability, cluster)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn a_pod_says_itself_where_it_is_asked() {
        let root = Root::new([7; 32]);
        let old = testing::pod("lounge-0", &json!({"phase": "Running", "podIP": "10.0.0.1"}));
        let plain = door(&root, &old).unwrap();
        assert_eq!((plain.address.to_string().as_str(), plain.authority), ("10.0.0.1:9090", None));

        let mut new = old.clone();
        new.annotations_mut().insert(names::ROOM_UID_ANNOTATION.into(), "room-uid".into());
        new.spec.as_mut().unwrap().containers[0].ports = serde_json::from_value(
            json!([{"name": "irc", "containerPort": 6667}, {"name": "control", "containerPort": 9443}]),
        )
        .unwrap();
        let secure = door(&root, &new).unwrap();
        assert_eq!(secure.address.to_string(), "10.0.0.1:9443");
        assert_eq!(secure.authority, Some(root.authority("default", "room-uid")));

        new.status = None;
        assert_eq!(door(&root, &new), None);
    }

    #[test]
    fn a_quiet_node_wakes_nobody() {
        let status = testing::serving_node();
        let moved = NodeStatus { users: 99, channels: 7, ..status.clone() };
        assert!(!matters(&NodeView::Heard(status), &NodeView::Heard(moved)));
    }

    #[test]
    fn a_change_of_state_or_a_tenth_of_connections_wakes_the_room() {
        let status = NodeStatus { connections: 100, ..testing::serving_node() };
        let heard = |status: &NodeStatus| NodeView::Heard(status.clone());
        let draining = NodeStatus { state: contract::status::NodeState::Draining, ..status.clone() };
        assert!(matters(&heard(&status), &heard(&draining)));
        assert!(matters(&heard(&status), &NodeView::Silent("connection refused".into())));
        assert!(!matters(&heard(&status), &heard(&NodeStatus { connections: 105, ..status.clone() })));
        assert!(matters(&heard(&status), &heard(&NodeStatus { connections: 110, ..status.clone() })));
    }
}
