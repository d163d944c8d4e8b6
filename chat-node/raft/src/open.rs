//! From a data directory to a running part of a room: founding it, being let in, or coming back; until this node has what the
//! others have.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chat_log::{
    clock::Clock,
    disk::Disk,
    handle::OnFatal,
    identity::{ClusterId, Identity},
    shared::store::{Extent, Snapshots},
    wal::WalOptions,
};
use chat_state::ids::{Lineage, MemberId};
use openraft_rt_tokio::TokioRuntime;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time,
};

use crate::{
    control::Control,
    directory::{Directory, DirectoryError},
    messages::{self, Announcement, Refusal, Welcome, decode, encode},
    node::{Node, Settings},
    peers::{self, CallError, Me, PeerOptions, Peers, Tls},
    store::RaftStore,
    tend::tend,
    types::PeerNode,
};

type Request = messages::Request<TokioRuntime>;
type Answer = messages::Answer<TokioRuntime>;

/// Between two tries to be let in, and two looks whether everything is here.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// A node says where it is so often, as long as the room knows it.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
/// An answer to who wants to come in.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A directory that another process has is waited for so long.
const IN_USE_FOR: Duration = Duration::from_secs(10);
/// A member that was let go of waits so long before it comes back as another one: meanwhile whoever let it go may end it.
const COME_BACK_AFTER: Duration = Duration::from_secs(30);

/// What a node of a room is started with.
pub struct Options {
    /// Nodes of other rooms are refused.
    pub room: String,
    pub shards: u16,
    pub tolerate: u16,
    /// Of this node.
    pub node: PeerNode,
    /// `HOST:PORT` of nodes that may know the room.
    pub peers: Vec<String>,
    pub wal: WalOptions,
    pub peer_options: PeerOptions,
}

/// Where the node's surroundings come in.
pub struct Surroundings {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub listener: TcpListener,
    pub tls: Option<Tls>,
    /// A random number for a new member, or a founding.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Called when the node cannot go on.
    pub on_fatal: Arc<Mutex<Option<OnFatal>>>,
}

/// A part of the room that has what the others have.
pub struct Opened {
    pub store: RaftStore,
    pub member: MemberId,
    pub lineage: Lineage,
    pub extents: Vec<Extent>,
    pub snapshots: Snapshots,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{0}")]
    Failed(String),
}

/// Why a life of a member ended before it served.
enum End {
    /// The room let go of it.
    Removed,
    Error(OpenError),
}

impl<E: Into<OpenError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Waits until this node is a part of its room and has what the others have; `waits` is told for what. Must be called on the
/// runtime that the node then lives on.
pub async fn open(
    options: &Options,
    surroundings: Surroundings,
    control: &Control,
    mut orders: mpsc::Receiver<Found>,
    waits: impl Fn(String),
) -> Result<Opened, OpenError> {
    let serving = Serving::new(surroundings.listener);
    loop {
        let life = Life {
            options,
            disk: &surroundings.disk,
            clock: &surroundings.clock,
            tls: &surroundings.tls,
            random: &*surroundings.random,
            on_fatal: &surroundings.on_fatal,
            serving: &serving,
            control,
            waits: &waits,
        };
        match life.live(&mut orders).await {
            Ok(opened) => return Ok(opened),
            Err(End::Error(error)) => return Err(error),
            Err(End::Removed) => {
                control.removed();
                waits(format!(
                    "this member left the room; the node joins as a new one in {} s",
                    COME_BACK_AFTER.as_secs()
                ));
                time::sleep(COME_BACK_AFTER).await;
                Directory::open(Arc::clone(&surroundings.disk), &life.identity(), &options.wal)?.clear()?;
            }
        }
    }
}

/// An order to begin the room.
#[derive(Debug)]
pub struct Found {
    /// The member that is meant.
    pub member: MemberId,
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The peer listener, which serves one node after another.
struct Serving {
    listener: Mutex<Option<std::net::TcpListener>>,
}

impl Serving {
    fn new(listener: TcpListener) -> Self {
        Self { listener: Mutex::new(listener.into_std().ok()) }
    }

    fn listener(&self) -> Result<TcpListener, OpenError> {
        let failed =
            |error: std::io::Error| OpenError::Failed(format!("the peer listener cannot be used: {error}"));
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let listener =
            listener.as_ref().ok_or_else(|| OpenError::Failed("there is no peer listener".to_owned()))?;
        TcpListener::from_std(listener.try_clone().map_err(failed)?).map_err(failed)
    }
}

/// One member's life, from its directory on.
struct Life<'a, W> {
    options: &'a Options,
    disk: &'a Arc<dyn Disk>,
    clock: &'a Arc<dyn Clock>,
    tls: &'a Option<Tls>,
    random: &'a (dyn Fn() -> u64 + Send + Sync),
    on_fatal: &'a Arc<Mutex<Option<OnFatal>>>,
    serving: &'a Serving,
    control: &'a Control,
    waits: &'a W,
}

impl<W: Fn(String)> Life<'_, W> {
    /// Of a directory that is new.
    fn identity(&self) -> Identity {
        Identity {
            member: MemberId((self.random)()),
            room: self.options.room.clone(),
            shards: self.options.shards,
            lineage: Lineage::default(),
            cluster: None,
        }
    }

    /// A process that was here before may take a moment to end.
    async fn directory(&self) -> Result<Directory, OpenError> {
        let deadline = time::Instant::now() + IN_USE_FOR;
        loop {
            match Directory::open(Arc::clone(self.disk), &self.identity(), &self.options.wal) {
                Err(error @ DirectoryError::InUse { .. }) if time::Instant::now() < deadline => {
                    (self.waits)(error.to_string());
                    time::sleep(TRY_EVERY).await;
                }
                opened => return Ok(opened?),
            }
        }
    }

    async fn live(&self, orders: &mut mpsc::Receiver<Found>) -> Result<Opened, End> {
        let mut directory = self.directory().await?;
        let (member, lineage) = (directory.identity.member, directory.identity.lineage);
        directory.say_what_was_found();
        directory.check_name(&self.options.node.name).map_err(OpenError::from)?;
        let me = Me {
            room: self.options.room.clone(),
            member,
            name: self.options.node.name.clone(),
            advertise: self.options.node.address.clone(),
        };
        let peers = Peers::new(me, self.tls.clone(), self.options.peer_options.clone());
        peers.set_cluster(directory.identity.cluster.map(|cluster| cluster.0));
        self.control.waiting(member);

        // From the first moment on, so that others are told what this node waits for.
        let mut tasks = JoinSet::new();
        let (listener, control) = (self.serving.listener()?, self.control.clone());
        tasks.spawn(peers::serve(listener, peers.clone(), move |from, body| {
            let node = control.node();
            async move {
                match node {
                    Some(node) => node.answer(from, body).await,
                    None => encode(&Answer::Failed("this node is no part of the room yet".to_owned())),
                }
            }
        }));

        let cluster = match directory.identity.cluster {
            Some(cluster) => cluster,
            None => self.become_part(&mut directory, &peers, orders).await?,
        };
        peers.set_cluster(Some(cluster.0));
        let settings = Settings {
            node: self.options.node.clone(),
            tolerate: self.options.tolerate,
            clock: Arc::clone(self.clock),
        };
        let on_fatal = Arc::clone(self.on_fatal);
        let on_fatal: OnFatal = Box::new(move |reason: &str| say_fatal(&on_fatal, reason));
        let node =
            Node::start(directory, cluster, settings, peers, on_fatal).await.map_err(OpenError::Failed)?;
        self.control.joined(&node);
        let announcing = Announcing { node: Arc::clone(&node), peers: self.options.peers.clone() };
        match self.catch_up(&announcing).await {
            Ok(()) => {}
            Err(end) => {
                self.control.waiting(member);
                tasks.shutdown().await;
                node.shut_down().await;
                return Err(end);
            }
        }
        let (extents, snapshots) = self.read(&node).await?;
        let on_fatal = Arc::clone(self.on_fatal);
        tokio::spawn(async move {
            // The listener's task goes on with it.
            let _tasks = tasks;
            let reason = announcing.go_on().await;
            say_fatal(&on_fatal, &reason);
        });
        Ok(Opened { store: RaftStore::new(node), member, lineage, extents, snapshots })
    }

    /// Until somebody says that this node begins the room, or a room lets it in.
    async fn become_part(
        &self,
        directory: &mut Directory,
        peers: &Peers,
        orders: &mut mpsc::Receiver<Found>,
    ) -> Result<ClusterId, End> {
        let member = directory.identity.member;
        let announcement = Announcement {
            node: self.options.node.clone(),
            shards: self.options.shards,
            cluster: None,
            has_log: false,
        };
        let nobody = "an order to begin the room, or a node of it that lets this one in";
        (self.waits)(format!("waiting for {nobody}"));
        loop {
            let knocking = async {
                let welcome = knock(peers, &self.options.peers, &announcement).await;
                if welcome.is_err() {
                    time::sleep(TRY_EVERY).await;
                }
                welcome
            };
            tokio::select! {
                order = orders.recv() => {
                    let Some(Found { member: meant, answer }) = order else {
                        return Err(OpenError::Failed("nobody can give orders to this node".to_owned()).into());
                    };
                    if meant != member {
                        // As its status names it.
                        let other = format!("this node is the member {:016x}, not {:016x}", member.0, meant.0);
                        let _ = answer.send(Err(other));
                        continue;
                    }
                    let cluster = ClusterId((self.random)());
                    directory.found(&self.options.node, cluster).map_err(OpenError::from)?;
                    tracing::info!(%member, %cluster, "this node begins the room");
                    let _ = answer.send(Ok(()));
                    return Ok(cluster);
                }
                welcome = knocking => match welcome {
                    Ok(welcome) => {
                        let cluster = welcome.cluster();
                        directory.belong_to(cluster).map_err(OpenError::from)?;
                        tracing::info!(%member, %cluster, "the room lets this node in");
                        return Ok(cluster);
                    }
                    Err(Knock::Removed) => return Err(End::Removed),
                    Err(Knock::Nobody(reason)) if reason.is_empty() => {
                        (self.waits)(format!("waiting for {nobody}"));
                    }
                    Err(Knock::Nobody(reason)) => (self.waits)(format!("waiting for {nobody}: {reason}")),
                },
            }
        }
    }

    /// Until the room's members include this node, and it has what they had a moment ago.
    async fn catch_up(&self, announcing: &Announcing) -> Result<(), End> {
        let node = &announcing.node;
        if node.directory().membership().voter_ids().eq([node.me.0]) {
            // There is nobody to wait for.
            for group in &node.groups {
                let _ = group.raft.trigger().elect(false).await;
            }
        }
        let tending = tokio::spawn(tend(Arc::clone(node)));
        loop {
            node.learn_addresses();
            let announced = announcing.announce().await;
            if matches!(announced, Err(Knock::Removed)) {
                tending.abort();
                return Err(End::Removed);
            }
            let reason = match node.members().get(&node.me.0) {
                None => match announced {
                    Err(Knock::Nobody(reason)) => format!("waiting to be let in: {reason}"),
                    _ => "waiting to be added to the room's nodes".to_owned(),
                },
                Some(own) if own.leaving => {
                    "this member is to leave the room: its shards go to others".to_owned()
                }
                Some(_) => match RaftStore::catch_up(node).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => format!("getting what the others have: {reason}"),
                },
            };
            (self.waits)(reason);
            time::sleep(TRY_EVERY).await;
        }
    }

    /// What the workers begin with.
    async fn read(&self, node: &Arc<Node>) -> Result<(Vec<Extent>, Snapshots), End> {
        let reading = Arc::clone(node);
        let read = tokio::task::spawn_blocking(move || {
            let mut snapshots = Snapshots::default();
            for shard in reading.shards() {
                let Some(loaded) = reading.snapshots.load(shard)? else { continue };
                let snapshot = loaded.snapshot;
                let chunks = snapshot
                    .chunks
                    .iter()
                    .map(|chunk| reading.snapshots.read_chunk(shard, chunk))
                    .collect::<Result<_, _>>()?;
                snapshots.of.insert(shard, (snapshot, chunks));
            }
            Ok(snapshots)
        });
        let failed = |reason: String| End::Error(OpenError::Failed(reason));
        let snapshots = read.await.map_err(|error| failed(error.to_string()))?;
        let snapshots =
            snapshots.map_err(|error: chat_log::snapshot::SnapshotError| failed(error.to_string()))?;
        let extents = node.groups.iter().map(|group| group.machine.extent()).collect();
        Ok((extents, snapshots))
    }
}

/// Once.
pub fn say_fatal(on_fatal: &Mutex<Option<OnFatal>>, reason: &str) {
    let on_fatal = on_fatal.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(on_fatal) = on_fatal {
        on_fatal(reason);
    }
}

/// Why nobody lets a node in.
enum Knock {
    Removed,
    /// Why not, as far as somebody said.
    Nobody(String),
}

/// Asks at all addresses until somebody lets this node in.
async fn knock(peers: &Peers, addresses: &[String], announcement: &Announcement) -> Result<Welcome, Knock> {
    let request = encode(&Request::Announce(announcement.clone()));
    let mut trouble = String::new();
    for address in addresses {
        let mut address = address.clone();
        // Whoever does not lead says who does; that one may have changed meanwhile.
        for _ in 0..3 {
            let answer = match peers.ask(&address, request.clone(), ANSWER_WITHIN).await {
                Ok((_, body)) => decode::<Answer>(&body).unwrap_or_else(Answer::Failed),
                Err(CallError::Unreachable(_)) => break,
                Err(error) => Answer::Failed(error.to_string()),
            };
            match answer {
                Answer::Welcome(welcome) => return Ok(welcome),
                Answer::Refused(Refusal::Removed) => return Err(Knock::Removed),
                Answer::Ask(leader) => address = leader,
                Answer::Refused(Refusal::Because(reason)) | Answer::Failed(reason) => {
                    trouble = reason;
                    break;
                }
                other => {
                    trouble = format!("an answer to something else: {other:?}");
                    break;
                }
            }
        }
    }
    Err(Knock::Nobody(trouble))
}

/// Says who this node is and where, so that the room's membership has it right.
struct Announcing {
    node: Arc<Node>,
    peers: Vec<String>,
}

impl Announcing {
    async fn announce(&self) -> Result<(), Knock> {
        let node = &self.node;
        let announcement = Announcement {
            node: node.settings.node.clone(),
            shards: u16::try_from(node.groups.len() - 1).unwrap_or(u16::MAX),
            cluster: Some(node.cluster.0),
            has_log: node.groups.iter().any(|group| group.metrics().last_log_index.is_some()),
        };
        if node.directory().leads(node.me.0) {
            return Ok(());
        }
        let mut addresses: Vec<_> = node.members().into_values().map(|member| member.address).collect();
        addresses.retain(|address| *address != node.settings.node.address);
        addresses.extend(self.peers.iter().cloned());
        let welcome = knock(&node.peers, &addresses, &announcement).await?;
        if !node.directory().leads(node.me.0) {
            node.roster().told(welcome.roster);
        }
        for (id, member) in welcome.members {
            if id != node.me.0 {
                node.peers.know(MemberId(id), vec![member.address]);
            }
        }
        Ok(())
    }

    /// As long as the node serves. Gives why it has to end.
    async fn go_on(self) -> String {
        loop {
            time::sleep(ANNOUNCE_EVERY).await;
            if let Some(reason) = self.node.ended_group() {
                return reason;
            }
            self.node.learn_addresses();
            match self.announce().await {
                Err(Knock::Removed) => return "the room let go of this member".to_owned(),
                Ok(()) | Err(Knock::Nobody(_)) => {}
            }
        }
    }
}

impl Directory {
    fn say_what_was_found(&self) {
        for damaged in &self.passed_over {
            tracing::warn!(error = %damaged, "a damaged snapshot was passed over for an older one");
        }
        if self.report.cut_bytes > 0 {
            tracing::warn!(
                bytes = self.report.cut_bytes,
                "the last batch of the log was cut short, as a crash during a write leaves it; it was removed. Nothing of \
                 it had been acknowledged, if the disk keeps what it says that it has flushed"
            );
        }
        tracing::debug!(report = ?self.report, "the log was recovered");
    }
}
