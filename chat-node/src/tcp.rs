//! IRC over TCP and TLS: accepting connections.

use std::{sync::Arc, time::Duration};

use chat_session::Framing;
use rustls::ServerConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    admission::Admission,
    certificates::Certificate,
    crew::{Crew, Incoming},
    farewell::Farewell,
    listen::AcceptBackoff,
};

/// Dead peers are noticed by PING; this is for connections of which the kernel alone knows, such as those that linger.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Accepts connections and gives them to workers, until it is dropped. With a certificate they are for TLS; the
/// workers shake hands.
pub(crate) async fn accept(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    admission: Arc<Admission>,
    crew: Arc<Crew>,
) {
    let farewell = Farewell::new();
    let mut backoff = AcceptBackoff::new();
    loop {
        let Some((stream, peer)) = backoff.after(listener.accept().await).await else { continue };
        match admission.admit(peer.ip()) {
            Ok(permit) => match prepare(stream) {
                Ok(stream) => crew.hand_over(Incoming {
                    stream,
                    tls: certificate.as_deref().map(begin),
                    peer,
                    framing: Framing::Tcp,
                    received: Vec::new(),
                    permit,
                }),
                Err(error) => tracing::debug!(%error, "a connection ended at once"),
            },
            Err(refusal) if certificate.is_none() => {
                farewell.say(stream, format!("ERROR :{}\r\n", refusal.text()));
            }
            // A handshake, only to tell that there is no room, is more than there is room for.
            Err(_) => {}
        }
    }
}

/// A connection that waits for the client to begin its handshake.
fn begin(certificate: &Certificate) -> Box<ServerConnection> {
    let connection = ServerConnection::new(certificate.config());
    Box::new(connection.expect("the configuration was made from defaults that are valid"))
}

/// Sets what every client socket has, and takes it out of this runtime.
pub(crate) fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    stream.into_std()
}
