//! Where and how a node is asked.

use std::net::SocketAddr;

use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::control::{self, Authority};

/// The way to a node's `/v1/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// Of its room; `None` for a node of an earlier version, which answers in clear text at its admin port.
    pub(super) authority: Option<Authority>,
}

impl Door {
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// One request on a connection of its own; its answer, once its head is there.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, self.address.to_string())
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(text)?;
        let stream = TcpStream::connect(self.address).await.map_err(text)?;
        let Some(authority) = &self.authority else { return send(stream, request).await };
        // Made for each connection: they last, and the certificates change with time.
        let connector = control::connector(authority, Timestamp::now());
        let name = ServerName::try_from(control::NODE_NAME).expect("the name is one of DNS");
        let stream = connector.connect(name, stream).await.map_err(|error| {
            format!("{} (a certificate that was just renewed reaches a node within two minutes)", text(error))
        })?;
        send(stream, request).await
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // Ends when the answer is dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(text)
}

pub(super) fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
