//! The front thread: accepts connections on all client ports, answers HTTP, and hands everything that speaks IRC to
//! the workers. Admission is decided here, in one place, whichever worker a client ends up with.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use hyper::{Request, body::Incoming as RequestBody, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustls::ServerConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::server::TlsStream;

use crate::{
    admission::{Admission, Permit, Refusal},
    certificates::Certificate,
    crew::{Crew, Incoming},
    doors::{Doors, IrcDoor, WebDoor},
    farewell::Farewell,
    http, https,
    listen::AcceptBackoff,
    tcp,
    web::{self, Answer},
};

/// Dropping it closes the doors and ends the thread.
pub(crate) struct Front {
    _open: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Front {
    pub(crate) fn open(doors: Doors, admission: &Arc<Admission>, crew: &Arc<Crew>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (open, closed) = oneshot::channel();
        {
            let _entered = runtime.enter();
            for IrcDoor { listener, certificate } in doors.irc {
                let listener = TcpListener::from_std(listener)?;
                let (admission, crew) = (Arc::clone(admission), Arc::clone(crew));
                runtime.spawn(tcp::accept(listener, certificate, admission, crew));
            }
            for WebDoor { listener, certificate, allowed_origins } in doors.web {
                let listener = TcpListener::from_std(listener)?;
                let door =
                    Web { certificate, allowed_origins, crew: Arc::clone(crew), farewell: Farewell::new() };
                runtime.spawn(accept_web(listener, Arc::clone(admission), Arc::new(door)));
            }
        }
        let thread = std::thread::Builder::new().name("front".to_owned()).spawn(move || {
            // An error means that the other end was dropped, which is what is waited for.
            let _: Result<(), _> = runtime.block_on(closed);
        })?;
        Ok(Self { _open: open, _thread: thread })
    }
}

/// What the connections of one web listener share.
struct Web {
    certificate: Option<Arc<Certificate>>,
    allowed_origins: Vec<String>,
    crew: Arc<Crew>,
    farewell: Farewell,
}

async fn accept_web(listener: TcpListener, admission: Arc<Admission>, web: Arc<Web>) {
    let mut backoff = AcceptBackoff::new();
    loop {
        let Some((stream, peer)) = backoff.after(listener.accept().await).await else { continue };
        match admission.admit(peer.ip()) {
            Ok(permit) => {
                tokio::spawn(greet(stream, peer, permit, Arc::clone(&web)));
            }
            Err(refusal) if web.certificate.is_none() => web.farewell.say(stream, unavailable(refusal)),
            // A handshake, only to tell that there is no room, is more than there is room for.
            Err(_) => {}
        }
    }
}

fn unavailable(refusal: Refusal) -> String {
    let text = refusal.text();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
}

async fn greet(stream: TcpStream, peer: SocketAddr, permit: Permit, web: Arc<Web>) {
    match &web.certificate {
        None => serve(stream, peer, permit, &web).await,
        Some(certificate) => {
            let config = certificate.config();
            if let Some(stream) = https::shake_hands(stream, config, &web.farewell).await {
                serve(stream, peer, permit, &web).await;
            }
        }
    }
}

/// A connection that HTTP was spoken on, and what it is made of.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>);
}

impl Connection for TcpStream {
    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>) {
        (self, None)
    }
}

impl Connection for TlsStream<TcpStream> {
    fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>) {
        let (stream, tls) = self.into_inner();
        (stream, Some(Box::new(tls)))
    }
}

/// Answers one browser connection; its place goes with the WebSocket that it may become.
async fn serve<C: Connection>(connection: C, peer: SocketAddr, permit: Permit, web: &Web) {
    let permit = Mutex::new(Some(permit));
    http::serve(connection, |mut request: Request<RequestBody>| {
        let response = match web::answer(&request, &web.allowed_origins) {
            Answer::Respond(response) => response,
            Answer::Upgrade(response, framing) => {
                let permit = permit.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(permit) = permit {
                    let upgrade = hyper::upgrade::on(&mut request);
                    let crew = Arc::clone(&web.crew);
                    tokio::spawn(async move {
                        match taken_over::<C>(upgrade).await {
                            Ok(Taken { stream, tls, received }) => {
                                crew.hand_over(Incoming { stream, tls, peer, framing, received, permit });
                            }
                            Err(error) => tracing::debug!(%error, "a WebSocket ended in its handshake"),
                        }
                    });
                }
                response
            }
        };
        std::future::ready(response)
    })
    .await;
}

/// A connection after the response to the handshake was written, and what the client sent behind its request.
struct Taken {
    stream: std::net::TcpStream,
    tls: Option<Box<ServerConnection>>,
    received: Vec<u8>,
}

async fn taken_over<C: Connection>(upgrade: OnUpgrade) -> io::Result<Taken> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<C>>()
        .map_err(|_| io::Error::other("the upgraded connection is not the one that was accepted"))?;
    let (stream, tls) = parts.io.into_inner().into_parts();
    Ok(Taken { stream: tcp::prepare(stream)?, tls, received: parts.read_buf.to_vec() })
}
