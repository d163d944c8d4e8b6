//! The local log behind a thread of its own: group commit, followers, snapshots beside it.
//!
//! One sync is in flight at a time; what arrives meanwhile is the next batch. A worker's append is a push into a
//! queue under a short lock; a commit is one message to each follower.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::Duration,
};

use chat_state::ids::{Incarnation, Index, ShardId};
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    committer::Committer,
    follower::{Follower, FollowerId},
    handle::{
        queue::{Item, Queue},
        storage::Storage,
    },
    local::LocalLog,
    log::{AppendError, Durability, FollowError, Log, LogStatus, Request, Standing},
    snapshot::{NewSnapshot, Snapshot, SnapshotError, SnapshotStore},
    weight::weight,
};

mod queue;
mod storage;

/// Snapshots that may wait to be written.
const SNAPSHOT_QUEUE: usize = 8;

/// Bounds, and what is waited for.
#[derive(Clone, Debug)]
pub struct HandleOptions {
    /// Requests that may wait for the log.
    pub queue_requests: usize,
    pub queue_bytes: usize,
    /// Bytes of requests in one batch.
    pub batch_bytes: usize,
    /// Bytes of entries kept ready for a follower; what it does not read in time it gets from the disk.
    pub follower_bytes: usize,
    /// Quiet time after which the log's end is marked.
    pub mark_after: Duration,
    /// Between two looks for space while the disk is full.
    pub probe_every: Duration,
}

impl Default for HandleOptions {
    fn default() -> Self {
        Self {
            queue_requests: 64 << 10,
            queue_bytes: 16 << 20,
            batch_bytes: 4 << 20,
            follower_bytes: 8 << 20,
            mark_after: Duration::from_millis(200),
            probe_every: Duration::from_secs(1),
        }
    }
}

/// Called once, from the storage thread, when the log broke; the argument is the reason for people.
pub type OnFatal = Box<dyn FnOnce(&str) + Send>;

pub struct LocalLogHandle {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
    store: SnapshotStore,
}

#[derive(Default)]
struct Threads {
    snapshots: Option<SyncSender<SnapshotJob>>,
    running: Vec<JoinHandle<()>>,
}

type SnapshotJob = (NewSnapshot, oneshot::Sender<Result<Snapshot, SnapshotError>>);

/// What the threads have in common.
struct Shared {
    queue: Queue,
    status: Mutex<LogStatus>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, LogStatus> {
        self.status.lock().expect("no thread panics while it holds the status")
    }
}

impl LocalLogHandle {
    /// Starts the threads. The entries that opening recovered must have been applied, or be followed from.
    pub fn start(
        log: LocalLog,
        clock: Arc<dyn Clock>,
        options: &HandleOptions,
        on_fatal: OnFatal,
    ) -> io::Result<Self> {
        let status = LogStatus {
            shards: log.status(),
            bytes: log.bytes(),
            pinning: log.pinning(),
            standing: Standing::ALONE,
            ..LogStatus::default()
        };
        let store = log.snapshots().clone();
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_requests, options.queue_bytes),
            status: Mutex::new(status),
        });
        let storage =
            Storage::new(Arc::clone(&shared), Committer::new(log), clock, options.clone(), on_fatal);
        let storage = std::thread::Builder::new().name("storage".to_owned()).spawn(move || storage.run())?;
        let (jobs, receiver) = mpsc::sync_channel(SNAPSHOT_QUEUE);
        let (writer_store, writer_shared) = (store.clone(), Arc::clone(&shared));
        let writer = std::thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || write_snapshots(&writer_store, &writer_shared, &receiver));
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => {
                shared.queue.close();
                let _ = storage.join();
                return Err(error);
            }
        };
        let threads = Threads { snapshots: Some(jobs), running: vec![writer, storage] };
        Ok(Self { shared, threads: Mutex::new(threads), store })
    }

    /// Where snapshots and chunks are read from.
    pub fn snapshots(&self) -> &SnapshotStore {
        &self.store
    }
}

impl Drop for LocalLogHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Log for LocalLogHandle {
    fn durability(&self) -> Durability {
        Durability::LocalFsync
    }

    /// Waits for the storage thread, a sync at most on a healthy disk: call it before the workers run.
    fn follow(&self, from: BTreeMap<ShardId, Index>) -> Result<Follower, FollowError> {
        let (answer, result) = mpsc::sync_channel(1);
        if !self.shared.queue.push(Item::Follow { from, answer }) {
            return Err(FollowError::Stopped);
        }
        result.recv().unwrap_or(Err(FollowError::Stopped))
    }

    fn append(&self, from: FollowerId, shard: ShardId, requests: Vec<Request>) -> Result<(), AppendError> {
        let bytes = requests.iter().map(weight).sum();
        self.shared.queue.ask(from, shard, requests, bytes)
    }

    fn begin(&self, incarnation: Incarnation) {
        // Stopped means that nobody will ask for anything under it.
        self.shared.queue.push(Item::Begin(incarnation));
    }

    fn save_snapshot(&self, snapshot: NewSnapshot) -> oneshot::Receiver<Result<Snapshot, SnapshotError>> {
        let (answer, result) = oneshot::channel();
        let threads = self.threads.lock().expect("stopping does not panic");
        let refused = match &threads.snapshots {
            None => Some((answer, SnapshotError::Stopped)),
            Some(jobs) => match jobs.try_send((snapshot, answer)) {
                Ok(()) => None,
                Err(TrySendError::Full((_, answer))) => Some((answer, SnapshotError::Busy)),
                Err(TrySendError::Disconnected((_, answer))) => Some((answer, SnapshotError::Stopped)),
            },
        };
        if let Some((answer, error)) = refused {
            // Who asked may have gone.
            let _ = answer.send(Err(error));
        }
        result
    }

    fn standing(&self) -> Standing {
        Standing::ALONE
    }

    fn status(&self) -> LogStatus {
        let mut status = self.shared.status().clone();
        status.waiting = self.shared.queue.waiting();
        status
    }

    fn stop(&self) {
        let Threads { snapshots, running } =
            std::mem::take(&mut *self.threads.lock().expect("stopping does not panic"));
        drop(snapshots);
        let mut running = running.into_iter();
        if let Some(writer) = running.next() {
            // The writer first: its last snapshot is handed to the storage thread.
            let _ = writer.join();
        }
        self.shared.queue.close();
        for thread in running {
            // A panic of it was printed where it happened, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}

/// The second thread: writes snapshots while the log goes on.
fn write_snapshots(store: &SnapshotStore, shared: &Shared, jobs: &mpsc::Receiver<SnapshotJob>) {
    for (snapshot, answer) in jobs {
        let (shard, given) = (snapshot.meta.shard, snapshot.meta.index);
        let last = shared.status().shards.get(&shard).map_or(Index(0), |status| status.last);
        let saved = if given > last {
            Err(SnapshotError::NotYet { shard, given, last })
        } else {
            store.save(&snapshot)
        };
        match saved {
            Ok(saved) => {
                // If the log has stopped, the answer is dropped with the item, and the asker learns that much.
                shared.queue.push(Item::Trim { saved, answer });
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests;
