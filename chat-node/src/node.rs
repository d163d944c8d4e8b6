//! A node put together: its log, its workers, its doors, from the start to the last snapshot.

use std::{io, num::NonZeroU16, sync::Arc, thread::JoinHandle, time::Duration};

use chat_log::{
    clock::{Clock, SystemClock},
    follower::Follower,
    handle::OnFatal,
    identity::IdentityError,
    local::OpenError,
    log::{FollowError, Log},
};
use chat_protocol::UnixMillis;
use chat_raft::control::Control;
use chat_session::{Housekeeper, Random, Revision, SessionConfig, StrictTransport, Worker};
use contract::{
    config::{LogConfig, NodeConfig},
    duration::Span,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time,
};

use crate::{
    admin,
    admission::Admission,
    board::{Board, Phase, Told},
    certificate::CertificateError,
    certificates::Certificates,
    chores::Chores,
    crew::{Crew, Order},
    descriptors,
    doors::{self, Addresses, DoorError, Doors, PeerDoor, Posts},
    drain,
    flushes::Flushes,
    front::Front,
    lobby::Lobby,
    open::{self, OpenLog},
    recover::{RecoverError, StartingPoint},
    settings,
    snapshots::{self, Desk},
    worker::{Seat, Tools, WorkerThread},
};

/// Between two looks whether the room lets this member go.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why a node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("cannot open the data directory {place}: {source}")]
    Data { place: String, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot recover: {0}")]
    Recover(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Listen(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Raft(chat_raft::open::OpenError),
    /// The store cannot hold this room's log, in words for who configures it.
    #[error("{0}")]
    Store(String),
    #[error("cannot follow the log: {0}")]
    Follow(#[from] FollowError),
    #[error("the system refuses {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{0}")]
    Failed(String),
}

impl NodeError {
    /// Another configuration than this one would do.
    pub(crate) fn is_of_configuration(&self) -> bool {
        matches!(
            self,
            Self::Store(_)
                | Self::Certificate(_)
                | Self::Open(OpenError::Identity(
                    IdentityError::OtherRoom { .. }
                        | IdentityError::OtherShards { .. }
                        | IdentityError::RoomName
                ))
        )
    }
}

impl From<DoorError> for NodeError {
    fn from(error: DoorError) -> Self {
        Self::Listen(Box::new(error))
    }
}

impl From<RecoverError> for NodeError {
    fn from(error: RecoverError) -> Self {
        Self::Recover(Box::new(error))
    }
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}

/// What threads report to the main one.
enum Notice {
    /// A worker has applied what was in the log.
    CaughtUp,
    /// The node is registered and its settings are in force.
    Settled,
    Failed(String),
}

type Notices = mpsc::UnboundedSender<Notice>;

/// Random bytes of the system.
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has random bytes");
    }
}

pub(crate) fn random_number() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Runs a node until it is told to stop. Ok after a drain.
pub(crate) fn run(config: &NodeConfig) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the main thread its runtime"))?;
    descriptors::raise_limit(config.limits.max_connections);
    let (certificates, watch) = Certificates::load(&config.listeners)?;
    let (notices, mut heard) = mpsc::unbounded_channel();
    let outcome: Result<_, NodeError> = runtime.block_on(async {
        let (doors, posts, peer_door, addresses) = doors::bind(&config.listeners, &certificates)?;
        let mut stop_signals = StopSignals::new()?;
        tokio::spawn(watch.run());
        let clock = Arc::new(SystemClock::new());
        let flushes = Arc::new(Flushes::default());
        let opened = tokio::select! {
            opened = open_log(config, &clock, &flushes, &notices, &posts, peer_door) => opened?,
            () = stop_signals.next() => return Ok(None),
        };
        let strict_transport = strict_transport(config, &addresses);
        let node = Node::start(config, strict_transport, opened, certificates, &clock, flushes, &notices)?;
        drop(notices);
        let openings = Openings { doors, posts, addresses };
        node.oversee(config, openings, &mut stop_signals, &mut heard).await?;
        Ok(Some(node))
    });
    // After a failure there is nothing to tidy up: what was acknowledged is where it is safe.
    let Some(node) = outcome? else { return Ok(()) };
    node.close(drain::closing_time(config.drain_deadline.as_duration()));
    Ok(())
}

/// Opens the log. A store that cannot be reached is waited for; the admin port says so meanwhile.
async fn open_log(
    config: &NodeConfig,
    clock: &Arc<SystemClock>,
    flushes: &Arc<Flushes>,
    notices: &Notices,
    posts: &Posts,
    peer_door: Option<PeerDoor>,
) -> Result<OpenLog, NodeError> {
    let notices = notices.clone();
    let on_fatal: OnFatal = Box::new(move |reason: &str| {
        // The receiver goes only when the process does.
        let _ = notices.send(Notice::Failed(format!("the log is broken: {reason}")));
    });
    match &config.log {
        LogConfig::Local { shards } => open::local(config, *shards, clock, flushes, on_fatal),
        LogConfig::Valkey(log) => {
            let lobby = Lobby::new(None);
            let said = lobby.clone();
            let waits = move |reason| said.say(format!("waiting for the store: {reason}"));
            tokio::select! {
                opened = open::valkey(log, on_fatal, waits) => opened,
                never = lobby.serve(posts) => match never {},
            }
        }
        LogConfig::Raft(log) => {
            let door = peer_door.expect("the configuration's check wants one");
            let (control, orders) = Control::new();
            let lobby = Lobby::new(Some(control.clone()));
            let said = lobby.clone();
            let waits = move |reason| said.say(reason);
            tokio::select! {
                opened = open::raft(config, log, door, flushes, (control, orders), on_fatal, waits) => opened,
                never = lobby.serve(posts) => match never {},
            }
        }
    }
}

/// Where people and machines come in.
struct Openings {
    doors: Doors,
    posts: Posts,
    addresses: Addresses,
}

struct Node {
    board: Arc<Board>,
    log: Arc<dyn Log>,
    workers: Vec<JoinHandle<()>>,
    archive: JoinHandle<()>,
}

impl Node {
    /// Starts the threads that have to do with the log.
    fn start(
        config: &NodeConfig,
        strict_transport: StrictTransport,
        opened: OpenLog,
        certificates: Certificates,
        clock: &Arc<SystemClock>,
        flushes: Arc<Flushes>,
        notices: &Notices,
    ) -> Result<Self, NodeError> {
        let OpenLog { log, member, start, cluster } = opened;
        let (desk, archive) =
            snapshots::start(Arc::clone(&log), start.snapshots()).map_err(system("a thread"))?;

        let seats: Vec<_> = (0..config.workers)
            .map(|_| Seat::new())
            .collect::<Result<_, _>>()
            .map_err(system("an epoll instance"))?;
        let (seats, handles): (Vec<_>, Vec<_>) = seats.into_iter().unzip();
        let board = Arc::new(Board {
            clock: Arc::clone(clock),
            member,
            crew: Crew::new(handles),
            admission: Admission::new(
                config.limits.max_connections,
                config.limits.max_connections_per_address,
            ),
            certificates,
            log: Arc::clone(&log),
            cluster,
            flushes,
            told: Told::new(),
        });

        let nonce = random_number();
        let start = Arc::new(start);
        let mut workers = Vec::new();
        for (number, seat) in (0_u16..).zip(seats) {
            let follower = log.follow(start.follow_from())?;
            let plan = Plan {
                number,
                workers: u16::try_from(config.workers).expect("the configuration's check bounds it"),
                nonce,
                session: session_config(config, number, clock),
                strict_transport,
                chores: (number == 0).then(|| chores(config, nonce, &board, notices)),
                log: Arc::clone(&log),
                follower,
                clock: Arc::clone(clock),
                desk: desk.clone(),
                start: Arc::clone(&start),
                notices: notices.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || plan.run(seat))
                .map_err(system("a thread"))?;
            workers.push(thread);
        }
        Ok(Self { board, log, workers, archive })
    }

    /// Serves admin requests from now on, clients as soon as the node has caught up; returns when it was told to stop
    /// and drained, or when something broke.
    async fn oversee(
        &self,
        config: &NodeConfig,
        openings: Openings,
        stop_signals: &mut StopSignals,
        heard: &mut mpsc::UnboundedReceiver<Notice>,
    ) -> Result<(), NodeError> {
        let Openings { doors, posts, addresses } = openings;
        let admin = tokio::spawn(admin::serve(posts, Arc::clone(&self.board)));
        let mut waiting = Waiting { workers: self.workers.len(), settled: false };
        let mut doors = Some(doors);
        let mut front = None;
        let told_to_stop = loop {
            tokio::select! {
                () = stop_signals.next() => break Ok(()),
                () = dismissed(self.board.cluster.as_ref()) => {
                    tracing::info!("this member is to leave the room: its clients are sent to the others");
                    break Ok(());
                }
                notice = heard.recv() => match notice {
                    Some(Notice::Failed(reason)) => break Err(NodeError::Failed(reason)),
                    Some(notice) => waiting.heard(&notice),
                    None => break Err(NodeError::Failed("all workers ended".to_owned())),
                },
            }
            if waiting.is_over()
                && let Some(doors) = doors.take()
            {
                let opened = Front::open(doors, &self.board.admission, &self.board.crew);
                front = Some(opened.map_err(system("the front thread"))?);
                self.board.enter(Phase::Serving);
                let Addresses { irc, ircs, web, webs, admin, control, peer } = addresses;
                tracing::info!(
                    %irc,
                    %ircs,
                    %web,
                    %webs,
                    %admin,
                    %control,
                    %peer,
                    log = open::described(config),
                    started_in_ms = self.board.clock.monotonic().as_millis() as u64,
                    "ready"
                );
            }
        };
        if told_to_stop.is_ok() {
            let deadline = config.drain_deadline.as_duration();
            let draining = async {
                // Whoever waits for an acknowledgement must not wait for an election.
                tokio::join!(drain::drain(&self.board, deadline, stop_signals.next()), retire(&self.board));
            };
            tokio::select! {
                () = draining => {}
                Some(Notice::Failed(reason)) = heard.recv() => return Err(NodeError::Failed(reason)),
            }
        }
        drop(front);
        admin.abort();
        told_to_stop
    }

    /// Ends the threads in the order in which they need each other.
    fn close(self, time: Duration) {
        let (done, finished) = std::sync::mpsc::channel();
        let closing = std::thread::spawn(move || {
            self.board.crew.tell_all(|| Order::Stop);
            for worker in self.workers {
                // One that panicked said so where it happened.
                let _ = worker.join();
            }
            // The workers had the only desks: without them it ends.
            let _ = self.archive.join();
            self.log.stop();
            // Nobody listens any more when the time is over.
            let _ = done.send(());
        });
        match finished.recv_timeout(time) {
            Ok(()) => tracing::info!("stopped"),
            // Snapshots only make the next start faster: they are not worth missing the deadline.
            Err(_) if !closing.is_finished() => {
                tracing::warn!("the disk is slow; stopped without the last snapshots");
            }
            Err(_) => tracing::error!("stopped, but a thread panicked meanwhile"),
        }
    }
}

/// What has to happen before clients may come in.
struct Waiting {
    workers: usize,
    settled: bool,
}

impl Waiting {
    fn heard(&mut self, notice: &Notice) {
        match notice {
            Notice::CaughtUp => self.workers -= 1,
            Notice::Settled => self.settled = true,
            Notice::Failed(_) => {}
        }
    }

    fn is_over(&self) -> bool {
        self.workers == 0 && self.settled
    }
}

/// Until the room lets this member go.
async fn dismissed(cluster: Option<&Control>) {
    let Some(cluster) = cluster else { return std::future::pending().await };
    while !cluster.may_end() {
        time::sleep(LOOK_EVERY).await;
    }
}

/// What this node leads goes to others, for good.
async fn retire(board: &Board) {
    if let Some(cluster) = &board.cluster {
        cluster.retire().await;
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<Self, NodeError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(system("a signal handler"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(system("a signal handler"))?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn session_config(config: &NodeConfig, worker: u16, clock: &SystemClock) -> SessionConfig {
    SessionConfig {
        worker,
        server_name: config.server_name.clone(),
        network: config.network.clone(),
        version: concat!("chat-node-", env!("CARGO_PKG_VERSION")).to_owned(),
        created: UnixMillis(clock.now_ms()).to_string(),
        shards: config.log.shards(),
        limits: settings::connection_limits(&config.limits),
        reconnect_to: "*".to_owned(),
    }
}

/// What clients are told of the port for TLS, if there is one.
fn strict_transport(config: &NodeConfig, addresses: &Addresses) -> StrictTransport {
    let ircs = config.listeners.ircs.as_ref();
    let port = ircs.and_then(|ircs| ircs.sts_port).map(NonZeroU16::get);
    let duration = ircs.and_then(|ircs| ircs.sts_duration);
    StrictTransport { port: port.or(addresses.ircs.port()), duration_s: duration.map(Span::as_secs) }
}

fn chores(config: &NodeConfig, nonce: u64, board: &Arc<Board>, notices: &Notices) -> Chores {
    let revision = if config.revision.is_some() { Revision::Given } else { Revision::Counted };
    let housekeeper = Housekeeper::new(board.member, nonce, settings::settings(config), revision);
    let (publisher, notices) = (Arc::clone(board), notices.clone());
    Chores::new(
        housekeeper,
        Arc::clone(&board.log),
        Box::new(move || {
            // The receiver goes only when the process does.
            let _ = notices.send(Notice::Settled);
        }),
        Box::new(move |view| publisher.publish(view)),
    )
}

/// What a worker's thread is started with.
struct Plan {
    number: u16,
    workers: u16,
    nonce: u64,
    session: SessionConfig,
    strict_transport: StrictTransport,
    chores: Option<Chores>,
    log: Arc<dyn Log>,
    follower: Follower,
    clock: Arc<SystemClock>,
    desk: Desk,
    start: Arc<StartingPoint>,
    notices: Notices,
}

impl Plan {
    fn run(self, seat: Seat) {
        let obituary = Obituary { number: self.number, notices: self.notices.clone(), said: false };
        let outcome = self.try_run(seat);
        obituary.say(outcome);
    }

    fn try_run(self, seat: Seat) -> Result<(), String> {
        let Self {
            number,
            workers,
            nonce,
            session,
            strict_transport,
            chores,
            log,
            follower,
            clock,
            desk,
            start,
            notices,
        } = self;
        let replicas = start.replicas().map_err(|error| error.to_string())?;
        // Its snapshots' bytes are not needed any more once every worker has its own copy.
        drop(start);
        let mut core =
            Worker::new(session, nonce, Box::new(SystemRandom), replicas.directory, replicas.channels);
        core.offers_tls(strict_transport);
        let on_caught_up = Box::new(move || {
            // The receiver goes only when the process does.
            let _ = notices.send(Notice::CaughtUp);
        });
        let tools = Tools { core, log, follower, clock, desk, number, workers, chores, on_caught_up };
        WorkerThread::new(seat, tools).run().map_err(|error| error.to_string())
    }
}

/// Says how a worker ended, even if it panicked.
struct Obituary {
    number: u16,
    notices: Notices,
    said: bool,
}

impl Obituary {
    fn say(mut self, outcome: Result<(), String>) {
        self.said = true;
        if let Err(reason) = outcome {
            self.send(reason);
        }
    }

    fn send(&self, reason: String) {
        // The receiver goes only when the process does.
        let _ = self.notices.send(Notice::Failed(reason));
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if !self.said {
            self.send(format!("worker {} panicked", self.number));
        }
    }
}
