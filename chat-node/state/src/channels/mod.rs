//! Shards 1..=S: the channels whose names fall there, and the direct messages of the users at home there.

mod apply;
mod channel;
mod conversation;
mod copies;
mod declared;
mod forget;
mod history;
mod membership;
mod messages;
mod modes;
mod sender;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use self::{
    channel::{Channel, ListEntry, Member, Topic},
    conversation::{Anchor, Conversation, Record},
    copies::CopyMark,
    forget::{FORGOTTEN_KEPT, Forgotten},
    sender::{ID_WINDOW, SESSIONS_PER_USER},
    snapshot::Snapshot,
};
use self::{conversation::ConversationKey, sender::Present};
use crate::{
    ids::{ChannelId, Lineage, Position, ShardId, UserId},
    journal::Journal,
    kept::Kept,
};

#[derive(Clone, Debug)]
pub struct ChannelShard {
    pub(crate) state: State,
    pub(crate) kept: Kept,
    /// Every conversation with its records; the snapshot's index names them, history chunks hold them.
    conversations: BTreeMap<ConversationKey, Arc<Conversation>>,
    derived: Derived,
}

/// What a snapshot holds, beside the kept events and the index of the conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) journal: Journal,
    /// Number of channel shards of the room.
    shards: u16,
    channels: BTreeMap<ChannelId, Arc<Channel>>,
    present: BTreeMap<UserId, Arc<Present>>,
    forgotten: BTreeMap<UserId, Forgotten>,
    /// Highest closing that left `forgotten`.
    forgiven: Position,
    /// Up to where each other shard's direct messages were copied here.
    copied: BTreeMap<ShardId, CopyMark>,
    /// What members who left were, by the position of their leaving, while that is kept for resumes.
    left: BTreeMap<Position, Member>,
    /// Position of the last event of a channel that is no longer kept for resumes.
    dropped_in: BTreeMap<ChannelId, Position>,
    /// The same for what concerned one user alone.
    dropped_for: BTreeMap<UserId, Position>,
}

#[derive(Clone, Debug, Default)]
struct Derived {
    names: BTreeMap<String, ChannelId>,
    peers: BTreeMap<UserId, BTreeSet<UserId>>,
    /// Forgotten users by the position of their closing.
    by_closing: BTreeSet<(Position, UserId)>,
    /// Position of the last direct message that each other shard has to copy.
    last_due: BTreeMap<ShardId, Position>,
    /// Conversations by the time of their oldest record.
    aging: BTreeSet<(u64, ConversationKey)>,
    /// Conversations by their bytes, and the sum of these.
    by_size: BTreeSet<(u64, ConversationKey)>,
    history_bytes: u64,
}

impl ChannelShard {
    /// `shard` of `shards` channel shards.
    pub fn new(shard: ShardId, shards: u16, lineage: Lineage) -> Self {
        assert!((1..=shards).contains(&shard.0), "channel shards are numbered 1..={shards}, not {shard}");
        Self {
            state: State {
                journal: Journal::new(shard, lineage),
                shards,
                channels: BTreeMap::new(),
                present: BTreeMap::new(),
                forgotten: BTreeMap::new(),
                forgiven: Position(0),
                copied: BTreeMap::new(),
                left: BTreeMap::new(),
                dropped_in: BTreeMap::new(),
                dropped_for: BTreeMap::new(),
            },
            kept: Kept::starting_at(Position(1)),
            conversations: BTreeMap::new(),
            derived: Derived::default(),
        }
    }

    pub fn shard(&self) -> ShardId {
        self.state.journal.shard
    }

    pub fn channel(&self, channel: ChannelId) -> Option<&Channel> {
        self.state.channels.get(&channel).map(|channel| &**channel)
    }

    pub fn channel_by_name(&self, folded: &str) -> Option<&Channel> {
        self.derived.names.get(folded).and_then(|id| self.channel(*id))
    }

    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.state.channels.values().map(|channel| &**channel)
    }

    pub fn channel_count(&self) -> usize {
        self.state.channels.len()
    }

    /// The channels of this shard that a user is in.
    pub fn channels_of(&self, user: UserId) -> impl Iterator<Item = ChannelId> + '_ {
        self.state.present.get(&user).into_iter().flat_map(|present| present.channels.iter().copied())
    }

    /// A channel's messages. None if nothing was said yet.
    pub fn history(&self, channel: ChannelId) -> Option<&Conversation> {
        self.conversations.get(&ConversationKey::Channel(channel)).map(|conversation| &**conversation)
    }

    /// What `owner` and `peer` wrote to each other; whole in the home shard of either.
    pub fn direct_history(&self, owner: UserId, peer: UserId) -> Option<&Conversation> {
        self.conversations.get(&ConversationKey::direct(owner, peer)).map(|conversation| &**conversation)
    }

    /// Bytes of all conversations, as [`Conversation::bytes`] counts them.
    pub fn history_bytes(&self) -> u64 {
        self.derived.history_bytes
    }

    /// Whom `owner` exchanged direct messages with; whole in the owner's home shard.
    pub fn direct_peers(&self, owner: UserId) -> impl Iterator<Item = UserId> + '_ {
        self.derived.peers.get(&owner).into_iter().flatten().copied()
    }

    /// What the member was who left by the event at `position`, while that is kept.
    pub(crate) fn left(&self, position: Position) -> Option<&Member> {
        self.state.left.get(&position)
    }
}
