//! IRC over TCP: accepting connections, and lines out of their bytes.

use std::{sync::Arc, time::Duration};

use chat_protocol::{Framed, LineFramer};
use chat_session::{ConnectionId, Framing, Now, Worker};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    admission::Admission,
    crew::{Crew, Incoming},
    farewell::Farewell,
    listen::AcceptBackoff,
};

/// What a browser, or a page that abuses one, sees on the IRC port.
pub(crate) const NOT_HTTP: &str = "This is an IRC server, not a web server";

/// Dead peers are noticed by PING; this is for connections of which the kernel alone knows, such as those that linger.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Accepts connections and gives them to workers, until it is dropped.
pub(crate) async fn accept(listener: TcpListener, admission: Arc<Admission>, crew: Arc<Crew>) {
    let farewell = Farewell::new();
    let mut backoff = AcceptBackoff::new();
    loop {
        let Some((stream, peer)) = backoff.after(listener.accept().await).await else { continue };
        match admission.admit(peer.ip()) {
            Ok(permit) => match prepare(stream) {
                Ok(stream) => crew.hand_over(Incoming {
                    stream,
                    peer,
                    framing: Framing::Tcp,
                    received: Vec::new(),
                    permit,
                }),
                Err(error) => tracing::debug!(%error, "a connection ended at once"),
            },
            Err(refusal) => farewell.say(stream, format!("ERROR :{}\r\n", refusal.text())),
        }
    }
}

/// Sets what every client socket has, and takes it out of this runtime.
pub(crate) fn prepare(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    stream.into_std()
}

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Lines {
    framer: LineFramer,
    begun: bool,
}

/// The first line was that of an HTTP request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpRequest;

impl Lines {
    pub(crate) fn new() -> Self {
        Self { framer: LineFramer::new(), begun: false }
    }

    /// Gives the lines in `bytes` to the worker.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        id: ConnectionId,
        core: &mut Worker,
        now: Now,
    ) -> Result<(), HttpRequest> {
        while let Some(framed) = self.framer.next_line(&mut bytes) {
            match framed {
                Framed::Line(line) => {
                    if !self.begun && is_http_request(line) {
                        return Err(HttpRequest);
                    }
                    core.receive(id, line, now);
                }
                Framed::TooLong => core.receive_too_long(id, now),
            }
            self.begun = true;
        }
        Ok(())
    }
}

/// Whether a line is what an HTTP client begins with: a web page must not be able to speak IRC through somebody's
/// browser.
fn is_http_request(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let [method, _, version] = words[..] else { return false };
    !method.is_empty() && method.iter().all(u8::is_ascii_uppercase) && version.starts_with(b"HTTP/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_requests_are_told_from_irc() {
        for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT a:6667 HTTP/1.1", "PRI * HTTP/2.0"] {
            assert!(is_http_request(line.as_bytes()), "{line}");
        }
        for line in
            ["NICK a", "USER a 0 * :HTTP/1.1 fan", "PRIVMSG #x :GET / HTTP/1.1", "CAP LS 302", "", "HTTP/1.1"]
        {
            assert!(!is_http_request(line.as_bytes()), "{line}");
        }
    }
}
