//! Stopping, dying and coming back.

use contract::status::{NodeState, NodeStatus};

use crate::{
    client::{Client, End, tag},
    node::{FAST, Node, directory, eventually, http},
};

const RESUMABLE: &str =
    "message-tags batch echo-message draft/chathistory chatroom.dev/resume chatroom.dev/id";

/// The texts of the newest messages of a channel.
fn history(client: &mut Client, channel: &str) -> Vec<String> {
    client.send(&format!("CHATHISTORY LATEST {channel} * 100"));
    client.wait("BATCH +");
    let mut texts = Vec::new();
    loop {
        let line = client.receive().expect("a line");
        if line.contains("BATCH -") {
            return texts;
        }
        if let Some((_, text)) = line.split_once(" :") {
            texts.push(text.rsplit(" :").next().expect("a text").to_owned());
        }
    }
}

#[test]
fn a_drain_sends_everybody_away_and_ends_with_zero() {
    let data = directory();
    let mut node = Node::start(&data.path().join("node"));
    let mut plain = Client::registered(&node, "plain");
    let mut resumable = Client::tcp(&node).register("resumable", RESUMABLE);
    resumable.wait("RESUME TOKEN");
    let mut web = Client::websocket(&node, "text.ircv3.net").register("web", "");
    node.terminate();

    let (lines, _) = plain.rest();
    assert!(lines.iter().any(|line| line.starts_with("ERROR") && line.contains("reconnect")), "{lines:?}");
    let (lines, _) = resumable.rest();
    assert!(lines.iter().any(|line| line.contains(" RECONNECT ")), "{lines:?}");
    assert!(matches!(web.rest().1, End::Code(1012, _)));
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn while_it_drains_nobody_new_comes_and_the_probe_says_so() {
    let data = directory();
    let mut node = Node::start_with(&data.path().join("node"), &format!("drainDeadline: 60s\n{FAST}"));
    // Clients that do not close their side keep the node draining for a moment: they linger.
    let lingering: Vec<_> = (0..120).map(|n| Client::registered(&node, &format!("l{n}"))).collect();
    node.terminate();
    eventually("it drains", || (node.ask("/readyz").0 == 503).then_some(()));
    let status: NodeStatus = serde_json::from_str(&node.ask("/v1/status").1).expect("a status");
    assert_eq!(status.state, NodeState::Draining);
    assert!(!status.reason.is_empty());
    let (lines, _) = Client::tcp(&node).rest();
    assert!(lines.iter().any(|line| line.starts_with("ERROR")), "{lines:?}");
    assert_eq!(http(node.web, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").0, 503);
    drop(lingering);
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn clients_that_never_leave_do_not_hold_it_up() {
    let data = directory();
    let mut node = Node::start_with(&data.path().join("node"), "drainDeadline: 1s");
    let _stays: Vec<_> = (0..200).map(|n| Client::registered(&node, &format!("s{n}"))).collect();
    node.terminate();
    assert_eq!(node.wait().code(), Some(0), "{}", node.said());
}

#[test]
fn what_was_acknowledged_is_there_after_kill_nine() {
    let data = directory();
    let place = data.path().join("node");
    let node = Node::start(&place);
    let mut speaker = Client::tcp(&node).register("speaker", RESUMABLE);
    speaker.join("#lounge");
    let mut expected = Vec::new();
    for n in 0..100 {
        speaker.send(&format!("PRIVMSG #lounge :message {n}"));
        speaker.wait(&format!(":message {n}"));
        expected.push(format!("message {n}"));
    }
    node.kill();

    // The channel lives as long as the session, which may come back.
    let node = Node::start(&place);
    let mut reader = Client::tcp(&node).register("reader", RESUMABLE);
    reader.join("#lounge");
    assert_eq!(history(&mut reader, "#lounge"), expected);
}

#[test]
fn a_client_resumes_after_kill_nine_and_misses_nothing() {
    let data = directory();
    let place = data.path().join("node");
    let node = Node::start(&place);
    let mut client = Client::tcp(&node).register("phoenix", RESUMABLE);
    let token =
        client.wait("RESUME TOKEN").rsplit(' ').next().expect("a token").trim_start_matches(':').to_owned();
    client.join("#lounge");
    client.send("@chatroom.dev/id=1 PRIVMSG #lounge :seen");
    let seen = tag(&client.wait(":seen"), "msgid").expect("a msgid").to_owned();
    client.send("@chatroom.dev/id=2 PRIVMSG #lounge :acknowledged, but not seen");
    client.wait(":acknowledged");
    node.kill();

    let node = Node::start(&place);
    let mut client = Client::tcp(&node);
    client.send("CAP LS 302");
    client.send(&format!("CAP REQ :{RESUMABLE}"));
    client.send(&format!("RESUME {token} {seen}"));
    client.send("CAP END");
    client.wait("RESUME SUCCESS phoenix");
    client.wait(":acknowledged, but not seen");
    // The same message again is recognised, and the channel is still there.
    client.send("@chatroom.dev/id=2 PRIVMSG #lounge :acknowledged, but not seen");
    client.wait("DUPLICATE 2");
    client.send("PRIVMSG #lounge :back");
    client.wait(":back");
}

#[test]
fn a_stopped_node_starts_from_its_snapshots() {
    let data = directory();
    let place = data.path().join("node");
    let yaml = format!("workers: 2\nchat: {{channels: [{{name: '#lounge', topic: hello}}]}}\n{FAST}");
    for round in 0..3 {
        let mut node = Node::start_with(&place, &yaml);
        let mut client = Client::tcp(&node).register("client", RESUMABLE);
        client.send("JOIN #lounge");
        client.wait(" 332 client #lounge :hello");
        client.wait(" 366 ");
        let expected: Vec<_> = (0..round).map(|n| format!("round {n}")).collect();
        assert_eq!(history(&mut client, "#lounge"), expected);
        client.send(&format!("PRIVMSG #lounge :round {round}"));
        client.wait(&format!(":round {round}"));
        client.send("QUIT :bye");
        client.rest();
        node.terminate();
        assert_eq!(node.wait().code(), Some(0));
        let snapshots = std::fs::read_dir(&place).expect("a directory").filter(|file| {
            file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with("snapshot-"))
        });
        assert!(snapshots.count() >= 5, "one of each shard");
    }
}
