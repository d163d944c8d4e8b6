//! The calls to one member: what waits to be sent, what waits for an answer, and when it may be dialed again.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};

use super::{
    CallError, PeerOptions, backoff,
    connection::{AT_ONCE_BYTES, End, Ended},
    frame::{self, BODY_LIMIT, Frame, Kind},
};

type Outcome = Result<Bytes, CallError>;

pub(super) struct Link {
    state: Mutex<State>,
    signal: Notify,
    options: Arc<PeerOptions>,
    /// Makes its rests differ from those of other links.
    seed: u64,
}

struct State {
    /// The number of the latest call.
    latest: u64,
    queued: BTreeMap<u64, Queued>,
    queued_bytes: usize,
    sent: BTreeMap<u64, oneshot::Sender<Outcome>>,
    phase: Phase,
    /// Tries that failed one after the other.
    tries: u32,
    /// What was logged last about why it is not reached.
    said: Option<String>,
    closing: Option<String>,
}

struct Queued {
    body: Bytes,
    answer: oneshot::Sender<Outcome>,
}

enum Phase {
    /// The next call dials.
    Idle,
    /// Being dialed, or connected.
    Busy,
    /// Calls fail until then.
    Resting { until: Instant, why: CallError },
}

/// A call that was queued. Dropped, its answer is not waited for any more; if it was not sent, it will not be.
pub(super) struct Call {
    link: Arc<Link>,
    number: u64,
    answer: oneshot::Receiver<Outcome>,
}

impl Link {
    pub(super) fn new(options: Arc<PeerOptions>, seed: u64) -> Self {
        let state = State {
            latest: 0,
            queued: BTreeMap::new(),
            queued_bytes: 0,
            sent: BTreeMap::new(),
            phase: Phase::Idle,
            tries: 0,
            said: None,
            closing: None,
        };
        Self { state: Mutex::new(state), signal: Notify::new(), options, seed }
    }

    /// Queues a call; `dial` is called if it is for the caller to see to a connection.
    pub(super) fn call(self: &Arc<Self>, body: Bytes, dial: impl FnOnce()) -> Result<Call, CallError> {
        if body.len() > BODY_LIMIT {
            let bytes = body.len();
            let words = format!("a request of {bytes} bytes is too large, the limit is {BODY_LIMIT}");
            return Err(CallError::Unreachable(words));
        }
        let (sender, answer) = oneshot::channel();
        let (number, must_dial) = {
            let mut state = self.lock();
            state.check(body.len(), &self.options)?;
            state.latest += 1;
            let number = state.latest;
            state.queued_bytes += body.len();
            state.queued.insert(number, Queued { body, answer: sender });
            let must_dial = !matches!(state.phase, Phase::Busy);
            state.phase = Phase::Busy;
            (number, must_dial)
        };
        if must_dial {
            dial();
        } else {
            self.signal.notify_one();
        }
        Ok(Call { link: Arc::clone(self), number, answer })
    }

    /// Nobody is to be reached by this link any more: what was sent is lost, what was not will not be.
    pub(super) fn close(&self, words: &str) {
        let mut state = self.lock();
        state.closing = Some(words.into());
        state.settle(&CallError::Unreachable(words.into()), words);
        self.signal.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// There is news of where the member is: the next call dials.
    pub(super) fn hurry(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Resting { .. }) {
            state.phase = Phase::Idle;
            state.tries = 0;
        }
    }

    /// It could not be reached. True if that, in these words, is news.
    pub(super) fn failed(&self, why: CallError) -> bool {
        let mut state = self.lock();
        let words = why.to_string();
        let news = state.said.as_ref() != Some(&words);
        state.settle(&why, &words);
        state.said = Some(words);
        self.rest(&mut state, why);
        news
    }

    /// Its connection ended.
    pub(super) fn ended(&self, ended: &Ended, lasted: Duration) {
        let mut state = self.lock();
        let (why, words) = match ended {
            Ended::Goodbye(words) | Ended::Refused(words) => {
                (CallError::Refused(words.clone()), words.clone())
            }
            Ended::Silent => {
                let words = format!("nothing was heard for {:?}", self.options.silence);
                (CallError::Unreachable(words.clone()), words)
            }
            Ended::Lost(words) | Ended::Unmet(words) | Ended::Closed(words) => {
                (CallError::Unreachable(words.clone()), words.clone())
            }
        };
        state.settle(&why, &words);
        state.said = None;
        if lasted >= self.options.backoff_most {
            state.tries = 0;
            state.phase = Phase::Idle;
        } else {
            self.rest(&mut state, why);
        }
    }

    fn rest(&self, state: &mut State, why: CallError) {
        state.tries = state.tries.saturating_add(1);
        let rest =
            backoff::rest(state.tries, self.seed, self.options.backoff_first, self.options.backoff_most);
        state.phase = Phase::Resting { until: Instant::now() + rest, why };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl State {
    fn check(&self, bytes: usize, options: &PeerOptions) -> Result<(), CallError> {
        if let Some(words) = &self.closing {
            return Err(CallError::Unreachable(words.clone()));
        }
        if let Phase::Resting { until, why } = &self.phase
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        let calls = self.queued.len() + self.sent.len();
        let too_many = calls >= options.calls_limit;
        // One that is larger than all that may wait goes alone.
        let too_large = self.queued_bytes + bytes > options.waiting_bytes_limit && !self.queued.is_empty();
        if too_many || too_large {
            let waiting = self.queued_bytes;
            return Err(CallError::Unreachable(format!(
                "too much waits: {calls} calls, {waiting} bytes of them not sent"
            )));
        }
        Ok(())
    }

    /// Ends all calls: those that were not sent for this reason.
    fn settle(&mut self, unsent: &CallError, lost: &str) {
        for (_, Queued { answer, .. }) in std::mem::take(&mut self.queued) {
            let _ = answer.send(Err(unsent.clone()));
        }
        self.queued_bytes = 0;
        for (_, answer) in std::mem::take(&mut self.sent) {
            let _ = answer.send(Err(CallError::Lost(lost.into())));
        }
    }
}

impl Call {
    /// The answer, if it comes before the deadline.
    pub(super) async fn until(mut self, deadline: Instant) -> Outcome {
        match time::timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::Lost("the runtime that this node spoke by has ended".into())),
            Err(_) if self.withdraw() => {
                Err(CallError::Unreachable("no connection in the time that the call has".into()))
            }
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// True if it was not sent.
    fn withdraw(&self) -> bool {
        let mut state = self.link.lock();
        state.sent.remove(&self.number);
        let Some(queued) = state.queued.remove(&self.number) else { return false };
        state.queued_bytes -= queued.body.len();
        true
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The asking end of a connection.
pub(super) struct Asking<'a>(pub(super) &'a Link);

impl End for Asking<'_> {
    fn fill(&mut self, out: &mut BytesMut) {
        let mut state = self.0.lock();
        while out.len() < AT_ONCE_BYTES
            && let Some((number, Queued { body, answer })) = state.queued.pop_first()
        {
            state.queued_bytes -= body.len();
            frame::put(out, number, Kind::Request, &body);
            state.sent.insert(number, answer);
        }
    }

    fn signal(&self) -> &Notify {
        &self.0.signal
    }

    fn hear(&mut self, frame: Frame) -> Result<(), String> {
        let outcome = match frame.kind {
            Kind::Answer => Ok(frame.body),
            Kind::Busy => Err(CallError::Unreachable(frame::words(&frame.body))),
            Kind::NoAnswer => Err(CallError::Lost(frame::words(&frame.body))),
            other => return Err(format!("{other:?} came where answers are expected")),
        };
        // One that nobody waits for any more is no fault.
        if let Some(answer) = self.0.lock().sent.remove(&frame.number) {
            let _ = answer.send(outcome);
        }
        Ok(())
    }

    fn closing(&self) -> Option<String> {
        self.0.lock().closing.clone()
    }
}

/// Closes a link that is for one call, when that is over.
pub(super) struct Brief(pub(super) Arc<Link>);

impl Drop for Brief {
    fn drop(&mut self) {
        self.0.close("all was asked");
    }
}

/// A future that is already decided, or a call to wait for.
pub(super) fn outcome(
    call: Result<Call, CallError>,
    within: Duration,
) -> impl Future<Output = Outcome> + Send + 'static {
    let deadline = Instant::now() + within;
    async move { call?.until(deadline).await }
}
