//! Whoever leads a group sees to it that the right members vote in it.
//!
//! The truth of who is a member is the directory's membership, and who should vote in a group follows from that
//! (`placement`). A group's leader moves its group there, a step at a time: adds who is new as a learner, gives a vote to
//! those that have caught up, takes it from those that should have none, lets go of those that left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chat_state::ids::ShardId;
use openraft::{ChangeMembers, LogIdOptionExt, async_runtime::Instant, metrics::RaftMetrics};
use tokio::time;

use crate::{
    node::{Announced, Group, Node},
    placement,
    types::{Membership, PeerNode, Types},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The directory's leader looks who lives at every so manieth of them.
const CALL_EVERY: u32 = 5;

/// A learner that lacks no more than this many entries gets its vote.
const LAG: u64 = 256;

/// Whoever has answered the group's leader within this time is there.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Other voters are chosen when they were wanted for so long: whoever died a moment ago was noticed by then.
const CONSIDER_FOR: Duration = Duration::from_millis(1_200);

/// A step that was not committed by then is tried again.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// A leader stays for so long before it gives the group to the one that should lead.
const LEAD_FOR: Duration = Duration::from_secs(5);

/// What is to be done for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A change of voters that was begun by another leader is brought to its end.
    Finish(BTreeSet<u64>),
    AddLearner(u64, PeerNode),
    Describe(BTreeMap<u64, PeerNode>),
    Voters(BTreeSet<u64>),
    Remove(u64),
    HandOver(u64),
    /// To any voter that takes it.
    StepAside,
}

/// What the leader of a group knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub me: u64,
    pub group: u16,
    pub tolerate: u16,
    /// Of the group.
    pub joint: Vec<BTreeSet<u64>>,
    pub nodes: BTreeMap<u64, PeerNode>,
    /// Who should be in the group: the room's members; for the directory also those that wait to come in.
    pub members: BTreeMap<u64, PeerNode>,
    /// Members in the memberships of other groups.
    pub elsewhere: BTreeSet<u64>,
    /// Those that lack little.
    pub current: BTreeSet<u64>,
    /// Those that gave a sign of life lately.
    pub alive: BTreeSet<u64>,
    /// Those of them that have clients, or may have.
    pub serving: BTreeSet<u64>,
    /// It has led for a while.
    pub settled: bool,
    /// Its own disk is full, or stands still.
    pub stalled: bool,
}

/// The next step, if there is one. Pure.
pub fn next(view: &View) -> Option<Step> {
    let there = |id: &u64| *id == view.me || (view.current.contains(id) && view.alive.contains(id));
    if view.stalled && view.joint.iter().flatten().any(|id| *id != view.me && there(id)) {
        return Some(Step::StepAside);
    }
    let [voters] = &view.joint[..] else {
        return view.joint.last().cloned().map(Step::Finish);
    };
    if let Some((id, node)) =
        view.members.iter().find(|(id, node)| !view.nodes.contains_key(id) && !node.leaving)
    {
        return Some(Step::AddLearner(*id, node.clone()));
    }
    let differs = |(id, node): &(&u64, &PeerNode)| view.nodes.get(id).is_some_and(|present| present != *node);
    let described: BTreeMap<_, _> =
        view.members.iter().filter(differs).map(|(id, node)| (*id, node.clone())).collect();
    if !described.is_empty() {
        return Some(Step::Describe(described));
    }
    let may_vote: BTreeMap<_, _> = view
        .members
        .iter()
        .filter(|(id, _)| voters.contains(id) || (view.alive.contains(id) && view.current.contains(id)))
        .map(|(id, node)| (*id, node.clone()))
        .collect();
    let wanted: BTreeSet<_> = placement::voters(view.group, view.tolerate, &may_vote).into_iter().collect();
    if !wanted.is_empty() && wanted != *voters {
        // Nor is a set chosen of which most are not there: the change itself would stand still, and the group with it.
        let ready = wanted.iter().all(|id| voters.contains(id) || view.current.contains(id))
            && wanted.iter().filter(|id| there(id)).count() * 2 > wanted.len();
        if !wanted.contains(&view.me) {
            // Who leads goes last: another voter of both sets leads the change.
            if let Some(to) = wanted.intersection(voters).find(|id| ready && there(id)) {
                return Some(Step::HandOver(*to));
            }
            // Nobody of the old voters stays: first the new ones come beside this one.
            let mut beside = wanted.clone();
            beside.insert(view.me);
            return (ready && beside != *voters).then_some(Step::Voters(beside));
        }
        if ready {
            return Some(Step::Voters(wanted));
        }
    }
    let leaves = |id: &&u64| match view.members.get(id) {
        None => true,
        // Its clients are led away before; until then it hears what they are to hear. The directory lets go of it last: as long
        // as it is a member, it is known that it is to go.
        Some(node) => {
            node.leaving && !view.serving.contains(id) && (view.group != 0 || !view.elsewhere.contains(id))
        }
    };
    if let Some(id) = view.nodes.keys().filter(|id| !voters.contains(id)).find(leaves) {
        return Some(Step::Remove(*id));
    }
    let leader = placement::leader(view.group, voters)?;
    (leader != view.me && view.settled && there(&leader)).then_some(Step::HandOver(leader))
}

/// Looks after what this node leads, until it is dropped.
pub async fn tend(node: Arc<Node>) {
    let mut led_since = vec![None; node.groups.len()];
    let mut considered: Vec<Option<(Step, Duration)>> = vec![None; node.groups.len()];
    for look in 0_u32.. {
        time::sleep(LOOK_EVERY).await;
        if node.is_retiring() {
            return;
        }
        if !node.directory().leads(node.me.0) {
            // Said to a leader that was: whoever leads now is told as well, and knows what became of it.
            node.announced().clear();
        } else if look.is_multiple_of(CALL_EVERY) {
            node.roster().call(node.now());
        }
        let mine = led_since.iter_mut().zip(&mut considered);
        for ((shard, group), (led_since, considered)) in node.shards().zip(&node.groups).zip(mine) {
            if !group.leads(node.me.0) {
                (*led_since, *considered) = (None, None);
                continue;
            }
            let since = *led_since.get_or_insert(node.now());
            let settled = node.now().saturating_sub(since) >= LEAD_FOR;
            let view = view(&node, shard, group, settled);
            let Some(step) = next(&view) else {
                *considered = None;
                continue;
            };
            if matches!(step, Step::Voters(_)) {
                let (_, since) = match considered.take() {
                    Some(before) if before.0 == step => considered.insert(before),
                    _ => considered.insert((step.clone(), node.now())),
                };
                if node.now().saturating_sub(*since) < CONSIDER_FOR {
                    continue;
                }
            }
            *considered = None;
            tracing::debug!(%shard, ?step, "tending");
            match time::timeout(STEP_WITHIN, take(&node, shard, group, step.clone())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%shard, ?step, error, "a step was not taken; it is tried again");
                }
                Err(_) => {
                    tracing::warn!(%shard, ?step, "a step takes long: a majority of the voters does not answer");
                }
            }
        }
    }
}

async fn take(node: &Node, shard: ShardId, group: &Group, step: Step) -> Result<(), String> {
    let raft = &group.raft;
    let change = match step {
        Step::AddLearner(id, node) => {
            return raft.add_learner(id, node, false).await.map(drop).map_err(|error| error.to_string());
        }
        Step::HandOver(to) => {
            return node.hand_over(shard, group, to).await;
        }
        Step::StepAside => return node.step_aside(shard, group).await,
        Step::Finish(voters) | Step::Voters(voters) => ChangeMembers::ReplaceAllVoters(voters),
        Step::Describe(nodes) => ChangeMembers::SetNodes(nodes),
        Step::Remove(id) => ChangeMembers::RemoveNodes(BTreeSet::from([id])),
    };
    // Who loses its vote stays a learner until it is removed.
    raft.change_membership(change, true).await.map(drop).map_err(|error| error.to_string())
}

fn view(node: &Node, shard: ShardId, group: &Group, settled: bool) -> View {
    let metrics = group.metrics();
    let membership = metrics.membership_config.membership().clone();
    let nodes: BTreeMap<_, _> = membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
    let members = if shard.is_directory() {
        let mut announced = node.announced();
        // Who leads announces itself to nobody, and may have moved as well.
        let own = Announced { node: node.settings.node.clone(), was_member: true };
        announced.insert(node.me.0, own);
        directory_members(&nodes, &mut announced)
    } else {
        node.members()
    };
    let elsewhere = node
        .groups
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != usize::from(shard.0))
        .flat_map(|(_, other)| other.members().into_keys())
        .collect();
    let roster = node.roster().known().clone();
    let mut alive = roster.members;
    alive.insert(node.me.0);
    View {
        me: node.me.0,
        group: shard.0,
        tolerate: node.settings.tolerate,
        joint: joint(&membership),
        nodes,
        members,
        elsewhere,
        current: current(node.me.0, &metrics),
        alive,
        serving: roster.lives.into_keys().collect(),
        settled,
        stalled: !node.keeps_up(),
    }
}

/// The members as they described themselves last, and those that wait to come in.
fn directory_members(
    nodes: &BTreeMap<u64, PeerNode>,
    announced: &mut BTreeMap<u64, Announced>,
) -> BTreeMap<u64, PeerNode> {
    let mut members = nodes.clone();
    for (id, Announced { node, was_member }) in announced {
        let present = nodes.get(id);
        *was_member |= present.is_some();
        if present.is_some() || !*was_member {
            let leaving = present.is_some_and(|present| present.leaving);
            members.insert(*id, PeerNode { leaving, ..node.clone() });
        }
    }
    members
}

fn joint(membership: &Membership) -> Vec<BTreeSet<u64>> {
    membership.get_joint_config().clone()
}

/// Members that have all of the group's log, or nearly, as its leader knows, and said so a moment ago.
pub fn current(me: u64, metrics: &RaftMetrics<Types>) -> BTreeSet<u64> {
    let last = metrics.last_log_index.map_or(0, |last| last + 1);
    let answered = |id: &u64| {
        let at = metrics.heartbeat.as_ref().and_then(|of| of.get(id).copied().flatten());
        at.is_some_and(|at| at.elapsed() < ANSWERED_WITHIN)
    };
    let mut current: BTreeSet<_> = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(id, matched)| matched.next_index() + LAG >= last && answered(id))
        .map(|(id, _)| *id)
        .collect();
    current.insert(me);
    current
}

#[cfg(test)]
mod tests;
