//! What the node's surroundings ask of it and see of it, from any thread, from its first moment on.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chat_state::ids::MemberId;
use contract::status::{self, Cluster, Membership};
use tokio::sync::{mpsc, oneshot};

use crate::{node::Node, open::Found, store::RaftStore, tend::current};

/// What is led is handed over within this time.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are of the same node.
#[derive(Clone)]
pub struct Control {
    stage: Arc<Mutex<Stage>>,
    orders: mpsc::Sender<Found>,
}

enum Stage {
    /// Nothing is known yet.
    Opening,
    Waiting(MemberId),
    Removed,
    Part(Arc<Node>),
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("{0}")]
    Refused(String),
    /// There is no such member.
    #[error("{0}")]
    Unknown(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}

impl Control {
    pub fn new() -> (Self, mpsc::Receiver<Found>) {
        let (orders, receiver) = mpsc::channel(1);
        (Self { stage: Arc::new(Mutex::new(Stage::Opening)), orders }, receiver)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting(&self, member: MemberId) {
        *self.stage() = Stage::Waiting(member);
    }

    pub(crate) fn removed(&self) {
        *self.stage() = Stage::Removed;
    }

    pub(crate) fn joined(&self, node: &Arc<Node>) {
        *self.stage() = Stage::Part(Arc::clone(node));
    }

    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        match &*self.stage() {
            Stage::Part(node) => Some(Arc::clone(node)),
            Stage::Opening | Stage::Waiting(_) | Stage::Removed => None,
        }
    }

    /// This node's member, once its directory was opened.
    pub fn member(&self) -> Option<MemberId> {
        match &*self.stage() {
            Stage::Part(node) => Some(node.me),
            Stage::Waiting(member) => Some(*member),
            Stage::Opening | Stage::Removed => None,
        }
    }

    /// This node begins the room.
    pub async fn found(&self, member: MemberId) -> Result<(), OrderError> {
        if let Some(node) = self.node() {
            // Said twice is as good as once.
            let alone = node.members().keys().eq([&node.me.0]);
            return if alone && node.me == member {
                Ok(())
            } else {
                Err(OrderError::Refused("this node is part of a room already".to_owned()))
            };
        }
        let (answer, done) = oneshot::channel();
        let ended = |_| OrderError::Failed("the node is not ready to begin a room".to_owned());
        self.orders.try_send(Found { member, answer }).map_err(|_| ended(()))?;
        done.await.map_err(|_| ended(()))?.map_err(OrderError::Refused)
    }

    /// A member is to leave the room.
    pub async fn dismiss(&self, member: MemberId) -> Result<(), OrderError> {
        let node =
            self.node().ok_or_else(|| OrderError::Failed("this node is no part of a room".to_owned()))?;
        RaftStore::dismiss(&node, member.0).await
    }

    /// What this node leads goes to others. It may be given some of it again later.
    pub async fn hand_over(&self) -> Result<(), OrderError> {
        let Some(node) = self.node() else { return Ok(()) };
        if node.rest(HAND_OVER_WITHIN).await {
            return Ok(());
        }
        Err(OrderError::Failed(
            "nobody takes over what this node leads: the others are gone, or decline".to_owned(),
        ))
    }

    /// This node is about to end: what it leads goes to others, and it leads nothing again.
    pub async fn retire(&self) {
        if let Some(node) = self.node() {
            node.retire(HAND_OVER_WITHIN).await;
        }
    }

    /// This member is to leave the room, and its vote counts nowhere any more: as long as it does, others may need it.
    pub fn may_end(&self) -> bool {
        self.node().is_some_and(|node| {
            let votes =
                node.groups.iter().any(|group| group.membership().voter_ids().any(|id| id == node.me.0));
            !votes && node.members().get(&node.me.0).is_some_and(|own| own.leaving)
        })
    }

    /// For the node's status.
    pub fn cluster(&self) -> Cluster {
        let node = match &*self.stage() {
            Stage::Part(node) => Arc::clone(node),
            Stage::Removed => return Cluster { membership: Membership::Removed, ..Cluster::default() },
            Stage::Opening | Stage::Waiting(_) => return Cluster::default(),
        };
        let members = node.members();
        let alive = node.roster().known().members.clone();
        let own = members.get(&node.me.0);
        Cluster {
            id: node.cluster.to_string(),
            membership: match own {
                None => Membership::Joining,
                Some(own) if own.leaving => Membership::Leaving,
                Some(_) => Membership::Member,
            },
            members: members
                .iter()
                .map(|(id, member)| status::Member {
                    id: hex(*id),
                    name: member.name.clone(),
                    address: member.address.clone(),
                    host: member.host.clone(),
                    zone: member.zone.clone(),
                    leaving: member.leaving,
                    alive: alive.contains(id) || *id == node.me.0,
                })
                .collect(),
            groups: node
                .shards()
                .zip(&node.groups)
                .map(|(shard, group)| of_group(&node, shard.0, group))
                .collect(),
        }
    }
}

fn of_group(node: &Node, shard: u16, group: &crate::node::Group) -> status::Group {
    let metrics = group.metrics();
    let membership = metrics.membership_config.membership();
    let current = if group.leads(node.me.0) { current(node.me.0, &metrics) } else { BTreeSet::new() };
    status::Group {
        shard,
        leader: metrics.current_leader.map(hex).unwrap_or_default(),
        term: metrics.current_term,
        voters: membership.voter_ids().map(hex).collect(),
        learners: membership.learner_ids().map(hex).collect(),
        current: current.into_iter().map(hex).collect(),
    }
}

fn hex(id: u64) -> String {
    format!("{id:016x}")
}
