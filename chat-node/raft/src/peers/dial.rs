//! Reaching a node: names, addresses, TLS, and the two hellos.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use chat_state::ids::MemberId;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{net::TcpStream, sync::watch, time};

use super::{
    CallError, Me, PeerOptions, Tls,
    frame::{self, Kind},
    hello::Hello,
    stream::{self, Stream},
};

/// Addresses of a host name that are tried.
const RESOLVED_LIMIT: usize = 16;

/// What dialing takes, apart from the addresses.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) me: Arc<Me>,
    pub(super) tls: Option<Tls>,
    pub(super) options: Arc<PeerOptions>,
    pub(super) cluster: watch::Receiver<Option<u64>>,
}

/// A connection of two that fit together.
pub(super) struct Greeted {
    pub(super) stream: Stream,
    /// What came behind the hello.
    pub(super) received: BytesMut,
    pub(super) ours: Hello,
    pub(super) theirs: Hello,
    pub(super) cluster: watch::Receiver<Option<u64>>,
}

impl Dialer {
    /// Reaches the member, or whoever is not ourselves, at the first of these addresses where it answers; says which.
    /// The next one is tried when one failed or takes its time.
    pub(super) async fn reach(
        &self,
        addresses: Vec<String>,
        wants: Option<MemberId>,
    ) -> Result<(Greeted, String), CallError> {
        let attempts = addresses.into_iter().map(|address| async move {
            let sockets = self.resolve(&address).await.map_err(|error| vec![error])?;
            self.reach_any(sockets, wants).await.map(|greeted| (greeted, address))
        });
        let reached = race(attempts, self.options.dial_stagger).await;
        reached.map_err(|failures: Vec<Vec<CallError>>| sum_up(failures.concat()))
    }

    pub(super) async fn reach_any(
        &self,
        sockets: Vec<SocketAddr>,
        wants: Option<MemberId>,
    ) -> Result<Greeted, Vec<CallError>> {
        let attempts = sockets.into_iter().map(|socket| async move {
            self.reach_one(socket, wants).await.map_err(|error| error.at(&socket.to_string()))
        });
        race(attempts, self.options.dial_stagger).await
    }

    async fn resolve(&self, address: &str) -> Result<Vec<SocketAddr>, CallError> {
        let failed = |why: String| Err(CallError::Unreachable(why).at(address));
        match time::timeout(self.options.dial_deadline, tokio::net::lookup_host(address)).await {
            Ok(Ok(sockets)) => Ok(sockets.take(RESOLVED_LIMIT).collect()),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed("the name was not resolved in time".into()),
        }
    }

    async fn reach_one(&self, socket: SocketAddr, wants: Option<MemberId>) -> Result<Greeted, CallError> {
        let greeting = async {
            let connected = TcpStream::connect(socket).await;
            let stream = connected.map_err(|error| CallError::Unreachable(error.to_string()))?;
            let stream = stream::secure_dialed(stream, self.tls.as_ref()).await?;
            self.greet(stream, wants).await
        };
        let in_time = time::timeout(self.options.dial_deadline, greeting).await;
        in_time.unwrap_or_else(|_| Err(CallError::Unreachable("no node answered in time".into())))
    }

    async fn greet(&self, mut stream: Stream, wants: Option<MemberId>) -> Result<Greeted, CallError> {
        let mut cluster = self.cluster.clone();
        let ours = Hello::of(&self.me, *cluster.borrow_and_update(), wants);
        stream::say(&mut stream, Kind::Hello, &ours.encode()).await?;
        let mut received = BytesMut::new();
        let frame = stream::first_frame(&mut stream, &mut received).await?;
        let theirs = match frame.kind {
            Kind::Hello => Hello::decode(&frame.body),
            Kind::Goodbye => return Err(CallError::Refused(frame::words(&frame.body))),
            other => Err(format!("it began with {other:?} instead of a hello")),
        };
        let refusal = match theirs {
            Ok(theirs) if wants.is_none() && theirs.member == self.me.member => {
                return Err(CallError::Unreachable("this is ourselves".into()));
            }
            Ok(theirs) => match ours.mismatch(&theirs) {
                None => return Ok(Greeted { stream, received, ours, theirs, cluster }),
                Some(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        stream::say(&mut stream, Kind::Goodbye, refusal.as_bytes()).await?;
        Err(CallError::Refused(refusal))
    }
}

/// The first that succeeds; the next begins when one failed, or after `stagger`. The others are dropped.
async fn race<T, E, F>(attempts: impl Iterator<Item = F>, stagger: Duration) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.peekable();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        running.extend(waiting.next());
        if running.is_empty() {
            return Err(failures);
        }
        tokio::select! {
            biased;
            Some(result) = running.next() => match result {
                Ok(reached) => return Ok(reached),
                Err(failure) => failures.push(failure),
            },
            () = time::sleep(stagger), if waiting.peek().is_some() => {}
        }
    }
}

/// One error of those of all addresses. Somebody who refuses tells more than an address where nobody is.
fn sum_up(failures: Vec<CallError>) -> CallError {
    let refused = failures.iter().any(|failure| matches!(failure, CallError::Refused(_)));
    let words: Vec<_> = failures.into_iter().map(CallError::into_words).collect();
    let words = if words.is_empty() { "it has no address".to_owned() } else { words.join("; ") };
    if refused { CallError::Refused(words) } else { CallError::Unreachable(words) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::peers::{Peers, serve};

    async fn listen(host: u8, port: u16) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), port)).await.expect("bound");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    fn peers(member: u64) -> Peers {
        let me = Me {
            room: "chat/main".into(),
            member: MemberId(member),
            name: format!("node-{member}"),
            advertise: format!("node-{member}.invalid:7000"),
        };
        Peers::new(me, None, PeerOptions::default())
    }

    #[tokio::test]
    async fn of_the_addresses_of_a_name_ourselves_and_the_dead_are_skipped() {
        let (ours, first) = listen(1, 0).await;
        let (dead, second) = listen(2, 0).await;
        let (other, third) = listen(3, 0).await;
        drop(dead);
        let one = peers(1);
        tokio::spawn(serve(ours, one.clone(), |_, body| async { body }));
        tokio::spawn(serve(other, peers(2), |_, body| async { body }));

        let reached = one.dialer().reach_any(vec![first, second, third], None).await;
        assert_eq!(reached.map(|greeted| greeted.theirs.member), Ok(MemberId(2)));

        let failures =
            one.dialer().reach_any(vec![first, second], None).await.map(|_| ()).expect_err("nobody");
        assert_eq!(failures[0], CallError::Unreachable(format!("{first}: this is ourselves")));
        assert_eq!(failures.len(), 2);
    }

    #[test]
    fn somebody_who_refuses_tells_more_than_nobody() {
        let nobody = CallError::Unreachable("a:1: refused".into());
        let other = CallError::Refused("b:1: another room".into());
        assert_eq!(sum_up(vec![nobody.clone()]), nobody);
        assert_eq!(sum_up(vec![nobody, other]), CallError::Refused("a:1: refused; b:1: another room".into()));
        assert_eq!(sum_up(Vec::new()), CallError::Unreachable("it has no address".into()));
    }
}
