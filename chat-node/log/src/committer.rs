//! What the storage thread does with the requests of one turn, without the thread: stamps them, commits them
//! together, and sorts out what is refused. The simulation runs this; [`crate::handle`] puts a thread around it.

use std::collections::BTreeMap;

use chat_state::{
    command::{ChannelCommand, Command, CommonCommand, DirectoryCommand},
    entry::Proposal,
    ids::{Incarnation, ShardId},
};

use crate::{
    follower::FollowerId,
    local::{CommitError, LocalLog},
    log::{CommittedBatch, Reason, Request},
    producer::{NotRegistered, Producer, UNSTAMPED},
    wal::{Space, WalError},
    weight::weight,
};

/// Largest request: far above what a client's line makes, far below what a segment holds.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A request and who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub from: FollowerId,
    pub shard: ShardId,
    pub request: Request,
}

/// What became of the requests of a turn: each is in one of the two.
#[derive(Debug, Default)]
pub struct Turn {
    pub committed: Option<CommittedBatch>,
    pub refused: Vec<(Asked, Reason)>,
    /// Whether the log is read-only now, if that changed.
    pub read_only: Option<bool>,
}

pub struct Committer {
    log: LocalLog,
    producer: Producer,
    read_only: bool,
}

impl Committer {
    pub fn new(log: LocalLog) -> Self {
        Self { log, producer: Producer::new(), read_only: false }
    }

    pub fn log(&self) -> &LocalLog {
        &self.log
    }

    pub fn log_mut(&mut self) -> &mut LocalLog {
        &mut self.log
    }

    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// The node's life began.
    pub fn begin(&mut self, incarnation: Incarnation) {
        // A local log knows the fate of everything by the end of its turn.
        let open = self.producer.begin(incarnation);
        assert!(open.is_empty(), "requests are in flight between two turns of a local log");
    }

    /// Commits what was asked, in order. An error is final: the fate of all of it is unknown.
    pub fn commit(&mut self, asked: Vec<Asked>, now_ms: u64) -> Result<Turn, WalError> {
        let mut turn = Turn::default();
        let asked = self.sift(asked, &mut turn);
        if !self.read_only {
            let Some(back) = self.attempt(asked, Space::Ordinary, now_ms, &mut turn)? else {
                return Ok(turn);
            };
            self.read_only = true;
            turn.read_only = Some(true);
            return self.commit_chores(back, now_ms, turn);
        }
        self.commit_chores(asked, now_ms, turn)
    }

    /// Whether there is space again. Called every now and then while read-only.
    pub fn probe(&mut self) -> Result<Option<bool>, WalError> {
        if !self.read_only {
            return Ok(None);
        }
        match self.log.probe_space() {
            Ok(()) => {
                self.read_only = false;
                Ok(Some(false))
            }
            Err(CommitError::Full) => Ok(None),
            Err(CommitError::Fatal(error)) => Err(error),
        }
    }

    /// Leaves out what can never be committed.
    fn sift(&self, asked: Vec<Asked>, turn: &mut Turn) -> Vec<Asked> {
        let shards = self.log.identity().shards;
        let mut good = Vec::with_capacity(asked.len());
        for ask in asked {
            if ask.shard.0 > shards {
                turn.refused.push((ask, Reason::NoSuchShard));
            } else if weight(&ask.request) > MAX_REQUEST_BYTES {
                turn.refused.push((ask, Reason::TooLarge));
            } else {
                good.push(ask);
            }
        }
        good
    }

    /// On a full disk: only what must go on for the state to stay true, in space that is kept for it.
    fn commit_chores(&mut self, asked: Vec<Asked>, now_ms: u64, mut turn: Turn) -> Result<Turn, WalError> {
        let (chores, others): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|ask| is_chore(&ask.request.command));
        turn.refused.extend(others.into_iter().map(|ask| (ask, Reason::DiskFull)));
        if let Some(back) = self.attempt(chores, Space::Reserved, now_ms, &mut turn)? {
            turn.refused.extend(back.into_iter().map(|ask| (ask, Reason::DiskFull)));
        }
        Ok(turn)
    }

    /// One try to commit all of it. Gives it back when the disk is full.
    fn attempt(
        &mut self,
        asked: Vec<Asked>,
        space: Space,
        now_ms: u64,
        turn: &mut Turn,
    ) -> Result<Option<Vec<Asked>>, WalError> {
        let mut batches: BTreeMap<ShardId, Vec<Proposal>> = BTreeMap::new();
        let mut registrations = Vec::new();
        for Asked { from, shard, request } in asked {
            match self.producer.stamp(shard, from, request) {
                Ok(proposal) => {
                    if proposal.producer == UNSTAMPED {
                        registrations.push(Asked { from, shard, request: request_of(proposal.clone()) });
                    }
                    batches.entry(shard).or_default().push(proposal);
                }
                Err(NotRegistered(request)) => {
                    let request = *request;
                    turn.refused.push((Asked { from, shard, request }, Reason::NotRegistered));
                }
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let shards: Vec<_> = batches.keys().copied().collect();
        match self.log.commit(batches.into_iter().collect(), space, now_ms) {
            Ok(entries) => {
                for (shard, entry) in &entries {
                    if let Some(last) =
                        entry.proposals.iter().rfind(|proposal| proposal.producer != UNSTAMPED)
                    {
                        self.producer.applied(*shard, last.producer);
                    }
                }
                turn.committed = Some(entries.into());
                Ok(None)
            }
            Err(CommitError::Full) => {
                // Nothing else is in flight, so all of the stream can be taken back.
                let mut back = registrations;
                for shard in shards {
                    back.extend(self.producer.take_back(shard, 1).into_iter().map(|open| Asked {
                        from: open.from,
                        shard,
                        request: request_of(open.proposal),
                    }));
                }
                Ok(Some(back))
            }
            Err(CommitError::Fatal(error)) => Err(error),
        }
    }
}

pub(crate) fn request_of(proposal: Proposal) -> Request {
    let Proposal { origin, dir_at, command, .. } = proposal;
    Request { origin, dir_at, command }
}

/// What must get through when the disk is full: it ends things, or is what the node cannot start without. It is
/// little, and it is bounded by what there is to end.
pub(crate) fn is_chore(command: &Command) -> bool {
    match command {
        Command::Common(CommonCommand::DropNode(_)) => true,
        Command::Directory(command) => matches!(
            command,
            DirectoryCommand::RegisterNode { .. }
                | DirectoryCommand::Detach { .. }
                | DirectoryCommand::ConfirmToken { .. }
                | DirectoryCommand::Close { .. }
                | DirectoryCommand::Expire { .. }
                | DirectoryCommand::Free { .. }
        ),
        Command::Channel(command) => matches!(command, ChannelCommand::Forget { .. }),
        Command::Common(_) => false,
    }
}
