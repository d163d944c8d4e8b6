//! What waits for the log's thread: requests, bounded in number and bytes, and the few other things it is asked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use chat_state::ids::{Incarnation, Index, ShardId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    follower::{Follower, FollowerId},
    log::{AppendError, FollowError, Request},
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
    weight::weight,
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
        from: std::collections::BTreeMap<ShardId, Index>,
        answer: std::sync::mpsc::SyncSender<Result<Follower, FollowError>>,
    },
    Save {
        snapshot: Box<NewSnapshot>,
        answer: oneshot::Sender<Result<Snapshot, SnapshotError>>,
    },
    /// A follower that was too slow has room again.
    Room,
    Stop,
}

/// The asking end; cheap to clone.
#[derive(Clone)]
pub(super) struct Inbox {
    items: mpsc::UnboundedSender<Item>,
    load: Arc<Load>,
}

/// What was asked and is not settled yet.
#[derive(Default)]
pub(super) struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
}

pub(super) fn inbox() -> (Inbox, mpsc::UnboundedReceiver<Item>) {
    let (items, receiver) = mpsc::unbounded_channel();
    (Inbox { items, load: Arc::default() }, receiver)
}

impl Inbox {
    pub(super) fn ask(
        &self,
        from: FollowerId,
        shard: ShardId,
        requests: Vec<Request>,
        (max_requests, max_bytes): (usize, usize),
    ) -> Result<(), AppendError> {
        if requests.is_empty() {
            return Ok(());
        }
        if self.load.closed.load(Ordering::Acquire) {
            return Err(AppendError::Stopped(requests));
        }
        let bytes: usize = requests.iter().map(weight).sum();
        let waiting = self.load.requests.load(Ordering::Relaxed);
        let fits = waiting + requests.len() <= max_requests
            && self.load.bytes.load(Ordering::Relaxed) + bytes <= max_bytes;
        // One that is larger than all that may wait is for the lanes to refuse.
        if !fits && waiting > 0 {
            return Err(AppendError::Overloaded(requests));
        }
        self.load.requests.fetch_add(requests.len(), Ordering::Relaxed);
        self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.items.send(Item::Ask { from, shard, requests, bytes }).map_err(|back| match back.0 {
            Item::Ask { requests, .. } => AppendError::Stopped(requests),
            _ => AppendError::Stopped(Vec::new()),
        })
    }

    /// False when nobody listens any more.
    pub(super) fn push(&self, item: Item) -> bool {
        self.items.send(item).is_ok()
    }

    /// Requests left the inbox.
    pub(super) fn taken(&self, requests: usize, bytes: usize) {
        self.load.requests.fetch_sub(requests, Ordering::Relaxed);
        self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.load.closed.store(true, Ordering::Release);
    }

    pub(super) fn waiting(&self) -> usize {
        self.load.requests.load(Ordering::Relaxed)
    }
}
