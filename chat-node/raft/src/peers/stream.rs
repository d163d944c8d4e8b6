//! The bytes of a connection: TCP, or TLS over it.

use std::{io, time::Duration};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    CallError, Tls,
    frame::{self, Frame, Kind},
    hello::HELLO_LIMIT,
};

/// How long a goodbye may take to get through.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
/// Read at once of what nobody wants to hear any more.
const IGNORED_BYTES: usize = 16 << 10;

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

pub(super) type Stream = Box<dyn ReadWrite>;

pub(super) async fn secure_dialed(stream: TcpStream, tls: Option<&Tls>) -> Result<Stream, CallError> {
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(tls.name).map_err(|error| {
        CallError::Refused(format!("{:?} is no name of a certificate: {error}", tls.name))
    })?;
    let secured = TlsConnector::from((tls.client)()).connect(name, stream).await;
    Ok(Box::new(secured.map_err(|error| failed(&error))?))
}

pub(super) async fn secure_accepted(stream: TcpStream, tls: Option<&Tls>) -> Result<Stream, CallError> {
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let secured = TlsAcceptor::from((tls.server)()).accept(stream).await;
    Ok(Box::new(secured.map_err(|error| failed(&error))?))
}

/// The first frame of the other side; what follows it is left in `received`.
pub(super) async fn first_frame(stream: &mut Stream, received: &mut BytesMut) -> Result<Frame, CallError> {
    loop {
        match frame::take(received, HELLO_LIMIT) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(error) => return Err(CallError::Refused(error.to_string())),
        }
        if stream.read_buf(received).await.map_err(|error| failed(&error))? == 0 {
            return Err(CallError::Unreachable(
                "the connection was closed before a node said who it is (it may have too many)".into(),
            ));
        }
    }
}

pub(super) async fn say(stream: &mut Stream, kind: Kind, body: &[u8]) -> Result<(), CallError> {
    let mut out = BytesMut::new();
    frame::put(&mut out, 0, kind, body);
    let said = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    said.await.map_err(|error| failed(&error))
}

/// Writes what is left, then why no more will come, and waits for the other side to close: a socket that is closed
/// before everything was read is reset, and the goodbye with it.
pub(super) async fn say_goodbye(
    mut reader: ReadHalf<Stream>,
    mut writer: WriteHalf<Stream>,
    mut left: BytesMut,
    words: &str,
) {
    frame::put(&mut left, 0, Kind::Goodbye, words.as_bytes());
    let writing = async {
        writer.write_all_buf(&mut left).await?;
        writer.shutdown().await
    };
    let mut ignored = vec![0; IGNORED_BYTES];
    let reading = async { while let Ok(1..) = reader.read(&mut ignored).await {} };
    // Who does not hear it finds the connection closed.
    let _ = time::timeout(GOODBYE_DEADLINE, async { tokio::join!(writing, reading) }).await;
}

/// Who shows another certificate than ours is somebody else; all other faults are the network's.
fn failed(error: &io::Error) -> CallError {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
        return CallError::Refused(format!("no agreement on TLS: {error}"));
    }
    CallError::Unreachable(error.to_string())
}
