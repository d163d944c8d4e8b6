//! TLS before HTTP: the handshake of a connection on the runtime that answers its requests.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::farewell::Farewell;

/// Time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How every TLS connection begins (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// `None` if nothing came of it. Who speaks plain HTTP is told so.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    farewell: &Farewell,
) -> Option<TlsStream<TcpStream>> {
    let shaken = time::timeout(HANDSHAKE_TIMEOUT, async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_RECORD {
            farewell.say(stream, plain_http());
            return Ok(None);
        }
        TlsAcceptor::from(config).accept(stream).await.map(Some)
    });
    match shaken.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

fn plain_http() -> String {
    let text = "This port speaks HTTPS: write https:// in the address.\n";
    format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}
