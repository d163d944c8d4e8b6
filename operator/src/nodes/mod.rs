//! What the nodes say of themselves: one follower a running pod, started and ended by the pods' watch.

mod follow;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
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
    names,
    observe::{StoredRoom, room_of},
};

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
    nodes: Mutex<BTreeMap<String, Follower>>,
    notices: mpsc::Sender<ObjectRef<StoredRoom>>,
}

struct Follower {
    room: ObjectRef<StoredRoom>,
    address: IpAddr,
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
    pub fn new() -> (Arc<Self>, Notices) {
        let (notices, receiver) = mpsc::channel(NOTICES);
        (Arc::new(Self { nodes: Mutex::default(), notices }), receiver)
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
        let Some(address) = running_at(pod) else {
            nodes.remove(&uid);
            return;
        };
        match nodes.get_mut(&uid) {
            Some(follower) if follower.address == address => follower.seen = true,
            _ => {
                let task = tokio::spawn(follow::follow(
                    Arc::clone(self),
                    uid.clone(),
                    SocketAddr::new(address, ports::ADMIN),
                ));
                let follower = Follower {
                    room,
                    address,
                    view: NodeView::Unasked,
                    task: task.abort_handle(),
                    seen: true,
                };
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

/// Where a pod's admin port is, while its containers may run.
fn running_at(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    status.pod_ip.as_deref()?.parse().ok()
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

/// The parts of a status that a room's status shows, besides counters.
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
    } = status;
    (version, member, state, reason, settings_revision, durability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

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
