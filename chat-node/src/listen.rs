//! Listening sockets, and accepting from them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

/// Connections the kernel keeps until they are accepted: a reconnect storm must not be turned away there.
const BACKLOG: i32 = 4096;

/// Why a listener could not be made; `key` is the configuration's.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}")]
pub(crate) struct ListenError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// A non-blocking listener. On `[::]` it takes IPv4 as well.
pub(crate) fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { key, address, source })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the previous process to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Pauses between failed accepts: out of descriptors is not cured by trying faster.
pub(crate) struct AcceptBackoff(Duration);

impl AcceptBackoff {
    const FIRST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The accepted connection. `None` after a failure, once the pause is over.
    pub(crate) async fn after(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<(TcpStream, SocketAddr)> {
        match accepted {
            Ok(connection) => {
                self.0 = Self::FIRST;
                Some(connection)
            }
            // The client gave up before its turn came: nothing is wrong here.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) =>
            {
                None
            }
            Err(error) => {
                tracing::warn!(%error, pause_ms = self.0.as_millis() as u64, "cannot accept connections");
                tokio::time::sleep(self.0).await;
                self.0 = (self.0 * 2).min(Self::MOST);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named_with_its_key() {
        let first =
            listen("listeners.irc.address", SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = listen("listeners.web.address", address).expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("listeners.web.address"), "{error}");
    }
}
