//! The admin port of a node that has no log yet: alive, not ready, and why.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use contract::status::LIVEZ;
use hyper::{Request, StatusCode};
use tokio::net::TcpListener;

use crate::{http, listen::AcceptBackoff};

#[derive(Clone, Default)]
pub(crate) struct Lobby {
    reason: Arc<Mutex<String>>,
}

impl Lobby {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What the node waits for.
    pub(crate) fn say(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, listener: &TcpListener) -> Infallible {
        let mut backoff = AcceptBackoff::new();
        loop {
            let Some((stream, _)) = backoff.after(listener.accept().await).await else { continue };
            // One at a time: probes ask shortly and go, and there is nothing else to be had here.
            http::serve_one(stream, |request| std::future::ready(self.answer(&request))).await;
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> hyper::Response<http::Body> {
        if request.uri().path() == LIVEZ {
            return http::text(StatusCode::OK, "ok\n");
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        http::text(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for the store: {reason}\n"))
    }
}
