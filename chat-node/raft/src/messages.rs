//! What nodes say to each other. Postcard, without names: the version of all of it is in the hello of a connection.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chat_log::{
    identity::ClusterId,
    snapshot::{ChunkRef, SnapshotMeta as ShardMeta},
};
use chat_state::ids::{Incarnation, Index};
use openraft::{
    AsyncRuntime,
    raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::types::{PeerNode, Types, Vote};

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Request<R: AsyncRuntime> {
    Append(u16, AppendEntriesRequest<Types<R>>),
    Vote(u16, VoteRequest<Types<R>>),
    PreVote(u16, VoteRequest<Types<R>>),
    TransferLeader(u16, TransferLeaderRequest<Types<R>>),
    /// To be ordered by the group's leader.
    Propose(u16, Bytes),
    /// To the directory's leader, about every second.
    Beat(Beat),
    /// To the directory's leader: this life ends in good order.
    Farewell(Incarnation),
    /// To the directory's leader, before anything else and every now and then.
    Announce(Announcement),
    /// To the directory's leader: this member is to go.
    Dismiss(u64),
    /// Up to where a group's leader has committed.
    Committed(u16),
    /// A snapshot on its way: what it is, then its chunks and its state in pieces, then that it is to be installed.
    Offer(u16, Offer),
    Piece(u16, Piece),
    Install(u16, Vote),
    /// Whether this node would take over the lead of a group. Asked first: a leader that has begun to hand over takes nothing
    /// more, even when the other does not want it.
    WouldLead(u16),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Answer<R: AsyncRuntime> {
    Append(AppendEntriesResponse<Types<R>>),
    Vote(VoteResponse<Types<R>>),
    TransferLeader(Result<(), String>),
    /// The entry that it is.
    Placed(Index),
    Beat(Roster),
    Done,
    Welcome(Welcome),
    /// Raft's index of the last entry that is known to be committed, plus one; 0 when there is none.
    Committed(u64),
    /// These chunks are not here.
    Wanted(Vec<ChunkRef>),
    Installed(Vote),
    /// Another member leads, if anybody does.
    NotLeader(Option<u64>),
    /// Whoever answers at this address leads.
    Ask(String),
    /// It was not done, and will not be.
    Refused(Refusal),
    /// What came of it nobody knows; or this node cannot do it now.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    DiskFull,
    /// The member left the room at some time, and cannot come back as what it was.
    Removed,
    /// There is no such member.
    NoSuchMember,
    /// In words, for whoever runs the node.
    Because(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beat {
    pub incarnation: Incarnation,
}

/// Who is there, as the directory's leader heard of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The lives that serve, and whose they are.
    pub lives: BTreeMap<u64, Incarnation>,
    /// Members that were heard of lately, whether they serve or not.
    pub members: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub node: PeerNode,
    pub shards: u16,
    /// The room let it in before.
    pub cluster: Option<u64>,
    /// Its logs hold something: whoever has this and is in no membership was removed.
    pub has_log: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    pub cluster: u64,
    /// Everybody in the directory's membership.
    pub members: Vec<(u64, PeerNode)>,
    pub roster: Roster,
}

impl Welcome {
    pub fn cluster(&self) -> ClusterId {
        ClusterId(self.cluster)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    pub meta: ShardMeta,
    pub place: Vec<u8>,
    pub chunks: Vec<ChunkRef>,
    pub state_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// `None`: of the state.
    pub chunk: Option<ChunkRef>,
    pub offset: u64,
    pub bytes: Bytes,
}

pub fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_allocvec(message).expect("writing to memory does not fail").into()
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| format!("a message of another node cannot be read: {error}"))
}
