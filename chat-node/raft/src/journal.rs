//! The thread that writes: what all groups of a node have to write while it syncs is the next batch of one write-ahead log,
//! with one sync for all of them.
//!
//! Everything is written in the order in which it was handed in. A full disk is waited for, like a slow one: a vote or an
//! entry that was taken cannot be given back, and the other nodes go on meanwhile.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use chat_log::{
    clock::Clock,
    handle::OnFatal,
    wal::{AppendError, Batch, Space, Wal, WalError},
};

use crate::{
    directory::Opened,
    record::{Record, wal_index},
    types::LogId,
};

/// Bytes that are written at a time.
const BATCH_BYTES: usize = 4 << 20;

/// Between two looks for space while the disk is full.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Quiet time after which the log's end is marked, and what needed no sync of its own is written.
const MARK_AFTER: Duration = Duration::from_millis(200);

/// What a group has written.
pub struct Job {
    pub group: u16,
    pub records: Vec<Record>,
    /// Called when all of it is on the disk, or cannot be brought there. `None`: it goes along with what comes next, since
    /// nobody relies on it.
    pub done: Option<Done>,
}

pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Takes what is to be written, in order.
pub trait Journal: Send + Sync {
    fn submit(&self, job: Job);
}

/// How the disk is.
#[derive(Debug)]
pub struct Pulse {
    /// Monotonic milliseconds + 1 of the start of the write that runs; 0 when none does.
    busy_since: AtomicU64,
    full: AtomicBool,
    bytes: AtomicU64,
    /// Group + 1 whose missing snapshot keeps the oldest segment; 0 when nothing is kept for want of one.
    pinning: AtomicU64,
}

impl Pulse {
    fn of(wal: &Wal) -> Self {
        let pulse = Self {
            busy_since: AtomicU64::new(0),
            full: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            pinning: AtomicU64::new(0),
        };
        pulse.look_at(wal);
        pulse
    }

    fn look_at(&self, wal: &Wal) {
        self.bytes.store(wal.bytes(), Ordering::Relaxed);
        self.pinning.store(wal.pinning_group().map_or(0, |group| u64::from(group) + 1), Ordering::Relaxed);
    }

    /// Since when a write runs, by the monotonic clock.
    pub fn busy_since_ms(&self) -> Option<u64> {
        self.busy_since.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The disk has no space for what waits.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Bytes of the log's files.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The group that should take a snapshot, so that files can go.
    pub fn pinning(&self) -> Option<u16> {
        self.pinning.load(Ordering::Relaxed).checked_sub(1).and_then(|group| u16::try_from(group).ok())
    }
}

/// The thread, as others see it. It ends when this is dropped, after what was handed in.
pub struct JournalThread {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pulse: Arc<Pulse>,
}

impl JournalThread {
    pub fn start(opened: Opened, clock: Arc<dyn Clock>, on_fatal: OnFatal) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let Opened { wal, lock } = opened;
        let pulse = Arc::new(Pulse::of(&wal));
        let writer = Writer {
            wal,
            clock,
            pulse: Arc::clone(&pulse),
            batch: Batch::default(),
            committed: BTreeMap::new(),
            unmarked: false,
        };
        let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
            if let Err(reason) = writer.run(&receiver) {
                on_fatal(&reason);
            }
            // The directory is this process's for as long as it writes.
            drop(lock);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), pulse })
    }

    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

impl Journal for JournalThread {
    fn submit(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("taken when dropped only");
        if let Err(mpsc::SendError(Job { done: Some(done), .. })) = jobs.send(job) {
            done(Err(io::Error::other("the write-ahead log has ended")));
        }
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed where it happened.
            let _ = thread.join();
        }
    }
}

struct Writer {
    wal: Wal,
    clock: Arc<dyn Clock>,
    pulse: Arc<Pulse>,
    batch: Batch,
    /// What is known to be committed and was not written yet: it saves work after a restart, no more.
    committed: BTreeMap<u16, LogId>,
    /// Something was written since the end of the log was last marked.
    unmarked: bool,
}

impl Writer {
    /// Until nobody can hand in anything any more.
    fn run(mut self, jobs: &Receiver<Job>) -> Result<(), String> {
        loop {
            let first = if self.unmarked || !self.committed.is_empty() {
                match jobs.recv_timeout(MARK_AFTER) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.settle()?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return self.settle(),
                }
            } else {
                match jobs.recv() {
                    Ok(job) => job,
                    Err(mpsc::RecvError) => return Ok(()),
                }
            };
            self.turn(first, jobs)?;
        }
    }

    /// Writes this and what waits behind it, with one sync.
    fn turn(&mut self, first: Job, jobs: &Receiver<Job>) -> Result<(), String> {
        self.batch.clear();
        let mut done = Vec::new();
        let mut purged = Vec::new();
        let mut next = Some(first);
        let mut only_votes = true;
        while let Some(Job { group, records, done: on_done }) = next {
            for record in &records {
                match record {
                    Record::Committed(log_id) => {
                        self.committed.insert(group, *log_id);
                        continue;
                    }
                    Record::Purge(upto) => purged.push((group, wal_index(upto.index))),
                    _ => {}
                }
                only_votes &= matches!(record, Record::Vote(_) | Record::Purge(_));
                record.write(group, &mut self.batch);
            }
            done.extend(on_done);
            next = if self.batch.len() < BATCH_BYTES { jobs.try_recv().ok() } else { None };
        }
        if self.batch.is_empty() {
            // Nothing but what nobody waits for.
            done.into_iter().for_each(|done| done(Ok(())));
            return Ok(());
        }
        for (group, log_id) in std::mem::take(&mut self.committed) {
            Record::Committed(log_id).write(group, &mut self.batch);
        }
        let space = if only_votes { Space::Reserved } else { Space::Ordinary };
        match self.write(space).and_then(|()| self.release(&purged)) {
            Ok(()) => {
                self.unmarked = true;
                self.pulse.look_at(&self.wal);
                done.into_iter().for_each(|done| done(Ok(())));
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                done.into_iter().for_each(|done| done(Err(io::Error::other(reason.clone()))));
                Err(reason)
            }
        }
    }

    /// Until it is on the disk; however long there is no space.
    fn write(&mut self, space: Space) -> Result<(), WalError> {
        let started = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.pulse.busy_since.store(started.saturating_add(1), Ordering::Relaxed);
        let written = loop {
            match self.wal.append(&mut self.batch, space) {
                Ok(()) => break Ok(()),
                Err(AppendError::Fatal(error)) => break Err(error),
                Err(AppendError::Full) => {
                    if !self.pulse.full.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            "the disk is full: this node keeps nothing more until there is space. Free some, or give \
                             it a larger volume"
                        );
                    }
                    std::thread::sleep(PROBE_EVERY);
                    match self.wal.probe_space(self.batch.len() as u64) {
                        Ok(()) | Err(AppendError::Full) => {}
                        Err(AppendError::Fatal(error)) => break Err(error),
                    }
                }
            }
        };
        if self.pulse.full.swap(false, Ordering::Relaxed) && written.is_ok() {
            tracing::info!("there is space on the disk again");
        }
        self.pulse.busy_since.store(0, Ordering::Relaxed);
        written
    }

    fn release(&mut self, purged: &[(u16, u64)]) -> Result<(), WalError> {
        purged.iter().try_for_each(|(group, index)| self.wal.release(*group, *index))
    }

    /// A quiet moment.
    fn settle(&mut self) -> Result<(), String> {
        self.batch.clear();
        for (group, log_id) in std::mem::take(&mut self.committed) {
            Record::Committed(log_id).write(group, &mut self.batch);
        }
        self.unmarked = false;
        // On a full disk neither is worth waiting for.
        for result in [self.wal.append(&mut self.batch, Space::Ordinary), self.wal.mark()] {
            if let Err(AppendError::Fatal(error)) = result {
                return Err(error.to_string());
            }
        }
        self.pulse.look_at(&self.wal);
        Ok(())
    }
}
