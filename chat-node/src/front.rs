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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    admission::{Admission, Permit, Refusal},
    crew::{Crew, Incoming},
    farewell::Farewell,
    http,
    listen::AcceptBackoff,
    tcp,
    web::{self, Answer},
};

/// Where clients come in.
pub(crate) struct Doors {
    pub(crate) irc: Option<std::net::TcpListener>,
    pub(crate) web: Option<std::net::TcpListener>,
    pub(crate) allowed_origins: Vec<String>,
}

/// Dropping it closes the doors and ends the thread.
pub(crate) struct Front {
    _open: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Front {
    pub(crate) fn open(doors: Doors, admission: Arc<Admission>, crew: Arc<Crew>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (open, closed) = oneshot::channel();
        let Doors { irc, web, allowed_origins } = doors;
        {
            let _entered = runtime.enter();
            if let Some(irc) = irc {
                let listener = TcpListener::from_std(irc)?;
                runtime.spawn(tcp::accept(listener, Arc::clone(&admission), Arc::clone(&crew)));
            }
            if let Some(web) = web {
                let listener = TcpListener::from_std(web)?;
                runtime.spawn(accept_web(listener, admission, crew, allowed_origins.into()));
            }
        }
        let thread = std::thread::Builder::new().name("front".to_owned()).spawn(move || {
            // An error means that the other end was dropped, which is what is waited for.
            let _: Result<(), _> = runtime.block_on(closed);
        })?;
        Ok(Self { _open: open, _thread: thread })
    }
}

async fn accept_web(
    listener: TcpListener,
    admission: Arc<Admission>,
    crew: Arc<Crew>,
    allowed_origins: Arc<[String]>,
) {
    let farewell = Farewell::new();
    let mut backoff = AcceptBackoff::new();
    loop {
        let Some((stream, peer)) = backoff.after(listener.accept().await).await else { continue };
        match admission.admit(peer.ip()) {
            Ok(permit) => {
                tokio::spawn(serve(stream, peer, permit, Arc::clone(&crew), Arc::clone(&allowed_origins)));
            }
            Err(refusal) => farewell.say(stream, unavailable(refusal)),
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

/// Answers one browser connection; its place goes with the WebSocket that it may become.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
    crew: Arc<Crew>,
    allowed_origins: Arc<[String]>,
) {
    let permit = Mutex::new(Some(permit));
    http::serve(stream, |mut request: Request<RequestBody>| {
        let response = match web::answer(&request, &allowed_origins) {
            Answer::Respond(response) => response,
            Answer::Upgrade(response, framing) => {
                let permit = permit.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(permit) = permit {
                    let upgrade = hyper::upgrade::on(&mut request);
                    let crew = Arc::clone(&crew);
                    tokio::spawn(async move {
                        match taken_over(upgrade).await {
                            Ok((stream, received)) => {
                                crew.hand_over(Incoming { stream, peer, framing, received, permit });
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

/// The bare socket after the response to the handshake was written, and what the client sent behind its request.
async fn taken_over(upgrade: OnUpgrade) -> io::Result<(std::net::TcpStream, Vec<u8>)> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("the upgraded connection is not the one that was accepted"))?;
    Ok((tcp::prepare(parts.io.into_inner())?, parts.read_buf.to_vec()))
}
