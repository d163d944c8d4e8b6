//! What a client has of a log that came back without its end.

use std::collections::BTreeMap;

use chat_state::ids::ShardId;

use super::{
    Client,
    line::{Msgid, shard_and_lineage},
};
use crate::truth::Truth;

impl Client {
    /// The log is `truth` now. What was seen beyond it is no part of it; where a place was seen with it, the client is
    /// to be told before it is shown anything else of that shard. `on_lost_node`: its node had applied what is lost.
    pub(crate) fn log_was_lost(&mut self, truth: &Truth, on_lost_node: bool) {
        let last_of = |shard: u16| truth.position(ShardId(shard)).0;
        for life in &mut self.lives {
            life.unknowable |= (on_lost_node || life.over) && !life.kind.tags;
            life.reordered = true;
            for (shard, seen) in &mut life.seen {
                let last = last_of(*shard);
                seen.retain(|seen| seen.position.is_none_or(|position| position <= last));
                for (so_far, _) in life.gaps.get_mut(shard).into_iter().flatten() {
                    *so_far = (*so_far).min(seen.len());
                }
            }
        }
        // Who saw something of a later lineage was told what the earlier ones had lost.
        let mut latest: BTreeMap<u16, (u32, u64)> = BTreeMap::new();
        for (stream, (position, _)) in &self.newest {
            let (shard, lineage) = shard_and_lineage(stream);
            let seen = latest.entry(shard).or_default();
            *seen = (lineage, *position).max(*seen);
        }
        let beyond = latest.iter().filter(|(shard, (_, position))| *position > last_of(**shard));
        let deceived: Vec<u16> = beyond.map(|(shard, _)| *shard).collect();
        if let Some(life) = self.lives.last_mut() {
            life.deceived.extend(deceived);
        }
        self.newest_message.clear();
    }

    /// It was told that what it saw of a stream from there on is not there any more.
    pub(super) fn forget_from(&mut self, oldest: &Msgid) {
        let Some((position, command)) = self.newest.get_mut(&oldest.stream) else { return };
        if *position >= oldest.position {
            *position = oldest.position.saturating_sub(1);
            command.clear();
        }
    }
}
