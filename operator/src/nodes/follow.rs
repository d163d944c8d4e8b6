//! One follower: a streaming GET of a node's status, one JSON document a line, for as long as the pod runs.

use std::{sync::Arc, time::Duration};

use contract::status::{self, NodeStatus};
use http_body_util::BodyExt;
use hyper::{
    Method,
    body::{Body, Bytes, Incoming},
};
use tokio::time::timeout;

use super::{
    Followers, NodeView,
    door::{Door, text},
};
use crate::backoff::Backoff;

/// Time to connect and to get the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A node writes a line a second; a stream that is silent for longer is dead.
const LINE_WITHIN: Duration = Duration::from_secs(5);
/// Longest line: 257 shards of a stateful room with seven voters each take 100 kB.
const MAX_LINE_BYTES: usize = 256 * 1024;
/// A node that tells its status once is asked as often as others tell theirs.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const RETRY: Backoff = Backoff { first: Duration::from_millis(250), last: Duration::from_secs(5) };

/// Follows until aborted.
pub(super) async fn follow(followers: Arc<Followers>, uid: String, door: Door) {
    let mut failures = 0;
    loop {
        let why = match read(&followers, &uid, &door, &mut failures).await {
            Ok(Ended::Stream) => "it closed the connection".into(),
            Ok(Ended::Answer) => {
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            }
            Err(why) => why,
        };
        let why = format!("{} cannot be read: {why}", door.url(status::STATUS));
        tracing::debug!(pod.uid = uid, why, "node is silent");
        followers.heard(&uid, NodeView::Silent(why));
        tokio::time::sleep(RETRY.delay(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// How a reading ended well.
enum Ended {
    /// The stream of a node that goes.
    Stream,
    /// The one status of a node that has no log to tell of yet: what it said stands until it is asked again.
    Answer,
}

async fn read(followers: &Followers, uid: &str, door: &Door, failures: &mut u32) -> Result<Ended, String> {
    let mut body = timeout(ANSWER_WITHIN, open(door)).await.map_err(|_| "no answer in 3 s".to_owned())??;
    // A stream has no length.
    let ended = if body.size_hint().exact().is_some() { Ended::Answer } else { Ended::Stream };
    let (mut line, mut told) = (Vec::new(), false);
    loop {
        let frame = timeout(LINE_WITHIN, body.frame()).await.map_err(|_| "no line in 5 s".to_owned())?;
        let Some(frame) = frame else {
            return if told { Ok(ended) } else { Err("it told no status".into()) };
        };
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
                told = true;
                line.clear();
            }
        }
    }
}

async fn open(door: &Door) -> Result<Incoming, String> {
    let response = door.ask(Method::GET, &format!("{}?watch", status::STATUS), Bytes::new()).await?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    Ok(response.into_body())
}

#[cfg(test)]
mod tests {
    use contract::status::NodeState;
    use kube::runtime::{reflector::ObjectRef, watcher::Event};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, tcp::OwnedWriteHalf},
    };

    use jiff::Timestamp;

    use super::*;
    use crate::{
        control::{self, Authority, Root},
        nodes::Follower,
        testing,
    };

    const UID: &str = "lounge-0-uid";

    /// A follower of a node that the test plays.
    async fn followed() -> (Arc<Followers>, crate::nodes::Notices, TcpListener) {
        followed_with(None).await
    }

    async fn followed_with(
        authority: Option<Authority>,
    ) -> (Arc<Followers>, crate::nodes::Notices, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (followers, notices) = Followers::new(Root::new([7; 32]));
        let address = listener.local_addr().unwrap();
        // As `pod_changed` finds it: the port is that of a pod, which the test's listener does not have.
        let door = Door { address: ([127, 0, 0, 1], contract::ports::ADMIN).into(), authority };
        let follows = follow(Arc::clone(&followers), UID.into(), Door { address, ..door.clone() });
        let task = tokio::spawn(follows);
        let follower = Follower {
            room: ObjectRef::new("lounge").within("default"),
            door,
            view: NodeView::Unasked,
            task: task.abort_handle(),
            seen: true,
        };
        followers.lock().insert(UID.into(), follower);
        (followers, notices, listener)
    }

    /// Answers the next request with the head of a stream without end.
    async fn answer(listener: &TcpListener) -> (String, OwnedWriteHalf) {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let mut request = vec![0; 1024];
        let length = read.read(&mut request).await.unwrap();
        write.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // The follower's half stays open as long as the node's.
        tokio::spawn(async move { while read.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {} });
        (String::from_utf8_lossy(&request[..length]).into_owned(), write)
    }

    fn line(state: NodeState) -> Vec<u8> {
        let mut line = serde_json::to_vec(&NodeStatus { state, ..testing::serving_node() }).unwrap();
        line.push(b'\n');
        line
    }

    #[tokio::test]
    async fn lines_become_the_view_whatever_pieces_they_come_in() {
        let (followers, mut notices, listener) = followed().await;
        let (request, mut node) = answer(&listener).await;
        assert!(request.starts_with("GET /v1/status?watch HTTP/1.1"), "{request}");
        let text = [line(NodeState::Recovering), line(NodeState::Serving)].concat();
        for piece in text.chunks(7) {
            node.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        for state in [NodeState::Recovering, NodeState::Serving] {
            let room = notices.recv().await.unwrap();
            assert_eq!((room.name.as_str(), room.namespace.as_deref()), ("lounge", Some("default")));
            if state == NodeState::Serving {
                assert_eq!(followers.view(UID), NodeView::Heard(testing::serving_node()));
            }
        }
    }

    #[tokio::test]
    async fn a_node_that_goes_is_silent_and_one_that_comes_back_is_heard() {
        let (followers, mut notices, listener) = followed().await;
        let (_, mut node) = answer(&listener).await;
        node.write_all(&line(NodeState::Serving)).await.unwrap();
        notices.recv().await.unwrap();
        drop(node);
        notices.recv().await.unwrap();
        assert!(
            matches!(followers.view(UID), NodeView::Silent(why) if why.contains("closed the connection"))
        );
        let (_, mut node) = answer(&listener).await;
        node.write_all(&line(NodeState::Serving)).await.unwrap();
        notices.recv().await.unwrap();
        assert!(matches!(followers.view(UID), NodeView::Heard(_)));
    }

    #[tokio::test]
    async fn nonsense_is_named_and_does_not_fill_memory() {
        let (followers, mut notices, listener) = followed().await;
        let (_, mut node) = answer(&listener).await;
        node.write_all(b"{\"state\": 7}\n").await.unwrap();
        notices.recv().await.unwrap();
        assert!(matches!(followers.view(UID), NodeView::Silent(why) if why.contains("cannot be read")));
        let (_, mut node) = answer(&listener).await;
        let endless = vec![b'x'; MAX_LINE_BYTES + 1];
        // The follower hangs up before it has read all of it.
        let _ = node.write_all(&endless).await;
        notices.recv().await.unwrap();
        assert!(matches!(followers.view(UID), NodeView::Silent(why) if why.contains("longer than")));
    }

    #[tokio::test]
    async fn a_node_with_a_control_port_is_asked_over_tls_and_heard_if_it_is_the_room_s() {
        let of = |uid| Root::new([7; 32]).authority("default", uid);
        let (followers, mut notices, listener) = followed_with(Some(of("room-uid"))).await;
        let files = |authority: Authority| authority.node_files(Timestamp::now());

        let stranger = control::tests::acceptor(&files(of("another-uid")));
        let (stream, _) = listener.accept().await.unwrap();
        assert!(stranger.accept(stream).await.is_err());
        notices.recv().await.unwrap();
        let NodeView::Silent(why) = followers.view(UID) else { panic!("it was heard") };
        assert!(why.contains("https://127.0.0.1") && why.contains("certificate"), "{why}");

        let node = control::tests::acceptor(&files(of("room-uid")));
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = node.accept(stream).await.unwrap();
        let length = stream.read(&mut [0; 1024]).await.unwrap();
        assert!(length > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.write_all(&line(NodeState::Serving)).await.unwrap();
        notices.recv().await.unwrap();
        assert_eq!(followers.view(UID), NodeView::Heard(testing::serving_node()));
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_is_followed_no_more() {
        let (followers, _notices, _listener) = followed().await;
        let pod = testing::pod("lounge-0", &serde_json::json!({"phase": "Running", "podIP": "127.0.0.1"}));
        followers.pod_changed(&Event::Delete(pod));
        assert_eq!(followers.len(), 0);
        let (followers, _notices, _listener) = followed().await;
        followers.pod_changed(&Event::Init);
        followers.pod_changed(&Event::InitDone);
        assert!(followers.is_empty(), "what a new list does not hold is gone");
    }

    #[tokio::test]
    async fn one_answer_stands_until_the_node_is_asked_again() {
        let (followers, mut notices, listener) = followed().await;
        let once = async |state| {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let body = line(state);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.into_bytes(), body].concat()).await.unwrap();
        };
        once(NodeState::Recovering).await;
        notices.recv().await.unwrap();
        once(NodeState::Serving).await;
        notices.recv().await.unwrap();
        assert_eq!(followers.view(UID), NodeView::Heard(testing::serving_node()), "it was never silent");
        assert!(notices.try_recv().is_err());
    }
}
