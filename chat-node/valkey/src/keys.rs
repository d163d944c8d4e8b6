//! Names of the keys. All keys of a shard have the same hash tag, and so live in the same place.

use chat_log::snapshot::ChunkRef;
use chat_state::ids::{Index, ShardId};

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    room: String,
}

impl Keys {
    /// `room` tells rooms in one store apart; braces would end the hash tag early.
    pub(crate) fn new(room: &str) -> Self {
        Self { room: room.replace(['{', '}'], "_") }
    }

    fn of(&self, shard: ShardId, what: &str) -> String {
        format!("chatroom:{{{}/{shard}}}:{what}", self.room)
    }

    pub(crate) fn head(&self, shard: ShardId) -> String {
        self.of(shard, "head")
    }

    pub(crate) fn log(&self, shard: ShardId) -> String {
        self.of(shard, "log")
    }

    /// The set of the keys that the snapshot in force is made of.
    pub(crate) fn in_use(&self, shard: ShardId) -> String {
        self.of(shard, "kept")
    }

    pub(crate) fn snapshot(&self, shard: ShardId, index: Index, crc: u32) -> String {
        self.of(shard, &format!("snapshot:{index}-{crc:08x}"))
    }

    pub(crate) fn chunk(&self, shard: ShardId, chunk: &ChunkRef) -> String {
        self.of(shard, &format!("chunk:{}-{}-{:08x}", chunk.first, chunk.last, chunk.crc))
    }

    pub(crate) fn nodes(&self) -> String {
        self.of(ShardId::DIRECTORY, "nodes")
    }
}
