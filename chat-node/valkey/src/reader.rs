//! Follows the streams of all shards over a connection of its own.

use std::sync::Arc;

use chat_log::shared::store::{Reader, StoreError, StoredEntry};
use chat_state::{
    entry::{Entry, Proposal},
    ids::{Index, Lineage, ShardId},
};
use redis::{Value, aio::MultiplexedConnection};

use crate::{
    error::OpenError,
    link::{Connected, Link},
    scripts::LINEAGE,
};

/// The server waits so long for something new before it answers that there is nothing.
const BLOCK_MS: usize = 1_000;

/// Entries of a stream in one answer.
const COUNT: usize = 128;

/// Checksum of an entry's bytes, and its time: entries of the same bytes may get the same index in two histories.
pub(crate) type Mark = (u32, u64);

pub struct ValkeyReader {
    link: Arc<Link>,
    /// The last entry of each shard that was read, and what it is known by once it is there.
    after: Vec<(Index, Option<Mark>)>,
    connection: Option<(MultiplexedConnection, u64)>,
}

impl ValkeyReader {
    pub(crate) fn new(link: Arc<Link>, after: Vec<(Index, Option<Mark>)>) -> Self {
        Self { link, after, connection: None }
    }

    async fn connection(&mut self) -> Result<MultiplexedConnection, StoreError> {
        if let Some((connection, epoch)) = &self.connection
            && self.link.is_current(*epoch)
        {
            return Ok(connection.clone());
        }
        let patience = self.link.options.answer_within + std::time::Duration::from_millis(BLOCK_MS as u64);
        let Connected { mut connection, run_id, epoch } = self.link.connect(patience).await?;
        self.compare(&mut connection).await?;
        self.open_lineages(&mut connection, &run_id).await?;
        self.link.verified(&run_id);
        self.connection = Some((connection.clone(), epoch));
        Ok(connection)
    }

    /// The store must still hold the last entry that this node was given of each shard, as it was given.
    async fn compare(&mut self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for (shard, (index, _)) in (0..).map(ShardId).zip(&self.after) {
            let id = format!("{index}-0");
            pipeline.cmd("XRANGE").arg(self.link.keys.log(shard)).arg(&id).arg(&id);
        }
        let found: Vec<Value> =
            pipeline.query_async(connection).await.map_err(|error| self.link.sorted(&error))?;
        for ((shard, (index, known)), found) in (0..).map(ShardId).zip(&mut self.after).zip(found) {
            if *index == Index(0) {
                continue;
            }
            let entry = entries(shard, found)?.into_iter().next();
            let found = entry.as_ref().map(mark);
            match (found, *known) {
                (Some(found), None) => *known = Some(found),
                (Some(found), Some(known)) if found == known => {}
                _ => {
                    return Err(StoreError::Broken(format!(
                        "the store at {} does not hold entry {index} of shard {shard} as this node was given it: it \
                         came back with another history (restored, promoted with loss, or not flushed before a \
                         crash). The node starts anew from what is there",
                        self.link.place()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Another process of the server may have lost what nobody here can know of: the log goes on under another lineage,
    /// so that a place in what was lost is never taken for a place in what came instead.
    async fn open_lineages(
        &self,
        connection: &mut MultiplexedConnection,
        run_id: &str,
    ) -> Result<(), StoreError> {
        for shard in (0..).map(ShardId).take(self.after.len()) {
            let head: Vec<Option<String>> = redis::cmd("HMGET")
                .arg(self.link.keys.head(shard))
                .arg("run")
                .arg("lineage")
                .query_async(connection)
                .await
                .map_err(|error| self.link.sorted(&error))?;
            let [Some(run), Some(present)] = &head[..] else { return Err(self.emptied()) };
            let present: u32 = present.parse().map_err(|_| unexpected("HMGET"))?;
            let lineage = if run == run_id {
                u64::from(present)
            } else {
                let next = self.next_lineage(connection, present).await?;
                LINEAGE
                    .key(self.link.keys.head(shard))
                    .key(self.link.keys.log(shard))
                    .arg(run_id)
                    .arg(present)
                    .arg(next)
                    .arg(Entry::encode_proposals(&[Proposal::begins_lineage(Lineage(next))]))
                    .invoke_async(connection)
                    .await
                    .map_err(|error| self.link.sorted(&error))?
            };
            self.link.set_lineage(shard, lineage);
        }
        Ok(())
    }

    /// A number that no lineage bore before, also none that the store has forgotten: seconds by its clock.
    async fn next_lineage(
        &self,
        connection: &mut MultiplexedConnection,
        present: u32,
    ) -> Result<u32, StoreError> {
        let time: Vec<u64> =
            redis::cmd("TIME").query_async(connection).await.map_err(|error| self.link.sorted(&error))?;
        let seconds = time.first().and_then(|seconds| u32::try_from(*seconds).ok()).unwrap_or_default();
        Ok(seconds.max(present + 1))
    }

    fn emptied(&self) -> StoreError {
        StoreError::Broken(format!(
            "the store at {} was emptied while this node used it. The node starts anew from what is there",
            self.link.place()
        ))
    }

    async fn read(&mut self) -> Result<Vec<StoredEntry>, StoreError> {
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
        for shard in (0..).map(ShardId).take(self.after.len()) {
            command.arg(self.link.keys.log(shard));
        }
        for (index, _) in &self.after {
            command.arg(format!("{index}-0"));
        }
        let answer: Value =
            command.query_async(&mut connection).await.map_err(|error| self.link.sorted(&error))?;
        let streams = match answer {
            Value::Nil => return Ok(Vec::new()),
            Value::Array(streams) => streams,
            _ => return Err(unexpected("XREAD")),
        };
        let mut all = Vec::new();
        for stream in streams {
            let Value::Array(stream) = stream else { return Err(unexpected("XREAD")) };
            let [Value::BulkString(key), found] =
                <[Value; 2]>::try_from(stream).map_err(|_| unexpected("XREAD"))?
            else {
                return Err(unexpected("XREAD"));
            };
            let shard = (0..)
                .map(ShardId)
                .take(self.after.len())
                .find(|shard| self.link.keys.log(*shard).as_bytes() == key)
                .ok_or_else(|| unexpected("XREAD"))?;
            let found = entries(shard, found)?;
            if let Some(last) = found.last() {
                self.after[usize::from(shard.0)] = (last.index, Some(mark(last)));
            }
            all.extend(found);
        }
        Ok(all)
    }
}

impl Reader for ValkeyReader {
    async fn next(&mut self) -> Result<Vec<StoredEntry>, StoreError> {
        loop {
            match self.read().await {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => return Ok(entries),
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
            }
        }
    }
}

pub(crate) fn mark(entry: &StoredEntry) -> Mark {
    (crc32c::crc32c(&entry.payload), entry.time_ms)
}

/// Entries as XRANGE and XREAD give them: `[[id, [name, value, …]], …]`.
pub(crate) fn entries(shard: ShardId, found: Value) -> Result<Vec<StoredEntry>, StoreError> {
    let Value::Array(found) = found else { return Err(unexpected("XRANGE")) };
    found.into_iter().map(|one| entry(shard, one).ok_or_else(|| unexpected("XRANGE"))).collect()
}

fn entry(shard: ShardId, value: Value) -> Option<StoredEntry> {
    let Value::Array(pair) = value else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(pair).ok()? else {
        return None;
    };
    let id = String::from_utf8(id).ok()?;
    let index = Index(id.strip_suffix("-0")?.parse().ok()?);
    let [_, Value::BulkString(time), _, Value::BulkString(payload)] = <[Value; 4]>::try_from(fields).ok()?
    else {
        return None;
    };
    let time_ms = std::str::from_utf8(&time).ok()?.parse().ok()?;
    Some(StoredEntry { shard, index, time_ms, payload })
}

pub(crate) fn unexpected(command: &str) -> StoreError {
    OpenError::Unusable(format!(
        "the store answers {command} with something else than a log: another program uses the keys of this room"
    ))
    .into()
}
