//! How long messages take from their line to their entry.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use chat_state::{
    command::{ChannelCommand, Command},
    entry::{Entry, Origin, Request},
    ids::ShardId,
};

use crate::figures::Durations;

/// Messages of one worker that are on their way. Those of a shard come back in the order they went.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    on_their_way: HashMap<ShardId, VecDeque<(Origin, Instant)>>,
    pub(crate) seen: Durations,
}

impl Latency {
    /// A request goes to the log; `read` is when its line was.
    pub(crate) fn sent(&mut self, shard: ShardId, request: &Request, read: Instant) {
        if let (Some(origin), Command::Channel(ChannelCommand::Message { .. })) =
            (request.origin, &request.command)
        {
            self.on_their_way.entry(shard).or_default().push_back((origin, read));
        }
    }

    /// An entry came back.
    pub(crate) fn came_back(&mut self, shard: ShardId, entry: &Entry, now: Instant) {
        let Some(waiting) = self.on_their_way.get_mut(&shard) else { return };
        for proposal in &entry.proposals {
            let Some((origin, read)) = waiting.front() else { return };
            if proposal.origin == Some(*origin) {
                self.seen.observe(now.saturating_duration_since(*read));
                waiting.pop_front();
            }
        }
    }

    /// The log refused a request.
    pub(crate) fn refused(&mut self, shard: ShardId, origin: Option<Origin>) {
        if let (Some(waiting), Some(origin)) = (self.on_their_way.get_mut(&shard), origin) {
            waiting.retain(|(waits, _)| *waits != origin);
        }
    }
}
