//! A worker thread: one loop over its sockets and its stream of the log, with the session layer in between.
//!
//! The loop is a bare epoll loop instead of tasks on a runtime: a message to a thousand clients is then a thousand
//! writes and not one wake-up more, a connection costs a socket's state and nothing else, and everything that became
//! ready together is read together, goes to the log together, and is written together.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering, mpsc},
    task::{Context, Poll as TaskPoll, Waker},
    time::{Duration, Instant},
};

use chat_log::{
    clock::{Clock, SystemClock},
    follower::Follower,
    log::{AppendError, Delivery, Log, Request, Standing},
};
use chat_protocol::name::host_of;
use chat_session::{ConnectionId, Now, Peer, Worker};
use chat_state::ids::ShardId;
use mio::{Events, Interest, Poll, Token, event::Event};

use crate::{
    chores::Chores,
    crew::{Incoming, Order, WorkerHandle},
    doorbell::Doorbell,
    figures::{Totals, WorkerFigures},
    latency::Latency,
    snapshots::{Desk, Taken},
    socket::{Buffers, ReadResult, Socket, WriteResult},
    transport::Transport,
};

const DOORBELL: Token = Token(usize::MAX);
const EVENTS_A_TURN: usize = 1024;
/// Deliveries of the log taken in a turn, so that sockets get theirs.
const DELIVERIES_A_TURN: usize = 256;
const TICK_MS: u64 = 100;
/// Until the next try while the log takes nothing more.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(2);

/// What a worker has before it runs: its end of the channels that others know it by.
pub(crate) struct Seat {
    poll: Poll,
    doorbell: Arc<Doorbell>,
    orders: mpsc::Receiver<Order>,
    figures: Arc<WorkerFigures>,
}

impl Seat {
    pub(crate) fn new() -> io::Result<(Self, WorkerHandle)> {
        let poll = Poll::new()?;
        let doorbell = Doorbell::new(poll.registry(), DOORBELL)?;
        let (sender, orders) = mpsc::channel();
        let figures = Arc::new(WorkerFigures::default());
        let handle =
            WorkerHandle { orders: sender, doorbell: Arc::clone(&doorbell), figures: Arc::clone(&figures) };
        Ok((Self { poll, doorbell, orders, figures }, handle))
    }
}

/// What a worker works with.
pub(crate) struct Tools {
    pub(crate) core: Worker,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) follower: Follower,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) desk: Desk,
    /// Which snapshots it takes: those of the shards whose number leaves this rest.
    pub(crate) number: u16,
    pub(crate) workers: u16,
    /// The first worker does the node's.
    pub(crate) chores: Option<Chores>,
    /// Called once: this worker has applied everything that was in the log when the node started.
    pub(crate) on_caught_up: Box<dyn FnOnce() + Send>,
}

pub(crate) struct WorkerThread {
    poll: Poll,
    doorbell: Arc<Doorbell>,
    waker: Waker,
    orders: mpsc::Receiver<Order>,
    figures: Arc<WorkerFigures>,
    core: Worker,
    log: Arc<dyn Log>,
    follower: Follower,
    clock: Arc<SystemClock>,
    desk: Desk,
    number: u16,
    workers: u16,
    chores: Option<Chores>,
    on_caught_up: Option<Box<dyn FnOnce() + Send>>,

    sockets: Vec<Option<Socket>>,
    buffers: Buffers,
    /// To be read in the next turn, without being announced.
    again: Vec<ConnectionId>,
    /// Something of the edge's own waits to be written.
    touched: Vec<ConnectionId>,
    /// Connections that end and have a deadline.
    ending: Vec<ConnectionId>,
    /// Requests that the log had no room for, in order. While there are any, no socket is read.
    unsent: BTreeMap<ShardId, Vec<Request>>,
    stalled: Vec<ConnectionId>,
    latency: Latency,
    turn_began: Instant,
    next_tick_ms: u64,
    /// The budget of deliveries was used up: there may be more.
    more_deliveries: bool,
}

/// Why a worker's loop ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("cannot wait for sockets: {0}")]
    Poll(#[source] io::Error),
    #[error("{0}")]
    Log(Arc<str>),
    #[error("the log has stopped")]
    LogStopped,
    #[error(
        "the other nodes of the room took this one for dead, because the store did not hear from it for some seconds; \
         its clients resume on other nodes, and it has to start anew"
    )]
    GivenUp,
}

enum Turn {
    Goes,
    Stops,
}

impl WorkerThread {
    pub(crate) fn new(seat: Seat, tools: Tools) -> Self {
        let Seat { poll, doorbell, orders, figures } = seat;
        let Tools { mut core, log, follower, clock, desk, number, workers, chores, on_caught_up } = tools;
        if log.standing() == Standing::ALONE {
            core.follows_own_log();
        }
        Self {
            waker: Waker::from(Arc::clone(&doorbell)),
            poll,
            doorbell,
            orders,
            figures,
            core,
            log,
            follower,
            clock,
            desk,
            number,
            workers,
            chores,
            on_caught_up: Some(on_caught_up),
            sockets: Vec::new(),
            buffers: Buffers::new(),
            again: Vec::new(),
            touched: Vec::new(),
            ending: Vec::new(),
            unsent: BTreeMap::new(),
            stalled: Vec::new(),
            latency: Latency::default(),
            turn_began: Instant::now(),
            next_tick_ms: 0,
            more_deliveries: true,
        }
    }

    /// Runs until it is told to stop, or the log broke.
    pub(crate) fn run(mut self) -> Result<(), WorkerError> {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        loop {
            match self.poll.poll(&mut events, Some(self.timeout())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WorkerError::Poll(error)),
            }
            if let Turn::Stops = self.turn(&events)? {
                return Ok(());
            }
        }
    }

    fn timeout(&self) -> Duration {
        if self.more_deliveries || (!self.again.is_empty() && self.unsent.is_empty()) {
            Duration::ZERO
        } else if !self.unsent.is_empty() {
            OVERLOADED_PAUSE
        } else {
            Duration::from_millis(self.next_tick_ms.saturating_sub(self.now().monotonic_ms))
        }
    }

    fn turn(&mut self, events: &Events) -> Result<Turn, WorkerError> {
        self.doorbell.answered();
        self.turn_began = Instant::now();
        let now = self.now();
        self.figures.turned(now.monotonic_ms);
        // New connections first: a number that was given up in this turn must not be given anew in it.
        if let Turn::Stops = self.take_orders(now) {
            return Ok(Turn::Stops);
        }
        for id in std::mem::take(&mut self.again) {
            self.read(id, now);
        }
        for event in events {
            self.on_event(event, now);
        }
        // What was read goes to the log at once: its disk works while this thread writes.
        self.submit()?;
        self.take_deliveries(now)?;
        if now.monotonic_ms >= self.next_tick_ms {
            self.next_tick_ms = now.monotonic_ms + TICK_MS;
            self.tick(now);
        }
        if let Some(chores) = &mut self.chores {
            chores.run(&self.core, now);
        }
        self.submit()?;
        self.write_all(now);
        // Connections that broke while they were written to.
        self.submit()?;
        Ok(Turn::Goes)
    }

    fn take_orders(&mut self, now: Now) -> Turn {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Connect(incoming) => self.connect(incoming, now),
                Order::Drain { per_second } => self.core.drain(per_second, now),
                Order::Stop => {
                    self.stop(now);
                    return Turn::Stops;
                }
            }
        }
        Turn::Goes
    }

    fn connect(&mut self, incoming: Incoming, now: Now) {
        let Incoming { stream, tls, peer, framing, mut received, permit } = incoming;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let id = self.core.connect(Peer { host: host_of(peer.ip()), secure: tls.is_some(), framing }, now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(id.0 as usize), interest) {
            tracing::warn!(%error, "cannot watch a socket");
            self.core.forget(id);
            self.figures.open(framing).fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let slot = id.0 as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        let socket = self.sockets[slot].insert(Socket::new(Transport::new(stream, tls), framing, permit));
        socket.begin(id, &mut self.core, &mut received, &mut self.buffers, now);
        if socket.wants_write() {
            self.touched.push(id);
        }
        if socket.ending.is_some() {
            self.touched.push(id);
            self.ending.push(id);
        }
    }

    fn on_event(&mut self, event: &Event, now: Now) {
        if event.token() == DOORBELL {
            return;
        }
        let id =
            ConnectionId(u32::try_from(event.token().0).expect("tokens of sockets are connection numbers"));
        if event.is_writable()
            && let Some(socket) = self.socket(id)
            && socket.blocked
        {
            socket.blocked = false;
            self.touched.push(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if let Some(socket) = self.socket(id) {
                socket.hung_up |= event.is_read_closed() || event.is_error();
            }
            self.read(id, now);
        }
    }

    fn read(&mut self, id: ConnectionId, now: Now) {
        let stalled = !self.unsent.is_empty();
        let Some(socket) = self.sockets.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let (was_ending, was_open) = (socket.ending.is_some(), socket.is_open());
        if !was_ending && (stalled || !self.core.wants_input(id)) {
            socket.unread = true;
            if stalled {
                self.stalled.push(id);
            }
            return;
        }
        socket.unread = false;
        match socket.read(id, &mut self.core, &mut self.buffers, now) {
            // The end stands behind the last bytes and is not announced again.
            ReadResult::Drained if socket.hung_up => self.again.push(id),
            ReadResult::Drained => {}
            ReadResult::More => self.again.push(id),
            ReadResult::Gone(reason) => return self.gone(id, reason, now),
        }
        let ends = !was_ending && socket.ending.is_some();
        if ends {
            self.ending.push(id);
        }
        // What was said before the handshake was over waits for it to be.
        if ends || socket.wants_write() || (!was_open && socket.is_open()) {
            self.touched.push(id);
        }
    }

    /// The other side is gone.
    fn gone(&mut self, id: ConnectionId, reason: &str, now: Now) {
        self.core.disconnect(id, reason, now);
        self.remove(id);
    }

    fn remove(&mut self, id: ConnectionId) {
        if let Some(socket) = self.sockets.get_mut(id.0 as usize).and_then(Option::take) {
            self.figures.open(socket.framing).fetch_sub(1, Ordering::Relaxed);
            self.core.forget(id);
        }
    }

    /// Hands everything that was asked for to the log, as one batch a shard.
    fn submit(&mut self) -> Result<(), WorkerError> {
        let mut batches = std::mem::take(&mut self.unsent);
        for (shard, request) in self.core.take_requests() {
            self.latency.sent(shard, &request, self.turn_began);
            batches.entry(shard).or_default().push(request);
        }
        if let Some(chores) = &mut self.chores {
            for (shard, request) in chores.take_requests() {
                batches.entry(shard).or_default().push(request);
            }
        }
        for (shard, requests) in batches {
            match self.log.append(self.follower.id(), shard, requests) {
                Ok(()) => {}
                Err(AppendError::Overloaded(back)) => {
                    self.unsent.insert(shard, back);
                }
                Err(AppendError::Stopped(_)) => return Err(self.log_stopped()),
            }
        }
        if self.unsent.is_empty() {
            self.again.append(&mut self.stalled);
        }
        Ok(())
    }

    fn take_deliveries(&mut self, now: Now) -> Result<(), WorkerError> {
        self.more_deliveries = true;
        for _ in 0..DELIVERIES_A_TURN {
            let waker = self.waker.clone();
            match self.follower.poll_next(&mut Context::from_waker(&waker)) {
                TaskPoll::Ready(Some(delivery)) => self.on_delivery(delivery, now)?,
                TaskPoll::Ready(None) => return Err(self.log_stopped()),
                TaskPoll::Pending => {
                    self.more_deliveries = false;
                    break;
                }
            }
        }
        if self.core.is_given_up() {
            return Err(WorkerError::GivenUp);
        }
        if self.core.incarnation().is_some()
            && let Some(on_caught_up) = self.on_caught_up.take()
        {
            on_caught_up();
        }
        Ok(())
    }

    fn on_delivery(&mut self, delivery: Delivery, now: Now) -> Result<(), WorkerError> {
        match delivery {
            Delivery::Committed(batch) => {
                let arrived = Instant::now();
                for (shard, entry) in batch.iter() {
                    self.latency.came_back(*shard, entry, arrived);
                    self.core.committed(*shard, entry, now);
                }
            }
            Delivery::Refused { shard, request, reason } => {
                self.latency.refused(shard, request.origin);
                if let Some(chores) = &mut self.chores {
                    chores.refused(&request);
                }
                self.core.refused(request.origin, &request.command, &reason.to_string(), now);
            }
            Delivery::ReadOnly(read_only) => {
                self.figures.refusing.store(read_only.is_some(), Ordering::Relaxed);
                self.core.set_read_only(read_only.map(|reason| reason.to_string()));
            }
            Delivery::SnapshotWanted { shard } => {
                if shard.0 % self.workers == self.number {
                    self.take_snapshot(shard);
                }
            }
            Delivery::Fatal(reason) => return Err(WorkerError::Log(reason)),
        }
        Ok(())
    }

    fn take_snapshot(&self, shard: ShardId) {
        if let Some(taken) = Taken::of(&self.core, shard)
            && self.desk.try_send(taken).is_err()
        {
            // There is room for two of every shard; the log asks again.
            tracing::warn!(shard = shard.0, "too many snapshots wait to be written");
        }
    }

    fn tick(&mut self, now: Now) {
        self.core.tick(now);
        if let Some(chores) = &mut self.chores {
            chores.tick(&self.core, now);
        }
        self.figures.publish(Totals { counters: self.core.counters(), acknowledge: self.latency.seen });
        let over =
            |socket: &Socket| socket.ending.is_some_and(|ending| now.monotonic_ms >= ending.deadline_ms);
        let ending = std::mem::take(&mut self.ending);
        for id in ending {
            match self.socket(id) {
                Some(socket) if over(socket) => self.remove(id),
                Some(socket) if socket.ending.is_some() => self.ending.push(id),
                _ => {}
            }
        }
    }

    /// Writes to every connection that has something, then ends those that are to end.
    fn write_all(&mut self, now: Now) {
        for id in self.core.take_resumed_reading() {
            if self.socket(id).is_some_and(|socket| socket.unread) {
                self.again.push(id);
            }
        }
        for (id, close) in self.core.take_closing() {
            if let Some(socket) = self.socket(id)
                && socket.ending.is_none()
            {
                socket.finish(close.web_socket_code, &close.reason, now);
                self.ending.push(id);
                self.touched.push(id);
            }
        }
        for id in self.core.take_dirty() {
            self.write(id, now);
        }
        for id in std::mem::take(&mut self.touched) {
            self.write(id, now);
        }
    }

    fn write(&mut self, id: ConnectionId, now: Now) {
        let Some(socket) = self.sockets.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        if socket.write(id, &mut self.core, now) == WriteResult::Gone {
            self.gone(id, "Connection reset by peer", now);
        }
    }

    /// Says goodbye as far as sockets take it at once, and hands in the last snapshots.
    fn stop(&mut self, now: Now) {
        let open: Vec<_> = (0..self.sockets.len())
            .filter(|slot| self.sockets[*slot].is_some())
            .map(|slot| ConnectionId(u32::try_from(slot).expect("slots are connection numbers")))
            .collect();
        for id in open {
            if let Some(socket) = self.socket(id) {
                socket.finish(1012, "This server is being stopped, please reconnect", now);
                self.write(id, now);
            }
            self.remove(id);
        }
        if !self.log.wants_last_snapshots() {
            return;
        }
        let shards = self.core.channels().len();
        for shard in (0..=shards).filter_map(|shard| u16::try_from(shard).ok()) {
            if shard % self.workers == self.number {
                self.take_snapshot(ShardId(shard));
            }
        }
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.0 as usize)?.as_mut()
    }

    fn log_stopped(&self) -> WorkerError {
        self.log.status().fatal.map_or(WorkerError::LogStopped, WorkerError::Log)
    }

    fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        Now { monotonic_ms, unix_ms: self.clock.now_ms() }
    }
}
