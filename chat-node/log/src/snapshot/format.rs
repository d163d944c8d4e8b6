//! Names and bytes of snapshots and chunks.

use chat_state::ids::{Index, ShardId};
use serde::{Deserialize, Serialize};

use super::{ChunkRef, MAX_STATE_BYTES, Snapshot, SnapshotMeta};

const MAGIC: &[u8; 8] = b"CHATSNAP";
const VERSION: u32 = 1;
/// With a place behind the head. Only what has one is written so, since older programs cannot read it.
const VERSION_WITH_PLACE: u32 = 2;
const TEMPORARY: &str = ".tmp";
/// Magic, version, length of the head, CRC over all that follows it.
const PREFIX: usize = 8 + 4 + 4 + 4;

#[derive(Serialize, Deserialize)]
struct Head {
    meta: SnapshotMeta,
    chunks: Vec<ChunkRef>,
    state_bytes: u64,
}

/// A snapshot as one piece of bytes with a checksum.
pub fn encode(meta: &SnapshotMeta, chunks: &[ChunkRef], place: &[u8], state: &[u8]) -> Vec<u8> {
    let head = Head { meta: *meta, chunks: chunks.to_vec(), state_bytes: state.len() as u64 };
    let (version, head) = if place.is_empty() {
        (VERSION, postcard::to_allocvec(&head))
    } else {
        (VERSION_WITH_PLACE, postcard::to_allocvec(&(head, place)))
    };
    let head = head.expect("writing to memory does not fail");
    let head_bytes = u32::try_from(head.len()).expect("a snapshot has fewer than 4 GiB of chunk names");
    let mut bytes = Vec::with_capacity(PREFIX + head.len() + state.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&head_bytes.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(state);
    let crc = checksum(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The snapshot that [`encode`] made bytes of, or what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, &'static str> {
    if bytes.len() < PREFIX {
        return Err("it is cut short");
    }
    if &bytes[..8] != MAGIC {
        return Err("it does not begin like a snapshot");
    }
    if checksum(bytes) != number(bytes, 16) {
        return Err("its bytes do not fit its checksum");
    }
    let head_bytes = number(bytes, 12) as usize;
    let head = bytes.get(PREFIX..PREFIX + head_bytes).ok_or("it is cut short")?;
    let unreadable = |_| "its head cannot be read";
    let (head, place): (Head, Vec<u8>) = match number(bytes, 8) {
        VERSION => (postcard::from_bytes(head).map_err(unreadable)?, Vec::new()),
        VERSION_WITH_PLACE => postcard::from_bytes(head).map_err(unreadable)?,
        _ => {
            return Err(
                "it has a format that this program does not know; a newer version may have written it",
            );
        }
    };
    let state = &bytes[PREFIX + head_bytes..];
    if head.state_bytes > MAX_STATE_BYTES || state.len() as u64 != head.state_bytes {
        return Err("it is not as long as it says");
    }
    Ok(Snapshot { meta: head.meta, state: state.to_vec(), chunks: head.chunks, place })
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Over everything but itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..])
}

pub(super) fn snapshot_name(shard: ShardId, index: Index) -> String {
    format!("snapshot-{:05}-{:020}", shard.0, index.0)
}

pub(super) fn parse_snapshot_name(name: &str) -> Option<(ShardId, Index)> {
    let (shard, index) = name.strip_prefix("snapshot-")?.split_once('-')?;
    let parsed = (ShardId(shard.parse().ok()?), Index(index.parse().ok()?));
    (snapshot_name(parsed.0, parsed.1) == name).then_some(parsed)
}

pub(super) fn chunk_name(shard: ShardId, chunk: &ChunkRef) -> String {
    format!("{}{:020}-{:020}-{:08x}", chunk_prefix(shard), chunk.first.0, chunk.last.0, chunk.crc)
}

fn chunk_prefix(shard: ShardId) -> String {
    format!("chunk-{:05}-", shard.0)
}

pub(super) fn is_chunk_of(name: &str, shard: ShardId) -> bool {
    name.starts_with(&chunk_prefix(shard)) && !is_temporary(name)
}

pub(super) fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY}")
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}
