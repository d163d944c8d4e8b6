//! The state in figures, as one worker sees it.

use chat_session::Worker;
use chat_state::{
    channels::ChannelShard,
    ids::{Index, Position, ShardId},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) sessions: u32,
    pub(crate) detached: u32,
    pub(crate) users: u32,
    pub(crate) channels: u32,
    /// The lowest of all shards.
    pub(crate) settings_revision: u64,
    pub(crate) shards: Vec<(ShardId, Index, Position)>,
}

impl View {
    pub(crate) fn of(worker: &Worker) -> Self {
        let (directory, channels) = (worker.directory(), worker.channels());
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let revisions = channels.iter().map(|shard| shard.settings().revision);
        let shards = channels.iter().map(|shard| (shard.shard(), shard.index(), shard.position()));
        Self {
            sessions: count(directory.session_count()),
            detached: count(directory.detached_count()),
            users: count(directory.user_count()),
            channels: count(channels.iter().map(ChannelShard::channel_count).sum()),
            settings_revision: revisions.chain([directory.settings().revision]).min().unwrap_or(0),
            shards: std::iter::once((ShardId::DIRECTORY, directory.index(), directory.position()))
                .chain(shards)
                .collect(),
        }
    }

    /// Whether a watcher should hear of this at once: positions move with every message, the rest seldom.
    pub(crate) fn differs_notably(&self, other: &Self) -> bool {
        let Self { sessions, detached, users, channels, settings_revision, shards: _ } = self;
        (*sessions, *detached, *users, *channels, *settings_revision)
            != (other.sessions, other.detached, other.users, other.channels, other.settings_revision)
    }
}
