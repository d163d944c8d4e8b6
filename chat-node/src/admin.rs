//! Admin HTTP: probes, metrics, status. On the main thread, away from the workers, so that it answers under load.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use contract::status::{LIVEZ, METRICS, READYZ, STATUS};
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Semaphore, time};

use crate::{
    board::Board,
    certificates::Certificate,
    doors::Posts,
    farewell::Farewell,
    http::{self, Body},
    https,
    listen::AcceptBackoff,
    metrics, orders,
};

/// Probes, a scraper or two, and the operator's watch; more is a mistake.
const MAX_CONNECTIONS: usize = 64;
/// Between two lines that say so: who keeps trying does not fill the log.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// A watcher hears at least this often …
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// … and at most this often.
const WATCH_GAP: Duration = Duration::from_millis(100);

/// What is to be had at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    All,
    /// Probes and metrics; the rest is at the control port.
    Probes,
    /// `/v1/*`.
    Control,
}

/// What a port answers that does not have this page. Of a page that there is nowhere it says nothing.
pub(crate) fn not_here(pages: Pages, path: &str) -> Option<Response<Body>> {
    let of_control = path.starts_with("/v1/");
    let text = match pages {
        Pages::Probes if of_control => {
            "This page is at the port of listeners.control, for clients with a certificate.\n"
        }
        Pages::Control if !of_control => "This page is at the port of listeners.admin.\n",
        _ => return None,
    };
    Some(http::text(StatusCode::NOT_FOUND, text))
}

/// Serves until it is dropped.
pub(crate) async fn serve(posts: Posts, board: Arc<Board>) {
    let Posts { admin, admin_pages, control } = posts;
    let admin = serve_port(admin, None, admin_pages, Arc::clone(&board));
    match control {
        None => admin.await,
        Some((listener, certificate)) => {
            let control = serve_port(listener, Some(certificate), Pages::Control, board);
            tokio::join!(admin, control);
        }
    }
}

async fn serve_port(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    pages: Pages,
    board: Arc<Board>,
) {
    let registry = Arc::new(metrics::registry(Arc::clone(&board)));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let farewell = Farewell::new();
    let mut backoff = AcceptBackoff::new();
    let mut turned_away = TurnedAway::default();
    loop {
        let Some((stream, _)) = backoff.after(listener.accept().await).await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Some(closed) = turned_away.one_more(Instant::now()) {
                let port = if pages == Pages::Control { "control" } else { "admin" };
                tracing::warn!(
                    closed,
                    "the {port} port takes {MAX_CONNECTIONS} connections at a time; others were closed"
                );
            }
            continue;
        };
        let (board, registry) = (Arc::clone(&board), Arc::clone(&registry));
        let (config, farewell) =
            (certificate.as_ref().map(|certificate| certificate.config()), farewell.clone());
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| answer(request, pages, &board, &registry);
            match config {
                None => http::serve(stream, answer).await,
                Some(config) => {
                    if let Some(stream) = https::shake_hands(stream, config, &farewell).await {
                        http::serve(stream, answer).await;
                    }
                }
            }
            drop(place);
        });
    }
}

/// Connections that there was no place for.
#[derive(Default)]
struct TurnedAway {
    since_said: u64,
    said: Option<Instant>,
}

impl TurnedAway {
    /// How many there were since that was last said, if it is time to say it.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.since_said += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since_said))
    }
}

async fn answer(
    request: Request<Incoming>,
    pages: Pages,
    board: &Arc<Board>,
    registry: &Registry,
) -> Response<Body> {
    let path = request.uri().path();
    if let Some(not_here) = not_here(pages, path) {
        return not_here;
    }
    if let Some(cluster) = &board.cluster
        && orders::is_order(path)
    {
        return orders::answer(cluster, request).await;
    }
    if ![LIVEZ, READYZ, METRICS, STATUS].contains(&path) {
        return http::text(StatusCode::NOT_FOUND, "There is no such page here.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return http::method_not_allowed("GET, HEAD");
    }
    let mut response = match path {
        LIVEZ => probe(board.not_alive()),
        READYZ => probe(board.not_ready()),
        METRICS => match metrics::render(registry) {
            Ok(text) => typed(metrics::CONTENT_TYPE, http::full(text)),
            Err(_) => http::text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written.\n"),
        },
        _ if watches(request.uri().query()) => typed("application/x-ndjson", watch(Arc::clone(board))),
        _ => typed("application/json", http::full(status_line(board))),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn probe(trouble: Option<String>) -> Response<Body> {
    match trouble {
        None => http::text(StatusCode::OK, "ok\n"),
        Some(reason) => http::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn watches(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "watch" || pair.starts_with("watch=")))
}

fn status_line(board: &Board) -> String {
    let mut line = serde_json::to_string(&board.status()).expect("a status is plain data");
    line.push('\n');
    line
}

/// A line at once, on every change, and every second.
fn watch(board: Arc<Board>) -> Body {
    let mut changes = board.changes();
    changes.mark_unchanged();
    let lines = futures::stream::unfold((board, changes, true), |(board, mut changes, first)| async move {
        if !first {
            time::sleep(WATCH_GAP).await;
            // An error would mean that the board is gone, but it is held right here.
            let _ = time::timeout(WATCH_EVERY - WATCH_GAP, changes.changed()).await;
            changes.mark_unchanged();
        }
        let line = Bytes::from(status_line(&board));
        Some((line, (board, changes, false)))
    });
    StreamBody::new(lines.map(|line| Ok::<_, Infallible>(Frame::data(line)))).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_connections_is_a_line_a_minute() {
        let start = Instant::now();
        let mut turned_away = TurnedAway::default();
        assert_eq!(turned_away.one_more(start), Some(1));
        for second in 1..60 {
            assert_eq!(turned_away.one_more(start + Duration::from_secs(second)), None);
        }
        assert_eq!(turned_away.one_more(start + SAY_EVERY), Some(60));
    }

    #[test]
    fn watching_is_asked_for_by_name() {
        assert!(watches(Some("watch")) && watches(Some("a=b&watch=1")));
        assert!(!watches(None) && !watches(Some("unwatch")));
    }
}
