//! Snapshots in the store: uploaded beside the one in force, then put in force in one step.

use chat_log::{
    shared::store::StoreError,
    snapshot::{ChunkRef, NewSnapshot, Snapshot, SnapshotError, decode_snapshot, encode_snapshot},
};
use chat_state::ids::{Index, ShardId};
use redis::RedisError;

use crate::{link::Link, scripts::SAVE};

/// What was uploaded and not put in force goes by itself.
const UPLOAD_SECONDS: u64 = 3_600;

/// Tries to load a snapshot while other nodes replace it.
const TRIES: usize = 5;

pub(crate) async fn save(link: &Link, new: &NewSnapshot) -> Result<Snapshot, SnapshotError> {
    let shard = new.meta.shard;
    let failed = |error: &RedisError| in_words(link, new, error);
    let (mut connection, _) = link.writer().await.map_err(|error| store_error(link, &error.into()))?;
    let mut chunks = new.kept_chunks.clone();
    for chunk in &new.new_chunks {
        let crc = crc32c::crc32c(&chunk.bytes);
        let kept = ChunkRef { first: chunk.first, last: chunk.last, bytes: chunk.bytes.len() as u64, crc };
        upload(&mut connection, &link.keys.chunk(shard, &kept), &chunk.bytes)
            .await
            .map_err(|e| failed(&e))?;
        chunks.push(kept);
    }
    chunks.sort();
    let bytes = encode_snapshot(&new.meta, &chunks, &new.place, &new.state);
    let key = link.keys.snapshot(shard, new.meta.index, crc32c::crc32c(&bytes));
    upload(&mut connection, &key, &bytes).await.map_err(|e| failed(&e))?;

    let mut call = SAVE.key(link.keys.head(shard));
    call.key(link.keys.log(shard)).key(link.keys.in_use(shard));
    call.arg(link.lineage(shard)).arg(new.meta.index.0).arg(&key);
    for chunk in &chunks {
        call.arg(link.keys.chunk(shard, chunk));
    }
    let _: String = call.invoke_async(&mut connection).await.map_err(|e| failed(&e))?;
    Ok(Snapshot { meta: new.meta, state: Vec::new(), chunks, place: new.place.clone() })
}

/// A key that is there already, under the checksum of its bytes, is the same; only its end is put off.
async fn upload(
    connection: &mut redis::aio::MultiplexedConnection,
    key: &str,
    bytes: &[u8],
) -> Result<(), RedisError> {
    let added: Option<String> = redis::cmd("SET")
        .arg(key)
        .arg(bytes)
        .arg("EX")
        .arg(UPLOAD_SECONDS)
        .arg("NX")
        .query_async(connection)
        .await?;
    if added.is_none() {
        // Not of one that is in force: that one has no end.
        let () = redis::cmd("EXPIRE").arg(key).arg(UPLOAD_SECONDS).arg("XX").query_async(connection).await?;
    }
    Ok(())
}

fn in_words(link: &Link, new: &NewSnapshot, error: &RedisError) -> SnapshotError {
    let shard = new.meta.shard;
    let number = || error.detail().and_then(|detail| detail.parse().ok()).map_or(Index(0), Index);
    match error.code() {
        Some("NOTNEWER") => SnapshotError::NotNewer { shard, given: new.meta.index, present: number() },
        Some("NOTYET") => SnapshotError::NotYet { shard, given: new.meta.index, last: number() },
        Some("MISSING") => {
            SnapshotError::UnknownChunk { file: error.detail().unwrap_or_default().to_owned() }
        }
        _ => store_error(link, &link.sorted(error)),
    }
}

fn store_error(link: &Link, error: &StoreError) -> SnapshotError {
    SnapshotError::Store { place: link.place(), reason: error.to_string() }
}

/// The snapshot in force of a shard, with its chunks.
pub(crate) async fn load(
    link: &Link,
    shard: ShardId,
) -> Result<Option<(Snapshot, Vec<Vec<u8>>)>, StoreError> {
    let (mut connection, _) = link.writer().await?;
    let mut damage = String::new();
    for _ in 0..TRIES {
        let key: Option<String> = redis::cmd("HGET")
            .arg(link.keys.head(shard))
            .arg("snapshotKey")
            .query_async(&mut connection)
            .await
            .map_err(|error| link.sorted(&error))?;
        let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
        match load_key(link, &mut connection, shard, &key).await? {
            Ok(found) => return Ok(Some(found)),
            // Replaced meanwhile, or really damaged: the next look tells.
            Err(what) => damage = what,
        }
    }
    Err(StoreError::Broken(format!(
        "the snapshot of shard {shard} in the store at {} cannot be used: {damage}. Bring the store back from a backup",
        link.place()
    )))
}

type Loaded = (Snapshot, Vec<Vec<u8>>);

async fn load_key(
    link: &Link,
    connection: &mut redis::aio::MultiplexedConnection,
    shard: ShardId,
    key: &str,
) -> Result<Result<Loaded, String>, StoreError> {
    let get = |key: String| redis::cmd("GET").arg(key).to_owned();
    let bytes: Option<Vec<u8>> =
        get(key.to_owned()).query_async(connection).await.map_err(|error| link.sorted(&error))?;
    let Some(bytes) = bytes else { return Ok(Err("it is not there".to_owned())) };
    let snapshot = match decode_snapshot(&bytes) {
        Ok(snapshot) => snapshot,
        Err(what) => return Ok(Err(what.to_owned())),
    };
    let mut chunks = Vec::with_capacity(snapshot.chunks.len());
    for chunk in &snapshot.chunks {
        let bytes: Option<Vec<u8>> = get(link.keys.chunk(shard, chunk))
            .query_async(connection)
            .await
            .map_err(|error| link.sorted(&error))?;
        match bytes {
            Some(bytes) if crc32c::crc32c(&bytes) == chunk.crc => chunks.push(bytes),
            Some(_) => return Ok(Err("a chunk of its history does not fit its checksum".to_owned())),
            None => return Ok(Err("a chunk of its history is not there".to_owned())),
        }
    }
    Ok(Ok((snapshot, chunks)))
}
