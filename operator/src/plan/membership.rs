//! How many nodes a stateful room has, and who leaves it. Going up is a number: a new node asks to be let in. A node goes
//! the other way round: its member is ordered out first, and its pod goes when nobody counts it any more.
//!
//! A member whose volume is empty, or whose Kubernetes node is gone, is taken out too: by another order to the same end.

use contract::status::{Member, Membership};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{Step, Target, founding::may_be_held};
use crate::{
    api::Retain,
    members::{DIRECTORY, Ensemble, Node, ensemble},
    names,
    nodes::NodeView,
    observe::Observed,
    pods,
    validate::{Room, Stateful},
};

/// What a room's members ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Replicas of the StatefulSet.
    pub replicas: i32,
    /// Replicas that it is to end with.
    pub target: i32,
    pub step: Option<Step>,
    /// What a change of members that is under way waits for.
    pub waits: Option<String>,
}

/// How many nodes a stateful room is to have: as many as it has while nobody says, and never fewer than its voters.
pub fn wished(wish: Option<i32>, voters: u16, observed: &Observed) -> i32 {
    wish.or_else(|| replicas(observed)).unwrap_or_default().max(i32::from(voters))
}

/// Replicas of the StatefulSet as it is.
pub fn replicas(observed: &Observed) -> Option<i32> {
    observed.objects.stateful_set.as_deref()?.spec.replicas
}

pub fn course(room: &Room, stateful: &Stateful, observed: &Observed, now: Timestamp) -> Course {
    let ensemble = ensemble(&room.name, stateful.cluster.as_deref(), observed);
    let wanted = wished(room.wish, stateful.voters(), observed);
    let lost = lost(&ensemble, wanted, now);
    let surplus = lost.len().min(usize::from(stateful.tolerate));
    let target = wanted + i32::try_from(surplus).expect("at most f");
    let look = Look { room, stateful, observed, ensemble: &ensemble, wanted, target };
    let replicas = look.replicas();
    let (step, waits) = look.step(&lost, replicas);
    Course { replicas, target, step, waits }
}

/// Nodes that are to stay, whose members do not live and whose pods are bound to a Kubernetes node that does not either.
fn lost<'a>(ensemble: &Ensemble<'a>, wanted: i32, now: Timestamp) -> Vec<&'a Member> {
    let is_lost = |member: &&Member| {
        let ordinal = ensemble.ordinal_of(member).filter(|&ordinal| ordinal < wanted);
        let node = ordinal.and_then(|ordinal| ensemble.node(ordinal));
        let replaced_at = node.and_then(|node| pods::replaced_at(node.pod));
        !ensemble.lives(member) && replaced_at.is_some_and(|at| at <= now)
    };
    ensemble.members().iter().filter(is_lost).collect()
}

struct Look<'a> {
    room: &'a Room,
    stateful: &'a Stateful,
    observed: &'a Observed,
    ensemble: &'a Ensemble<'a>,
    wanted: i32,
    target: i32,
}

impl Look<'_> {
    fn cluster(&self) -> Option<&str> {
        self.stateful.cluster.as_deref()
    }

    /// Never lower than an ordinal whose node may be a member: its pod comes back, whoever took it away.
    fn replicas(&self) -> i32 {
        let nodes = &self.ensemble.nodes;
        let after_last = nodes.iter().map(|node| node.ordinal + 1).max().unwrap_or_default();
        let present = replicas(self.observed).unwrap_or(after_last);
        let named = self.ensemble.ordinals_named(self.cluster());
        let in_directory = || {
            let members = self.ensemble.members().iter();
            members.filter_map(|member| self.ensemble.ordinal_of(member)).collect()
        };
        // What nodes recall that have not caught up yet is no reason to bring a pod back, as long as somebody knows better.
        let back = if self.ensemble.directory.is_some() { in_directory() } else { named.clone() };
        let back = back.into_iter().filter(|&ordinal| ordinal < present || self.has_something(ordinal));
        let held = if self.may_lower() {
            named.into_iter().filter(|&ordinal| ordinal < present).max()
        } else {
            Some(present - 1)
        };
        back.chain(held).map(|ordinal| ordinal + 1).fold(self.target, i32::max)
    }

    /// Whether it is known who is a member: the directory's leader says it, or the room was not begun.
    fn may_lower(&self) -> bool {
        let nodes = &self.ensemble.nodes;
        let unbegun = self.cluster().is_none()
            && self.stateful.founder.is_none()
            && !may_be_held(&self.room.name, nodes, self.observed);
        !nodes.iter().any(|node| node.view == Some(&NodeView::Unasked))
            && (unbegun || self.ensemble.directory.is_some())
    }

    /// Whether a pod or a volume of that ordinal is left.
    fn has_something(&self, ordinal: i32) -> bool {
        let claim = names::claim(&names::pod(&self.room.name, ordinal));
        self.ensemble.node(ordinal).is_some()
            || self.observed.claims.iter().any(|found| found.name_any() == claim)
    }

    fn step(&self, lost: &[&Member], replicas: i32) -> (Option<Step>, Option<String>) {
        if self.ensemble.directory.is_none() {
            let waits = (replicas > self.target).then(|| {
                "who is a member is not known, as the directory has no leader that a majority of its voters names".into()
            });
            return (None, waits);
        }
        let gone = self.gone().find(|member| self.is_dead(member));
        let gone = gone.and_then(|member| self.order_out(member, "its volume is gone"));
        if let Some(step) = gone.or_else(|| self.replace(lost)) {
            return (Some(step), None);
        }
        if let Some(member) = self.gone().next() {
            let name = &member.name;
            let waits = format!(
                "the volume of node {name} is gone, and without it a shard has no majority of its voters: restore it, or \
                 bring the other nodes back"
            );
            return (None, Some(waits));
        }
        let (step, waits) = self.shrink();
        let step = step.or_else(|| self.restart(replicas)).or_else(|| self.release(replicas));
        (step, waits)
    }

    /// Members whose pods have come back with other volumes, or are gone together with their volumes.
    fn gone(&self) -> impl Iterator<Item = &Member> {
        let is_gone = |member: &&Member| {
            let Some(ordinal) = self.ensemble.ordinal_of(member) else { return false };
            match self.ensemble.node(ordinal) {
                Some(node) => node.waits() && node.member().is_some_and(|id| id != member.id),
                None => ordinal >= self.target && !self.has_something(ordinal),
            }
        };
        self.ensemble
            .members()
            .iter()
            .filter(|member| !self.ensemble.lives(member) && !member.leaving)
            .filter(is_gone)
    }

    /// A member on a Kubernetes node that is off, once another node has taken its place.
    fn replace(&self, lost: &[&Member]) -> Option<Step> {
        let member = lost.iter().find(|member| self.is_dead(member))?;
        (self.living() >= usize::from(self.stateful.voters()))
            .then(|| {
                self.order_out(member, "its Kubernetes node does not answer, and another node has its place")
            })
            .flatten()
    }

    /// Whether it may be missed: nobody hears of it, and it was not ordered out yet.
    fn is_dead(&self, member: &Member) -> bool {
        !self.ensemble.lives(member)
            && !member.leaving
            && self.ensemble.can_do_without(&member.id, self.stateful)
    }

    /// Members that live and stay.
    fn living(&self) -> usize {
        self.ensemble.members().iter().filter(|member| self.ensemble.lives(member) && !member.leaving).count()
    }

    /// Orders out the member of the highest ordinal that is too many, if every shard is whole without it.
    fn shrink(&self) -> (Option<Step>, Option<String>) {
        let too_many =
            |member: &&Member| self.ensemble.ordinal_of(member).is_some_and(|ordinal| ordinal >= self.target);
        let members = self.ensemble.members();
        if let Some(member) = members.iter().find(|member| member.leaving) {
            return (None, Some(format!("node {} gives its shards to others", member.name)));
        }
        let Some(member) =
            members.iter().filter(too_many).max_by_key(|member| self.ensemble.ordinal_of(member))
        else {
            let first = self.ensemble.nodes.iter().find(|node| node.ordinal >= self.target);
            return (None, first.map(|node| format!("pod {} is to go", node.pod.name_any())));
        };
        let goes = |why: String| Some(format!("node {} stays until it can be missed: {why}", member.name));
        let left = self.living() - usize::from(self.ensemble.lives(member));
        if left < usize::try_from(self.wanted).unwrap_or_default() {
            return (None, goes(format!("{left} of {} other nodes are members", self.wanted)));
        }
        match self.ensemble.missing(self.stateful, Some(&member.id)) {
            Some(missing) => (None, goes(missing)),
            None => (self.order_out(member, "fewer nodes are wished for"), None),
        }
    }

    fn order_out(&self, member: &Member, because: &str) -> Option<Step> {
        let through = self.whom_to_ask(&member.id)?;
        Some(Step::RemoveMember {
            pod: through.pod.name_any(),
            uid: through.pod.uid().unwrap_or_default(),
            member: member.id.clone(),
            name: member.name.clone(),
            because: because.into(),
        })
    }

    /// The directory's leader, if it is not the one that goes; any takes the order.
    fn whom_to_ask(&self, goes: &str) -> Option<&Node<'_>> {
        let is_member = |node: &&Node<'_>| {
            node.membership() == Some(Membership::Member) && node.member().is_some_and(|id| id != goes)
        };
        let leader = self.ensemble.leader(DIRECTORY);
        let leads = |node: &&Node<'_>| node.member() == leader;
        let nodes = &self.ensemble.nodes;
        nodes.iter().filter(is_member).find(leads).or_else(|| nodes.iter().find(is_member))
    }

    /// A node that was removed and is wanted again: its next life begins with an empty volume and asks to be let in.
    fn restart(&self, replicas: i32) -> Option<Step> {
        let node = self.ensemble.nodes.iter().find(|node| {
            let is_out = node.member().is_some_and(|id| !self.ensemble.counts(id, self.cluster()));
            node.ordinal < replicas.min(self.target)
                && node.stays()
                && node.membership() == Some(Membership::Removed)
                && is_out
        })?;
        Some(Step::RestartRemoved { target: Target::of(node.pod) })
    }

    /// The volume of an ordinal that is not used any more, if it is not to be kept.
    fn release(&self, replicas: i32) -> Option<Step> {
        if self.stateful.volume.retain == Retain::Retain {
            return None;
        }
        let named = self.ensemble.ordinals_named(self.cluster());
        let unused = |ordinal: &i32| {
            *ordinal >= replicas
                && *ordinal >= self::replicas(self.observed).unwrap_or(i32::MAX)
                && self.ensemble.node(*ordinal).is_none()
                && !named.contains(ordinal)
        };
        let claim = self.observed.claims.iter().find(|claim| {
            let pod = claim.name_any().strip_prefix(&names::claim("")).map(str::to_owned);
            claim.metadata.deletion_timestamp.is_none()
                && pod.and_then(|pod| names::ordinal(&self.room.name, &pod)).is_some_and(|it| unused(&it))
        })?;
        Some(Step::DeleteClaim { target: Target::of(claim.as_ref()) })
    }
}
