//! One follower: a streaming GET of a node's status, one JSON document a line, for as long as the pod runs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use contract::status::{self, NodeStatus};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Followers, NodeView};
use crate::backoff::Backoff;

/// Time to connect and to get the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A node writes a line a second; a stream that is silent for longer is dead.
const LINE_WITHIN: Duration = Duration::from_secs(5);
/// Longest line: 257 shards take 25 kB.
const MAX_LINE_BYTES: usize = 256 * 1024;
const RETRY: Backoff = Backoff { first: Duration::from_millis(250), last: Duration::from_secs(5) };

/// Follows until aborted.
pub(super) async fn follow(followers: Arc<Followers>, uid: String, address: SocketAddr) {
    let mut failures = 0;
    loop {
        let why = match read(&followers, &uid, address, &mut failures).await {
            Ok(()) => "it closed the connection".into(),
            Err(why) => why,
        };
        let why = format!("http://{address}{} cannot be read: {why}", status::STATUS);
        tracing::debug!(pod.uid = uid, why, "node is silent");
        followers.heard(&uid, NodeView::Silent(why));
        tokio::time::sleep(RETRY.delay(failures)).await;
        failures = failures.saturating_add(1);
    }
}

async fn read(
    followers: &Followers,
    uid: &str,
    address: SocketAddr,
    failures: &mut u32,
) -> Result<(), String> {
    let mut body =
        timeout(ANSWER_WITHIN, open(address)).await.map_err(|_| "no answer in 3 s".to_owned())??;
    let mut line = Vec::new();
    loop {
        let frame = timeout(LINE_WITHIN, body.frame()).await.map_err(|_| "no line in 5 s".to_owned())?;
        let Some(frame) = frame else { return Ok(()) };
        let Ok(data) = frame.map_err(text)?.into_data() else { continue };
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.len() > MAX_LINE_BYTES {
                return Err(format!("a line is longer than {MAX_LINE_BYTES} bytes"));
            }
            if line.ends_with(b"\n") {
                let status: NodeStatus = serde_json::from_slice(&line).map_err(text)?;
                followers.heard(uid, NodeView::Heard(status));
                *failures = 0;
                line.clear();
            }
        }
    }
}

async fn open(address: SocketAddr) -> Result<hyper::body::Incoming, String> {
    let stream = TcpStream::connect(address).await.map_err(text)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // Ends when the body is dropped.
    tokio::spawn(connection);
    let request = Request::get(format!("{}?watch", status::STATUS))
        .header(hyper::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let response = sender.send_request(request).await.map_err(text)?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    Ok(response.into_body())
}

fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
