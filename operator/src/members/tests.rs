use std::sync::Arc;

use contract::status::{Cluster, Group, Member, Membership, NodeStatus};
use serde_json::json;

use super::*;
use crate::{
    nodes::NodeView,
    testing::{pod, serving_node, stateful_room},
};

/// A room with two shards beside its directory whose nodes are on those hosts; all of it is well.
struct Told {
    observed: Observed,
    stateful: Stateful,
}

impl Told {
    fn new(failures: u16, hosts: &[&str]) -> Self {
        let mut stateful = Stateful::of(&stateful_room(3, failures)).unwrap();
        stateful.shards = 2;
        stateful.cluster = Some("room".into());
        let ids: Vec<_> = (0..hosts.len()).map(|at| format!("m{at}")).collect();
        let members: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(at, host)| Member {
                id: ids[at].clone(),
                name: format!("lounge-{at}"),
                address: String::new(),
                host: (*host).into(),
                zone: String::new(),
                leaving: false,
                alive: true,
            })
            .collect();
        let group = |shard| Group {
            shard,
            leader: "m0".into(),
            term: 1,
            voters: ids.clone(),
            learners: Vec::new(),
            current: Vec::new(),
        };
        let mut told = Self { observed: Observed::default(), stateful };
        for (at, id) in ids.iter().enumerate() {
            let mut groups: Vec<_> = (0..=2).map(group).collect();
            if at == 0 {
                groups.iter_mut().for_each(|group| group.current.clone_from(&ids));
            }
            let cluster = Cluster {
                id: "room".into(),
                membership: Membership::Member,
                members: members.clone(),
                groups,
            };
            let status = NodeStatus { member: id.clone(), cluster: Some(cluster), ..serving_node() };
            let pod = pod(&format!("lounge-{at}"), &json!({}));
            told.observed.nodes.insert(pod.metadata.uid.clone().unwrap(), NodeView::Heard(status));
            told.observed.pods.push(Arc::new(pod));
        }
        told
    }

    /// Changes what a node says.
    fn says(&mut self, at: usize, change: impl FnOnce(&mut Cluster)) {
        let Some(NodeView::Heard(status)) = self.observed.nodes.get_mut(&format!("lounge-{at}-uid")) else {
            panic!("it says nothing");
        };
        change(status.cluster.as_mut().unwrap());
    }

    fn is_silent(&mut self, at: usize) {
        self.observed.nodes.insert(format!("lounge-{at}-uid"), NodeView::Silent("gone".into()));
    }

    fn ensemble(&self) -> Ensemble<'_> {
        ensemble("lounge", Some("room"), &self.observed)
    }

    fn survives(&self) -> Option<i32> {
        self.ensemble().survives(&self.stateful)
    }

    fn missing(&self) -> String {
        self.ensemble().missing(&self.stateful, None).unwrap_or_default()
    }
}

#[test]
fn a_room_survives_as_many_hosts_as_leave_every_shard_a_majority() {
    for (failures, hosts, survived) in [
        (0, &["a"][..], 0),
        (1, &["a", "b", "c"], 1),
        (1, &["a", "a", "b"], 0),
        (1, &["a", "a", "a"], 0),
        (1, &["", "", "b"], 0),
        (2, &["a", "b", "c", "d", "e"], 2),
        (2, &["a", "a", "b", "b", "c"], 1),
        (2, &["a", "a", "a", "b", "c"], 0),
    ] {
        let told = Told::new(failures, hosts);
        assert_eq!(told.survives(), Some(survived), "{hosts:?}");
        assert_eq!(told.missing(), "", "{hosts:?}");
    }
}

#[test]
fn voters_that_are_behind_or_dead_or_missing_count_for_nothing() {
    let mut told = Told::new(2, &["a", "b", "c", "d", "e"]);
    told.says(0, |cluster| cluster.groups[2].current.retain(|id| id != "m4"));
    assert_eq!(told.survives(), Some(1), "the weakest shard decides");
    assert_eq!(told.missing(), "node lounge-4 has not got all of shard 2 yet");
    assert!(told.ensemble().missing(&told.stateful, Some("m4")).is_none());
    told.says(0, |cluster| cluster.members[3].alive = false);
    assert_eq!(told.survives(), Some(0));
    assert_eq!(told.missing(), "the directory's leader does not hear of node lounge-3");
    let mut told = Told::new(1, &["a", "b", "c"]);
    told.says(0, |cluster| drop(cluster.groups[1].voters.pop()));
    assert_eq!(told.missing(), "shard 1 has 2 of 3 voters");
    assert_eq!(told.survives(), Some(0));
}

#[test]
fn a_leader_counts_when_a_majority_of_its_voters_names_it_in_its_term() {
    let mut told = Told::new(1, &["a", "b", "c"]);
    let takes_over = |cluster: &mut Cluster| {
        cluster.groups[1].leader = "m1".into();
        cluster.groups[1].term = 2;
    };
    told.says(1, takes_over);
    assert_eq!(told.ensemble().leader(1), Some("m0"), "it may be about to be elected");
    told.says(2, takes_over);
    assert_eq!(told.ensemble().leader(1), Some("m1"), "the old one may not know yet");
    told.is_silent(2);
    assert_eq!(told.ensemble().leader(1), None);
    assert_eq!(told.survives(), None);
    assert_eq!(told.missing(), "shard 1 has no leader that a majority of its voters names");
}

#[test]
fn whoever_is_of_another_room_or_removed_has_no_say() {
    let mut told = Told::new(1, &["a", "b", "c"]);
    told.says(1, |cluster| cluster.id = "another".into());
    assert!(told.ensemble().is_led(&told.stateful));
    told.says(2, |cluster| cluster.membership = Membership::Removed);
    assert!(!told.ensemble().is_led(&told.stateful));
    assert!(told.ensemble().members().is_empty());
}

#[test]
fn who_is_dead_can_be_missed_if_the_others_are_a_majority_in_every_shard() {
    let mut told = Told::new(1, &["a", "b", "c"]);
    told.says(0, |cluster| cluster.members[2].alive = false);
    assert!(told.ensemble().can_do_without("m2", &told.stateful));
    assert!(!told.ensemble().can_do_without("m1", &told.stateful), "two would be left of which one is dead");
}
