//! What Raft is told of this program: which types its logs, votes and members are made of.

use std::{cmp::Ordering, fmt, marker::PhantomData};

use bytes::Bytes;
use chat_state::ids::Index;
use openraft::{
    AsyncRuntime, RaftTypeConfig,
    impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_std},
};
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};

/// The types of a group. `R` runs its tasks: tokio, or a simulation.
pub struct Types<R = TokioRuntime>(PhantomData<fn() -> R>);

impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// At most one leader a term: a log id is a term and an index, as the write-ahead log keeps them.
pub type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub type Vote = openraft::impls::Vote<LeaderId>;
pub type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Types>;
pub type LogId = openraft::LogId<CommittedLeaderId>;
pub type Payload = openraft::EntryPayload<Batch, u64, PeerNode>;
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub type Membership = openraft::Membership<u64, PeerNode>;
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, PeerNode>;
pub type SnapshotMeta = openraft::storage::SnapshotMeta<CommittedLeaderId, u64, PeerNode>;

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Batch;
    type R = Placed;
    type NodeId = u64;
    type Node = PeerNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// Proposals that a node appends together; what they mean is not Raft's business.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// By the clock of the leader that ordered it.
    pub time_ms: u64,
    /// [`chat_state::entry::Entry::encode_proposals`].
    pub payload: Bytes,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.payload.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.payload.len())
    }
}

/// Where a batch came to stand: the entries of a shard are counted without those that Raft makes for itself, so that
/// theirs are 1..n as in every other kind of log. `None` for what is not an entry of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed(pub Option<Index>);

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "entry {index}"),
            None => f.write_str("no entry"),
        }
    }
}

/// A node among those that keep the log, as its memberships name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    /// No two members have the same.
    pub name: String,
    /// `HOST:PORT` where the others reach it.
    pub address: String,
    /// The machine it runs on, and that one's zone; empty where nothing is known.
    pub host: String,
    pub zone: String,
    /// It is to give its shards to others, and to go.
    pub leaving: bool,
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}
