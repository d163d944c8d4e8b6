//! A shared log without its thread and its connections: what the node asks of its store, what it makes of the
//! answers, and what it tells its workers. Pure; time is given. The simulation runs this; [`super::handle`] puts a
//! thread around it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chat_state::{
    entry::Entry,
    ids::{Incarnation, Index, ShardId},
};

use super::{
    followers::Followers,
    handle::{Savers, SharedOptions},
    lanes::Lanes,
    store::{Beat, Extent, StoreError, StoredEntry},
};
pub use super::{
    followers::Wanted,
    lanes::{Answer, Launch},
};
use crate::{
    committer::Asked,
    follower::{Follower, FollowerId},
    log::{CommittedBatch, Delivery, FollowError, LogStatus, Reason, Request, ShardLogStatus, Standing},
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
    weight::weight,
};

pub struct SharedLog {
    lanes: Lanes,
    followers: Followers,
    extents: Vec<Extent>,
    /// Bytes of each shard since a snapshot was last wanted.
    grown: Vec<u64>,
    status: Arc<Mutex<LogStatus>>,
    options: SharedOptions,
    /// After a failure: when appends may be sent again.
    launch_at: Option<Duration>,
    /// When a sign of life is due before its turn: it finds out whether a store that fell silent answers again.
    beat_at: Option<Duration>,
    /// Since when it fails, in either way.
    failing_since: Option<Duration>,
    /// Since when the store does not answer.
    silent_since: Option<Duration>,
    /// What a snapshot was last wanted of, to let go of what is old, and its newest one at that time.
    pinned: Option<(ShardId, Index)>,
}

/// Why the node has to end.
pub type Broken = String;

impl SharedLog {
    /// `extents` is what the store held a moment ago.
    pub fn new(extents: Vec<Extent>, options: SharedOptions) -> Self {
        let status = LogStatus { shards: shard_status(&extents), ..LogStatus::default() };
        Self {
            lanes: Lanes::new(extents.iter().map(|extent| extent.last), options.append_bytes),
            followers: Followers::default(),
            grown: vec![0; extents.len()],
            extents,
            status: Arc::new(Mutex::new(status)),
            options,
            launch_at: None,
            beat_at: None,
            failing_since: None,
            silent_since: None,
            pinned: None,
        }
    }

    /// Kept up to date, for others to look at.
    pub(super) fn shared_status(&self) -> Arc<Mutex<LogStatus>> {
        Arc::clone(&self.status)
    }

    pub fn standing(&self) -> Standing {
        locked(&self.status).standing.clone()
    }

    pub fn incarnation(&self) -> Option<Incarnation> {
        self.lanes.incarnation()
    }

    /// The node's life began.
    pub fn begin(&mut self, incarnation: Incarnation) {
        self.lanes.begin(incarnation);
    }

    /// Nothing of the node waits or is on its way.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_idle()
    }

    /// Up to where each shard was read, the directory first.
    pub fn read_to(&self) -> Vec<Index> {
        self.lanes.shards().map(|shard| self.lanes.last_read(shard)).collect()
    }

    /// A worker that follows from these entries on; `room` is called when it had been too slow, and is not any more.
    pub fn follow(
        &mut self,
        from: &BTreeMap<ShardId, Index>,
        room: impl Fn() + Send + Sync + 'static,
    ) -> Result<Follower, FollowError> {
        let lanes = &self.lanes;
        let follower = self.followers.follow(from, &self.extents, |shard| lanes.last_read(shard), room)?;
        if let Some(reason) = self.lanes.refusing() {
            self.followers.tell(follower.id(), Delivery::ReadOnly(Some(reason)), 0);
        }
        Ok(follower)
    }

    /// Requests of a worker.
    pub fn ask(&mut self, from: FollowerId, shard: ShardId, requests: Vec<Request>) {
        let refused: Vec<_> = requests
            .into_iter()
            .filter_map(|request| self.lanes.ask(Asked { from, shard, request }))
            .collect();
        self.refuse(refused);
    }

    /// The next append of every shard that has none on its way; none for a while after a failure.
    pub fn launches(&mut self, now: Duration) -> Vec<Launch> {
        if self.launch_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.launch_at = None;
        if self.is_starting() {
            return Vec::new();
        }
        let mut refused = Vec::new();
        let launches =
            self.lanes.shards().filter_map(|shard| self.lanes.launch(shard, &mut refused)).collect();
        self.refuse(refused);
        launches
    }

    /// Whether [`Self::launches`] has something.
    pub fn can_launch(&self, now: Duration) -> bool {
        !self.is_starting() && self.launch_at.is_none_or(|at| at <= now) && self.lanes.can_launch()
    }

    /// A node registers when its workers have come to where the log is: from then on the others wait for its signs of
    /// life, and it can give none before it has heard of its own registration.
    fn is_starting(&self) -> bool {
        self.lanes.incarnation().is_none() && self.followers.is_any_behind()
    }

    /// When [`Self::launches`] may have something again that a failure holds back.
    pub fn launches_at(&self) -> Option<Duration> {
        self.launch_at
    }

    /// When a sign of life is due that cannot wait for its turn.
    pub fn beats_at(&self) -> Option<Duration> {
        self.beat_at
    }

    /// One is given now, whether due or not.
    pub fn beats(&mut self) {
        self.beat_at = None;
    }

    /// What the store said to an append.
    pub fn answered(
        &mut self,
        shard: ShardId,
        number: u64,
        result: &Result<Index, StoreError>,
        now: Duration,
    ) -> Result<(), Broken> {
        let answer = match result {
            Ok(index) => {
                (self.silent_since, self.failing_since) = (None, None);
                Answer::Landed(*index)
            }
            Err(StoreError::Broken(reason)) => return Err(reason.clone()),
            Err(error @ StoreError::Refused(reason, _)) => {
                self.failed(error, now);
                Answer::Refused(*reason)
            }
            Err(error) => {
                self.failed(error, now);
                Answer::Unknown
            }
        };
        let refused = self.lanes.answered(shard, number, answer);
        self.refuse(refused);
        Ok(())
    }

    /// What the store said to a sign of life; also what finds out that a store which refused takes writes again.
    pub fn beaten(&mut self, result: Result<Beat, StoreError>, now: Duration) -> Result<(), Broken> {
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
                self.failed(&error, now);
            }
        }
        Ok(())
    }

    /// What the reader brought.
    pub fn read(&mut self, read: Result<Vec<StoredEntry>, StoreError>, now: Duration) -> Result<(), Broken> {
        match read {
            Ok(entries) => self.took_in(&entries),
            Err(StoreError::Broken(reason)) => Err(reason),
            Err(error) => {
                self.failed(&error, now);
                Ok(())
            }
        }
    }

    /// What is to be got from the store for workers that are behind.
    pub fn wanted(&mut self) -> Vec<Wanted> {
        let read = self.read_to();
        self.followers.wanted(&read, self.options.follower_bytes)
    }

    /// What came of it.
    pub fn given(
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
            let entry = Entry::decode_proposals(*index, *time_ms, payload)
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

    /// Whether a snapshot is of what was read.
    pub fn may_save(&self, snapshot: &NewSnapshot) -> Result<(), SnapshotError> {
        let (shard, given) = (snapshot.meta.shard, snapshot.meta.index);
        let last = self.lanes.last_read(shard);
        if given > last { Err(SnapshotError::NotYet { shard, given, last }) } else { Ok(()) }
    }

    /// The store has it.
    pub fn saved(&mut self, saved: &Snapshot) {
        let shard = saved.meta.shard;
        let extent = &mut self.extents[usize::from(shard.0)];
        // The store keeps what the snapshot before this one did not cover.
        extent.first = extent.first.max(Index(extent.snapshot.0 + 1));
        extent.snapshot = saved.meta.index;
        let mut status = locked(&self.status);
        let of_shard = status.shards.entry(shard).or_default();
        (of_shard.first, of_shard.snapshot) = (extent.first, extent.snapshot);
    }

    /// The node ends, and its workers with it.
    pub(super) fn break_down(&self, reason: &Arc<str>) {
        locked(&self.status).fatal = Some(Arc::clone(reason));
        self.followers.tell_all(&Delivery::Fatal(Arc::clone(reason)));
    }

    fn took_in(&mut self, entries: &[StoredEntry]) -> Result<(), Broken> {
        let before = self.read_to();
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

    /// A shard keeps the store from letting go of what is old.
    pub(super) fn pinned(&mut self, shard: Option<ShardId>) {
        let Some(shard) = shard else { return };
        // Once for each snapshot: the store needs a moment to make use of it.
        let newest = self.extents.get(usize::from(shard.0)).map(|extent| (shard, extent.snapshot));
        if newest.is_some() && newest != self.pinned {
            self.pinned = newest;
            self.followers.tell_all(&Delivery::SnapshotWanted { shard });
        }
    }

    /// Where one node writes the snapshots, every other one would only be told that there is a newer one.
    fn want_snapshots(&mut self) {
        if self.options.savers == Savers::Leader && !locked(&self.status).standing.leads {
            return;
        }
        for (shard, grown) in (0..).map(ShardId).zip(&mut self.grown) {
            if *grown >= self.options.snapshot_bytes {
                *grown = 0;
                self.followers.tell_all(&Delivery::SnapshotWanted { shard });
            }
        }
    }

    /// The store refused, or did not answer. After a while nothing new is taken.
    fn failed(&mut self, error: &StoreError, now: Duration) {
        let since = *self.failing_since.get_or_insert(now);
        let again_at = now + self.options.retry_after(now.saturating_sub(since));
        put_off(&mut self.launch_at, now, again_at);
        match error {
            StoreError::Refused(reason, said) => self.stand_still(*reason, said),
            StoreError::Unavailable(said) => {
                put_off(&mut self.beat_at, now, again_at);
                let since = *self.silent_since.get_or_insert(now);
                if now.saturating_sub(since) >= self.options.patience {
                    self.stand_still(self.options.out_of_reach, said);
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
        (self.silent_since, self.failing_since, self.beat_at) = (None, None, None);
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
}

/// What is put off already is not put off further.
fn put_off(at: &mut Option<Duration>, now: Duration, until: Duration) {
    if at.is_none_or(|at| at <= now) {
        *at = Some(until);
    }
}

pub(super) fn locked(status: &Mutex<LogStatus>) -> MutexGuard<'_, LogStatus> {
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

#[cfg(test)]
mod tests;
