//! How bytes get from and to a client: as they are, or through TLS. Without waiting.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
};

use mio::net::TcpStream;
use rustls::{InvalidMessage, ServerConnection};
use socket2::SockRef;

/// Encrypted at a time, so that little waits in here rather than where it is counted: one record.
const SEALED_AT_ONCE: usize = 16 * 1024;

pub(crate) struct Transport {
    pub(crate) stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The other side said that nothing follows.
    Closed,
    /// The other side does not speak TLS; from now on, neither do we.
    NotTls,
    /// The other side spoke TLS wrongly, or does not want ours. It is told why, as far as there is a way to.
    Tls,
}

impl Transport {
    pub(crate) fn new(stream: TcpStream, tls: Option<Box<ServerConnection>>) -> Self {
        Self { stream, tls }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Lines may be written: there is no handshake under way.
    pub(crate) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// TLS itself has something to write.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Bytes of the socket, to be opened.
    pub(crate) fn read(&mut self, wire: &mut [u8]) -> io::Result<usize> {
        self.stream.read(wire)
    }

    /// Decrypts what was read from the socket. Zero when all of it was taken and no more comes of it. (Only with TLS.)
    pub(crate) fn open(&mut self, wire: &mut &[u8], plain: &mut [u8]) -> Result<usize, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        loop {
            match tls.reader().read(plain) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Broken::Closed),
            }
            if wire.is_empty() {
                return Ok(0);
            }
            if let Err(error) = tls.read_tls(wire) {
                tracing::debug!(%error, "a TLS connection broke");
                return Err(Broken::Tls);
            }
            let opening = tls.is_handshaking();
            let processed = tls.process_new_packets();
            if opening && !tls.is_handshaking() {
                acknowledge_now(&self.stream);
            }
            if let Err(error) = processed {
                tracing::debug!(%error, "a TLS connection broke");
                let no_tls = error == rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
                    && tls.is_handshaking();
                if no_tls {
                    self.tls = None;
                }
                return Err(if no_tls { Broken::NotTls } else { Broken::Tls });
            }
        }
    }

    /// Takes some of the bytes; those that are encrypted count as taken, and leave with the next call of this or of
    /// [`Self::flush`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => tls.writer().write(&bytes[..bytes.len().min(SEALED_AT_ONCE)]),
        }
    }

    /// Writes what is encrypted.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            if tls.write_tls(&mut self.stream)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Tells the other side that nothing follows.
    pub(crate) fn shut(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)
    }
}

/// The client's last word of the handshake has no answer. Many clients send their first line only when it is
/// acknowledged (Nagle), for which the system would wait 40 ms.
fn acknowledge_now(stream: &TcpStream) {
    // Without it the line comes a little later.
    let _ = SockRef::from(stream).set_tcp_quickack(true);
}
