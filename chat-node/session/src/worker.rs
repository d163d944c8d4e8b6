//! One worker thread without its I/O: replicas of every shard, the connections it serves, and what goes between.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chat_state::{
    channels::ChannelShard,
    command::Command,
    directory::Directory,
    entry::{Entry, Origin, Request},
    ids::{ChannelId, Incarnation, MemberId, Position, SessionId, ShardId, UserId},
};

use crate::{
    claims::Claim,
    config::{Close, Counters, Now, Peer, Random, SessionConfig, StrictTransport},
    connection::{Connection, ConnectionId, Identity, Pending, PendingKind, Phase},
    hold::Hold,
    input::Bucket,
};

/// The sans-I/O core of a worker thread.
pub struct Worker {
    pub(crate) config: SessionConfig,
    pub(crate) random: Box<dyn Random>,
    pub(crate) now: Now,

    pub(crate) directory: Directory,
    /// Shards 1..=S, in order.
    pub(crate) channels: Vec<ChannelShard>,
    pub(crate) hold: Hold,
    /// What anybody saw of the log is here before what they ask for after.
    pub(crate) follows_own_log: bool,
    pub(crate) strict_transport: StrictTransport,
    /// The attach that is being applied: the session's last resume may not have reached its client whole.
    pub(crate) resumes_in_doubt: bool,
    /// This node's present life, once its registration came back from the log.
    pub(crate) incarnation: Option<Incarnation>,
    nonce: u64,
    /// The room took this life for over.
    pub(crate) given_up: bool,

    pub(crate) connections: Vec<Option<Box<Connection>>>,
    free: Vec<ConnectionId>,
    open: usize,
    pub(crate) by_session: HashMap<SessionId, ConnectionId>,
    pub(crate) by_user: HashMap<UserId, Vec<ConnectionId>>,
    /// Connections here of each channel's members.
    pub(crate) local: HashMap<ChannelId, Vec<ConnectionId>>,
    /// Who is to see the QUIT of a user that some shards have forgotten already.
    pub(crate) quit_watchers: BTreeMap<UserId, Vec<ConnectionId>>,
    /// Who waits for the nick of a user that closes for it.
    pub(crate) claims: BTreeMap<UserId, Vec<Claim>>,
    /// Connections that wait to be opened or attached, by request number.
    pub(crate) opening: HashMap<u64, ConnectionId>,
    /// Resumes that wait for this worker to apply what the client saw elsewhere.
    pub(crate) catching_up: Vec<ConnectionId>,
    pub(crate) next_open: u64,
    pub(crate) fan_out: u64,
    /// Users with the mode `i`, for LUSERS.
    pub(crate) invisible: BTreeSet<UserId>,
    /// Most users at a time since the node started, for LUSERS.
    pub(crate) most_users: usize,
    /// Label of the command whose answers are being written.
    pub(crate) context: Option<u32>,

    requests: Vec<(ShardId, Request)>,
    dirty: Vec<ConnectionId>,
    closing: Vec<(ConnectionId, Close)>,
    resumed: Vec<ConnectionId>,
    pub(crate) runnable: Vec<ConnectionId>,
    /// Connections whose next line waits for their rate.
    pub(crate) throttled: Vec<ConnectionId>,
    pub(crate) ticks: u64,
    pub(crate) read_only: Option<String>,
    pub(crate) draining: Option<Drain>,
    pub(crate) counters: Counters,
}

/// A drain in progress.
pub(crate) struct Drain {
    pub(crate) per_second: u32,
    pub(crate) since_ms: u64,
    pub(crate) told: u64,
}

impl Worker {
    /// `nonce` is this life of the node: the worker learns its incarnation from the registration that carries it.
    pub fn new(
        config: SessionConfig,
        nonce: u64,
        random: Box<dyn Random>,
        directory: Directory,
        channels: Vec<ChannelShard>,
    ) -> Self {
        assert_eq!(channels.len(), usize::from(config.shards), "one replica per channel shard");
        let invisible =
            directory.users().filter(|(_, user)| user.modes.invisible).map(|(id, _)| id).collect();
        Self {
            config,
            random,
            now: Now::default(),
            directory,
            channels,
            hold: Hold::default(),
            follows_own_log: false,
            strict_transport: StrictTransport::default(),
            resumes_in_doubt: false,
            incarnation: None,
            nonce,
            given_up: false,
            connections: Vec::new(),
            free: Vec::new(),
            open: 0,
            by_session: HashMap::new(),
            by_user: HashMap::new(),
            local: HashMap::new(),
            quit_watchers: BTreeMap::new(),
            claims: BTreeMap::new(),
            opening: HashMap::new(),
            catching_up: Vec::new(),
            next_open: 0,
            fan_out: 0,
            invisible,
            most_users: 0,
            context: None,
            requests: Vec::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            resumed: Vec::new(),
            runnable: Vec::new(),
            throttled: Vec::new(),
            ticks: 0,
            read_only: None,
            draining: None,
            counters: Counters::default(),
        }
    }

    /// The log is this node's own, and gives this worker its entries in the one order of all shards. So whatever a
    /// client saw before it asked to resume was applied here before the answer: what was not is no part of this log.
    pub fn follows_own_log(&mut self) {
        self.follows_own_log = true;
    }

    /// There is a port for TLS; clients are told so from now on.
    pub fn offers_tls(&mut self, strict_transport: StrictTransport) {
        self.strict_transport = strict_transport;
    }

    /// A socket was accepted.
    pub fn connect(&mut self, peer: Peer, now: Now) -> ConnectionId {
        self.now = now;
        let bucket = Bucket::full(&self.config.limits, now);
        let connection = Some(Box::new(Connection::new(peer, bucket, now)));
        self.open += 1;
        let id = match self.free.pop() {
            Some(id) => {
                self.connections[id.0 as usize] = connection;
                id
            }
            None => {
                self.connections.push(connection);
                ConnectionId(u32::try_from(self.connections.len() - 1).expect("fewer than 2^32 connections"))
            }
        };
        if self.draining.is_some() {
            self.close(id, 1012, "This node is being stopped, please reconnect");
        }
        id
    }

    /// The transport is gone; `reason` is what others see in the QUIT of a session that cannot be resumed.
    pub fn disconnect(&mut self, id: ConnectionId, reason: &str, now: Now) {
        self.now = now;
        self.detach(id, reason);
    }

    /// Entries that came back from the log, per shard in order and without a gap.
    pub fn committed(&mut self, shard: ShardId, entry: &Arc<Entry>, now: Now) {
        self.now = now;
        self.hold.push(shard, Arc::clone(entry));
        loop {
            let (directory, channels) = (&self.directory, &self.channels);
            let next = self.hold.pop(|shard| match shard {
                ShardId::DIRECTORY => directory.position(),
                ShardId(n) => channels[usize::from(n) - 1].position(),
            });
            let Some((shard, entry)) = next else { break };
            self.deliver(shard, &entry);
        }
        self.caught_up();
        self.run_waiting();
    }

    /// The log refused a request of this worker: it had no effect and never will.
    pub fn refused(&mut self, origin: Option<Origin>, command: &Command, reason: &str, now: Now) {
        self.now = now;
        self.counters.refused += 1;
        self.answer_refused(origin, command, reason);
        self.run_waiting();
    }

    /// Whether the log takes requests now; the reason if it does not.
    pub fn set_read_only(&mut self, reason: Option<String>) {
        self.read_only = reason;
    }

    /// Requests for the log since the last call, in the order they must reach it.
    pub fn take_requests(&mut self) -> Vec<(ShardId, Request)> {
        std::mem::take(&mut self.requests)
    }

    /// Connections whose output grew since the last call, each once.
    pub fn take_dirty(&mut self) -> Vec<ConnectionId> {
        let dirty = std::mem::take(&mut self.dirty);
        for id in &dirty {
            if let Some(connection) = &mut self.connections[id.0 as usize] {
                connection.dirty = false;
            }
        }
        dirty
    }

    /// Bytes for the socket, in the connection's framing.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        let connection = self.connection(id);
        &connection.output[connection.written..]
    }

    /// The socket took this many of [`Self::output`]'s bytes.
    pub fn consume(&mut self, id: ConnectionId, written: usize) {
        let connection = self.connection_mut(id);
        connection.written += written;
        debug_assert!(connection.written <= connection.output.len());
        if connection.written == connection.output.len() {
            connection.written = 0;
            // An idle connection keeps no buffer.
            connection.output = Vec::new();
        } else if connection.written > 64 * 1024 {
            connection.output.drain(..connection.written);
            connection.written = 0;
        }
    }

    /// Connections that end: write what is left, within bounded time, close the socket, call [`Self::forget`].
    pub fn take_closing(&mut self) -> Vec<(ConnectionId, Close)> {
        std::mem::take(&mut self.closing)
    }

    /// The socket of a closing or disconnected connection is gone; its number may be used again.
    pub fn forget(&mut self, id: ConnectionId) {
        if self.connections[id.0 as usize].is_some() {
            self.detach(id, "Connection closed");
            self.connections[id.0 as usize] = None;
            self.free.push(id);
            self.open -= 1;
        }
    }

    /// Whether its socket may be read; if not, wait for [`Self::take_resumed_reading`].
    pub fn wants_input(&self, id: ConnectionId) -> bool {
        !self.connection(id).paused
    }

    /// Connections whose sockets may be read again.
    pub fn take_resumed_reading(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.resumed)
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn channels(&self) -> &[ChannelShard] {
        &self.channels
    }

    /// Connections that were not forgotten yet.
    pub fn connection_count(&self) -> usize {
        self.open
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Entries that wait for another shard; for the node's status.
    pub fn held_back(&self) -> usize {
        self.hold.len()
    }

    /// This node's present life, once registered.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// The room took this node for dead and ended its life: nothing that it proposes has an effect any more.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }

    pub(crate) fn registered(&mut self, member: MemberId, nonce: u64, incarnation: Incarnation) {
        tracing::debug!(member = member.0, incarnation = incarnation.0, "a node registered");
        if nonce == self.nonce {
            self.incarnation = Some(incarnation);
        }
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> &Connection {
        self.connections[id.0 as usize].as_deref().expect("the edge names connections that it did not forget")
    }

    pub(crate) fn connection_mut(&mut self, id: ConnectionId) -> &mut Connection {
        self.connections[id.0 as usize]
            .as_deref_mut()
            .expect("the edge names connections that it did not forget")
    }

    pub(crate) fn shard(&self, shard: ShardId) -> &ChannelShard {
        &self.channels[usize::from(shard.0) - 1]
    }

    /// How far this worker has delivered the directory.
    pub(crate) fn dir_at(&self) -> Position {
        self.directory.position()
    }

    pub(crate) fn request(&mut self, shard: ShardId, origin: Option<Origin>, command: Command) {
        self.requests.push((shard, Request { origin, dir_at: self.dir_at(), command }));
    }

    /// Proposes for a session and remembers what it asked.
    pub(crate) fn propose(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        shard: ShardId,
        command: Command,
        kind: PendingKind,
    ) {
        let label = self.context;
        let connection = self.connection_mut(id);
        connection.next_request = connection.next_request.wrapping_add(1);
        let request = connection.next_request;
        connection.pending.push_back(Pending { shard, request, kind, label });
        let Identity { user, session, generation } = identity;
        self.request(shard, Some(Origin { user, session, generation, request }), command);
    }

    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        let limit = self.config.limits.max_waiting_output;
        let connection = self.connection_mut(id);
        let full = connection.waiting_output() > limit && !connection.is_closed();
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        if full {
            self.counters.closed_send_queue += 1;
            self.close(id, 4000, "SendQ exceeded");
        }
    }

    pub(crate) fn resume_reading(&mut self, id: ConnectionId) {
        let connection = self.connection_mut(id);
        if connection.paused {
            connection.paused = false;
            self.resumed.push(id);
        }
    }

    /// Ends a connection of ours: ERROR, detach, close.
    pub(crate) fn close(&mut self, id: ConnectionId, web_socket_code: u16, reason: &str) {
        if self.connection(id).is_closed() {
            return;
        }
        self.detach(id, reason);
        self.finish(id, web_socket_code, reason);
    }

    /// Writes ERROR and gives the connection to the edge; its session was dealt with.
    pub(crate) fn finish(&mut self, id: ConnectionId, web_socket_code: u16, reason: &str) {
        self.connection_mut(id).phase = Phase::Closed;
        // It may be another's command that fills this connection's output: that one's answers keep their label.
        let context = self.context.take();
        self.say(id, |_, out| out.extend_from_slice(format!("ERROR :Closing link: {reason}\r\n").as_bytes()));
        self.context = context;
        self.closing.push((id, Close { web_socket_code, reason: reason.to_owned() }));
    }
}
