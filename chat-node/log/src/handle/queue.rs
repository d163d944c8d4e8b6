//! What waits for the storage thread.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, mpsc::SyncSender},
    time::Duration,
};

use chat_state::ids::{Incarnation, Index, ShardId};
use tokio::sync::oneshot;

use crate::{
    follower::{Follower, FollowerId},
    log::{AppendError, FollowError, Request},
    snapshot::{Snapshot, SnapshotError},
};

pub(super) enum Item {
    Ask {
        from: FollowerId,
        shard: ShardId,
        requests: Vec<Request>,
        bytes: usize,
    },
    Begin(Incarnation),
    Follow {
        from: BTreeMap<ShardId, Index>,
        answer: SyncSender<Result<Follower, FollowError>>,
    },
    /// A snapshot is durable: let go of what it covers, then answer.
    Trim {
        saved: Snapshot,
        answer: oneshot::Sender<Result<Snapshot, SnapshotError>>,
    },
}

/// Requests are bounded in number and bytes; the other items by the few that make them.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_requests: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    requests: usize,
    bytes: usize,
    /// A follower that was too slow has room again.
    room: bool,
    /// The storage thread sleeps.
    asleep: bool,
    closed: bool,
}

/// What the storage thread got.
pub(super) struct Taken {
    pub items: Vec<Item>,
    /// Nothing more will come after these.
    pub closed: bool,
}

impl Queue {
    pub(super) fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max_requests, max_bytes }
    }

    pub(super) fn ask(
        &self,
        from: FollowerId,
        shard: ShardId,
        requests: Vec<Request>,
        bytes: usize,
    ) -> Result<(), AppendError> {
        if requests.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        if state.closed {
            return Err(AppendError::Stopped(requests));
        }
        let fits =
            state.requests + requests.len() <= self.max_requests && state.bytes + bytes <= self.max_bytes;
        // One that is larger than the queue by itself is for the committer to refuse.
        if !fits && state.requests > 0 {
            return Err(AppendError::Overloaded(requests));
        }
        state.requests += requests.len();
        state.bytes += bytes;
        state.items.push_back(Item::Ask { from, shard, requests, bytes });
        self.wake(state);
        Ok(())
    }

    /// False when the queue is closed.
    pub(super) fn push(&self, item: Item) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.items.push_back(item);
        self.wake(state);
        true
    }

    pub(super) fn room(&self) {
        let mut state = self.lock();
        state.room = true;
        self.wake(state);
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Closes and forgets what waits; for when the log broke.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().requests
    }

    /// What waits, up to so many bytes of requests. Sleeps when there is nothing, at most `timeout`.
    pub(super) fn take(&self, max_bytes: usize, timeout: Option<Duration>) -> Taken {
        let mut state = self.lock();
        if state.items.is_empty() && !state.closed && !state.room {
            state.asleep = true;
            state = match timeout {
                Some(timeout) => {
                    let waited = self.changed.wait_timeout_while(state, timeout, |state| state.idle());
                    waited.expect("no thread panics while it holds the queue").0
                }
                None => {
                    let waited = self.changed.wait_while(state, |state| state.idle());
                    waited.expect("no thread panics while it holds the queue")
                }
            };
            state.asleep = false;
        }
        state.room = false;
        let mut items = Vec::new();
        let mut taken_bytes = 0;
        while let Some(item) = state.items.pop_front() {
            if let Item::Ask { requests, bytes, .. } = &item {
                if taken_bytes > 0 && taken_bytes + bytes > max_bytes {
                    state.items.push_front(item);
                    break;
                }
                taken_bytes += bytes;
                state.requests -= requests.len();
                state.bytes -= bytes;
            }
            items.push(item);
        }
        Taken { closed: state.closed && state.items.is_empty(), items }
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let asleep = state.asleep;
        drop(state);
        // A wake-up is a system call: only for who sleeps.
        if asleep {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the queue")
    }
}

impl State {
    fn idle(&self) -> bool {
        self.items.is_empty() && !self.closed && !self.room
    }
}
