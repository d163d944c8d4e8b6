//! Opens the log that the configuration names, wherever it lives.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chat_log::{
    clock::{Clock, SystemClock},
    disk::FileDisk,
    handle::{HandleOptions, LocalLogHandle, OnFatal},
    identity::Identity,
    local::{LocalLog, LocalOptions},
    log::{Log, Reason},
    shared::handle::{Savers, SharedLogHandle, SharedOptions},
    wal::WalOptions,
};
use chat_raft::{
    control::Control,
    open::{Found, Surroundings},
    peers::{PeerOptions, Tls},
    types::PeerNode,
};
use chat_state::ids::{Lineage, MemberId};
use chat_valkey::{OpenError, Options, ValkeyStore};
use contract::config::{LogConfig, NodeConfig, PEER_NAME, RaftLog, ValkeyLog};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    certificates::Certificate,
    doors::PeerDoor,
    flushes::{Flushes, MeasuredDisk},
    node::{NodeError, random_number, system},
    recover::StartingPoint,
};

/// Between two tries to reach a store.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Another leader may be there a moment later.
const RAFT_RETRY_EVERY: Duration = Duration::from_millis(20);
/// A store that cannot be reached is spoken of at the first try, then so often.
const SAY_EVERY: u32 = 30;

/// A log, and what a node starts with.
pub(crate) struct OpenLog {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) member: MemberId,
    pub(crate) start: StartingPoint,
    /// The other nodes, where they keep the log together with this one.
    pub(crate) cluster: Option<Control>,
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
    let start = StartingPoint::new(recovered, store);
    Ok(OpenLog { log: Arc::new(log), member, start, cluster: None })
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
    on_a_runtime(move |runtime| {
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
        let member = MemberId(random_number());
        Ok(OpenLog { log: Arc::new(log) as Arc<dyn Log>, member, start, cluster: None })
    })
    .await
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

/// Waits until this node is a part of its room and has what the others have; `waits` is told for what.
pub(crate) async fn raft(
    config: &NodeConfig,
    raft: &RaftLog,
    door: PeerDoor,
    flushes: &Arc<Flushes>,
    (control, orders): (Control, mpsc::Receiver<Found>),
    on_fatal: OnFatal,
    waits: impl Fn(String) + Send + 'static,
) -> Result<OpenLog, NodeError> {
    let disk = FileDisk::open(&config.data)
        .map_err(|source| NodeError::Data { place: config.data.display().to_string(), source })?;
    let disk = Arc::new(MeasuredDisk::new(disk, Arc::clone(flushes)));
    let options = chat_raft::open::Options {
        room: config.network.clone(),
        shards: raft.shards,
        tolerate: raft.tolerate,
        node: PeerNode {
            name: raft.name.clone(),
            address: raft.advertise.clone(),
            host: raft.domains.host.clone(),
            zone: raft.domains.zone.clone(),
            leaving: false,
        },
        peers: raft.peers.clone(),
        wal: WalOptions::new(0),
        peer_options: PeerOptions::default(),
    };
    let PeerDoor { listener, certificate } = door;
    let on_fatal = Arc::new(Mutex::new(Some(on_fatal)));
    let shards = raft.shards;
    on_a_runtime(move |runtime| {
        let cluster = control.clone();
        let of_log = Arc::clone(&on_fatal);
        let opened = runtime.block_on(async {
            let surroundings = Surroundings {
                disk,
                clock: Arc::new(SystemClock::new()),
                listener: tokio::net::TcpListener::from_std(listener).map_err(system("the peer listener"))?,
                tls: certificate.map(peer_tls),
                random: Arc::new(random_number),
                on_fatal,
            };
            let opened = chat_raft::open::open(&options, surroundings, &control, orders, waits).await;
            opened.map_err(NodeError::Raft)
        })?;
        let chat_raft::open::Opened { store, member, lineage, extents, snapshots } = opened;
        let options = SharedOptions {
            savers: Savers::EveryNode,
            out_of_reach: Reason::NoQuorum,
            retry_every: RAFT_RETRY_EVERY,
            ..SharedOptions::default()
        };
        let on_fatal: OnFatal = Box::new(move |reason| chat_raft::open::say_fatal(&of_log, reason));
        let log = SharedLogHandle::start(Arc::new(store), extents, runtime, options, on_fatal)
            .map_err(system("a thread"))?;
        let start = StartingPoint::of_store(snapshots, shards, lineage);
        Ok(OpenLog { log: Arc::new(log) as Arc<dyn Log>, member, start, cluster: Some(cluster) })
    })
    .await
}

/// Runs what opens a log on a thread of its own, with the runtime that the log's thread then has: connections live on the one
/// that made them.
async fn on_a_runtime<F>(open: F) -> Result<OpenLog, NodeError>
where
    F: FnOnce(runtime::Runtime) -> Result<OpenLog, NodeError> + Send + 'static,
{
    let (answer, opened) = oneshot::channel();
    std::thread::Builder::new()
        .name("open".to_owned())
        .spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(system("the log's thread its runtime"));
            // Nobody waits any more when the node was told to stop meanwhile.
            let _ = answer.send(runtime.and_then(open));
        })
        .map_err(system("a thread"))?;
    opened.await.unwrap_or_else(|_| Err(NodeError::Failed("opening the log panicked".to_owned())))
}

fn peer_tls(certificate: Arc<Certificate>) -> Tls {
    let server = Arc::clone(&certificate);
    Tls {
        server: Arc::new(move || server.config()),
        client: Arc::new(move || certificate.client_config()),
        name: PEER_NAME,
    }
}

/// What the configuration says of the log, shortly, for the line that the node is ready.
pub(crate) fn described(config: &NodeConfig) -> String {
    match &config.log {
        LogConfig::Local { .. } => config.data.display().to_string(),
        LogConfig::Valkey(log) => format!("valkey, room {}", log.room),
        LogConfig::Raft(log) => format!("raft, {}, {}", log.name, config.data.display()),
    }
}
