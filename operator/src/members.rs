//! The nodes of a stateful room as they see each other: who keeps which shard, who leads it, what is missing. Pure.
//!
//! What one node says may be old. What counts is what a shard's leader says while a majority of the shard's voters names
//! that leader in that term: no other can have been elected meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use contract::status::{Cluster, Group, Member, Membership, NodeStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{names, nodes::NodeView, observe::Observed, validate::Stateful};

/// The shard of sessions and of the nodes themselves.
pub const DIRECTORY: u16 = 0;

/// A pod of the room and what its node says.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub ordinal: i32,
    pub pod: &'a Pod,
    pub view: Option<&'a NodeView>,
}

impl<'a> Node<'a> {
    pub fn heard(&self) -> Option<&'a NodeStatus> {
        match self.view {
            Some(NodeView::Heard(status)) => Some(status),
            _ => None,
        }
    }

    pub fn cluster(&self) -> Option<&'a Cluster> {
        self.heard()?.cluster.as_ref()
    }

    pub fn membership(&self) -> Option<Membership> {
        Some(self.cluster()?.membership)
    }

    /// Its member id, where it has opened its log.
    pub fn member(&self) -> Option<&'a str> {
        self.heard().map(|status| status.member.as_str()).filter(|member| !member.is_empty())
    }

    /// Whether the pod is to stay, as far as Kubernetes knows.
    pub fn stays(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_none()
    }

    /// Whether its volume is empty, by its own word.
    pub fn waits(&self) -> bool {
        self.cluster()
            .is_some_and(|cluster| cluster.membership == Membership::Waiting && cluster.id.is_empty())
    }
}

/// The pods of the room by their ordinals.
pub fn nodes<'a>(room: &str, observed: &'a Observed) -> Vec<Node<'a>> {
    let node = |pod: &'a std::sync::Arc<Pod>| {
        let view = pod.uid().and_then(|uid| observed.nodes.get(&uid));
        Some(Node { ordinal: names::ordinal(room, &pod.name_any())?, pod, view })
    };
    let mut nodes: Vec<_> = observed.pods.iter().filter_map(node).collect();
    nodes.sort_by_key(|node| node.ordinal);
    nodes
}

/// What the nodes of one room say together.
#[derive(Clone, Debug)]
pub struct Ensemble<'a> {
    pub nodes: Vec<Node<'a>>,
    /// What the directory's leader says of the members; `None` while nobody leads it by the word of a majority.
    pub directory: Option<&'a Cluster>,
    /// What each shard's leader says of it, where one leads by the word of a majority.
    groups: BTreeMap<u16, &'a Group>,
    room: String,
}

/// Nodes whose volumes hold another room, and those that are removed, have no say.
pub fn ensemble<'a>(room: &str, cluster: Option<&str>, observed: &'a Observed) -> Ensemble<'a> {
    let nodes = nodes(room, observed);
    let speakers: Vec<(&str, &Cluster)> =
        nodes.iter().filter_map(|node| Some((node.member()?, say(node, cluster)?))).collect();
    let mut groups = BTreeMap::new();
    let mut directory = None;
    for &(id, told) in &speakers {
        for group in told.groups.iter().filter(|group| group.leader == id) {
            if !leads_by_majority(group, &speakers) {
                continue;
            }
            groups.insert(group.shard, group);
            if group.shard == DIRECTORY {
                directory = Some(told);
            }
        }
    }
    Ensemble { nodes, directory, groups, room: room.to_owned() }
}

/// What a node says of the room of that id, if it takes part in it.
fn say<'a>(node: &Node<'a>, id: Option<&str>) -> Option<&'a Cluster> {
    let told = node.cluster()?;
    let takes_part = match told.membership {
        Membership::Joining | Membership::Member | Membership::Leaving => true,
        Membership::Waiting | Membership::Removed => false,
    };
    (takes_part && Some(told.id.as_str()) == id).then_some(told)
}

fn leads_by_majority(group: &Group, speakers: &[(&str, &Cluster)]) -> bool {
    let says_so = |id: &str| {
        let told = speakers.iter().find(|(speaker, _)| *speaker == id);
        told.and_then(|(_, told)| told.groups.iter().find(|told| told.shard == group.shard))
            .is_some_and(|told| told.leader == group.leader && told.term == group.term)
    };
    let voters = group.voters.iter().filter(|voter| says_so(voter)).count();
    2 * voters > group.voters.len()
}

impl<'a> Ensemble<'a> {
    pub fn members(&self) -> &'a [Member] {
        self.directory.map(|directory| directory.members.as_slice()).unwrap_or_default()
    }

    pub fn node(&self, ordinal: i32) -> Option<&Node<'a>> {
        self.nodes.iter().find(|node| node.ordinal == ordinal)
    }

    pub fn ordinal_of(&self, member: &Member) -> Option<i32> {
        names::ordinal(&self.room, &member.name)
    }

    /// Ordinals that some node counts among the members, or that has a say itself.
    pub fn ordinals_named(&self, cluster: Option<&str>) -> BTreeSet<i32> {
        let told = self.nodes.iter().filter_map(|node| Some((node.ordinal, say(node, cluster)?)));
        told.flat_map(|(ordinal, told)| {
            let named = told.members.iter().filter_map(|member| self.ordinal_of(member));
            named.chain([ordinal]).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Whether any node that takes part still counts this member among the members or among who keeps a shard.
    pub fn counts(&self, id: &str, cluster: Option<&str>) -> bool {
        self.nodes.iter().filter_map(|node| say(node, cluster)).any(|told| {
            told.members.iter().any(|member| member.id == id)
                || told
                    .groups
                    .iter()
                    .any(|group| group.voters.iter().chain(&group.learners).any(|keeper| keeper == id))
        })
    }

    /// Whether every shard has a leader by the word of a majority.
    pub fn is_led(&self, stateful: &Stateful) -> bool {
        self.first_without_leader(stateful).is_none()
    }

    fn first_without_leader(&self, stateful: &Stateful) -> Option<u16> {
        (DIRECTORY..=stateful.shards).find(|shard| !self.groups.contains_key(shard))
    }

    /// What keeps a shard from full redundancy, in words; `None` if nothing does. `but` is a member that does not count,
    /// because it is about to be taken out.
    pub fn missing(&self, stateful: &Stateful, but: Option<&str>) -> Option<String> {
        if let Some(shard) = self.first_without_leader(stateful) {
            return Some(format!("{} has no leader that a majority of its voters names", called(shard)));
        }
        let counts = |id: &str| Some(id) != but;
        let dead = self.members().iter().find(|member| counts(&member.id) && !self.lives(member));
        if let Some(member) = dead {
            return Some(format!("the directory's leader does not hear of node {}", member.name));
        }
        self.groups.values().find_map(|group| {
            let name = called(group.shard);
            let (voters, wanted) = (group.voters.len(), usize::from(stateful.voters()));
            if voters < wanted {
                return Some(format!("{name} has {voters} of {wanted} voters"));
            }
            let behind = group.voters.iter().find(|id| counts(id) && !self.is_current(group, id))?;
            Some(format!("node {} has not got all of {name} yet", self.name_of(behind)))
        })
    }

    /// How many hosts may fail at once, whichever they are, so that every shard still has a majority of voters that have
    /// everything; `None` while a shard has none.
    pub fn survives(&self, stateful: &Stateful) -> Option<i32> {
        if !self.is_led(stateful) {
            return None;
        }
        self.groups.values().map(|group| self.survived_by(group)).min().flatten()
    }

    fn survived_by(&self, group: &Group) -> Option<i32> {
        let mut on_host: BTreeMap<&str, usize> = BTreeMap::new();
        for id in group.voters.iter().filter(|id| self.is_current(group, id)) {
            // Where nothing is known, the worst is assumed: one host for all of those.
            let host = self.member(id).map_or("", |member| member.host.as_str());
            *on_host.entry(host).or_default() += 1;
        }
        let mut hosts: Vec<_> = on_host.into_values().collect();
        hosts.sort_unstable();
        let mut left: usize = hosts.iter().sum();
        let mut survived = None;
        while 2 * left > group.voters.len() {
            survived = Some(survived.map_or(0, |count: i32| count + 1));
            left -= hosts.pop().unwrap_or(left);
        }
        survived
    }

    /// Whether a member that does not live could be missed, shard by shard.
    pub fn can_do_without(&self, id: &str, stateful: &Stateful) -> bool {
        self.is_led(stateful)
            && self.groups.values().filter(|group| group.voters.iter().any(|voter| voter == id)).all(
                |group| {
                    let others = group.voters.iter().filter(|voter| *voter != id);
                    let good = others.filter(|voter| self.is_current(group, voter)).count();
                    2 * good > group.voters.len()
                },
            )
    }

    /// Whether a voter has everything, and lives. Who leads has it by being the leader.
    fn is_current(&self, group: &Group, id: &str) -> bool {
        (group.leader == id || group.current.iter().any(|current| current == id))
            && self.member(id).is_some_and(|member| self.lives(member))
    }

    /// Whether the directory's leader hears of a member, or is it.
    pub fn lives(&self, member: &Member) -> bool {
        member.alive || self.leader(DIRECTORY) == Some(member.id.as_str())
    }

    pub fn member(&self, id: &str) -> Option<&'a Member> {
        self.members().iter().find(|member| member.id == id)
    }

    fn name_of<'b>(&self, id: &'b str) -> &'b str
    where
        'a: 'b,
    {
        self.member(id).map_or(id, |member| member.name.as_str())
    }

    /// Who leads a shard.
    pub fn leader(&self, shard: u16) -> Option<&'a str> {
        self.groups.get(&shard).map(|group| group.leader.as_str())
    }

    /// Shards that a member leads.
    pub fn led_by(&self, id: &str) -> usize {
        self.groups.values().filter(|group| group.leader == id).count()
    }
}

fn called(shard: u16) -> String {
    if shard == DIRECTORY { "the directory".into() } else { format!("shard {shard}") }
}

#[cfg(test)]
mod tests;
