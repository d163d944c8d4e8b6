//! Orders to a node: one request, one answer.

use std::time::Duration;

use contract::status::{self, Found};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, body::Bytes};
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
            if status.is_success() {
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
