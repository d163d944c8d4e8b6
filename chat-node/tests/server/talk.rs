//! People talk: over each transport, between transports, between workers.

use crate::{
    client::{Client, tag},
    node::{FAST, Node, directory},
};

#[test]
fn tcp_text_and_binary_websockets_talk_to_each_other() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut tcp = Client::registered(&node, "tcp");
    let mut text = Client::websocket(&node, "text.ircv3.net").register("text", "");
    let mut binary = Client::websocket(&node, "binary.ircv3.net").register("binary", "");
    for client in [&mut tcp, &mut text, &mut binary] {
        client.join("#lounge");
    }
    tcp.send("PRIVMSG #lounge :from tcp");
    for client in [&mut text, &mut binary] {
        assert!(client.wait("PRIVMSG").starts_with(":tcp!"));
    }
    text.send("PRIVMSG #lounge :from text ☃");
    assert!(tcp.wait("PRIVMSG").ends_with("#lounge :from text ☃"));
    assert!(binary.wait("from text").starts_with(":text!"));
    binary.send("PRIVMSG tcp :just you");
    assert!(tcp.wait("just you").starts_with(":binary!"));
}

#[test]
fn clients_of_different_workers_talk_to_each_other() {
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), &format!("workers: 3\n{FAST}"));
    // Handed out in turn: with six clients every worker has two.
    let mut clients: Vec<_> = (0..6).map(|n| Client::registered(&node, &format!("client{n}"))).collect();
    for client in &mut clients {
        client.join("#lounge");
    }
    for speaker in 0..clients.len() {
        clients[speaker].send(&format!("PRIVMSG #lounge :from {speaker}"));
        for (n, listener) in clients.iter_mut().enumerate() {
            if n != speaker {
                assert!(
                    listener.wait(&format!(":from {speaker}")).starts_with(&format!(":client{speaker}!"))
                );
            }
        }
    }
}

#[test]
fn everybody_sees_the_same_order() {
    const EACH: usize = 200;
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), &format!("workers: 2\n{FAST}"));
    let capabilities = "message-tags echo-message";
    let mut clients: Vec<_> =
        (0..4).map(|n| Client::tcp(&node).register(&format!("client{n}"), capabilities)).collect();
    for client in &mut clients {
        client.join("#lounge");
    }
    for n in 0..EACH {
        for client in &mut clients {
            client.send(&format!("PRIVMSG #lounge :{n}"));
        }
    }
    let total = EACH * clients.len();
    let mut seen: Vec<Vec<String>> = Vec::new();
    for client in &mut clients {
        seen.push((0..total).map(|_| client.wait("PRIVMSG #lounge")).collect());
    }
    assert!(seen.iter().all(|lines| *lines == seen[0]), "one order for all");
    let mut positions: Vec<u64> = seen[0]
        .iter()
        .map(|line| tag(line, "msgid").and_then(|id| id.rsplit('-').next()?.parse().ok()).expect("a msgid"))
        .collect();
    assert!(positions.is_sorted(), "in the order of the log");
    positions.dedup();
    assert_eq!(positions.len(), total, "each once");
}

#[test]
fn half_a_line_and_many_lines_at_once_are_both_lines() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::tcp(&node);
    for part in ["NI", "CK pieces\r", "\nUSER a 0 * :b\r\nPING one\nPING two\r\n\r\n"] {
        client.send_raw(part.as_bytes());
    }
    client.wait(" 001 pieces ");
    client.wait("PONG");
    assert!(client.wait("PONG").ends_with("two"));
}
