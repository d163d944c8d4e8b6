//! Clients that take or send more than their share.

use socket2::SockRef;

use crate::{
    client::{Client, End},
    node::{Node, directory, eventually, http},
};

#[test]
fn a_full_node_says_so_and_takes_others_when_there_is_room() {
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), "limits: {maxConnections: 2}");
    let first = Client::registered(&node, "first");
    let _second = Client::registered(&node, "second");
    let (lines, end) = Client::tcp(&node).rest();
    assert_eq!(end, End::Closed);
    assert!(lines.len() == 1 && lines[0].starts_with("ERROR :") && lines[0].contains("full"), "{lines:?}");
    let (status, _, body) = http(node.web, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(status == 503 && body.contains("full"), "{status} {body}");
    assert!(node.metric("chat_connections_closed_total{reason=\"node_full\"}") >= 2.0);

    drop(first);
    eventually("there is room again", || {
        let mut third = Client::tcp(&node);
        third.send("PING room");
        // A refused client is told so; one that has a place is told that it is not registered, or is answered.
        third.receive().ok().filter(|line| !line.starts_with("ERROR"))
    });
}

#[test]
fn an_over_long_line_is_refused_and_the_next_is_heard() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::registered(&node, "long");
    client.send(&format!("PRIVMSG #x :{}", "x".repeat(50_000)));
    client.wait(" 417 ");
    client.send("PING after");
    client.wait("after");
}

#[test]
fn a_flood_ends_the_connection() {
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), "limits: {maxWaitingInput: 8192}");
    let mut client = Client::registered(&node, "flood");
    let mut writer = client.stream().try_clone().expect("cloned");
    let flood = std::thread::spawn(move || {
        use std::io::Write;
        // Ends when the server does not listen any more.
        while writer
            .write_all(format!("PRIVMSG flood :{}\r\n", "x".repeat(400)).repeat(50).as_bytes())
            .is_ok()
        {}
    });
    let (lines, _) = client.rest();
    assert!(lines.iter().any(|line| line.contains("Excess Flood")), "{:?}", lines.last());
    flood.join().expect("it ends");
    eventually("it is counted", || {
        (node.metric("chat_connections_closed_total{reason=\"excess_flood\"}") == 1.0).then_some(())
    });
}

#[test]
fn who_reads_too_slowly_is_closed_and_nobody_else_notices() {
    let data = directory();
    let yaml = "limits: {commandBurst: 1000000, commandsPerSecond: 1000000, maxWaitingOutput: 65536}";
    let node = Node::start_with(&data.path().join("node"), yaml);
    let mut slow = Client::registered(&node, "slow");
    SockRef::from(&*slow.stream()).set_recv_buffer_size(4096).expect("set");
    slow.join("#lounge");
    let mut speaker = Client::tcp(&node).register("speaker", "echo-message");
    speaker.join("#lounge");
    let mut quick = Client::registered(&node, "quick");
    quick.join("#lounge");
    let text = "x".repeat(400);
    let mut sent = 0_u32;
    // The kernel's own buffers take some megabytes first.
    while node.metric("chat_connections_closed_total{reason=\"sendq_exceeded\"}") == 0.0 {
        assert!(sent < 100_000, "40 MB were sent and nobody was closed");
        for _ in 0..100 {
            sent += 1;
            speaker.send(&format!("PRIVMSG #lounge :{sent} {text}"));
        }
        speaker.wait(&format!(":{sent} "));
        quick.wait(&format!(":{sent} "));
    }
    eventually("the others see it go", || {
        quick.send("NAMES #lounge");
        (!quick.wait(" 353 ").contains("slow")).then_some(())
    });
}

#[test]
fn who_reads_late_gets_everything_in_order() {
    const MESSAGES: usize = 20_000;
    let data = directory();
    let yaml = "limits: {commandBurst: 1000000, commandsPerSecond: 1000000, maxWaitingOutput: 67108864}";
    let node = Node::start_with(&data.path().join("node"), yaml);
    let mut late = Client::registered(&node, "late");
    SockRef::from(&*late.stream()).set_recv_buffer_size(64 * 1024).expect("set");
    late.join("#lounge");
    let mut speaker = Client::tcp(&node).register("speaker", "echo-message");
    speaker.join("#lounge");
    // More than the kernel keeps: the rest waits in the server.
    let text = "x".repeat(400);
    for first in (0..MESSAGES).step_by(100) {
        for n in first..first + 100 {
            speaker.send(&format!("PRIVMSG #lounge :{n} {text}"));
        }
        speaker.wait(&format!(":{} ", first + 99));
    }
    for n in 0..MESSAGES {
        let line = late.wait("PRIVMSG");
        assert!(line.contains(&format!(" :{n} ")), "after {n} messages: {line}");
    }
}

#[test]
fn who_hangs_up_at_once_is_noticed() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    for n in 0..20 {
        // The last bytes and the end arrive together.
        let mut client = Client::tcp(&node);
        client.send(&format!("NICK brief{n}"));
        drop(client);
    }
    eventually("they are gone", || (node.metric("chat_connections{kind=\"tcp\"}") == 0.0).then_some(()));
    assert_eq!(
        node.metric("chat_connections_closed_total{reason=\"timeout\"}"),
        0.0,
        "not by waiting for them"
    );
}

#[test]
fn who_does_not_register_in_time_is_closed() {
    let data = directory();
    let node = Node::start_with(&data.path().join("node"), "limits: {registration: 1s}");
    let mut client = Client::tcp(&node);
    client.send("NICK half");
    let (lines, end) = client.rest();
    assert!(end == End::Closed && lines.iter().any(|line| line.starts_with("ERROR")), "{lines:?}");
}
