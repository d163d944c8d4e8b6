//! Nodes of tests: peers with a listener, in a runtime of their own so that one can end as a process does.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use chat_raft::peers::{Me, PeerOptions, Peers, Tls, serve};
use chat_state::ids::MemberId;
use tokio::{net::TcpListener, sync::oneshot};

/// What nothing here takes unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn me(member: u64) -> Me {
    Me {
        room: "chat/main".into(),
        member: MemberId(member),
        name: format!("node-{member}"),
        advertise: format!("node-{member}.invalid:1"),
    }
}

/// As in production, but that no test fails for a machine that is slow.
pub(crate) fn options() -> PeerOptions {
    PeerOptions { dial_deadline: PATIENCE, silence: PATIENCE, ..PeerOptions::default() }
}

pub(crate) fn peers(me: Me) -> Peers {
    Peers::new(me, None, options())
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    listen_at((Ipv4Addr::LOCALHOST, 0).into()).await
}

pub(crate) async fn listen_at(address: SocketAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("bound");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Answers with what was asked.
pub(crate) async fn echo(_: MemberId, body: Bytes) -> Bytes {
    body
}

/// A node that runs until it is dropped, without a goodbye: as a process that is killed.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) member: MemberId,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A node that answers like this.
pub(crate) fn start<A, F>(me: Me, tls: Option<Tls>, options: PeerOptions, answer: A) -> Node
where
    A: Fn(MemberId, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Bytes> + Send + 'static,
{
    let member = me.member;
    start_with(Peers::new(me, tls, options), member, answer, async {})
}

/// A node that answers like this, and does something besides.
pub(crate) fn start_with<A, F>(
    peers: Peers,
    member: MemberId,
    answer: A,
    besides: impl Future<Output = ()> + Send + 'static,
) -> Node
where
    A: Fn(MemberId, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Bytes> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (listener, address) = listen().await;
            tell.send(address).expect("somebody waits");
            tokio::spawn(serve(listener, peers, answer));
            tokio::spawn(besides);
            let _ = stopped.await;
        });
    });
    let address = told.recv().expect("it listens");
    Node { address, member, stop: Some(stop), thread: Some(thread) }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("taken once").join();
        if !std::thread::panicking() {
            ended.expect("the node did not panic");
        }
    }
}
