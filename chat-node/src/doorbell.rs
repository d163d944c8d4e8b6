//! Wakes a worker's loop from other threads; at most one system call until the loop looked.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};

use mio::{Registry, Token};

#[derive(Debug)]
pub(crate) struct Doorbell {
    waker: mio::Waker,
    rung: AtomicBool,
}

impl Doorbell {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { waker: mio::Waker::new(registry, token)?, rung: AtomicBool::new(false) }))
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // Its loop looks again within a tick.
            tracing::warn!(%error, "cannot wake a worker");
        }
    }

    /// The loop is about to look at everything that may have rung: later rings must wake it again.
    pub(crate) fn answered(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

/// So that the log's followers can ring.
impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
