//! The workers as other threads see them: who gets the next connection, and what all of them are told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use chat_session::Framing;
use rustls::ServerConnection;

use crate::{admission::Permit, doorbell::Doorbell, figures::WorkerFigures};

/// A client's connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) stream: std::net::TcpStream,
    /// What is between the stream and the lines; its handshake may be still to come.
    pub(crate) tls: Option<Box<ServerConnection>>,
    pub(crate) peer: SocketAddr,
    pub(crate) framing: Framing,
    /// Bytes that were read beyond the WebSocket handshake.
    pub(crate) received: Vec<u8>,
    pub(crate) permit: Permit,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    Connect(Incoming),
    /// Tell clients to go, at most so many a second.
    Drain {
        per_second: u32,
    },
    /// Write what waits, close everything, end.
    Stop,
}

/// One worker. The channel has no bound of its own: the connections in it are bounded by their permits, the other
/// orders are few.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) figures: Arc<WorkerFigures>,
}

#[derive(Debug)]
pub(crate) struct Crew {
    workers: Vec<WorkerHandle>,
    next: AtomicUsize,
}

impl Crew {
    pub(crate) fn new(workers: Vec<WorkerHandle>) -> Arc<Self> {
        assert!(!workers.is_empty(), "the configuration asks for at least one worker");
        Arc::new(Self { workers, next: AtomicUsize::new(0) })
    }

    pub(crate) fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// Gives the connection to the worker with the fewest, in turn among equals. (Listeners of their own, with
    /// `SO_REUSEPORT`, would spread by a hash: with few connections quite unevenly, and for good.)
    pub(crate) fn hand_over(&self, incoming: Incoming) {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.workers.len();
        let worker = (0..count)
            .map(|offset| &self.workers[(first + offset) % count])
            .min_by_key(|worker| worker.figures.connections())
            .expect("there is at least one worker");
        let open = worker.figures.open(incoming.framing);
        open.fetch_add(1, Ordering::Relaxed);
        if worker.send(Order::Connect(incoming)).is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn tell_all(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            // A worker that has ended needs no order.
            let _ = worker.send(order());
        }
    }

    pub(crate) fn connections(&self) -> u32 {
        self.workers.iter().map(|worker| worker.figures.connections()).sum()
    }
}

impl WorkerHandle {
    /// `Err` when the worker has ended; what was sent is dropped, a connection with it.
    fn send(&self, order: Order) -> Result<(), ()> {
        self.orders.send(order).map_err(drop)?;
        self.doorbell.ring();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{admission::Admission, worker::Seat};

    #[test]
    fn the_worker_with_the_fewest_gets_the_next() {
        let (seats, handles): (Vec<_>, Vec<_>) =
            (0..2).map(|_| Seat::new().expect("an epoll instance")).unzip();
        handles[0].figures.tcp.store(2, Ordering::Relaxed);
        let crew = Crew::new(handles);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let admission = Admission::new(10, 10);
        for _ in 0..4 {
            crew.hand_over(Incoming {
                stream: TcpStream::connect(address).expect("connected"),
                tls: None,
                peer: address,
                framing: Framing::WebSocketText,
                received: Vec::new(),
                permit: admission.admit(address.ip()).expect("room"),
            });
        }
        let counts: Vec<_> = crew.workers().iter().map(|worker| worker.figures.connections()).collect();
        assert_eq!(counts, [3, 3]);
        drop(seats);
    }
}
