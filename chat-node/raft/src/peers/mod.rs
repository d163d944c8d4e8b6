//! Connections between the nodes of a room: each node dials the members it asks, and answers those that dial it. What
//! is said is bytes to this module.

mod backoff;
mod book;
mod connection;
mod dial;
mod frame;
mod hello;
mod link;
mod serve;
mod stream;

use std::{
    collections::BTreeMap,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use bytes::Bytes;
use chat_state::ids::MemberId;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

pub use self::serve::serve;
use self::{
    book::Book,
    connection::Ended,
    dial::Dialer,
    link::{Asking, Brief, Link},
};

/// Losses that are kept for a listener that is late.
const LOSSES_KEPT: usize = 64;

/// Who a node is; said in the first frame of each connection, by both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    pub room: String,
    pub member: MemberId,
    pub name: String,
    /// Where others reach it: HOST:PORT.
    pub advertise: String,
}

/// Certificates as they are now: asked for every new connection, as the files may have changed.
#[derive(Clone)]
pub struct Tls {
    /// Must require the certificates of those who connect.
    pub server: Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>,
    pub client: Arc<dyn Fn() -> Arc<rustls::ClientConfig> + Send + Sync>,
    /// The name that all nodes' certificates carry.
    pub name: &'static str,
}

/// Bounds and deadlines of the connections.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Connections that are accepted at a time.
    pub connections_limit: usize,
    /// Calls of a connection that wait, to be sent or for their answers; requests of one that are being answered.
    pub calls_limit: usize,
    /// Bytes that wait to be sent on a connection, and bytes of its requests that are being answered.
    pub waiting_bytes_limit: usize,
    /// For each address: to connect, agree on TLS and say hello; to resolve a name.
    pub dial_deadline: Duration,
    /// The next address is tried beside those that have not answered after this time.
    pub dial_stagger: Duration,
    /// A side that wrote nothing for so long says that it is alive.
    pub ping_every: Duration,
    /// A connection on which nothing was heard for so long is given up.
    pub silence: Duration,
    /// The first rest after a try that failed; doubled each time.
    pub backoff_first: Duration,
    pub backoff_most: Duration,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connections_limit: 256,
            calls_limit: 8192,
            waiting_bytes_limit: frame::FRAME_LIMIT,
            dial_deadline: Duration::from_secs(2),
            dial_stagger: Duration::from_millis(250),
            ping_every: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            backoff_first: Duration::from_millis(50),
            backoff_most: Duration::from_secs(1),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Certain: it was not sent, or was not looked at.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// Unknown whether it was done.
    #[error("the answer was lost: {0}")]
    Lost(String),
    /// Unknown whether it was done, or will be.
    #[error("no answer in time")]
    TimedOut,
    /// The other side is somebody else, of another room, cluster or version, or shows another certificate.
    /// Certain: it was not sent.
    #[error("refused: {0}")]
    Refused(String),
}

impl CallError {
    fn into_words(self) -> String {
        match self {
            Self::Unreachable(words) | Self::Lost(words) | Self::Refused(words) => words,
            Self::TimedOut => self.to_string(),
        }
    }

    /// Says at which address.
    fn at(self, address: &str) -> Self {
        match self {
            Self::Unreachable(words) => Self::Unreachable(format!("{address}: {words}")),
            Self::Lost(words) => Self::Lost(format!("{address}: {words}")),
            Self::Refused(words) => Self::Refused(format!("{address}: {words}")),
            Self::TimedOut => self,
        }
    }
}

/// The other nodes of a room, as this one reaches them. Cheap to clone; the connections it dialed are closed with the
/// last clone. To be used within a tokio runtime.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Dialer,
    cluster: watch::Sender<Option<u64>>,
    members: Mutex<Members>,
    losses: broadcast::Sender<MemberId>,
}

#[derive(Default)]
struct Members {
    book: Book,
    links: BTreeMap<MemberId, Arc<Link>>,
}

impl Peers {
    pub fn new(me: Me, tls: Option<Tls>, options: PeerOptions) -> Self {
        let (cluster, known) = watch::channel(None);
        let dialer = Dialer { me: Arc::new(me), tls, options: Arc::new(options), cluster: known };
        let (losses, _) = broadcast::channel(LOSSES_KEPT);
        Self { shared: Arc::new(Shared { dialer, cluster, members: Mutex::default(), losses }) }
    }

    /// The room's cluster id, once it is known: connections of another cluster are refused by both sides, also those
    /// that stand. None (not known yet) goes with any.
    pub fn set_cluster(&self, id: Option<u64>) {
        self.shared.cluster.send_if_modified(|known| std::mem::replace(known, id) != id);
    }

    /// Where a member is reached; replaces what was known. Addresses are HOST:PORT, tried in order, after those where
    /// it was met; a name is resolved each time, and all its addresses are tried.
    pub fn know(&self, member: MemberId, addresses: Vec<String>) {
        let mut members = self.shared.members();
        if members.book.know(member, addresses)
            && let Some(link) = members.links.get(&member)
        {
            link.hurry();
        }
    }

    /// Closes the connection to a member; calls to it fail.
    pub fn forget(&self, member: MemberId) {
        let mut members = self.shared.members();
        members.book.forget(member);
        if let Some(link) = members.links.remove(&member) {
            link.close("this member was forgotten");
        }
    }

    /// Asks a member; connects if needed. Many calls share a connection, none waits for another's answer. Requests are
    /// sent in the order of the calls of this function, whether or not what it returns is polled; dropped before it
    /// was sent, a request will not be. `within` counts from now.
    pub fn call(
        &self,
        to: MemberId,
        body: Bytes,
        within: Duration,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static + use<> {
        let call = self.shared.link(to).and_then(|link| {
            link.call(body, || {
                tokio::spawn(stay_connected(Arc::downgrade(&self.shared), to, Arc::clone(&link)));
            })
        });
        link::outcome(call, within)
    }

    /// Asks whoever answers at an address, for a node that knows nobody yet. All addresses of a name are tried, and
    /// ourselves are skipped. Says who answered.
    pub async fn ask(
        &self,
        address: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<(MemberId, Bytes), CallError> {
        let deadline = Instant::now() + within;
        let dialer = self.dialer();
        let reaching = dialer.reach(vec![address.to_owned()], None);
        let (greeted, _) = tokio::time::timeout_at(deadline, reaching).await.unwrap_or_else(|_| {
            Err(CallError::Unreachable(format!("{address}: no node answered in time")))
        })?;
        let member = greeted.theirs.member;
        let link = Arc::new(Link::new(Arc::clone(&dialer.options), 0));
        // Closes the connection when this call is over, one way or the other.
        let brief = Brief(Arc::clone(&link));
        let call = brief.0.call(body, || {
            tokio::spawn(async move {
                let ended = connection::drive(greeted, &mut Asking(&link), &dialer.options).await;
                link.ended(&ended, Duration::ZERO);
            });
        });
        Ok((member, call?.until(deadline).await?))
    }

    /// Members with whom a connection, of either direction, was lost a moment ago by reset or end of stream: what
    /// happens at once when a process ends. Whoever closes on purpose says so, and is not named here. A member may be
    /// named once for each connection.
    pub fn losses(&self) -> broadcast::Receiver<MemberId> {
        self.shared.losses.subscribe()
    }

    fn options(&self) -> &PeerOptions {
        &self.shared.dialer.options
    }

    fn dialer(&self) -> Dialer {
        self.shared.dialer.clone()
    }

    /// A member connected to us.
    fn heard(&self, member: MemberId, advertise: &str, from: IpAddr) {
        let mut members = self.shared.members();
        members.book.heard(member, advertise, from);
        if let Some(link) = members.links.get(&member) {
            link.hurry();
        }
    }

    fn lost(&self, member: MemberId) {
        self.shared.lost(member);
    }
}

impl Shared {
    fn link(&self, to: MemberId) -> Result<Arc<Link>, CallError> {
        let mut members = self.members();
        if let Some(link) = members.links.get(&to) {
            return Ok(Arc::clone(link));
        }
        if members.book.addresses(to).is_empty() {
            return Err(CallError::Unreachable(format!("it is not known where member {to} is")));
        }
        let mut hasher = DefaultHasher::new();
        (self.dialer.me.member, to).hash(&mut hasher);
        let link = Arc::new(Link::new(Arc::clone(&self.dialer.options), hasher.finish()));
        members.links.insert(to, Arc::clone(&link));
        Ok(link)
    }

    fn lost(&self, member: MemberId) {
        // Nobody listening is no fault.
        let _ = self.losses.send(member);
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().expect("nothing panics while it is held")
    }
}

/// Dials a member for the calls that wait, and serves them until the connection ends. Keeps nobody alive.
async fn stay_connected(shared: Weak<Shared>, member: MemberId, link: Arc<Link>) {
    let Some((dialer, addresses)) =
        shared.upgrade().map(|shared| (shared.dialer.clone(), shared.members().book.addresses(member)))
    else {
        link.close("the node stops");
        return;
    };
    let (greeted, address) = match dialer.reach(addresses, Some(member)).await {
        Ok(reached) => reached,
        Err(error) => {
            if link.failed(error.clone()) {
                tracing::warn!(%member, %error, "a member cannot be reached");
            }
            return;
        }
    };
    if link.is_closed() {
        return;
    }
    let name = greeted.theirs.name.clone();
    tracing::info!(%member, name, address, "connected to a member");
    if let Some(shared) = shared.upgrade() {
        shared.members().book.met(member, address);
    }
    let since = Instant::now();
    let ended = connection::drive(greeted, &mut Asking(&link), &dialer.options).await;
    link.ended(&ended, since.elapsed());
    tracing::info!(%member, name, ?ended, "the connection to a member ended");
    if let Ended::Lost(_) = ended
        && let Some(shared) = shared.upgrade()
    {
        shared.lost(member);
    }
}
