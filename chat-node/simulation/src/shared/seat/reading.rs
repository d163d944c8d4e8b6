//! How a node reads from the store: live, and what its lagging workers missed.

use std::sync::Arc;

use chat_log::{
    log::Reason,
    shared::store::{StoreError, StoredEntry},
};
use chat_state::ids::{Index, ShardId};

use super::{MOST_READ, RETRY_MS, Reading, Seat, broken_off, unreachable};
use crate::{env::Env, node::Stop, shared::store::Store, truth::Truth, violation::Violation};

impl Seat {
    pub(super) fn read(&mut self, env: &mut Env, store: &mut Store, truth: &mut Truth) -> Result<(), Stop> {
        let read = self.read_on(env, store, truth)?;
        if read.is_err() {
            self.reading = Reading::None { retry_ms: env.now_ms() + RETRY_MS };
        }
        let now = self.since_start(env.now_ms());
        self.log.read(read, now).map_err(|reason| self.broke(reason, store))
    }

    /// The reader's next step.
    fn read_on(
        &mut self,
        env: &mut Env,
        store: &mut Store,
        truth: &mut Truth,
    ) -> Result<Result<Vec<StoredEntry>, StoreError>, Violation> {
        let now = env.now_ms();
        let reachable = store.is_up() && !store.is_cut(self.slot, now);
        let nothing = Ok(Ok(Vec::new()));
        match &self.reading {
            Reading::None { .. } if !reachable => Ok(Err(unreachable())),
            Reading::None { .. } => {
                self.reading = Reading::New { run: store.run(), epoch: self.epoch, compared: false, next: 0 };
                nothing
            }
            Reading::New { run, .. } | Reading::Ready { run, .. } if !reachable || *run != store.run() => {
                Ok(Err(broken_off()))
            }
            Reading::New { run, epoch, compared: false, .. } => {
                let (run, epoch) = (*run, *epoch);
                if let Err(error) = self.compare(env, store, truth)? {
                    return Ok(Err(error));
                }
                self.reading = Reading::New { run, epoch, compared: true, next: 0 };
                nothing
            }
            Reading::New { run, epoch, next, .. } => {
                let (run, epoch, next) = (*run, *epoch, *next);
                let Some(lineage) = store.begin_lineage(ShardId(next), env, truth)? else {
                    return Ok(Err(StoreError::Refused(Reason::StoreFull, "full".to_owned())));
                };
                self.lineages[usize::from(next)] = lineage;
                let next = next + 1;
                self.reading = if usize::from(next) < self.lineages.len() {
                    Reading::New { run, epoch, compared: true, next }
                } else {
                    self.verified = Some(run);
                    Reading::Ready { run, epoch }
                };
                nothing
            }
            Reading::Ready { epoch, .. } if *epoch != self.epoch => {
                self.reading = Reading::None { retry_ms: now };
                nothing
            }
            Reading::Ready { .. } => {
                let mut all = Vec::new();
                for (shard, (after, known)) in (0..).map(ShardId).zip(&mut self.after) {
                    let most = env.chance.index(MOST_READ + 1);
                    let found = store.entries_after(shard, *after, most, env, truth)?;
                    if let Some(last) = found.last() {
                        (*after, *known) = (last.index, Some(Arc::new(last.clone())));
                    }
                    all.extend(found);
                }
                Ok(Ok(all))
            }
        }
    }

    /// The store must still hold the last entry that this node was given of each shard, as it was given.
    fn compare(
        &mut self,
        env: &mut Env,
        store: &mut Store,
        truth: &mut Truth,
    ) -> Result<Result<(), StoreError>, Violation> {
        for (shard, (index, known)) in (0..).map(ShardId).zip(&mut self.after) {
            if *index == Index(0) {
                continue;
            }
            let found = store.entry_at(shard, *index, env, truth)?;
            match (found, &known) {
                (Some(found), None) => *known = Some(found),
                (Some(found), Some(known)) if found == *known => {}
                _ => {
                    let what = format!("entry {index} of shard {shard} is not there as it was given");
                    return Ok(Err(StoreError::Broken(what)));
                }
            }
        }
        Ok(Ok(()))
    }

    /// A piece for a worker that is behind.
    pub(super) fn fetch(
        &mut self,
        at: usize,
        env: &mut Env,
        store: &mut Store,
        truth: &mut Truth,
    ) -> Result<(), Stop> {
        let now = env.now_ms();
        let (_, wanted) = self.wanted.swap_remove(at);
        let result = match self.writer(store, now) {
            Ok((_, run)) if run == store.run() && store.is_up() && !store.is_cut(self.slot, now) => {
                let most = 1 + env.chance.index(MOST_READ);
                Ok(store.entries_after(wanted.shard, wanted.after, most, env, truth)?)
            }
            Ok(_) => {
                self.drop_writer(env, store);
                Err(broken_off())
            }
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        env.note(format_args!("node {} fetches {wanted:?}: {}", self.slot, !failed));
        if let Err(reason) = self.log.given(wanted, result) {
            self.wanted.push((0, wanted));
            return Err(self.broke(reason, store));
        }
        if failed {
            let again = self.log.wanted().into_iter().map(|wanted| (now + RETRY_MS, wanted));
            self.wanted.extend(again);
        }
        Ok(())
    }
}
