//! The thread around a shared log: hands appends to the store, reads what everybody appended, tells the followers.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, mpsc as std_mpsc},
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
    followers::{Followers, Wanted},
    inbox::{Inbox, Item, inbox},
    lanes::{Answer, Lanes},
    store::{Beat, Extent, Reader, Store, StoreError, StoredEntry},
};
use crate::{
    committer::Asked,
    follower::{Follower, FollowerId},
    handle::OnFatal,
    log::{
        AppendError, CommittedBatch, Delivery, Durability, FollowError, Log, LogStatus, Reason, Request,
        ShardLogStatus, Standing,
    },
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
    weight::weight,
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
    /// Between two tries of what failed.
    pub retry_every: Duration,
    /// A store that does not answer for so long is said to be out of reach.
    pub patience: Duration,
    /// A graceful stop waits so long for what was asked.
    pub settle_within: Duration,
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
            retry_every: Duration::from_millis(250),
            patience: Duration::from_secs(2),
            settle_within: Duration::from_secs(5),
        }
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
        let status =
            Arc::new(Mutex::new(LogStatus { shards: shard_status(&extents), ..LogStatus::default() }));
        let thread = Thread {
            store: Arc::clone(&store),
            lanes: Lanes::new(extents.iter().map(|extent| extent.last), options.append_bytes),
            followers: Followers::default(),
            grown: vec![0; extents.len()],
            extents,
            inbox: asking.clone(),
            status: Arc::clone(&status),
            options: options.clone(),
            appends: FuturesUnordered::new(),
            pieces: FuturesUnordered::new(),
            saves: FuturesUnordered::new(),
            beating: None,
            launch_at: None,
            silent_since: None,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let outcome = runtime.block_on(thread.run(items));
            if let Err((thread, reason)) = outcome {
                thread.inbox.close();
                let told: Arc<str> = reason.as_str().into();
                locked(&thread.status).fatal = Some(Arc::clone(&told));
                thread.followers.tell_all(&Delivery::Fatal(told));
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
        status
    }

    /// Other nodes go on with the log, and one of them writes the snapshots.
    fn wants_last_snapshots(&self) -> bool {
        false
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

fn locked(status: &Mutex<LogStatus>) -> MutexGuard<'_, LogStatus> {
    status.lock().expect("no thread panics while it holds the status")
}

fn shard_status(extents: &[Extent]) -> BTreeMap<ShardId, ShardLogStatus> {
    (0..)
        .zip(extents)
        .map(|(shard, Extent { first, last, snapshot })| {
            (ShardId(shard), ShardLogStatus { first: *first, last: *last, snapshot: *snapshot })
        })
        .collect()
}

type Answered = (ShardId, u64, Result<Index, StoreError>);
type Piece = (Wanted, Result<Vec<StoredEntry>, StoreError>);
type Saved = (ShardId, Result<Snapshot, SnapshotError>, oneshot::Sender<Result<Snapshot, SnapshotError>>);

struct Thread<S: Store> {
    store: Arc<S>,
    lanes: Lanes,
    followers: Followers,
    extents: Vec<Extent>,
    /// Bytes of each shard since a snapshot was last wanted.
    grown: Vec<u64>,
    inbox: Inbox,
    status: Arc<Mutex<LogStatus>>,
    options: SharedOptions,
    appends: FuturesUnordered<BoxFuture<'static, Answered>>,
    pieces: FuturesUnordered<BoxFuture<'static, Piece>>,
    saves: FuturesUnordered<BoxFuture<'static, Saved>>,
    beating: Option<BoxFuture<'static, Result<Beat, StoreError>>>,
    /// After a failure: when appends may be sent again.
    launch_at: Option<Instant>,
    /// Since when the store does not answer.
    silent_since: Option<Instant>,
}

/// Why the thread ends before it is told to.
type Broken = String;

impl<S: Store> Thread<S> {
    async fn run(mut self, items: mpsc::UnboundedReceiver<Item>) -> Result<(), (Self, Broken)> {
        match self.turns(items).await {
            Ok(()) => Ok(()),
            Err(reason) => Err((self, reason)),
        }
    }

    async fn turns(&mut self, mut items: mpsc::UnboundedReceiver<Item>) -> Result<(), Broken> {
        let (batches, mut read) = mpsc::channel(READ_AHEAD);
        let reader = self.store.reader(self.extents.iter().map(|extent| extent.last).collect());
        let reading = tokio::spawn(read_on(reader, batches, self.options.retry_every));
        let mut beats = interval(self.options.beat_every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        let mut stop_by = None;
        loop {
            self.launch();
            self.fetch();
            if let Some(deadline) = stop_by
                && ((self.lanes.is_idle() && self.saves.is_empty()) || Instant::now() >= deadline)
            {
                reading.abort();
                self.leave().await;
                return Ok(());
            }
            let wake_at = [self.launch_at, stop_by].into_iter().flatten().min();
            tokio::select! {
                biased;
                batch = read.recv() => match batch {
                    Some(Ok(entries)) => self.took_in(&entries)?,
                    Some(Err(StoreError::Broken(reason))) => return Err(reason),
                    Some(Err(error)) => self.failed(&error),
                    None => return Err("the reader of the store ended".to_owned()),
                },
                Some((shard, number, result)) = self.appends.next() => self.answered(shard, number, &result)?,
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
                Some((wanted, result)) = self.pieces.next() => self.got_piece(wanted, result)?,
                Some((shard, result, answer)) = self.saves.next() => self.saved(shard, result, answer),
                result = wait(&mut self.beating), if self.beating.is_some() => {
                    self.beating = None;
                    self.beaten(result)?;
                }
                _ = beats.tick() => self.beat(),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    if self.launch_at.is_some_and(|at| at <= Instant::now()) {
                        self.launch_at = None;
                    }
                }
            }
        }
    }

    async fn leave(&self) {
        let Some(incarnation) = self.lanes.incarnation() else { return };
        let left = tokio::time::timeout(self.options.patience, self.store.leave(incarnation)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::info!("the store could not be told that this node ends; it will be missed");
        }
    }

    fn on_item(&mut self, item: Item) {
        match item {
            Item::Ask { from, shard, requests, bytes } => {
                self.inbox.taken(requests.len(), bytes);
                let refused: Vec<_> = requests
                    .into_iter()
                    .filter_map(|request| self.lanes.ask(Asked { from, shard, request }))
                    .collect();
                self.refuse(refused);
            }
            Item::Begin(incarnation) => {
                self.lanes.begin(incarnation);
                self.beat();
            }
            Item::Follow { from, answer } => {
                let lanes = &self.lanes;
                let follower =
                    self.followers.follow(&from, &self.extents, |shard| lanes.last_read(shard), &self.inbox);
                if let (Ok(follower), Some(reason)) = (&follower, self.lanes.refusing()) {
                    self.followers.tell(follower.id(), Delivery::ReadOnly(Some(reason)), 0);
                }
                // Who asked waits for this; if it has gone, so has its follower.
                let _ = answer.send(follower);
            }
            Item::Save { snapshot, answer } => {
                let shard = snapshot.meta.shard;
                let last = self.lanes.last_read(shard);
                if snapshot.meta.index > last {
                    let given = snapshot.meta.index;
                    let _ = answer.send(Err(SnapshotError::NotYet { shard, given, last }));
                    return;
                }
                let store = Arc::clone(&self.store);
                self.saves.push(async move { (shard, store.save(&snapshot).await, answer) }.boxed());
            }
            // The next look for who is behind finds it.
            Item::Room | Item::Stop => {}
        }
    }

    /// Sends the next append of every shard that has none on its way.
    fn launch(&mut self) {
        if self.launch_at.is_some() {
            return;
        }
        let mut refused = Vec::new();
        for shard in self.lanes.shards() {
            if let Some(launch) = self.lanes.launch(shard, &mut refused) {
                let store = Arc::clone(&self.store);
                self.appends.push(
                    async move {
                        (launch.shard, launch.number, store.append(launch.shard, launch.payload).await)
                    }
                    .boxed(),
                );
            }
        }
        self.refuse(refused);
    }

    fn answered(
        &mut self,
        shard: ShardId,
        number: u64,
        result: &Result<Index, StoreError>,
    ) -> Result<(), Broken> {
        let answer = match result {
            Ok(_) => {
                self.silent_since = None;
                Answer::Landed
            }
            Err(StoreError::Broken(reason)) => return Err(reason.clone()),
            Err(error @ StoreError::Refused(reason, _)) => {
                self.failed(error);
                Answer::Refused(*reason)
            }
            Err(error) => {
                self.failed(error);
                Answer::Unknown
            }
        };
        let refused = self.lanes.answered(shard, number, answer);
        self.refuse(refused);
        Ok(())
    }

    /// The store refused, or did not answer. After a while nothing new is taken.
    fn failed(&mut self, error: &StoreError) {
        self.launch_at = Some(Instant::now() + self.options.retry_every);
        match error {
            StoreError::Refused(reason, said) => self.stand_still(*reason, said),
            StoreError::Unavailable(said) => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.options.patience {
                    self.stand_still(Reason::StoreUnreachable, said);
                }
            }
            StoreError::Broken(_) => {}
        }
    }

    fn stand_still(&mut self, reason: Reason, said: &str) {
        if self.lanes.refusing() == Some(reason) {
            return;
        }
        tracing::warn!(%reason, error = said, "the log takes nothing; reading goes on");
        let refused = self.lanes.refuse(Some(reason));
        locked(&self.status).read_only = Some(reason);
        self.followers.tell_all(&Delivery::ReadOnly(Some(reason)));
        self.refuse(refused);
    }

    fn works_again(&mut self) {
        self.silent_since = None;
        if self.lanes.refusing().is_some() {
            tracing::info!("the log takes requests again");
            self.lanes.refuse(None);
            self.launch_at = None;
            locked(&self.status).read_only = None;
            self.followers.tell_all(&Delivery::ReadOnly(None));
        }
    }

    fn refuse(&self, refused: Vec<(Asked, Reason)>) {
        for (Asked { from, shard, request }, reason) in refused {
            let weight = weight(&request);
            self.followers.tell(from, Delivery::Refused { shard, request, reason }, weight);
        }
    }

    /// A sign of life; also what finds out that a store which refused takes writes again.
    fn beat(&mut self) {
        if let Some(incarnation) = self.lanes.incarnation()
            && self.beating.is_none()
        {
            let store = Arc::clone(&self.store);
            self.beating = Some(async move { store.beat(incarnation).await }.boxed());
        }
    }

    fn beaten(&mut self, result: Result<Beat, StoreError>) -> Result<(), Broken> {
        match result {
            Ok(beat) => {
                self.works_again();
                locked(&self.status).standing =
                    Standing { leads: beat.leads, alive: Some(Arc::new(beat.alive)) };
            }
            Err(StoreError::Broken(reason)) => return Err(reason),
            Err(error) => {
                // Who cannot reach the store does not know whether it still leads.
                locked(&self.status).standing.leads = false;
                self.failed(&error);
            }
        }
        Ok(())
    }

    /// Entries that the reader brought.
    fn took_in(&mut self, entries: &[StoredEntry]) -> Result<(), Broken> {
        let before: Vec<_> = self.lanes.shards().map(|shard| self.lanes.last_read(shard)).collect();
        let (batch, bytes) = {
            let mut batch = Vec::with_capacity(entries.len());
            let mut bytes = 0;
            for stored in entries {
                let read = self.lanes.read(stored.shard, stored.index, stored.time_ms, &stored.payload);
                if let Some(entry) = read.map_err(|error| error.to_string())? {
                    bytes += stored.payload.len();
                    self.grown[usize::from(stored.shard.0)] += stored.payload.len() as u64;
                    batch.push((stored.shard, entry));
                }
            }
            (batch, bytes)
        };
        if batch.is_empty() {
            return Ok(());
        }
        let batch: CommittedBatch = batch.into();
        {
            let mut status = locked(&self.status);
            status.commits += 1;
            for (shard, entry) in batch.iter() {
                status.proposals += entry.proposals.len() as u64;
                status.shards.entry(*shard).or_default().last = entry.index;
            }
            status.waiting = self.lanes.waiting();
        }
        self.followers.deliver(&batch, bytes, &before, self.options.follower_bytes);
        self.want_snapshots();
        Ok(())
    }

    /// One node writes the snapshots; every other one would only be told that there is a newer one.
    fn want_snapshots(&mut self) {
        if !locked(&self.status).standing.leads {
            return;
        }
        for (shard, grown) in (0..).map(ShardId).zip(&mut self.grown) {
            if *grown >= self.options.snapshot_bytes {
                *grown = 0;
                self.followers.tell_all(&Delivery::SnapshotWanted { shard });
            }
        }
    }

    fn saved(
        &mut self,
        shard: ShardId,
        result: Result<Snapshot, SnapshotError>,
        answer: oneshot::Sender<Result<Snapshot, SnapshotError>>,
    ) {
        if let Ok(saved) = &result {
            let extent = &mut self.extents[usize::from(shard.0)];
            // The store keeps what the snapshot before this one did not cover.
            extent.first = extent.first.max(Index(extent.snapshot.0 + 1));
            extent.snapshot = saved.meta.index;
            let mut status = locked(&self.status);
            let of_shard = status.shards.entry(shard).or_default();
            (of_shard.first, of_shard.snapshot) = (extent.first, extent.snapshot);
        }
        // Who asked may have gone.
        let _ = answer.send(result);
    }

    fn fetch(&mut self) {
        let read: Vec<_> = self.lanes.shards().map(|shard| self.lanes.last_read(shard)).collect();
        for wanted in self.followers.wanted(&read, self.options.follower_bytes) {
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

    fn got_piece(
        &mut self,
        wanted: Wanted,
        result: Result<Vec<StoredEntry>, StoreError>,
    ) -> Result<(), Broken> {
        let stored = match result {
            Ok(stored) => stored,
            Err(StoreError::Broken(reason)) => return Err(reason),
            Err(_) => {
                self.followers.given(wanted, None);
                return Ok(());
            }
        };
        let mut batch = Vec::with_capacity(stored.len());
        let mut bytes = 0;
        // What lies beyond was not read yet, and comes when it is.
        let last = self.lanes.last_read(wanted.shard);
        for (expected, StoredEntry { shard, index, time_ms, payload }) in (wanted.after.0 + 1..).zip(&stored)
        {
            if *index > last {
                break;
            }
            if index.0 != expected {
                return Err(format!(
                    "shard {shard}: the store gave entry {index} where entry {expected} follows: it was trimmed \
                     past this node"
                ));
            }
            let entry = chat_state::entry::Entry::decode_proposals(*index, *time_ms, payload)
                .map_err(|error| format!("shard {shard}, entry {index}: {error}"))?;
            bytes += payload.len();
            batch.push((*shard, Arc::new(entry)));
        }
        if batch.is_empty() {
            return Err(format!(
                "shard {}: the store has nothing behind entry {}, where it had entry {last}",
                wanted.shard, wanted.after
            ));
        }
        self.followers.given(wanted, Some((batch.into(), bytes)));
        Ok(())
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
    retry_every: Duration,
) {
    loop {
        let read = reader.next().await;
        let failed = read.is_err();
        if batches.send(read).await.is_err() {
            return;
        }
        if failed {
            tokio::time::sleep(retry_every).await;
        }
    }
}
