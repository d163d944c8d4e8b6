//! Answering other nodes: accepts their connections and gives their requests, in order, to whoever answers.

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chat_state::ids::MemberId;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};

use super::{
    CallError, PeerOptions, Peers,
    connection::{self, AT_ONCE_BYTES, End, Ended},
    dial::Greeted,
    frame::{self, BODY_LIMIT, Frame, Kind},
    hello::Hello,
    stream,
};

/// After an accept that failed (too many open files), so that it is not tried without end.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Refusals that are remembered, so that each is logged once.
const REFUSALS_LIMIT: usize = 64;
/// Bytes of memory that a waiting answer takes beside its body.
const ANSWER_OVERHEAD: usize = 64;

/// Serves the other nodes until it is dropped. `answer` is called for each request in the order of arrival on its
/// connection, and its future is polled once before the next is called: what it does before it first waits is done in
/// that order. Answers may overtake each other.
pub async fn serve<A, F>(listener: TcpListener, peers: Peers, answer: A)
where
    A: Fn(MemberId, Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Bytes> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(peers.options().connections_limit));
    let refusals = Arc::new(Refusals::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                let from = from.ip().to_canonical();
                // Without room it is closed at once.
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    if refusals.is_news(from, "there are too many connections") {
                        tracing::warn!(%from, "a node's connection was refused: there are too many");
                    }
                    continue;
                };
                let (peers, answer, refusals) = (peers.clone(), answer.clone(), Arc::clone(&refusals));
                connections.spawn(async move {
                    let greeted = greet(stream, from, &peers).await;
                    match greeted {
                        Ok(greeted) => {
                            attend(greeted, peers, answer, slot).await;
                        }
                        Err(error) if refusals.is_news(from, &error.to_string()) => {
                            tracing::warn!(%from, %error, "a node's connection was refused");
                        }
                        Err(_) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection of a node can be accepted");
                time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn greet(stream: TcpStream, from: IpAddr, peers: &Peers) -> Result<Greeted, CallError> {
    let dialer = peers.dialer();
    let greeting = async {
        let mut stream = stream::secure_accepted(stream, dialer.tls.as_ref()).await?;
        let mut received = BytesMut::new();
        let mut cluster = dialer.cluster.clone();
        let ours = Hello::of(&dialer.me, *cluster.borrow_and_update(), None);
        let theirs = match stream::first_frame(&mut stream, &mut received).await {
            Ok(Frame { kind: Kind::Hello, body, .. }) => Hello::decode(&body),
            Ok(Frame { kind, .. }) => Err(format!("it began with {kind:?} instead of a hello")),
            Err(CallError::Refused(words)) => Err(words),
            Err(error) => return Err(error),
        };
        let refusal = match theirs {
            Ok(theirs) => match ours.mismatch(&theirs) {
                None => {
                    stream::say(&mut stream, Kind::Hello, &ours.encode()).await?;
                    return Ok(Greeted { stream, received, ours, theirs, cluster });
                }
                Some(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        let (reader, writer) = tokio::io::split(stream);
        stream::say_goodbye(reader, writer, BytesMut::new(), &refusal).await;
        Err(CallError::Refused(refusal))
    };
    let in_time = time::timeout(dialer.options.dial_deadline, greeting).await;
    let greeted =
        in_time.unwrap_or_else(|_| Err(CallError::Unreachable("it did not say who it is in time".into())))?;
    if greeted.theirs.member != dialer.me.member {
        peers.heard(greeted.theirs.member, &greeted.theirs.advertise, from);
    }
    Ok(greeted)
}

/// Answers a member until its connection ends.
async fn attend<A, F>(greeted: Greeted, peers: Peers, answer: A, slot: OwnedSemaphorePermit)
where
    A: Fn(MemberId, Bytes) -> F,
    F: Future<Output = Bytes> + Send + 'static,
{
    let (member, name) = (greeted.theirs.member, greeted.theirs.name.clone());
    let options = peers.options();
    let outbox = Arc::new(Outbox { state: Mutex::default(), signal: Notify::new(), _slot: slot });
    let mut end = Answering { member, answer, outbox, options };
    tracing::debug!(%member, name, "a node connected");
    match connection::drive(greeted, &mut end, options).await {
        Ended::Lost(words) => {
            tracing::info!(%member, name, words, "a node's connection was lost");
            peers.lost(member);
        }
        Ended::Refused(words) => tracing::warn!(%member, name, words, "a node's connection was refused"),
        ended => tracing::debug!(%member, name, ?ended, "a node's connection ended"),
    }
}

/// The answering end of a connection.
struct Answering<'a, A> {
    member: MemberId,
    answer: A,
    outbox: Arc<Outbox>,
    options: &'a PeerOptions,
}

/// The answers that wait to be written, and the requests that wait for theirs.
struct Outbox {
    state: Mutex<OutboxState>,
    signal: Notify,
    /// Held until the last answer was given: requests of connections that are gone count as well.
    _slot: OwnedSemaphorePermit,
}

#[derive(Default)]
struct OutboxState {
    answers: VecDeque<(u64, Kind, Bytes)>,
    answers_bytes: usize,
    requests: usize,
    requests_bytes: usize,
}

/// A request that is being answered. Dropped without an answer it says so.
struct Request {
    number: u64,
    bytes: usize,
    outbox: Arc<Outbox>,
    answer: Option<Bytes>,
}

impl<A, F> End for Answering<'_, A>
where
    A: Fn(MemberId, Bytes) -> F,
    F: Future<Output = Bytes> + Send + 'static,
{
    fn fill(&mut self, out: &mut BytesMut) {
        let mut state = self.outbox.lock();
        while out.len() < AT_ONCE_BYTES
            && let Some((number, kind, body)) = state.answers.pop_front()
        {
            state.answers_bytes -= body.len() + ANSWER_OVERHEAD;
            frame::put(out, number, kind, &body);
        }
    }

    fn signal(&self) -> &Notify {
        &self.outbox.signal
    }

    fn listens(&self) -> bool {
        self.outbox.lock().answers_bytes <= self.options.waiting_bytes_limit
    }

    fn hear(&mut self, Frame { number, kind, body }: Frame) -> Result<(), String> {
        if kind != Kind::Request {
            return Err(format!("{kind:?} came where requests are expected"));
        }
        let Some(request) = self.outbox.begin(number, body.len(), self.options) else { return Ok(()) };
        let mut answering = Box::pin((self.answer)(self.member, body));
        // Unconstrained: that this task has done much in its turn must not keep the request from taking effect now.
        let first = pin!(tokio::task::unconstrained(answering.as_mut()))
            .poll(&mut Context::from_waker(Waker::noop()));
        match first {
            Poll::Ready(answer) => request.done(answer),
            Poll::Pending => {
                tokio::spawn(async move { request.done(answering.await) });
            }
        }
        Ok(())
    }
}

impl Outbox {
    /// Counts a request in; refuses it if too much waits.
    fn begin(self: &Arc<Self>, number: u64, bytes: usize, options: &PeerOptions) -> Option<Request> {
        let mut state = self.lock();
        let too_many = state.requests >= options.calls_limit;
        let too_large = state.requests_bytes + bytes > options.waiting_bytes_limit && state.requests > 0;
        if too_many || too_large {
            state.push(number, Kind::Busy, Bytes::from_static(b"too much waits at the other node"));
            return None;
        }
        state.requests += 1;
        state.requests_bytes += bytes;
        Some(Request { number, bytes, outbox: Arc::clone(self), answer: None })
    }

    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl OutboxState {
    fn push(&mut self, number: u64, kind: Kind, body: Bytes) {
        self.answers_bytes += body.len() + ANSWER_OVERHEAD;
        self.answers.push_back((number, kind, body));
    }
}

impl Request {
    fn done(mut self, answer: Bytes) {
        self.answer = Some(answer);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let (kind, body) = match self.answer.take() {
            Some(answer) if answer.len() <= BODY_LIMIT => (Kind::Answer, answer),
            Some(answer) => {
                let words = format!("an answer of {} bytes is too large to be sent", answer.len());
                (Kind::NoAnswer, words.into())
            }
            None => (Kind::NoAnswer, Bytes::from_static(b"the other node gave up answering")),
        };
        let mut state = self.outbox.lock();
        state.requests -= 1;
        state.requests_bytes -= self.bytes;
        state.push(self.number, kind, body);
        self.outbox.signal.notify_one();
    }
}

/// What was refused lately, by address and words.
#[derive(Default)]
struct Refusals(Mutex<BTreeSet<(IpAddr, String)>>);

impl Refusals {
    fn is_news(&self, from: IpAddr, words: &str) -> bool {
        let mut said = self.0.lock().expect("nothing panics while it is held");
        if said.len() >= REFUSALS_LIMIT {
            said.clear();
        }
        said.insert((from, words.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_take_its_answers_is_not_listened_to() {
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).try_acquire_owned().expect("room");
        let outbox = Arc::new(Outbox { state: Mutex::default(), signal: Notify::new(), _slot: slot });
        let options = PeerOptions { waiting_bytes_limit: 1000, ..PeerOptions::default() };
        let answer = |_, body| async { body };
        let mut end = Answering { member: MemberId(1), answer, outbox, options: &options };
        let mut requests = 0;
        while end.listens() {
            requests += 1;
            let body = Bytes::from(vec![0; 100]);
            end.hear(Frame { number: requests, kind: Kind::Request, body }).expect("a request");
        }
        assert_eq!(requests, 7);
        let mut out = BytesMut::new();
        end.fill(&mut out);
        assert!(end.listens());
        for number in 1..=requests {
            let answer = frame::take(&mut out, 1000).expect("a frame").expect("all of it");
            assert_eq!((answer.number, answer.kind), (number, Kind::Answer));
        }
        drop(end);
        assert_eq!(slots.available_permits(), 1);
    }

    #[test]
    fn a_refusal_is_news_once() {
        let refusals = Refusals::default();
        let from = |last| IpAddr::from([10, 0, 0, last]);
        assert!(refusals.is_news(from(1), "another room"));
        assert!(!refusals.is_news(from(1), "another room"));
        assert!(refusals.is_news(from(1), "another cluster"));
        assert!(refusals.is_news(from(2), "another room"));
        for last in 0..=255 {
            refusals.is_news(from(last), "no node");
        }
        assert!(refusals.0.lock().expect("unharmed").len() <= REFUSALS_LIMIT);
    }
}
