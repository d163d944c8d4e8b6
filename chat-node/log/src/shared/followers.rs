//! The workers of this node that follow a shared log: live from what was read, or behind it from the store.

use std::{collections::BTreeMap, sync::Arc};

use chat_state::ids::{Index, ShardId};

use super::store::Extent;
use crate::{
    follower::{self, Follower, FollowerId, Sender},
    log::{CommittedBatch, Delivery, FollowError},
};

#[derive(Default)]
pub(super) struct Followers {
    all: BTreeMap<FollowerId, Following>,
    last: u64,
}

struct Following {
    sender: Sender,
    progress: Progress,
}

enum Progress {
    /// Gets each batch as it is read.
    Live,
    /// Was given everything up to these, the directory's first.
    Behind { after: Vec<Index>, asked: bool },
}

/// A piece that a follower has to be given from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub(super) follower: FollowerId,
    pub shard: ShardId,
    pub after: Index,
}

impl Followers {
    /// A follower that begins at these entries; `extents` and `read` say what there is.
    pub(super) fn follow(
        &mut self,
        from: &BTreeMap<ShardId, Index>,
        extents: &[Extent],
        read: impl Fn(ShardId) -> Index,
        room: impl Fn() + Send + Sync + 'static,
    ) -> Result<Follower, FollowError> {
        let mut after: Vec<Index> =
            extents.iter().map(|extent| Index(extent.first.0.saturating_sub(1))).collect();
        for (shard, wanted) in from {
            let Some(extent) = extents.get(usize::from(shard.0)) else {
                return Err(FollowError::NoSuchShard { shard: *shard });
            };
            let last = read(*shard);
            if *wanted < extent.first {
                return Err(FollowError::Gone { shard: *shard, wanted: *wanted, oldest: extent.first });
            }
            if wanted.0 > last.0 + 1 {
                return Err(FollowError::NotYet { shard: *shard, wanted: *wanted, last });
            }
            after[usize::from(shard.0)] = Index(wanted.0 - 1);
        }
        self.last += 1;
        let id = FollowerId(self.last);
        let (sender, follower) = follower::channel(id, room);
        self.all.insert(id, Following { sender, progress: Progress::Behind { after, asked: false } });
        Ok(follower)
    }

    /// Entries that were just read; `before` is where each shard stood.
    pub(super) fn deliver(
        &mut self,
        batch: &CommittedBatch,
        bytes: usize,
        before: &[Index],
        most_bytes: usize,
    ) {
        self.all.retain(|_, following| {
            if let Progress::Live = following.progress {
                if following.sender.backlog() > most_bytes {
                    #[cfg(feature = "mutations")]
                    if chat_state::mutation::is(chat_state::mutation::Mutation::LaggingMissesEntries) {
                        return !following.sender.is_gone();
                    }
                    following.progress = Progress::Behind { after: before.to_vec(), asked: false };
                } else {
                    return following.sender.send(Delivery::Committed(Arc::clone(batch)), bytes).is_ok();
                }
            }
            !following.sender.is_gone()
        });
    }

    /// Whether somebody has yet to be given what was read, as far as [`Self::wanted`] has looked.
    pub(super) fn is_any_behind(&self) -> bool {
        self.all.values().any(|following| matches!(following.progress, Progress::Behind { .. }))
    }

    /// What is to be got from the store now for those who are behind; `read` is up to where there is something.
    pub(super) fn wanted(&mut self, read: &[Index], most_bytes: usize) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (id, following) in &mut self.all {
            let Progress::Behind { after, asked } = &mut following.progress else { continue };
            if *asked {
                continue;
            }
            let missing = (0_u16..).zip(after.iter().zip(read)).find(|(_, (after, read))| after < read);
            let Some((shard, (after, _))) = missing else {
                following.progress = Progress::Live;
                continue;
            };
            if following.sender.backlog() > most_bytes && following.sender.starve() {
                continue;
            }
            wanted.push(Wanted { follower: *id, shard: ShardId(shard), after: *after });
            *asked = true;
        }
        wanted
    }

    /// A piece came; or it did not, and is asked for again.
    pub(super) fn given(&mut self, wanted: Wanted, batch: Option<(CommittedBatch, usize)>) {
        let Some(following) = self.all.get_mut(&wanted.follower) else { return };
        let Progress::Behind { after, asked } = &mut following.progress else { return };
        *asked = false;
        let Some((batch, bytes)) = batch else { return };
        if let Some((shard, entry)) = batch.last() {
            after[usize::from(shard.0)] = entry.index;
            if following.sender.send(Delivery::Committed(batch), bytes).is_err() {
                self.all.remove(&wanted.follower);
            }
        }
    }

    pub(super) fn tell(&self, follower: FollowerId, delivery: Delivery, bytes: usize) {
        if let Some(following) = self.all.get(&follower) {
            // Its sessions are gone with it.
            let _ = following.sender.send(delivery, bytes);
        }
    }

    pub(super) fn tell_all(&self, delivery: &Delivery) {
        for following in self.all.values() {
            let _ = following.sender.send(delivery.clone(), 0);
        }
    }
}
