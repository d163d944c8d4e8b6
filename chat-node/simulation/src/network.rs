//! Connections: bytes in both directions, in pieces of any size, until somebody cuts them.

use chat_protocol::{Framed, LineFramer};
use chat_session::{ConnectionId, Framing, Peer};

use crate::{
    client::Client,
    env::{Env, shown},
    node::Node,
    truth::Truth,
    violation::Violation,
};

pub(crate) struct Link {
    pub(crate) client: usize,
    /// Which node it leads to.
    pub(crate) slot: usize,
    pub(crate) worker: usize,
    pub(crate) connection: ConnectionId,
    framer: LineFramer,
    /// Sent by the client, not read by the server.
    up: Vec<u8>,
    /// The client is gone; the server does not know yet.
    pub(crate) dead: bool,
    /// The server says goodbye.
    pub(crate) ending: bool,
}

impl Link {
    pub(crate) fn open(node: &mut Node, slot: usize, client: usize, env: &mut Env) -> Self {
        let worker = env.chance.index(node.hands.len());
        let host = format!("10.0.0.{client}");
        let peer = Peer { host, secure: false, framing: Framing::Tcp };
        let connection = node.hands[worker].worker.connect(peer, env.now());
        env.note(format_args!("c{client} connects to node {slot}, worker {worker} as {}", connection.0));
        Self {
            client,
            slot,
            worker,
            connection,
            framer: LineFramer::new(),
            up: Vec::new(),
            dead: false,
            ending: false,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
    }

    pub(crate) fn can_be_read(&self, node: &Node) -> bool {
        !self.ending && !self.up.is_empty() && node.hands[self.worker].worker.wants_input(self.connection)
    }

    pub(crate) fn can_be_written(&self, node: &Node) -> bool {
        !node.hands[self.worker].worker.output(self.connection).is_empty()
    }

    /// Nothing is on its way.
    pub(crate) fn is_quiet(&self, node: &Node) -> bool {
        self.up.is_empty() && !self.can_be_written(node) && !self.ending
    }

    /// The server reads a piece of what the client sent.
    pub(crate) fn read(&mut self, node: &mut Node, env: &mut Env) {
        let piece = piece(self.up.len(), env);
        let bytes: Vec<u8> = self.up.drain(..piece).collect();
        env.note(format_args!("c{} > {}", self.client, shown(&bytes)));
        let (hand, now) = (&mut node.hands[self.worker], env.now());
        let mut rest = &bytes[..];
        while let Some(framed) = self.framer.next_line(&mut rest) {
            match framed {
                Framed::Line(line) => hand.worker.receive(self.connection, line, now),
                Framed::TooLong => hand.worker.receive_too_long(self.connection, now),
            }
        }
        hand.collect();
    }

    /// The client gets a piece of what the server wrote.
    pub(crate) fn write(
        &mut self,
        node: &mut Node,
        client: &mut Client,
        env: &mut Env,
        truth: &Truth,
    ) -> Result<(), Violation> {
        let worker = &mut node.hands[self.worker].worker;
        let waiting = worker.output(self.connection);
        let piece = piece(waiting.len(), env);
        let bytes = waiting[..piece].to_vec();
        worker.consume(self.connection, piece);
        if self.dead { Ok(()) } else { client.receive(&bytes, env, truth) }
    }

    /// The server finds out that the connection is gone, or has ended it itself.
    pub(crate) fn close(&self, node: &mut Node, env: &mut Env) {
        let hand = &mut node.hands[self.worker];
        if !self.ending {
            hand.worker.disconnect(self.connection, "Connection reset by peer", env.now());
        }
        hand.worker.forget(self.connection);
        hand.collect();
    }
}

/// How many of the bytes that wait arrive together.
fn piece(waiting: usize, env: &mut Env) -> usize {
    if env.chance.one_in(3) { env.chance.index(waiting + 1).max(1).min(waiting) } else { waiting }
}
