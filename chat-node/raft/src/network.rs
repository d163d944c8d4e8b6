//! The way of Raft's own messages from a group to the same group on another node.

use std::{io, marker::PhantomData, time::Duration};

use bytes::Bytes;
use chat_log::snapshot::SnapshotStore;
use chat_state::ids::{MemberId, ShardId};
use futures::{Stream, StreamExt, stream};
use openraft::{
    AnyError, AsyncRuntime, OptionalSend,
    base::{BoxFuture, BoxStream},
    entry::RaftEntry,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};

use crate::{
    machine::OnDisk,
    messages::{Answer, Request, decode, encode},
    peers::{CallError, Peers},
    transfer,
    types::{Types, Vote},
};

/// Appends that may be on their way to a node at a time.
const PIPELINE: usize = 64;

/// A whole snapshot, and each piece of it.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(10);

/// Makes the connections of a group.
#[derive(Clone)]
pub struct Network {
    group: u16,
    me: u64,
    peers: Peers,
    store: SnapshotStore,
}

impl Network {
    pub fn new(group: u16, me: MemberId, peers: Peers, store: SnapshotStore) -> Self {
        Self { group, me: me.0, peers, store }
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Network {
    type Network = Line<R>;

    async fn new_client(&mut self, target: u64, _: &crate::types::PeerNode) -> Line<R> {
        Line {
            group: self.group,
            me: self.me,
            target: MemberId(target),
            peers: self.peers.clone(),
            store: self.store.clone(),
            runtime: PhantomData,
        }
    }
}

/// From a group to the same group of one other node.
pub struct Line<R> {
    group: u16,
    me: u64,
    target: MemberId,
    peers: Peers,
    store: SnapshotStore,
    runtime: PhantomData<fn() -> R>,
}

impl<R: AsyncRuntime> Line<R> {
    /// Sent when this is called, not when it is awaited.
    fn ask(
        &self,
        request: &Request<R>,
        rpc: RPCTypes,
        within: Duration,
    ) -> impl Future<Output = Result<Answer<R>, RPCError<Types<R>>>> + Send + use<R> {
        let answer = self.peers.call(self.target, encode(request), within);
        let (id, target) = (self.me, self.target.0);
        async move {
            match answer.await {
                Ok(bytes) => decode(&bytes).map_err(|error| network_error(&error)),
                Err(error) => Err(in_rafts_words(&error, rpc, id, target, within)),
            }
        }
    }

    async fn vote_of(
        &self,
        request: &Request<R>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        match self.ask(request, RPCTypes::Vote, option.hard_ttl()).await? {
            Answer::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }
}

fn in_rafts_words<R: AsyncRuntime>(
    error: &CallError,
    action: RPCTypes,
    id: u64,
    target: u64,
    timeout: Duration,
) -> RPCError<Types<R>> {
    match error {
        // Whoever was not reached is tried again later, not at once.
        CallError::Unreachable(_) | CallError::Refused(_) => Unreachable::new(error).into(),
        CallError::Lost(_) => NetworkError::new(error).into(),
        CallError::TimedOut => Timeout { action, id, target, timeout }.into(),
    }
}

fn network_error<R: AsyncRuntime>(what: &str) -> RPCError<Types<R>> {
    NetworkError::new(&AnyError::error(what)).into()
}

fn unexpected<R: AsyncRuntime>(answer: &Answer<R>) -> RPCError<Types<R>> {
    match answer {
        // Its group has not started, or has ended.
        Answer::Failed(what) => Unreachable::new(&AnyError::error(what)).into(),
        other => network_error(&format!("an answer to something else: {other:?}")),
    }
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Line<R> {
    type SnapshotData = OnDisk;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        let request = Request::Append(self.group, rpc);
        match self.ask(&request, RPCTypes::AppendEntries, option.hard_ttl()).await? {
            Answer::Append(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// Many at a time: each is sent as soon as there is something to send, and answered in order. After a failure nothing
    /// more is sent, since what follows would not fit.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>>, RPCError<Types<R>>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + OptionalSend + Unpin + 'static,
    {
        let within = option.hard_ttl();
        let line = &*self;
        let answers = input
            .map(move |rpc| {
                let previous = rpc.prev_log_id;
                let last = rpc.entries.last().map(RaftEntry::log_id).or(previous);
                let answer = line.ask(&Request::Append(line.group, rpc), RPCTypes::AppendEntries, within);
                async move {
                    let response = match answer.await? {
                        Answer::Append(response) => response,
                        other => return Err(unexpected(&other)),
                    };
                    let partial =
                        matches!(&response, AppendEntriesResponse::PartialSuccess(upto) if *upto != last);
                    Ok((response.into_stream_result(previous, last), partial))
                }
            })
            .buffered(PIPELINE);
        let until_failure = stream::unfold(Some(Box::pin(answers)), |answers| async move {
            let mut answers = answers?;
            let (result, ends) = match answers.next().await? {
                Ok((result, partial)) => {
                    let ends = partial || result.is_err();
                    (Ok(result), ends)
                }
                Err(error) => (Err(error), true),
            };
            Some((result, (!ends).then_some(answers)))
        });
        let until_failure: BoxStream<'s, _> = Box::pin(until_failure);
        Box::pin(async move { Ok(until_failure) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        self.vote_of(&Request::Vote(self.group, rpc), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        self.vote_of(&Request::PreVote(self.group, rpc), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types<R>, OnDisk>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let OnDisk(index) = snapshot.snapshot;
        let (peers, target, group) = (self.peers.clone(), self.target, self.group);
        let call = move |request: &Request<R>| {
            let answer = peers.call(target, encode(request), SNAPSHOT_WITHIN);
            async move {
                let bytes: Bytes = answer.await.map_err(|error| error.to_string())?;
                decode::<Answer<R>>(&bytes)
            }
        };
        let sending = transfer::send(&self.store, ShardId(group), index, vote, call);
        futures::pin_mut!(sending);
        futures::pin_mut!(cancel);
        match futures::future::select(sending, cancel).await {
            futures::future::Either::Left((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            futures::future::Either::Left((Err(reason), _)) => {
                tracing::warn!(group, member = %target, reason, "a snapshot could not be sent");
                Err(Unreachable::new(&io::Error::other(reason)).into())
            }
            futures::future::Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let request = Request::TransferLeader(self.group, rpc);
        match self.ask(&request, RPCTypes::TransferLeader, option.hard_ttl()).await? {
            Answer::TransferLeader(Ok(())) => Ok(Ok(())),
            Answer::TransferLeader(Err(reason)) => Err(network_error(&reason)),
            other => Err(unexpected(&other)),
        }
    }
}
