//! Orders to a node: one request, one answer.

use std::time::Duration;

use contract::status::{self, Found};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, StatusCode, body::Bytes};
use tokio::time::timeout;

use super::Followers;

/// An order is taken or refused at once; what it brings about is seen in the node's status.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest reason of a refusal.
const MAX_REASON_BYTES: usize = 4 * 1024;

/// What a node may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// This member begins the room.
    Found { member: &'a str },
    /// This member leaves the room.
    Remove { member: &'a str },
}

impl Followers {
    /// Tells the node of that pod; says in words why it was not told, or does not do it.
    pub async fn order(&self, uid: &str, order: Order<'_>) -> Result<(), String> {
        let door = self.lock().get(uid).map(|follower| follower.door.clone());
        let door = door.ok_or("its pod is not running")?;
        let (method, path, body) = match order {
            Order::Found { member } => {
                let found = Found { member: member.to_owned() };
                let body = serde_json::to_vec(&found).expect("it has string keys");
                (Method::POST, status::FOUND.to_owned(), Bytes::from(body))
            }
            Order::Remove { member } => {
                (Method::DELETE, format!("{}{member}", status::MEMBERS), Bytes::new())
            }
        };
        let told = async {
            let answer = door.ask(method, &path, body).await?;
            let status = answer.status();
            // Who is no member any more has left.
            let is_out = matches!(order, Order::Remove { .. }) && status == StatusCode::NOT_FOUND;
            if status.is_success() || is_out {
                return Ok(());
            }
            let body = Limited::new(answer.into_body(), MAX_REASON_BYTES).collect().await;
            let reason = body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
            Err(format!("it answered {status}: {}", String::from_utf8_lossy(&reason).trim()))
        };
        let told = timeout(ANSWER_WITHIN, told).await.unwrap_or_else(|_| Err("no answer in 5 s".into()));
        told.map_err(|why| format!("{}: {why}", door.url(&path)))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::runtime::reflector::ObjectRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        control::{self, Root},
        nodes::{Follower, NodeView, door::Door},
    };

    /// What a node that answers so is asked, and what comes of it.
    async fn told(order: Order<'_>, answer: &'static str) -> (String, Result<(), String>) {
        let authority = Root::new([7; 32]).authority("default", "room-uid");
        let files = authority.node_files(Timestamp::now());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (followers, _notices) = Followers::new(Root::new([7; 32]));
        let follower = Follower {
            room: ObjectRef::new("lounge").within("default"),
            door: Door { address, authority: Some(authority) },
            view: NodeView::Unasked,
            task: tokio::spawn(async {}).abort_handle(),
            seen: true,
        };
        followers.lock().insert("uid".into(), follower);
        let node = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = control::tests::acceptor(&files).accept(stream).await.unwrap();
            let mut request = Vec::new();
            // The body, where there is one, ends with a brace.
            let is_whole = |request: &[u8]| {
                let end: &[u8] = if request.starts_with(b"POST") { b"}" } else { b"\r\n\r\n" };
                request.ends_with(end)
            };
            while !is_whole(&request) {
                let mut piece = [0; 1024];
                let length = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..length]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let result = followers.order("uid", order).await;
        (node.await.unwrap(), result)
    }

    #[tokio::test]
    async fn the_founder_is_told_who_is_meant_and_an_order_to_go_names_the_member() {
        let done = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (request, result) = told(Order::Found { member: "c0ffee" }, done).await;
        assert!(request.starts_with("POST /v1/found HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"member\":\"c0ffee\"}"), "{request}");
        assert_eq!(result, Ok(()));
        let ordered = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
        let (request, result) = told(Order::Remove { member: "c0ffee" }, ordered).await;
        assert!(request.starts_with("DELETE /v1/members/c0ffee HTTP/1.1\r\n"), "{request}");
        assert_eq!(result, Ok(()));
    }

    #[tokio::test]
    async fn a_node_that_refuses_says_why() {
        let refused = "HTTP/1.1 409 Conflict\r\ncontent-length: 23\r\n\r\nanother member is meant";
        let (_, result) = told(Order::Found { member: "c0ffee" }, refused).await;
        let why = result.unwrap_err();
        assert!(why.ends_with("/v1/found: it answered 409 Conflict: another member is meant"), "{why}");
        let unknown = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert!(told(Order::Found { member: "c0ffee" }, unknown).await.1.is_err());
        assert_eq!(told(Order::Remove { member: "c0ffee" }, unknown).await.1, Ok(()), "it was out already");
    }

    #[tokio::test]
    async fn a_pod_that_does_not_run_is_told_nothing() {
        let (followers, _notices) = Followers::new(Root::new([7; 32]));
        let why = followers.order("uid", Order::Remove { member: "c0ffee" }).await.unwrap_err();
        assert_eq!(why, "its pod is not running");
    }
}
