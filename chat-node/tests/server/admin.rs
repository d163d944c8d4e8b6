//! Probes, metrics, status.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use contract::status::{Durability, NodeState, NodeStatus};

use crate::{
    client::Client,
    node::{Node, PATIENCE, directory, eventually, http},
};

fn status(node: &Node) -> NodeStatus {
    let (code, body) = node.ask("/v1/status");
    assert_eq!(code, 200);
    serde_json::from_str(&body).expect("a status")
}

#[test]
fn status_tells_what_is() {
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), "log: {local: {shards: 2}}\nrevision: 7");
    let mut client = Client::registered(&node, "counted");
    client.join("#lounge");
    let status =
        eventually("the state is published", || Some(status(&node)).filter(|status| status.channels == 1));
    assert_eq!((status.state, status.reason.as_str()), (NodeState::Serving, ""));
    assert_eq!((status.connections, status.sessions, status.users, status.detached), (1, 1, 1, 0));
    assert_eq!((status.settings_revision, status.durability), (7, Durability::LocalFsync));
    assert_eq!(status.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(status.member.len(), 16);
    assert_eq!(node.ask("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(node.ask("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(node.ask("/v2").0, 404);
    assert_eq!(http(node.admin, "POST /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").0, 405);
}

#[test]
fn a_watcher_hears_of_changes_line_by_line() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut stream = TcpStream::connect(node.admin).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"GET /v1/status?watch HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut lines =
        BufReader::new(stream).lines().map(|line| line.expect("a line")).filter(|line| line.starts_with('{'));
    let mut next = || serde_json::from_str::<NodeStatus>(&lines.next().expect("endless")).expect("a status");
    assert_eq!(next().users, 0);
    let _client = Client::registered(&node, "watched");
    // Far more lines than a second's wait brings.
    assert!((0..30).any(|_| next().users == 1), "the watcher never heard of the new user");
}

#[test]
fn metrics_count_messages_and_deliveries() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut speaker = Client::tcp(&node).register("speaker", "echo-message");
    let mut listeners: Vec<_> = (0..3).map(|n| Client::registered(&node, &format!("listener{n}"))).collect();
    for client in listeners.iter_mut().chain([&mut speaker]) {
        client.join("#lounge");
    }
    for n in 0..10 {
        speaker.send(&format!("PRIVMSG #lounge :{n}"));
        speaker.wait(&format!(":{n}"));
    }
    eventually("they are counted", || (node.metric("chat_messages_total") == 10.0).then_some(()));
    assert!(node.metric("chat_deliveries_total") >= 30.0);
    assert_eq!(node.metric("chat_acknowledge_seconds_count"), 10.0);
    assert!(node.metric("chat_log_flush_seconds_count") > 0.0);
    assert_eq!(node.metric("chat_connections{kind=\"tcp\"}"), 4.0);
    assert_eq!(node.metric("chat_read_only"), 0.0);
    let (_, text) = node.ask("/metrics");
    assert!(!text.contains("speaker") && !text.contains("#lounge"), "names no person");
}
