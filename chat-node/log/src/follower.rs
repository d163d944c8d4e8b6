//! One worker's stream of what the log has to tell it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use crate::log::Delivery;

/// Numbers the followers of one log; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);

/// The receiving end. Dropping it ends the following.
///
/// The log keeps at most a bounded number of bytes ready for a follower. One that reads more slowly is told of the
/// entries from the disk once it has caught up; nothing is left out, and nobody else waits for it.
#[derive(Debug)]
pub struct Follower {
    id: FollowerId,
    deliveries: mpsc::UnboundedReceiver<Queued>,
    backlog: Arc<Backlog>,
}

/// What waits in the channel, as both ends see it. The channel itself has no bound: what is put into it has.
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    /// The log stopped sending entries and wants to hear when there is room again.
    starved: AtomicBool,
    room: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backlog").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Queued {
    delivery: Delivery,
    weight: usize,
}

/// The log's end.
#[derive(Debug)]
pub(crate) struct Sender {
    deliveries: mpsc::UnboundedSender<Queued>,
    backlog: Arc<Backlog>,
}

#[derive(Debug)]
pub(crate) struct Gone;

/// Makes both ends; `room` is called when a starved follower has room again.
pub(crate) fn channel(id: FollowerId, room: impl Fn() + Send + Sync + 'static) -> (Sender, Follower) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog {
        bytes: AtomicUsize::new(0),
        starved: AtomicBool::new(false),
        room: Box::new(room),
    });
    (
        Sender { deliveries: sender, backlog: Arc::clone(&backlog) },
        Follower { id, deliveries: receiver, backlog },
    )
}

impl Follower {
    pub fn id(&self) -> FollowerId {
        self.id
    }

    /// The next delivery; `None` when the log has stopped. Safe to drop half way.
    pub async fn next(&mut self) -> Option<Delivery> {
        let queued = self.deliveries.recv().await;
        self.taken(queued)
    }

    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.deliveries.poll_recv(context).map(|queued| self.taken(queued))
    }

    /// What is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let queued = self.deliveries.try_recv().ok();
        self.taken(queued)
    }

    /// Nothing is there at the moment.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// The next delivery, for threads without a runtime.
    pub fn blocking_next(&mut self) -> Option<Delivery> {
        let queued = self.deliveries.blocking_recv();
        self.taken(queued)
    }

    fn taken(&self, queued: Option<Queued>) -> Option<Delivery> {
        let Queued { delivery, weight } = queued?;
        let before = self.backlog.bytes.fetch_sub(weight, Ordering::SeqCst);
        // All read: less often than at every delivery, and soon enough to keep the worker busy from the channel.
        if before == weight && self.backlog.starved.swap(false, Ordering::SeqCst) {
            (self.backlog.room)();
        }
        Some(delivery)
    }
}

impl Sender {
    pub(crate) fn send(&self, delivery: Delivery, weight: usize) -> Result<(), Gone> {
        self.backlog.bytes.fetch_add(weight, Ordering::SeqCst);
        self.deliveries.send(Queued { delivery, weight }).map_err(|_| Gone)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.deliveries.is_closed()
    }

    /// Bytes that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.bytes.load(Ordering::SeqCst)
    }

    /// Asks to be told when everything was read. False when it already is, so that there is nobody to tell.
    pub(crate) fn starve(&self) -> bool {
        self.backlog.starved.store(true, Ordering::SeqCst);
        if self.backlog() == 0 {
            self.backlog.starved.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }
}
