//! The store as a log sees it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use chat_log::{
    log::Durability,
    shared::{
        store::{Beat, Extent, Snapshots, Store, StoreError, StoredEntry},
        watch::Watch,
    },
    snapshot::{NewSnapshot, Snapshot, SnapshotError},
};
use chat_state::ids::{Incarnation, Index, ShardId};
use redis::{Value, aio::MultiplexedConnection};

use crate::{
    error::OpenError,
    link::{Link, Options},
    reader::{Mark, ValkeyReader, entries, mark, unexpected},
    scripts::{APPEND, BEAT, CREATE, FORMAT, LEAVE},
    snapshots,
};

pub struct ValkeyStore {
    link: Arc<Link>,
    watch: Mutex<Watch>,
    started: Instant,
    /// The last entry of each shard when its extent was looked at: what is followed from there is compared with it.
    ends: Mutex<Vec<(Index, Option<Mark>)>>,
}

/// A store with what it held when it was opened.
pub struct Opened {
    pub store: ValkeyStore,
    pub extents: Vec<Extent>,
    pub snapshots: Snapshots,
}

/// Tries to find a snapshot and the entries behind it while other nodes move both.
const TRIES: usize = 5;

impl ValkeyStore {
    /// Connects, makes the room's shards unless they are there, and loads what a node starts with.
    pub async fn open(options: Options) -> Result<Opened, OpenError> {
        let link = Arc::new(Link::new(options));
        let store = Self { link, watch: Mutex::default(), started: Instant::now(), ends: Mutex::default() };
        for _ in 0..TRIES {
            let snapshots = store.load().await?;
            let extents = store.extents().await?;
            let follows = (0..).map(ShardId).zip(&extents).all(|(shard, extent)| {
                let covered = snapshots.of.get(&shard).map_or(Index(0), |(snapshot, _)| snapshot.meta.index);
                extent.first.0 <= covered.0 + 1
            });
            if follows {
                return Ok(Opened { store, extents, snapshots });
            }
            store.link.drop_writer();
        }
        Err(OpenError::Unavailable(format!(
            "the snapshots in the store at {} are replaced faster than they can be read",
            store.link.place()
        )))
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..=self.link.options.shards).map(ShardId)
    }

    async fn load(&self) -> Result<Snapshots, OpenError> {
        self.create().await?;
        let mut found = Snapshots::default();
        for shard in self.shards() {
            if let Some(snapshot) = snapshots::load(&self.link, shard).await? {
                found.of.insert(shard, snapshot);
            }
        }
        Ok(found)
    }

    async fn create(&self) -> Result<(), OpenError> {
        let (mut connection, run_id) = self.link.writer().await?;
        let (place, shards) = (self.link.place(), self.link.options.shards);
        for shard in self.shards() {
            let head: Vec<Option<String>> = CREATE
                .key(self.link.keys.head(shard))
                .arg(FORMAT)
                .arg(shards)
                .arg(&*run_id)
                .invoke_async(&mut connection)
                .await
                .map_err(|error| self.link.sorted(&error))?;
            let field = |n: usize| head.get(n).and_then(Option::as_deref).unwrap_or_default();
            if field(0) != FORMAT.to_string() {
                return Err(OpenError::Unusable(format!(
                    "the store at {place} holds this room in format {}, this program writes {FORMAT}: start the \
                     version that wrote it",
                    field(0)
                )));
            }
            if field(1) != shards.to_string() {
                return Err(OpenError::Unusable(format!(
                    "the room {:?} in the store at {place} was made with {} shards, {shards} are configured. The \
                     number of shards is fixed: configure {}, or name another room",
                    self.link.options.room,
                    field(1),
                    field(1)
                )));
            }
            let lineage = field(2).parse().map_err(|_| OpenError::from(unexpected("HMGET")))?;
            self.link.set_lineage(shard, lineage);
        }
        Ok(())
    }

    /// On the connection on which the extents were read, and so by the same process of the server: what the node loads
    /// from now on is followed by what its reader reads only if this is still there then.
    async fn note_ends(
        &self,
        connection: &mut MultiplexedConnection,
        extents: &[Extent],
    ) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for (shard, extent) in self.shards().zip(extents) {
            let id = format!("{}-0", extent.last);
            pipeline.cmd("XRANGE").arg(self.link.keys.log(shard)).arg(&id).arg(&id);
        }
        let found: Vec<Value> =
            pipeline.query_async(connection).await.map_err(|error| self.gave_up(&error))?;
        let mut ends = Vec::with_capacity(extents.len());
        for ((shard, extent), found) in self.shards().zip(extents).zip(found) {
            ends.push((extent.last, entries(shard, found)?.first().map(mark)));
        }
        *self.ends.lock().expect("no thread panics while it holds the ends") = ends;
        Ok(())
    }

    /// The connection that was found wanting is made anew for the next command.
    fn gave_up(&self, error: &redis::RedisError) -> StoreError {
        let sorted = self.link.sorted(error);
        if error.code() == Some("LINEAGE") {
            self.link.doubt();
        } else if matches!(sorted, StoreError::Unavailable(_)) {
            self.link.drop_writer();
        }
        sorted
    }
}

impl Store for ValkeyStore {
    type Reader = ValkeyReader;

    fn durability(&self) -> Durability {
        self.link.durability()
    }

    async fn extents(&self) -> Result<Vec<Extent>, StoreError> {
        let (mut connection, _) = self.link.writer().await?;
        let mut pipeline = redis::pipe();
        for shard in self.shards() {
            pipeline.cmd("HMGET").arg(self.link.keys.head(shard)).arg("last").arg("snapshot");
            pipeline.cmd("XRANGE").arg(self.link.keys.log(shard)).arg("-").arg("+").arg("COUNT").arg(1);
        }
        let answers: Vec<Value> =
            pipeline.query_async(&mut connection).await.map_err(|error| self.gave_up(&error))?;
        let mut answers = answers.into_iter();
        let mut extents = Vec::new();
        for shard in self.shards() {
            let (Some(head), Some(oldest)) = (answers.next(), answers.next()) else {
                return Err(unexpected("HMGET"));
            };
            let head: Vec<u64> = redis::from_redis_value(head).map_err(|_| unexpected("HMGET"))?;
            let [last, snapshot] = head[..] else { return Err(unexpected("HMGET")) };
            let first = entries(shard, oldest)?.first().map_or(Index(last + 1), |entry| entry.index);
            extents.push(Extent { first, last: Index(last), snapshot: Index(snapshot) });
        }
        self.note_ends(&mut connection, &extents).await?;
        Ok(extents)
    }

    async fn append(&self, shard: ShardId, payload: Arc<[u8]>) -> Result<Index, StoreError> {
        let mut connection = self.link.verified_writer().await?;
        let index: u64 = APPEND
            .key(self.link.keys.head(shard))
            .key(self.link.keys.log(shard))
            .arg(self.link.lineage(shard))
            .arg(&payload[..])
            .invoke_async(&mut connection)
            .await
            .map_err(|error| self.gave_up(&error))?;
        Ok(Index(index))
    }

    fn reader(&self, after: Vec<Index>) -> ValkeyReader {
        let ends = self.ends.lock().expect("no thread panics while it holds the ends");
        let known = |(shard, index): (usize, Index)| {
            let end = ends.get(shard).filter(|(end, _)| *end == index);
            (index, end.and_then(|(_, mark)| *mark))
        };
        ValkeyReader::new(Arc::clone(&self.link), after.into_iter().enumerate().map(known).collect())
    }

    async fn range(
        &self,
        shard: ShardId,
        after: Index,
        bytes: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        // Under load an entry has some ten thousand bytes; a piece may be several times what was asked for.
        let count = (bytes >> 14).max(1);
        let (mut connection, _) = self.link.writer().await?;
        let found: Value = redis::cmd("XRANGE")
            .arg(self.link.keys.log(shard))
            .arg(format!("{}-0", after.0 + 1))
            .arg("+")
            .arg("COUNT")
            .arg(count)
            .query_async(&mut connection)
            .await
            .map_err(|error| self.gave_up(&error))?;
        entries(shard, found)
    }

    async fn save(&self, snapshot: &NewSnapshot) -> Result<Snapshot, SnapshotError> {
        snapshots::save(&self.link, snapshot).await
    }

    async fn beat(&self, incarnation: Incarnation) -> Result<Beat, StoreError> {
        self.link.look_at_files();
        let mut connection = self.link.verified_writer().await?;
        let wishes = self.watch().wishes(incarnation, self.started.elapsed());
        let mut call = BEAT.key(self.link.keys.nodes());
        call.arg(incarnation.0).arg(wishes.from.as_deref().unwrap_or("-"));
        for gone in &wishes.over {
            call.arg(gone.0);
        }
        let answer: Vec<String> =
            call.invoke_async(&mut connection).await.map_err(|error| self.gave_up(&error))?;
        let (leader, nodes) = answer.split_first().ok_or_else(|| unexpected("HGETALL"))?;
        let counts: BTreeMap<Incarnation, u64> = nodes
            .chunks_exact(2)
            .filter_map(|pair| Some((Incarnation(pair[0].parse().ok()?), pair[1].parse().ok()?)))
            .collect();
        Ok(self.watch().heard(incarnation, leader, &counts, self.started.elapsed()))
    }

    async fn leave(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        let mut connection = self.link.verified_writer().await?;
        let _: u64 = LEAVE
            .key(self.link.keys.nodes())
            .arg(incarnation.0)
            .invoke_async(&mut connection)
            .await
            .map_err(|error| self.gave_up(&error))?;
        Ok(())
    }
}

impl ValkeyStore {
    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().expect("no thread panics while it holds the watch")
    }
}
