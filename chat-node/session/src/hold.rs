//! The order across shards. A channel entry waits until the directory is as far as its proposers had seen; an entry of
//! the directory that frees a nick waits until every shard has forgotten its user.
//!
//! An entry that frees was proposed after the entries that forget were in their logs, and those carry no later
//! directory position than their own proposers had seen, so the two waits cannot wait for each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chat_state::{
    command::{Command, DirectoryCommand},
    entry::Entry,
    ids::{Position, ShardId},
};

/// Entries that came back from the log and may not be delivered yet, per shard in order.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    waiting: BTreeMap<ShardId, VecDeque<Arc<Entry>>>,
}

impl Hold {
    pub(crate) fn push(&mut self, shard: ShardId, entry: Arc<Entry>) {
        self.waiting.entry(shard).or_default().push_back(entry);
    }

    /// The next entry whose time has come; `position` tells how far each shard is.
    pub(crate) fn pop(&mut self, position: impl Fn(ShardId) -> Position) -> Option<(ShardId, Arc<Entry>)> {
        let ready = self.waiting.iter().find_map(|(shard, queue)| {
            let entry = queue.front()?;
            may_deliver(*shard, entry, &position).then_some(*shard)
        })?;
        let queue = self.waiting.get_mut(&ready).expect("the queue was just looked at");
        let entry = queue.pop_front().expect("its front was just looked at");
        if queue.is_empty() {
            self.waiting.remove(&ready);
        }
        Some((ready, entry))
    }

    /// Entries held back.
    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

fn may_deliver(shard: ShardId, entry: &Entry, position: &impl Fn(ShardId) -> Position) -> bool {
    #[cfg(feature = "mutations")]
    if chat_state::mutation::is(chat_state::mutation::Mutation::DeliveryBeforeDirAt) {
        return true;
    }
    if shard.is_directory() {
        return entry.proposals.iter().all(|proposal| match &proposal.command {
            Command::Directory(DirectoryCommand::Free { forgotten, .. }) => {
                forgotten.iter().all(|(shard, at)| position(*shard) >= *at)
            }
            _ => true,
        });
    }
    let directory = position(ShardId::DIRECTORY);
    entry.proposals.iter().all(|proposal| proposal.dir_at <= directory)
}
