//! Opens the log that the configuration names, wherever it lives.

use std::{sync::Arc, time::Duration};

use chat_log::{
    clock::{Clock, SystemClock},
    disk::FileDisk,
    handle::{HandleOptions, LocalLogHandle, OnFatal},
    identity::Identity,
    local::{LocalLog, LocalOptions},
    log::Log,
    shared::handle::{SharedLogHandle, SharedOptions},
};
use chat_state::ids::{Lineage, MemberId};
use chat_valkey::{OpenError, Options, ValkeyStore};
use contract::config::{LogConfig, NodeConfig, ValkeyLog};
use tokio::{runtime, sync::oneshot, time};

use crate::{
    flushes::{Flushes, MeasuredDisk},
    node::{NodeError, random_number, system},
    recover::StartingPoint,
};

/// Between two tries to reach a store.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A store that cannot be reached is spoken of at the first try, then so often.
const SAY_EVERY: u32 = 30;

/// A log, and what a node starts with.
pub(crate) struct OpenLog {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) member: MemberId,
    pub(crate) start: StartingPoint,
}

pub(crate) fn local(
    config: &NodeConfig,
    shards: u16,
    clock: &Arc<SystemClock>,
    flushes: &Arc<Flushes>,
    on_fatal: OnFatal,
) -> Result<OpenLog, NodeError> {
    let disk = FileDisk::open(&config.data)
        .map_err(|source| NodeError::Data { place: config.data.display().to_string(), source })?;
    let disk = Arc::new(MeasuredDisk::new(disk, Arc::clone(flushes)));
    let identity = Identity {
        member: MemberId(random_number()),
        room: config.network.clone(),
        shards,
        lineage: Lineage::default(),
        cluster: None,
    };
    let (log, recovered) = LocalLog::open(disk, &LocalOptions::new(identity))?;
    let member = recovered.identity.member;
    let store = log.snapshots().clone();
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let log =
        LocalLogHandle::start(log, clock, &HandleOptions::default(), on_fatal).map_err(system("a thread"))?;
    Ok(OpenLog { log: Arc::new(log), member, start: StartingPoint::new(recovered, store) })
}

/// Waits for as long as the store cannot be reached; `waits` is told why.
pub(crate) async fn valkey(
    config: &ValkeyLog,
    on_fatal: OnFatal,
    waits: impl Fn(String) + Send + 'static,
) -> Result<OpenLog, NodeError> {
    let options = Options {
        ca_file: config.ca_file.clone(),
        ..Options::new(config.url_file.clone(), config.room.clone(), config.shards)
    };
    let shards = config.shards;
    // The connections live on the runtime that made them, and that one goes to the log's thread.
    let (answer, opened) = oneshot::channel();
    let open = move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("the log's thread its runtime"))?;
        let found = runtime.block_on(patiently(&options, waits)).map_err(NodeError::Store)?;
        let log = SharedLogHandle::start(
            Arc::new(found.store),
            found.extents,
            runtime,
            SharedOptions::default(),
            on_fatal,
        )
        .map_err(system("a thread"))?;
        let start = StartingPoint::of_store(found.snapshots, shards, Lineage::default());
        Ok(OpenLog { log: Arc::new(log) as Arc<dyn Log>, member: MemberId(random_number()), start })
    };
    std::thread::Builder::new()
        .name("open".to_owned())
        .spawn(move || {
            // Nobody waits any more when the node was told to stop meanwhile.
            let _ = answer.send(open());
        })
        .map_err(system("a thread"))?;
    opened.await.unwrap_or_else(|_| Err(NodeError::Failed("opening the store panicked".to_owned())))
}

async fn patiently(options: &Options, waits: impl Fn(String)) -> Result<chat_valkey::Opened, String> {
    let mut tries = 0;
    loop {
        match ValkeyStore::open(options.clone()).await {
            Ok(opened) => return Ok(opened),
            Err(OpenError::Unusable(reason)) => return Err(reason),
            Err(OpenError::Unavailable(reason)) => {
                if tries % SAY_EVERY == 0 {
                    tracing::warn!(error = reason, "waiting for the store");
                }
                tries += 1;
                waits(reason);
                time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

/// What the configuration says of the log, shortly, for the line that the node is ready.
pub(crate) fn described(config: &NodeConfig) -> String {
    match &config.log {
        LogConfig::Local { .. } => config.data.display().to_string(),
        LogConfig::Valkey(log) => format!("valkey, room {}", log.room),
    }
}
