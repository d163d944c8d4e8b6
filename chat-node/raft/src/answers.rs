//! What this node answers to the others.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chat_state::ids::{Index, MemberId, ShardId};
use openraft::{
    ChangeMembers, ReadPolicy,
    errors::{ClientWriteError, RaftError},
    raft::{AppendEntriesRequest, SnapshotResponse},
    type_config::alias::SnapshotOf,
};
use openraft_rt_tokio::TokioRuntime;
use tokio::time;

use crate::{
    machine::{OnDisk, Place},
    messages::{Announcement, Beat, Offer, Piece, Refusal, Welcome, decode, encode},
    node::{Announced, Group, Node},
    types::{Batch, SnapshotMeta, Types, Vote},
};

type Request = crate::messages::Request<TokioRuntime>;
type Answer = crate::messages::Answer<TokioRuntime>;

/// A proposal's fate is unknown when it was not committed within this time.
const COMMIT_WITHIN: Duration = Duration::from_secs(1);

impl Node {
    /// Answers another node. The first poll puts what Raft orders into its queue, so that requests keep their order.
    pub async fn answer(self: Arc<Self>, from: MemberId, body: Bytes) -> Bytes {
        let answer = match decode(&body) {
            Ok(request) => self.answer_request(from, request).await,
            Err(reason) => Answer::Failed(reason),
        };
        encode(&answer)
    }

    /// This node may ask itself.
    pub(crate) async fn answer_request(&self, from: MemberId, request: Request) -> Answer {
        match request {
            Request::Append(group, rpc) => match self.of(group) {
                Ok(group) => append(group, rpc).await,
                Err(failed) => failed,
            },
            Request::Vote(group, rpc) => match self.of(group) {
                Ok(group) => or_failed(group.raft.vote(rpc).await.map(Answer::Vote)),
                Err(failed) => failed,
            },
            Request::PreVote(group, rpc) => match self.of(group) {
                Ok(group) => or_failed(group.raft.pre_vote(rpc).await.map(Answer::Vote)),
                Err(failed) => failed,
            },
            Request::TransferLeader(group, rpc) => match self.of(group) {
                // Those that are not meant are told too: they need not wait for the leader that goes.
                Ok(_) if rpc.to_node_id() == &self.me.0 && self.is_retiring() => {
                    Answer::TransferLeader(Err("this node is about to end".to_owned()))
                }
                Ok(group) => or_failed(
                    group
                        .raft
                        .handle_transfer_leader(rpc)
                        .await
                        .map(|taken| Answer::TransferLeader(taken.map_err(|error| error.to_string()))),
                ),
                Err(failed) => failed,
            },
            Request::Propose(group, payload) => self.propose(ShardId(group), payload).await,
            Request::Beat(beat) => self.take_beat(from, &beat),
            Request::Farewell(life) => {
                if self.directory().leads(self.me.0) {
                    self.roster().left(life, self.now());
                    return Answer::Done;
                }
                Answer::NotLeader(self.directory().leader())
            }
            Request::Announce(announcement) => self.let_in(from, announcement).await,
            Request::Dismiss(member) => self.dismiss_here(member).await,
            Request::Committed(group) => match self.of(group) {
                Ok(group) => committed(group).await,
                Err(failed) => failed,
            },
            Request::Offer(group, offer) => self.take_offer(from, ShardId(group), offer),
            Request::Piece(group, piece) => self.take_piece(from, ShardId(group), piece),
            Request::Install(group, vote) => self.install(from, ShardId(group), vote).await,
            Request::WouldLead(group) => match self.of(group) {
                Ok(_) => self.declines().map_or(Answer::Done, |why| Answer::Failed(why.to_owned())),
                Err(failed) => failed,
            },
        }
    }

    fn of(&self, group: u16) -> Result<&Group, Answer> {
        self.group(ShardId(group)).ok_or_else(|| Answer::Failed(format!("there is no shard {group} here")))
    }

    /// Has a batch ordered, if this node leads the shard.
    async fn propose(&self, shard: ShardId, payload: Bytes) -> Answer {
        let group = match self.of(shard.0) {
            Ok(group) => group,
            Err(failed) => return failed,
        };
        if self.pulse.is_full() {
            return Answer::Refused(Refusal::DiskFull);
        }
        let batch = Batch { time_ms: self.settings.clock.now_ms(), payload };
        match time::timeout(COMMIT_WITHIN, group.raft.client_write(batch)).await {
            Ok(Ok(written)) => match written.data.0 {
                Some(index) => Answer::Placed(index),
                None => Answer::Failed("Raft ordered something else".to_owned()),
            },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Answer::NotLeader(forward.leader_id)
            }
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => {
                Answer::Failed(format!("most of the nodes that keep shard {shard} did not answer in time"))
            }
        }
    }

    fn take_beat(&self, from: MemberId, beat: &Beat) -> Answer {
        if !self.directory().leads(self.me.0) {
            return Answer::NotLeader(self.directory().leader());
        }
        let mut roster = self.roster();
        roster.heard(from.0, Some(beat.incarnation), self.now());
        if from == self.me {
            // As often as it shows itself, it looks at the others.
            return Answer::Beat(roster.call(self.now()));
        }
        Answer::Beat(roster.known().clone())
    }

    /// A node says who it is: a new one that wants to come in, or a member that may have moved.
    async fn let_in(&self, from: MemberId, announcement: Announcement) -> Answer {
        if !self.directory().leads(self.me.0) {
            return self.whom_to_ask();
        }
        let Announcement { node, shards, cluster, has_log } = announcement;
        let because = |words: String| Answer::Refused(Refusal::Because(words));
        let own = self.groups.len() - 1;
        if usize::from(shards) != own {
            return because(format!("this room has {own} shards, the node is configured for {shards}"));
        }
        if cluster.is_some_and(|cluster| cluster != self.cluster.0) {
            return because("the node's data belongs to another founding of this room".to_owned());
        }
        let members = self.members();
        let known = members.get(&from.0);
        if known.is_none() && has_log {
            return self.removed(from).await;
        }
        if known.is_none()
            && let Some((other, _)) = members.iter().find(|(_, other)| other.name == node.name)
        {
            return because(format!(
                "the member {other:016x} has the same name, {:?}: it has to leave the room first",
                node.name
            ));
        }
        // Whoever tends the directory's group adds it, or describes it anew.
        self.announced().insert(from.0, Announced { node, was_member: known.is_some() });
        let mut roster = self.roster();
        roster.heard(from.0, None, self.now());
        let roster = roster.known().clone();
        Answer::Welcome(Welcome { cluster: self.cluster.0, members: members.into_iter().collect(), roster })
    }

    /// To a member that is not known. It throws away what it has when it hears that it was removed: so that is said only of a
    /// membership that is committed, by whoever leads beyond doubt.
    async fn removed(&self, member: MemberId) -> Answer {
        let committed = match committed(self.directory()).await {
            Answer::Committed(committed) => committed,
            Answer::NotLeader(_) => return self.whom_to_ask(),
            other => return other,
        };
        let metrics = self.directory().metrics();
        let stored = &metrics.membership_config;
        let is_committed = stored.log_id().is_some_and(|at| at.index < committed);
        if is_committed && stored.nodes().all(|(id, _)| *id != member.0) {
            return Answer::Refused(Refusal::Removed);
        }
        Answer::Failed("the room's members change at the moment".to_owned())
    }

    fn whom_to_ask(&self) -> Answer {
        let leader = self.directory().leader().filter(|leader| *leader != self.me.0);
        match leader.and_then(|leader| self.members().remove(&leader)) {
            Some(node) => Answer::Ask(node.address),
            None => Answer::Failed("the nodes of this room have no leader at the moment".to_owned()),
        }
    }

    /// A member is to go: from now on everybody who leads a group gives its votes to others.
    async fn dismiss_here(&self, member: u64) -> Answer {
        if !self.directory().leads(self.me.0) {
            return Answer::NotLeader(self.directory().leader());
        }
        let mut others = self.members();
        let Some(mut node) = others.remove(&member) else {
            return Answer::Refused(Refusal::NoSuchMember);
        };
        if node.leaving {
            return Answer::Done;
        }
        if others.values().all(|other| other.leaving) {
            return Answer::Refused(Refusal::Because(
                "it is the last member that stays, and the room would end with it: add another one first"
                    .to_owned(),
            ));
        }
        node.leaving = true;
        self.announced().remove(&member);
        let described = ChangeMembers::SetNodes([(member, node)].into());
        match time::timeout(COMMIT_WITHIN, self.directory().raft.change_membership(described, true)).await {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::Failed("a majority did not answer in time".to_owned()),
        }
    }

    fn take_offer(&self, from: MemberId, shard: ShardId, offer: Offer) -> Answer {
        match self.arrivals().offered(from, shard, offer) {
            Ok(wanted) => Answer::Wanted(wanted),
            Err(reason) => Answer::Failed(reason),
        }
    }

    fn take_piece(&self, from: MemberId, shard: ShardId, piece: Piece) -> Answer {
        match self.arrivals().arrived(from, shard, piece) {
            Ok(()) => Answer::Done,
            Err(reason) => Answer::Failed(reason),
        }
    }

    async fn install(&self, from: MemberId, shard: ShardId, vote: Vote) -> Answer {
        let group = match self.of(shard.0) {
            Ok(group) => group,
            Err(failed) => return failed,
        };
        let (index, place) = match self.arrivals().complete(from, shard) {
            Ok(arrived) => arrived,
            Err(reason) => return Answer::Failed(reason),
        };
        let installed = group.raft.install_full_snapshot(vote, snapshot(index, place)).await;
        or_failed(installed.map(|SnapshotResponse { vote, .. }| Answer::Installed(vote)))
    }
}

fn snapshot(index: Index, place: Place) -> SnapshotOf<Types, OnDisk> {
    let Place { last, membership } = place;
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: membership };
    SnapshotOf::<Types, OnDisk> { meta, snapshot: OnDisk(index) }
}

async fn append(group: &Group, rpc: AppendEntriesRequest<Types>) -> Answer {
    or_failed(group.raft.append_entries(rpc).await.map(Answer::Append))
}

/// Up to where the group is committed; a majority was asked.
async fn committed(group: &Group) -> Answer {
    match time::timeout(COMMIT_WITHIN, group.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
        Ok(Ok(linearizer)) => Answer::Committed(linearizer.read_log_id().index() + 1),
        Ok(Err(RaftError::APIError(_))) => Answer::NotLeader(group.leader()),
        Ok(Err(error)) => Answer::Failed(error.to_string()),
        Err(_) => Answer::Failed("a majority did not answer in time".to_owned()),
    }
}

fn or_failed<E: std::fmt::Display>(answer: Result<Answer, E>) -> Answer {
    answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}
