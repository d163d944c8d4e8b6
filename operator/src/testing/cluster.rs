//! The part of the model that is the nodes of a stateful room: what is on their disks, who is a member, who keeps and leads
//! which shard. It does in one step what takes nodes a while.

use std::collections::{BTreeMap, BTreeSet};

use contract::status::{Cluster, Group, Member, Membership};

/// What a volume holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Disk {
    pub member: String,
    /// Empty before the node is let in.
    pub cluster: String,
    /// What its node knew last, which is what it says first in its next life.
    last: Cluster,
}

/// The nodes that run, by their names: the claim of each, and the Kubernetes node that it is on.
pub(crate) type Running = BTreeMap<String, (String, String)>;

#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// By claim.
    pub disks: BTreeMap<String, Disk>,
    /// The committed membership.
    pub members: Vec<Member>,
    pub groups: Vec<Group>,
    /// Processes that have caught up, by claim.
    caught_up: BTreeSet<String>,
    voters: usize,
    shards: u16,
    drawn: u32,
}

impl Nodes {
    pub(crate) fn new(voters: u16, shards: u16) -> Self {
        Self { voters: usize::from(voters), shards, ..Self::default() }
    }

    /// A process begins or ends on a volume.
    pub(crate) fn restarted(&mut self, claim: &str) {
        self.caught_up.remove(claim);
        let removed = self.disks.get(claim).is_some_and(|disk| self.is_removed(disk));
        if removed || !self.disks.contains_key(claim) {
            self.drawn += 1;
            let member = format!("{:04x}", 0xa000 + self.drawn);
            self.disks.insert(claim.into(), Disk { member, ..Disk::default() });
        }
    }

    fn is_removed(&self, disk: &Disk) -> bool {
        !disk.cluster.is_empty() && !self.members.iter().any(|member| member.id == disk.member)
    }

    /// Panics if there is such a room already, somewhere on a disk.
    pub(crate) fn found(&mut self, claim: &str, name: &str, host: &str, member: &str) -> Result<(), String> {
        let held: Vec<_> = self.disks.values().filter(|disk| !disk.cluster.is_empty()).collect();
        let disk = &self.disks[claim];
        if disk.member != member {
            return Err("another member is meant".into());
        }
        assert!(held.iter().all(|disk| disk.member == member), "two rooms of one name: {held:?}");
        if !disk.cluster.is_empty() {
            return Ok(());
        }
        self.drawn += 1;
        let id = format!("room-{}", self.drawn);
        self.disks.get_mut(claim).expect("it was just read").cluster = id;
        self.members = vec![new_member(member, name, host)];
        let group = |shard| Group {
            shard,
            leader: member.into(),
            term: 1,
            voters: vec![member.into()],
            learners: Vec::new(),
            current: Vec::new(),
        };
        self.groups = (0..=self.shards).map(group).collect();
        self.caught_up.insert(claim.into());
        Ok(())
    }

    /// Panics if a shard would be left without a majority.
    pub(crate) fn remove(&mut self, id: &str, running: &Running) {
        for group in &self.groups {
            let rest = group.voters.iter().filter(|voter| *voter != id).count();
            let good = group.voters.iter().filter(|voter| *voter != id && self.is_alive(voter, running));
            if group.voters.iter().any(|voter| voter == id) {
                assert!(2 * good.count() > rest, "without {id} {group:?} has no majority");
            }
        }
        for member in self.members.iter_mut().filter(|member| member.id == id) {
            member.leaving = true;
        }
    }

    fn claim_of(&self, id: &str) -> Option<&str> {
        self.disks.iter().find(|(_, disk)| disk.member == id).map(|(claim, _)| claim.as_str())
    }

    /// Whether its process runs.
    pub(crate) fn is_alive(&self, id: &str, running: &Running) -> bool {
        let claim = self.claim_of(id);
        claim.is_some_and(|claim| running.values().any(|(running, _)| running == claim))
    }

    fn is_current(&self, id: &str, running: &Running) -> bool {
        self.is_alive(id, running) && self.claim_of(id).is_some_and(|claim| self.caught_up.contains(claim))
    }

    /// What the nodes do of themselves.
    pub(crate) fn step(&mut self, running: &Running) {
        self.elect(running);
        let led = |group: &Group| !group.leader.is_empty();
        if self.groups.first().is_some_and(led) {
            self.catch_up(running);
            self.replace_voters(running);
            self.let_go();
            self.let_in(running);
            self.look_around(running);
        }
        self.remember(running);
    }

    fn elect(&mut self, running: &Running) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            let good: Vec<_> = group.voters.iter().filter(|id| self.is_alive(id, running)).collect();
            if 2 * good.len() <= group.voters.len() {
                group.leader.clear();
            } else if !good.contains(&&group.leader) {
                let stays =
                    |id: &&&String| self.members.iter().any(|member| member.id == ***id && !member.leaving);
                group.leader = (*good.iter().find(stays).unwrap_or(&good[0])).clone();
                group.term += 1;
            }
        }
        self.groups = groups;
    }

    fn catch_up(&mut self, running: &Running) {
        let of_members = self.members.iter().filter_map(|member| self.claim_of(&member.id));
        let alive = of_members.filter(|claim| running.values().any(|(running, _)| running == claim));
        let claims: Vec<_> = alive.map(str::to_owned).collect();
        self.caught_up.extend(claims);
    }

    /// One change of voters a shard.
    fn replace_voters(&mut self, running: &Running) {
        let mut groups = std::mem::take(&mut self.groups);
        let stays = |id: &String| self.members.iter().any(|member| member.id == *id && !member.leaving);
        for group in groups.iter_mut().filter(|group| !group.leader.is_empty()) {
            let newcomer = self
                .members
                .iter()
                .map(|member| &member.id)
                .find(|id| stays(id) && !group.voters.contains(id) && self.is_current(id, running));
            let leaving = group.voters.iter().position(|id| !stays(id));
            match (leaving, newcomer) {
                (Some(at), Some(newcomer)) => group.voters[at].clone_from(newcomer),
                (Some(at), None) => {
                    let alive = |id: &&String| self.is_alive(id, running) && **id != group.voters[at];
                    if 2 * group.voters.iter().filter(alive).count() > group.voters.len() - 1 {
                        group.voters.remove(at);
                    }
                }
                (None, Some(newcomer)) if group.voters.len() < self.voters => {
                    group.voters.push(newcomer.clone());
                }
                (None, _) => {}
            }
            if !group.voters.contains(&group.leader) {
                let next = group.voters.iter().find(|id| self.is_alive(id, running));
                group.leader = next.cloned().unwrap_or_default();
                group.term += 1;
            }
        }
        self.groups = groups;
    }

    fn let_go(&mut self) {
        let keeps = |id: &String| self.groups.iter().any(|group| group.voters.contains(id));
        let stays: Vec<_> = self.members.iter().map(|member| !member.leaving || keeps(&member.id)).collect();
        let mut stays = stays.into_iter();
        self.members.retain(|_| stays.next().unwrap_or(true));
    }

    fn let_in(&mut self, running: &Running) {
        let id = self.cluster_id();
        for (name, (claim, host)) in running {
            let disk = &self.disks[claim];
            let taken = self.members.iter().any(|member| member.name == *name);
            if disk.cluster.is_empty() && !taken {
                self.members.push(new_member(&disk.member, name, host));
                self.disks.get_mut(claim).expect("it was just read").cluster = id.clone();
            }
        }
        self.members.sort_by(|one, other| one.id.cmp(&other.id));
    }

    fn cluster_id(&self) -> String {
        let of_members = self.members.iter().filter_map(|member| self.claim_of(&member.id));
        of_members
            .map(|claim| self.disks[claim].cluster.clone())
            .find(|id| !id.is_empty())
            .unwrap_or_default()
    }

    fn look_around(&mut self, running: &Running) {
        let alive: Vec<_> = self.members.iter().map(|member| self.is_alive(&member.id, running)).collect();
        for (member, alive) in self.members.iter_mut().zip(alive) {
            member.alive = alive;
        }
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            let others = self.members.iter().map(|member| member.id.clone());
            group.learners = others.filter(|id| !group.voters.contains(id)).collect();
            let keepers = group.voters.iter().chain(&group.learners);
            group.current = keepers.filter(|id| self.is_current(id, running)).cloned().collect();
        }
        self.groups = groups;
    }

    fn remember(&mut self, running: &Running) {
        for (claim, _) in running.values() {
            let told = self.knows(claim);
            self.disks.get_mut(claim).expect("a node that runs has a disk").last = told;
        }
    }

    /// What the node on that volume says.
    pub(crate) fn says(&self, claim: &str) -> Cluster {
        let disk = &self.disks[claim];
        if disk.cluster.is_empty() {
            return Cluster::default();
        }
        if self.is_removed(disk) {
            return Cluster { membership: Membership::Removed, ..disk.last.clone() };
        }
        if self.caught_up.contains(claim) {
            return self.knows(claim);
        }
        let mut told = disk.last.clone();
        told.id.clone_from(&disk.cluster);
        told.membership = Membership::Joining;
        for group in &mut told.groups {
            group.leader.clear();
            group.current.clear();
        }
        told
    }

    fn knows(&self, claim: &str) -> Cluster {
        let disk = &self.disks[claim];
        let own = self.members.iter().find(|member| member.id == disk.member);
        let membership = match own {
            None => Membership::Waiting,
            Some(member) if member.leaving => Membership::Leaving,
            Some(_) => Membership::Member,
        };
        let mut groups = self.groups.clone();
        for group in groups.iter_mut().filter(|group| group.leader != disk.member) {
            group.current.clear();
        }
        Cluster { id: disk.cluster.clone(), membership, members: self.members.clone(), groups }
    }

    /// Whether every shard has all its voters, all of them current.
    pub(crate) fn is_whole(&self, running: &Running) -> bool {
        self.groups.iter().all(|group| {
            !group.leader.is_empty()
                && group.voters.len() == self.voters
                && group.voters.iter().all(|id| self.is_current(id, running))
        })
    }

    /// Whether every shard has a leader.
    pub(crate) fn is_led(&self) -> bool {
        !self.groups.is_empty() && self.groups.iter().all(|group| !group.leader.is_empty())
    }

    /// Whether every shard would keep a majority without these volumes.
    pub(crate) fn can_lose(&self, claims: &[&str], running: &Running) -> bool {
        self.groups.iter().all(|group| {
            let left = group.voters.iter().filter(|id| {
                self.is_current(id, running)
                    && self.claim_of(id).is_some_and(|claim| !claims.contains(&claim))
            });
            2 * left.count() > group.voters.len()
        })
    }
}

fn new_member(id: &str, name: &str, host: &str) -> Member {
    Member {
        id: id.into(),
        name: name.into(),
        address: format!("{name}.lounge-peers.default.svc:7000"),
        host: host.into(),
        zone: String::new(),
        leaving: false,
        alive: true,
    }
}
