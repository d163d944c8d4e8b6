//! Connections to the store: where it is, who we are to it, and whether it is fit to hold a log.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chat_log::log::Durability;
use chat_state::ids::ShardId;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};

use crate::{
    error::{OpenError, cannot_connect, sort},
    given::{Given, Way},
    keys::Keys,
};

#[derive(Clone, Debug)]
pub struct Options {
    /// A file that holds the store's URL: `redis://user:password@host:6379/0`, or `rediss://` for TLS. It is read
    /// again for every connection, and never shown.
    pub url_file: PathBuf,
    /// Certificates (PEM) that a `rediss://` server's is checked against; the system's if there are none.
    pub ca_file: Option<PathBuf>,
    /// Tells rooms in one store apart.
    pub room: String,
    pub shards: u16,
    pub connect_within: Duration,
    /// A command that takes longer is given up; what came of it is then unknown.
    pub answer_within: Duration,
}

impl Options {
    pub fn new(url_file: PathBuf, room: String, shards: u16) -> Self {
        let (connect_within, answer_within) = (Duration::from_secs(2), Duration::from_secs(3));
        Self { url_file, ca_file: None, room, shards, connect_within, answer_within }
    }
}

/// What all connections of this node to the store have in common.
pub struct Link {
    pub(crate) options: Options,
    pub(crate) keys: Keys,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection for everything but reading, and the life of the server that it leads to.
    writer: Option<(MultiplexedConnection, RunId)>,
    /// The life of the server whose history was compared with ours.
    verified: Option<RunId>,
    /// Of each shard, the directory first, as far as this node knows.
    lineages: Vec<u64>,
    durability: Option<Durability>,
    /// What the files said when connections were last made.
    given: Option<Given>,
    /// Why what they say now is not followed.
    mistake: Option<String>,
    /// Host and port, for messages.
    place: String,
    /// Raised when the files changed: older connections end.
    epoch: u64,
}

/// Changes whenever the server process does.
pub(crate) type RunId = Arc<str>;

/// A new connection, and what the server said of itself.
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) run_id: RunId,
    pub(crate) epoch: u64,
}

impl Link {
    pub fn new(options: Options) -> Self {
        let keys = Keys::new(&options.room);
        Self { options, keys, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the link's state")
    }

    pub fn durability(&self) -> Durability {
        self.state().durability.unwrap_or(Durability::Memory)
    }

    pub(crate) fn place(&self) -> String {
        self.state().place.clone()
    }

    /// A command's error, for the log.
    pub(crate) fn sorted(&self, error: &redis::RedisError) -> chat_log::shared::store::StoreError {
        sort(error, &self.place())
    }

    /// The connection for single commands; made if there is none.
    pub(crate) async fn writer(&self) -> Result<(MultiplexedConnection, RunId), OpenError> {
        if let Some((connection, run_id)) = &self.state().writer {
            return Ok((connection.clone(), Arc::clone(run_id)));
        }
        let Connected { connection, run_id, .. } = self.connect(self.options.answer_within).await?;
        let mut state = self.state();
        state.writer = Some((connection.clone(), Arc::clone(&run_id)));
        Ok((connection, run_id))
    }

    /// The writer, if it leads to the server whose history was compared with ours.
    pub(crate) async fn verified_writer(&self) -> Result<MultiplexedConnection, OpenError> {
        let (connection, run_id) = self.writer().await?;
        let verified = self.state().verified.clone();
        if verified.as_ref() == Some(&run_id) {
            return Ok(connection);
        }
        if verified.is_some() {
            // This may be the connection that is behind, to a process that is gone: as it is not used, nothing would
            // tell.
            self.drop_writer();
        }
        let place = self.place();
        Err(OpenError::Unavailable(format!(
            "the history of the store at {place} is being compared with ours"
        )))
    }

    /// A command failed: the next one gets a new connection.
    pub(crate) fn drop_writer(&self) {
        self.state().writer = None;
    }

    pub(crate) fn lineage(&self, shard: ShardId) -> u64 {
        self.state().lineages.get(usize::from(shard.0)).copied().unwrap_or_default()
    }

    pub(crate) fn set_lineage(&self, shard: ShardId, lineage: u64) {
        let mut state = self.state();
        let shard = usize::from(shard.0);
        if state.lineages.len() <= shard {
            state.lineages.resize(shard + 1, 0);
        }
        state.lineages[shard] = lineage;
    }

    /// The store may hold another history: it is compared with ours before anything is appended.
    pub(crate) fn doubt(&self) {
        let mut state = self.state();
        state.verified = None;
        state.writer = None;
        state.epoch += 1;
    }

    pub(crate) fn verified(&self, run_id: &RunId) {
        self.state().verified = Some(Arc::clone(run_id));
    }

    /// Whether a connection of that time still goes by what the files say.
    pub(crate) fn is_current(&self, epoch: u64) -> bool {
        self.state().epoch == epoch
    }

    /// Looks at the files; if they changed, connections are made anew. Those that stand outlive a mistake in the files.
    pub(crate) fn look_at_files(&self) {
        let given = Given::read(&self.options).and_then(|given| given.way(&self.options).map(|_| given));
        let mut state = self.state();
        match given {
            Ok(given) if state.given.as_ref() == Some(&given) => state.mistake = None,
            Ok(given) => {
                tracing::info!("the store's URL or certificates changed: connecting anew");
                state.given = Some(given);
                state.mistake = None;
                state.writer = None;
                state.epoch += 1;
            }
            Err(error) => {
                let error = error.to_string();
                if state.mistake.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the next connection to the store will fail; those that stand go on"
                    );
                    state.mistake = Some(error);
                }
            }
        }
    }

    /// What the files say, and the way that they name. A mistake there ends a node that starts; one that has been at
    /// work waits until it is mended, as all nodes of a room read the same files.
    fn given(&self) -> Result<(Given, Way), OpenError> {
        let given =
            Given::read(&self.options).and_then(|given| given.way(&self.options).map(|way| (given, way)));
        match given {
            Err(OpenError::Unusable(reason)) if self.state().given.is_some() => {
                Err(OpenError::Unavailable(reason))
            }
            given => given,
        }
    }

    /// A connection of its own to a server that is fit to hold a log.
    pub(crate) async fn connect(&self, answer_within: Duration) -> Result<Connected, OpenError> {
        let (given, Way { client, place, tls }) = self.given()?;
        let epoch = {
            let mut state = self.state();
            state.place.clone_from(&place);
            if state.given.as_ref() != Some(&given) {
                state.given = Some(given);
                state.epoch += 1;
            }
            state.epoch
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_within))
            .set_response_timeout(Some(answer_within));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| cannot_connect(&error, &place, tls))?;
        let run_id = self.examine(&mut connection, &place).await?;
        Ok(Connected { connection, run_id, epoch })
    }

    /// Refuses a server that could lose what it was given without saying so, and notes how durable it is.
    async fn examine(&self, connection: &mut MultiplexedConnection, place: &str) -> Result<RunId, OpenError> {
        let info: String =
            redis::cmd("INFO").query_async(connection).await.map_err(|error| sort(&error, place))?;
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if field("loading") == Some("1") {
            return Err(OpenError::Unavailable(format!("the store at {place} is still reading its data")));
        }
        if field("cluster_enabled") == Some("1") {
            return Err(OpenError::Unusable(format!(
                "the store at {place} is a cluster; name a server that is none (a primary with replicas is fine)"
            )));
        }
        if let Some(policy) = field("maxmemory_policy")
            && policy != "noeviction"
        {
            return Err(OpenError::Unusable(format!(
                "the store at {place} drops keys when its memory is full (maxmemory-policy {policy}): that would \
                 lose messages. Set maxmemory-policy noeviction"
            )));
        }
        let major = field("redis_version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major.is_some_and(|major| major < 6) {
            return Err(OpenError::Unusable(format!(
                "the store at {place} is Redis {}: Valkey 7.2 or Redis 6.2 is the oldest that will do",
                field("redis_version").unwrap_or("of unknown version")
            )));
        }
        let persistent = field("aof_enabled") == Some("1");
        let fsync: Vec<String> =
            match redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await {
                Ok(pair) => pair,
                // A hosted store may not let us look; then it is not known to flush.
                Err(error) if error.code().is_some() => Vec::new(),
                Err(error) => return Err(sort(&error, place).into()),
            };
        let reads_back = !persistent || self.reads_back(connection, place).await?;
        let durability = match (persistent && reads_back, fsync.get(1).map(String::as_str)) {
            (true, Some("always")) => Durability::LocalFsync,
            (true, _) => Durability::BestEffort,
            (false, _) => Durability::Memory,
        };
        let before = self.state().durability.replace(durability);
        if !reads_back && before != Some(durability) {
            tracing::warn!(
                "the store at {place} may forget everything when it restarts: its user `default` may not write, and \
                 servers without the fix of redis/redis#14541 or valkey-io/valkey#3983 read their own file with the \
                 rights of that user. Give it a password instead of taking its rights away"
            );
        }
        let run_id = field("run_id").ok_or_else(|| {
            OpenError::Unusable(format!(
                "the store at {place} does not say which process it is (INFO run_id)"
            ))
        })?;
        Ok(run_id.into())
    }

    /// Whether the server will read back what it wrote to its append-only file. What scripts wrote is a transaction there,
    /// and many versions check each against the rights of the user `default`, leaving out what it may not do.
    async fn reads_back(
        &self,
        connection: &mut MultiplexedConnection,
        place: &str,
    ) -> Result<bool, OpenError> {
        let key = Keys::new(&self.options.room).log(ShardId(0));
        let mut ask = redis::cmd("ACL");
        ask.arg("DRYRUN").arg("default").arg("XADD").arg(key).arg("*").arg("field").arg("value");
        match ask.query_async::<String>(connection).await {
            Ok(answer) => Ok(answer == "OK"),
            // Nobody to ask: too old for the question, or it is not ours to put.
            Err(error) if error.code().is_some() => Ok(true),
            Err(error) => Err(sort(&error, place).into()),
        }
    }
}
