//! The thread around a shared log: hands appends to the store, reads what everybody appended, tells the followers.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    thread::JoinHandle,
    time::Duration,
};

use chat_state::ids::{Incarnation, Index, ShardId};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    inbox::{Inbox, Item, inbox},
    log::{Broken, SharedLog, Wanted, locked},
    store::{Beat, Extent, Reader, Store, StoreError, StoredEntry},
};
use crate::{
    follower::{Follower, FollowerId},
    handle::OnFatal,
    log::{AppendError, Durability, FollowError, Log, LogStatus, Reason, Request, Standing},
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
};

/// Bounds and paces.
#[derive(Clone, Debug)]
pub struct SharedOptions {
    /// Requests that may wait for the thread.
    pub queue_requests: usize,
    pub queue_bytes: usize,
    /// Bytes of requests in one append.
    pub append_bytes: usize,
    /// Bytes of entries kept ready for a follower; what it does not read in time it gets from the store.
    pub follower_bytes: usize,
    /// Bytes of entries after which a shard wants a snapshot.
    pub snapshot_bytes: u64,
    /// Between two signs of life.
    pub beat_every: Duration,
    /// Between two tries of what failed, at first.
    pub retry_every: Duration,
    /// Between two tries of what has failed for long.
    pub retry_at_most: Duration,
    /// A store that does not answer for so long is said to be out of reach.
    pub patience: Duration,
    /// A graceful stop waits so long for what was asked.
    pub settle_within: Duration,
    /// Who writes snapshots.
    pub savers: Savers,
    /// Why nothing is taken when the store does not answer.
    pub out_of_reach: Reason,
}

/// Who writes snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Savers {
    /// One node for all.
    Leader,
    /// Each for itself.
    EveryNode,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self {
            queue_requests: 64 << 10,
            queue_bytes: 16 << 20,
            append_bytes: 1 << 20,
            follower_bytes: 8 << 20,
            snapshot_bytes: 16 << 20,
            beat_every: Duration::from_secs(1),
            retry_every: Duration::from_millis(100),
            retry_at_most: Duration::from_millis(500),
            patience: Duration::from_secs(2),
            settle_within: Duration::from_secs(5),
            savers: Savers::Leader,
            out_of_reach: Reason::StoreUnreachable,
        }
    }
}

impl SharedOptions {
    /// Until the next try of what has failed for so long: soon after a short failure, which nobody should feel, and
    /// never later than a twentieth of it; but many nodes do not storm a store that takes its time to come back.
    pub(super) fn retry_after(&self, failing_for: Duration) -> Duration {
        (failing_for / 20).clamp(self.retry_every, self.retry_at_most)
    }
}

/// Fetched at once for a follower that lags.
const CATCH_UP_BYTES: usize = 1 << 20;

/// Batches that may be read ahead of what the thread has handed out.
const READ_AHEAD: usize = 4;

pub struct SharedLogHandle<S: Store> {
    inbox: Inbox,
    store: Arc<S>,
    status: Arc<Mutex<LogStatus>>,
    options: SharedOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Store> SharedLogHandle<S> {
    /// Starts the thread, on the runtime that the store's connections were made on. `extents` is what the store held
    /// a moment ago: what is in there must be followed from, or be in the snapshots that the node starts with.
    pub fn start(
        store: Arc<S>,
        extents: Vec<Extent>,
        runtime: tokio::runtime::Runtime,
        options: SharedOptions,
        on_fatal: OnFatal,
    ) -> io::Result<Self> {
        let (asking, items) = inbox();
        let after = extents.iter().map(|extent| extent.last).collect();
        let log = SharedLog::new(extents, options.clone());
        let status = log.shared_status();
        let thread = Thread {
            store: Arc::clone(&store),
            log,
            inbox: asking.clone(),
            options: options.clone(),
            started: Instant::now(),
            appends: FuturesUnordered::new(),
            pieces: FuturesUnordered::new(),
            saves: FuturesUnordered::new(),
            beating: None,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let outcome = runtime.block_on(thread.run(items, after));
            if let Err((thread, reason)) = outcome {
                thread.inbox.close();
                thread.log.break_down(&reason.as_str().into());
                on_fatal(&reason);
            }
            // Connections of the store may be in a call that does not end.
            runtime.shutdown_background();
        })?;
        Ok(Self { inbox: asking, store, status, options, thread: Mutex::new(Some(thread)) })
    }
}

impl<S: Store> Drop for SharedLogHandle<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S: Store> Log for SharedLogHandle<S> {
    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn follow(&self, from: BTreeMap<ShardId, Index>) -> Result<Follower, FollowError> {
        let (answer, result) = std_mpsc::sync_channel(1);
        if !self.inbox.push(Item::Follow { from, answer }) {
            return Err(FollowError::Stopped);
        }
        result.recv().unwrap_or(Err(FollowError::Stopped))
    }

    fn append(&self, from: FollowerId, shard: ShardId, requests: Vec<Request>) -> Result<(), AppendError> {
        self.inbox.ask(from, shard, requests, (self.options.queue_requests, self.options.queue_bytes))
    }

    fn begin(&self, incarnation: Incarnation) {
        // Stopped means that nobody will ask for anything under it.
        self.inbox.push(Item::Begin(incarnation));
    }

    fn save_snapshot(&self, snapshot: NewSnapshot) -> oneshot::Receiver<Result<Snapshot, SnapshotError>> {
        let (answer, result) = oneshot::channel();
        // If the thread has ended the answer is dropped with the item, and the asker learns that much.
        self.inbox.push(Item::Save { snapshot: Box::new(snapshot), answer });
        result
    }

    fn standing(&self) -> Standing {
        locked(&self.status).standing.clone()
    }

    fn status(&self) -> LogStatus {
        let mut status = locked(&self.status).clone();
        status.waiting += self.inbox.waiting();
        status.bytes = self.store.bytes();
        status.pinning = self.store.pinning();
        status.disk_busy_since_ms = self.store.disk_busy_since_ms();
        status
    }

    /// Where other nodes go on with the log, one of them writes the snapshots.
    fn wants_last_snapshots(&self) -> bool {
        self.options.savers == Savers::EveryNode
    }

    fn stop(&self) {
        self.inbox.close();
        self.inbox.push(Item::Stop);
        let thread = self.thread.lock().expect("stopping does not panic").take();
        if let Some(thread) = thread {
            // A panic of it was printed where it happened, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}

type Answered = (ShardId, u64, Result<Index, StoreError>);
type Piece = (Wanted, Result<Vec<StoredEntry>, StoreError>);
type Saved = (Result<Snapshot, SnapshotError>, oneshot::Sender<Result<Snapshot, SnapshotError>>);

struct Thread<S: Store> {
    store: Arc<S>,
    log: SharedLog,
    inbox: Inbox,
    options: SharedOptions,
    started: Instant,
    appends: FuturesUnordered<BoxFuture<'static, Answered>>,
    pieces: FuturesUnordered<BoxFuture<'static, Piece>>,
    saves: FuturesUnordered<BoxFuture<'static, Saved>>,
    beating: Option<BoxFuture<'static, Result<Beat, StoreError>>>,
}

impl<S: Store> Thread<S> {
    async fn run(
        mut self,
        items: mpsc::UnboundedReceiver<Item>,
        after: Vec<Index>,
    ) -> Result<(), (Self, Broken)> {
        match self.turns(items, after).await {
            Ok(()) => Ok(()),
            Err(reason) => Err((self, reason)),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn turns(
        &mut self,
        mut items: mpsc::UnboundedReceiver<Item>,
        after: Vec<Index>,
    ) -> Result<(), Broken> {
        let (batches, mut read) = mpsc::channel(READ_AHEAD);
        let reading = tokio::spawn(read_on(self.store.reader(after), batches, self.options.clone()));
        let mut beats = interval(self.options.beat_every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        let mut stop_by = None;
        loop {
            self.fetch();
            self.launch();
            if self.log.beats_at().is_some_and(|at| at <= self.now()) {
                self.beat();
            }
            if let Some(deadline) = stop_by
                && ((self.log.is_idle() && self.saves.is_empty()) || Instant::now() >= deadline)
            {
                reading.abort();
                self.leave().await;
                return Ok(());
            }
            let tries_at = [self.log.launches_at(), self.log.beats_at()];
            let tries_at = tries_at.into_iter().flatten().map(|at| self.started + at);
            let wake_at = tries_at.chain(stop_by).min();
            tokio::select! {
                biased;
                batch = read.recv() => match batch {
                    Some(batch) => self.log.read(batch, self.now())?,
                    None => return Err("the reader of the store ended".to_owned()),
                },
                Some((shard, number, result)) = self.appends.next() => {
                    self.log.answered(shard, number, &result, self.now())?;
                }
                count = items.recv_many(&mut taken, 1024), if stop_by.is_none() => {
                    if count == 0 {
                        stop_by = Some(Instant::now() + self.options.settle_within);
                    }
                    for item in taken.drain(..) {
                        if matches!(item, Item::Stop) {
                            stop_by = Some(Instant::now() + self.options.settle_within);
                        }
                        self.on_item(item);
                    }
                }
                Some((wanted, result)) = self.pieces.next() => self.log.given(wanted, result)?,
                Some((result, answer)) = self.saves.next() => {
                    if let Ok(saved) = &result {
                        self.log.saved(saved);
                    }
                    // Who asked may have gone.
                    let _ = answer.send(result);
                }
                result = wait(&mut self.beating), if self.beating.is_some() => {
                    self.beating = None;
                    self.log.beaten(result, self.now())?;
                    self.log.pinned(self.store.pinning());
                }
                _ = beats.tick() => self.beat(),
                // What is due now is done at the top of the loop.
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
    }

    async fn leave(&self) {
        let Some(incarnation) = self.log.incarnation() else { return };
        let left = tokio::time::timeout(self.options.patience, self.store.leave(incarnation)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::info!("the store could not be told that this node ends; it will be missed");
        }
    }

    fn on_item(&mut self, item: Item) {
        match item {
            Item::Ask { from, shard, requests, bytes } => {
                self.inbox.taken(requests.len(), bytes);
                self.log.ask(from, shard, requests);
            }
            Item::Begin(incarnation) => {
                self.log.begin(incarnation);
                self.beat();
            }
            Item::Follow { from, answer } => {
                let inbox = self.inbox.clone();
                let follower = self.log.follow(&from, move || {
                    inbox.push(Item::Room);
                });
                // Who asked waits for this; if it has gone, so has its follower.
                let _ = answer.send(follower);
            }
            Item::Save { snapshot, answer } => {
                if let Err(error) = self.log.may_save(&snapshot) {
                    let _ = answer.send(Err(error));
                    return;
                }
                let store = Arc::clone(&self.store);
                self.saves.push(async move { (store.save(&snapshot).await, answer) }.boxed());
            }
            // The next look for who is behind finds it.
            Item::Room | Item::Stop => {}
        }
    }

    /// Sends the next append of every shard that has none on its way.
    fn launch(&mut self) {
        for launch in self.log.launches(self.now()) {
            let store = Arc::clone(&self.store);
            self.appends.push(
                async move {
                    (launch.shard, launch.number, store.append(launch.shard, launch.payload).await)
                }
                .boxed(),
            );
        }
    }

    fn beat(&mut self) {
        self.log.beats();
        if let Some(incarnation) = self.log.incarnation()
            && self.beating.is_none()
        {
            let store = Arc::clone(&self.store);
            self.beating = Some(async move { store.beat(incarnation).await }.boxed());
        }
    }

    fn fetch(&mut self) {
        for wanted in self.log.wanted() {
            let store = Arc::clone(&self.store);
            let retry = self.options.retry_every;
            self.pieces.push(
                async move {
                    let result = store.range(wanted.shard, wanted.after, CATCH_UP_BYTES).await;
                    if matches!(result, Err(StoreError::Unavailable(_))) {
                        tokio::time::sleep(retry).await;
                    }
                    (wanted, result)
                }
                .boxed(),
            );
        }
    }
}

/// Waits for what is there; never called without.
async fn wait<T>(pending: &mut Option<BoxFuture<'static, T>>) -> T {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}

/// Reads for as long as the thread listens.
async fn read_on<R: Reader>(
    mut reader: R,
    batches: mpsc::Sender<Result<Vec<StoredEntry>, StoreError>>,
    options: SharedOptions,
) {
    let mut failing_since = None;
    loop {
        let read = reader.next().await;
        if read.is_ok() {
            failing_since = None;
        } else {
            failing_since = failing_since.or_else(|| Some(Instant::now()));
        }
        if batches.send(read).await.is_err() {
            return;
        }
        if let Some(since) = failing_since {
            tokio::time::sleep(options.retry_after(since.elapsed())).await;
        }
    }
}
