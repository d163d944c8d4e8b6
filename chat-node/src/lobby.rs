//! The admin ports of a node that has no log yet: alive, not ready, and why.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use chat_raft::control::Control;
use contract::status::{Durability, LIVEZ, NodeState, NodeStatus, STATUS};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::net::TcpListener;

use crate::{
    admin::{self, Pages},
    certificates::Certificate,
    doors::Posts,
    farewell::Farewell,
    http, https,
    listen::AcceptBackoff,
    orders,
};

#[derive(Clone)]
pub(crate) struct Lobby {
    reason: Arc<Mutex<String>>,
    /// Where the nodes keep the log.
    cluster: Option<Control>,
}

impl Lobby {
    pub(crate) fn new(cluster: Option<Control>) -> Self {
        Self { reason: Arc::default(), cluster }
    }

    /// What the node waits for, as a sentence of its own.
    pub(crate) fn say(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, posts: &Posts) -> Infallible {
        match &posts.control {
            None => self.serve_admin(&posts.admin, posts.admin_pages).await,
            Some((control, certificate)) => tokio::select! {
                never = self.serve_admin(&posts.admin, posts.admin_pages) => never,
                never = self.serve_control(control, certificate) => never,
            },
        }
    }

    /// One at a time: probes ask shortly and go, and there is nothing else to be had here.
    async fn serve_admin(&self, listener: &TcpListener, pages: Pages) -> Infallible {
        let mut backoff = AcceptBackoff::new();
        loop {
            let Some((stream, _)) = backoff.after(listener.accept().await).await else { continue };
            http::serve_one(stream, |request| self.answer(pages, request)).await;
        }
    }

    async fn serve_control(&self, listener: &TcpListener, certificate: &Certificate) -> Infallible {
        let farewell = Farewell::new();
        let mut backoff = AcceptBackoff::new();
        loop {
            let Some((stream, _)) = backoff.after(listener.accept().await).await else { continue };
            let shaken = https::shake_hands(stream, certificate.config(), &farewell).await;
            let Some(stream) = shaken else { continue };
            http::serve_one(stream, |request| self.answer(Pages::Control, request)).await;
        }
    }

    async fn answer(&self, pages: Pages, request: Request<Incoming>) -> hyper::Response<http::Body> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(not_here) = admin::not_here(pages, request.uri().path()) {
            return not_here;
        }
        if let Some(cluster) = &self.cluster
            && orders::is_order(request.uri().path())
        {
            return orders::answer(cluster, request).await;
        }
        match request.uri().path() {
            LIVEZ => http::text(StatusCode::OK, "ok\n"),
            STATUS => {
                let mut line = serde_json::to_string(&self.status(reason)).expect("a status is plain data");
                line.push('\n');
                let mut response = http::text(StatusCode::OK, line);
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            _ => http::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    /// Of a node that has no state yet.
    fn status(&self, reason: String) -> NodeStatus {
        let member = self.cluster.as_ref().and_then(Control::member);
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            member: member.map_or_else(String::new, |member| format!("{:016x}", member.0)),
            state: NodeState::Recovering,
            reason,
            connections: 0,
            sessions: 0,
            detached: 0,
            users: 0,
            channels: 0,
            settings_revision: 0,
            durability: Durability::Memory,
            shards: Vec::new(),
            draining_remaining: 0,
            cluster: self.cluster.as_ref().map(Control::cluster),
        }
    }
}
