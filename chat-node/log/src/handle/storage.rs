//! The storage thread.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chat_state::ids::{Index, ShardId};

use super::{
    HandleOptions, OnFatal, Shared,
    queue::{Item, Taken},
};
use crate::{
    clock::Clock,
    committer::{Asked, Committer, Turn},
    follower::{self, Follower, FollowerId, Sender},
    log::{CommittedBatch, Delivery, FollowError, Reason},
    wal::Cursor,
    weight::weight,
};

/// Read from the disk at once for a follower that lags.
const CATCH_UP_BYTES: usize = 1 << 20;

pub(super) struct Storage {
    shared: Arc<Shared>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    options: HandleOptions,
    on_fatal: OnFatal,
    followers: BTreeMap<FollowerId, Following>,
    next_follower: u64,
    /// Something was committed since the end of the log was last marked.
    unmarked: bool,
    next_probe: Duration,
    /// What a snapshot was last asked for: shard, its newest snapshot, and the segments there were.
    wanted: Option<(ShardId, Index, u64, usize)>,
}

struct Following {
    sender: Sender,
    progress: Progress,
}

enum Progress {
    /// Gets each commit as it is made.
    Live,
    /// Gets the entries from the disk: from this place on, those after these.
    Behind { place: Cursor, after: BTreeMap<ShardId, Index> },
}

/// Why the thread ends before it is told to.
struct Fatal(String);

impl<E: std::error::Error> From<E> for Fatal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Storage {
    pub(super) fn new(
        shared: Arc<Shared>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        options: HandleOptions,
        on_fatal: OnFatal,
    ) -> Self {
        Self {
            shared,
            committer,
            clock,
            options,
            on_fatal,
            followers: BTreeMap::new(),
            next_follower: 1,
            unmarked: false,
            next_probe: Duration::ZERO,
            wanted: None,
        }
    }

    pub(super) fn run(mut self) {
        if let Err(Fatal(reason)) = self.turns() {
            self.shared.queue.abandon();
            let told: Arc<str> = reason.as_str().into();
            self.shared.status().fatal = Some(Arc::clone(&told));
            for following in self.followers.values() {
                // Who is gone need not be told.
                let _ = following.sender.send(Delivery::Fatal(Arc::clone(&told)), 0);
            }
            (self.on_fatal)(&reason);
        }
    }

    fn turns(&mut self) -> Result<(), Fatal> {
        self.want_snapshot();
        let mut busy = false;
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.timeout() };
            let Taken { items, closed } = self.shared.queue.take(self.options.batch_bytes, timeout);
            let quiet = items.is_empty();
            self.work(items)?;
            self.probe()?;
            busy = self.catch_up()?;
            if closed || (quiet && !busy && self.unmarked) {
                self.on_disk(|committer| committer.log_mut().mark())?;
                self.unmarked = false;
            }
            if closed {
                return Ok(());
            }
        }
    }

    /// How long to sleep when nobody asks for anything.
    fn timeout(&self) -> Option<Duration> {
        let probe =
            self.committer.read_only().then(|| self.next_probe.saturating_sub(self.clock.monotonic()));
        let mark = self.unmarked.then_some(self.options.mark_after);
        [probe, mark].into_iter().flatten().min()
    }

    fn work(&mut self, items: Vec<Item>) -> Result<(), Fatal> {
        let mut asked = Vec::new();
        for item in items {
            match item {
                Item::Ask { from, shard, requests, .. } => {
                    asked.extend(requests.into_iter().map(|request| Asked { from, shard, request }));
                }
                Item::Begin(incarnation) => {
                    self.commit(std::mem::take(&mut asked))?;
                    self.committer.begin(incarnation);
                }
                Item::Follow { from, answer } => {
                    self.commit(std::mem::take(&mut asked))?;
                    // Who asked waits for this; if it has gone, so has its follower.
                    let _ = answer.send(self.follow(&from));
                    self.hold()?;
                }
                Item::Trim { saved, answer } => {
                    self.commit(std::mem::take(&mut asked))?;
                    let (shard, index) = (saved.meta.shard, saved.meta.index);
                    self.on_disk(|committer| committer.log_mut().trim(shard, index))?;
                    self.refresh_status();
                    let _ = answer.send(Ok(saved));
                    self.want_snapshot();
                }
            }
        }
        self.commit(asked)
    }

    fn commit(&mut self, asked: Vec<Asked>) -> Result<(), Fatal> {
        if asked.is_empty() {
            return Ok(());
        }
        let place = self.committer.log().end();
        let segments = self.committer.log().segments();
        let now_ms = self.clock.now_ms();
        let turn = self.on_disk(|committer| committer.commit(asked, now_ms))?;
        let Turn { committed, refused, read_only } = turn;
        if let Some(read_only) = read_only {
            self.announce(read_only);
        }
        for (ask, reason) in refused {
            self.refuse(ask, reason);
        }
        if let Some(batch) = committed {
            self.unmarked = true;
            self.note(&batch);
            self.deliver(&batch, place);
            if self.committer.log().segments() != segments {
                self.refresh_status();
                self.want_snapshot();
            }
        }
        Ok(())
    }

    /// Runs what may wait for the disk, and lets the watchdog see since when.
    fn on_disk<T, E: Into<Fatal>>(
        &mut self,
        run: impl FnOnce(&mut Committer) -> Result<T, E>,
    ) -> Result<T, Fatal> {
        let since = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.shared.status().disk_busy_since_ms = Some(since);
        let result = run(&mut self.committer);
        self.shared.status().disk_busy_since_ms = None;
        result.map_err(Into::into)
    }

    /// A follower that is behind is given entries from the disk as far as it has room. True when there is more to
    /// give at once.
    fn catch_up(&mut self) -> Result<bool, Fatal> {
        let mut more = false;
        let mut moved = false;
        for following in self.followers.values_mut() {
            let Progress::Behind { place, after } = &mut following.progress else { continue };
            moved = true;
            if following.sender.backlog() > self.options.follower_bytes && following.sender.starve() {
                continue;
            }
            let mut entries = self.committer.log().entries(*place, std::mem::take(after));
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut ended = true;
            for entry in entries.by_ref() {
                let (shard, entry) = entry?;
                bytes +=
                    size_of_val(&*entry) + entry.proposals.len() * size_of::<chat_state::entry::Proposal>();
                batch.push((shard, entry));
                if bytes >= CATCH_UP_BYTES {
                    ended = false;
                    break;
                }
            }
            let (next, read) = entries.place();
            *place = next.unwrap_or(*place);
            after.clone_from(read);
            if !batch.is_empty() {
                // Who is gone is found below.
                let _ = following.sender.send(Delivery::Committed(batch.into()), bytes);
            }
            if ended {
                following.progress = Progress::Live;
            } else {
                more = true;
            }
        }
        if moved {
            self.followers.retain(|_, following| !following.sender.is_gone());
            self.hold()?;
        }
        Ok(more)
    }

    /// Keeps the segments that a follower still has to be given.
    fn hold(&mut self) -> Result<(), Fatal> {
        let places = self.followers.values().filter_map(|following| match &following.progress {
            Progress::Behind { place, .. } => Some(*place),
            Progress::Live => None,
        });
        let oldest = places.min();
        self.on_disk(|committer| committer.log_mut().hold(oldest))
    }

    fn follow(&mut self, from: &BTreeMap<ShardId, Index>) -> Result<Follower, FollowError> {
        let (place, after) = self.committer.log().place_for(from)?;
        let id = FollowerId(self.next_follower);
        self.next_follower += 1;
        let shared = Arc::clone(&self.shared);
        let (sender, follower) = follower::channel(id, move || shared.queue.room());
        if self.committer.read_only() {
            let _ = sender.send(Delivery::ReadOnly(Some(Reason::DiskFull)), 0);
        }
        self.followers.insert(id, Following { sender, progress: Progress::Behind { place, after } });
        Ok(follower)
    }

    fn deliver(&mut self, batch: &CommittedBatch, place: Cursor) {
        let bytes = self.committer.log().batch_bytes();
        let mut gone = Vec::new();
        for (id, following) in &mut self.followers {
            if matches!(following.progress, Progress::Behind { .. }) {
                continue;
            }
            if following.sender.backlog() > self.options.follower_bytes {
                let after = after_before(batch, &self.committer);
                following.progress = Progress::Behind { place, after };
            } else if following.sender.send(Delivery::Committed(Arc::clone(batch)), bytes).is_err() {
                gone.push(*id);
            }
        }
        for id in gone {
            self.followers.remove(&id);
        }
    }

    fn refuse(&self, ask: Asked, reason: Reason) {
        let Asked { from, shard, request } = ask;
        if let Some(following) = self.followers.get(&from) {
            let weight = weight(&request);
            // Its sessions are gone with it.
            let _ = following.sender.send(Delivery::Refused { shard, request, reason }, weight);
        }
    }

    fn announce(&mut self, read_only: bool) {
        self.next_probe = self.clock.monotonic() + self.options.probe_every;
        let reason = read_only.then_some(Reason::DiskFull);
        self.shared.status().read_only = reason;
        self.tell_all(&Delivery::ReadOnly(reason));
    }

    fn probe(&mut self) -> Result<(), Fatal> {
        if !self.committer.read_only() || self.clock.monotonic() < self.next_probe {
            return Ok(());
        }
        self.next_probe = self.clock.monotonic() + self.options.probe_every;
        if let Some(read_only) = self.on_disk(Committer::probe)? {
            self.announce(read_only);
            self.refresh_status();
        }
        Ok(())
    }

    /// Asks for the snapshot that would let go of the oldest segment; once for each state of things.
    fn want_snapshot(&mut self) {
        let log = self.committer.log();
        let Some(shard) = log.pinning() else { return };
        let covered = self.shared.status().shards.get(&shard).map_or(Index(0), |status| status.snapshot);
        let wanted = Some((shard, covered, log.oldest_segment(), log.segments()));
        if self.wanted != wanted {
            self.wanted = wanted;
            self.tell_all(&Delivery::SnapshotWanted { shard });
        }
    }

    fn tell_all(&self, delivery: &Delivery) {
        for following in self.followers.values() {
            let _ = following.sender.send(delivery.clone(), 0);
        }
    }

    fn note(&self, batch: &CommittedBatch) {
        let mut status = self.shared.status();
        status.commits += 1;
        for (shard, entry) in batch.iter() {
            status.proposals += entry.proposals.len() as u64;
            let of_shard = status.shards.entry(*shard).or_default();
            of_shard.last = entry.index;
        }
    }

    fn refresh_status(&self) {
        let log = self.committer.log();
        let mut status = self.shared.status();
        status.shards = log.status();
        status.bytes = log.bytes();
        status.pinning = log.pinning();
    }
}

/// Where each shard stood before a batch.
fn after_before(batch: &CommittedBatch, committer: &Committer) -> BTreeMap<ShardId, Index> {
    let mut after: BTreeMap<_, _> =
        committer.log().status().into_iter().map(|(shard, status)| (shard, status.last)).collect();
    for (shard, entry) in batch.iter().rev() {
        after.insert(*shard, Index(entry.index.0 - 1));
    }
    after
}
