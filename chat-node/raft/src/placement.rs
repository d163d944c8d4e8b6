//! Which members should vote in a group, and which of them should lead it. Pure, and the same on every node: a function of
//! who is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::PeerNode;

/// Voters that a group is to have among so many members. As long as there are too few for what is tolerated their number is odd,
/// since one more would be one more to wait for, that tolerates no more. But two are two: what was promised to be on more than
/// one disk is not to be on one.
pub fn voters_wanted(tolerate: u16, members: usize) -> usize {
    let wanted = 2 * usize::from(tolerate) + 1;
    if members >= wanted {
        wanted
    } else if members > 2 && members.is_multiple_of(2) {
        members - 1
    } else {
        members
    }
}

/// The members that should vote in a group, in the order in which they were chosen. Each group has its own order of the
/// members, which hardly changes when members come and go; nobody is taken of a zone, then of a machine, that has a voter, as
/// long as there are others.
pub fn voters(group: u16, tolerate: u16, members: &BTreeMap<u64, PeerNode>) -> Vec<u64> {
    let mut left: Vec<_> = members.iter().filter(|(_, node)| !node.leaving).collect();
    left.sort_by_key(|(id, _)| std::cmp::Reverse(weight(group, **id)));
    let wanted = voters_wanted(tolerate, left.len());
    let mut chosen: Vec<(u64, &PeerNode)> = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        let shared = |of: fn(&PeerNode) -> &str, node: &PeerNode| {
            !of(node).is_empty() && chosen.iter().any(|(_, other)| of(other) == of(node))
        };
        let best = left
            .iter()
            .enumerate()
            .min_by_key(|(_, (_, node))| (shared(|node| &node.host, node), shared(|node| &node.zone, node)))
            .map(|(at, _)| at);
        let Some(best) = best else { break };
        let (id, node) = left.remove(best);
        chosen.push((*id, node));
    }
    chosen.into_iter().map(|(id, _)| id).collect()
}

/// The one of the voters that should lead: groups with the same voters take turns.
pub fn leader(group: u16, voters: &BTreeSet<u64>) -> Option<u64> {
    if voters.is_empty() {
        return None;
    }
    voters.iter().nth(usize::from(group) % voters.len()).copied()
}

/// A number that is as good as random for each pair (the finalizer of SplitMix64).
fn weight(group: u16, id: u64) -> u64 {
    let mut z = id ^ (u64::from(group) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, zone: &str) -> PeerNode {
        PeerNode { host: host.to_owned(), zone: zone.to_owned(), ..PeerNode::default() }
    }

    fn members(of: &[(u64, &str, &str)]) -> BTreeMap<u64, PeerNode> {
        of.iter().map(|(id, host, zone)| (*id, node(host, zone))).collect()
    }

    #[test]
    fn there_are_as_many_voters_as_declared_once_there_are_as_many_members() {
        let wanted: Vec<_> = (0..8).map(|members| voters_wanted(1, members)).collect();
        assert_eq!(wanted, [0, 1, 2, 3, 3, 3, 3, 3]);
        let wanted: Vec<_> = (0..8).map(|members| voters_wanted(2, members)).collect();
        assert_eq!(wanted, [0, 1, 2, 3, 3, 5, 5, 5]);
    }

    #[test]
    fn no_machine_has_two_voters_where_there_are_enough_of_them() {
        let members = members(&[(1, "a", ""), (2, "a", ""), (3, "b", ""), (4, "c", ""), (5, "c", "")]);
        for group in 0..64 {
            let hosts: BTreeSet<_> = voters(group, 1, &members).iter().map(|id| &members[id].host).collect();
            assert_eq!(hosts.len(), 3, "group {group}");
        }
    }

    #[test]
    fn no_zone_has_two_voters_where_there_are_enough_of_them() {
        let members = members(&[
            (1, "a", "x"),
            (2, "b", "x"),
            (3, "c", "y"),
            (4, "d", "y"),
            (5, "e", "z"),
            (6, "f", "z"),
        ]);
        for group in 0..64 {
            let zones: BTreeSet<_> = voters(group, 1, &members).iter().map(|id| &members[id].zone).collect();
            assert_eq!(zones.len(), 3, "group {group}");
        }
    }

    #[test]
    fn who_leaves_votes_nowhere_and_who_comes_moves_little() {
        let mut all: BTreeMap<_, _> = (1..=5).map(|id| (id * 7919, PeerNode::default())).collect();
        let before: Vec<_> = (0..64).map(|group| voters(group, 1, &all)).collect();
        all.get_mut(&7919).expect("a member").leaving = true;
        let mut moved = 0;
        for (group, before) in (0..).zip(&before) {
            let after: BTreeSet<_> = voters(group, 1, &all).into_iter().collect();
            assert!(!after.contains(&7919));
            moved += before.iter().filter(|id| !after.contains(id)).count();
        }
        let had = before.iter().flatten().filter(|id| **id == 7919).count();
        assert_eq!(moved, had, "only what it had is moved");
    }

    #[test]
    fn shards_and_their_leaders_are_spread_over_the_members() {
        let all: BTreeMap<_, _> = (1..=5).map(|id| (id * 0x1234_5678_9abc, PeerNode::default())).collect();
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for group in 0..65 {
            for id in voters(group, 1, &all) {
                *votes.entry(id).or_default() += 1;
            }
        }
        assert!(votes.len() == 5 && votes.values().all(|votes| (20..=58).contains(votes)), "{votes:?}");
        let three = BTreeSet::from([3, 5, 9]);
        let leaders: Vec<_> = (0..4).filter_map(|group| leader(group, &three)).collect();
        assert_eq!(leaders, [3, 5, 9, 3]);
    }
}
