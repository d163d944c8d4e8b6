//! WebSockets of well- and ill-behaved clients.

use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    client::{Client, End},
    node::{Node, directory},
};

const TEXT: &str = "text.ircv3.net";

/// A client frame with a mask of zeros, which leaves the payload as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | u8::try_from(length).expect("small")),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(length).expect("small").to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend(u64::try_from(length).expect("small").to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

#[test]
fn pings_are_answered_between_messages() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::websocket(&node, TEXT).register("ws", "");
    client.socket().send(Message::Ping("are you there?".into())).expect("sent");
    loop {
        match client.socket().read().expect("a message") {
            Message::Pong(payload) => {
                assert_eq!(&payload[..], b"are you there?");
                break;
            }
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
    client.send("PING still");
    client.wait("still");
}

#[test]
fn a_message_may_come_in_fragments_with_a_ping_between() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::websocket(&node, TEXT).register("ws", "");
    for (payload, code, last) in
        [("PING ", OpCode::Data(Data::Text), false), ("frag", OpCode::Data(Data::Continue), false)]
    {
        client.socket().send(Message::Frame(Frame::message(payload, code, last))).expect("sent");
    }
    client.socket().send(Message::Ping("p".into())).expect("sent");
    client
        .socket()
        .send(Message::Frame(Frame::message("ments", OpCode::Data(Data::Continue), true)))
        .expect("sent");
    client.wait("fragments");
}

#[test]
fn a_line_that_is_too_long_is_dropped_and_the_next_is_heard() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::websocket(&node, TEXT).register("ws", "");
    client.send(&"x".repeat(20_000));
    client.wait(" 417 ");
    client.send("PING after");
    client.wait("after");
}

#[test]
fn violations_end_the_connection_with_their_code() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    for (n, (what, bytes, code)) in [
        ("too big", frame(0x81, &vec![b'x'; 100_000]), 1009),
        ("not masked", vec![0x81, 2, b'h', b'i'], 1002),
        ("reserved bit", frame(0xc1, b"hi"), 1002),
        ("unknown opcode", frame(0x83, b"hi"), 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
        ("not UTF-8", frame(0x81, b"\xff\xff"), 1007),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::websocket(&node, TEXT).register(&format!("ws{n}"), "");
        client.send_raw(&bytes);
        match client.rest().1 {
            End::Code(found, reason) => {
                assert_eq!(found, code, "{what}");
                assert!(!reason.is_empty(), "{what}: says why");
            }
            End::Closed => panic!("{what}: closed without a code"),
        }
        // Nobody is left behind.
        client.stream().shutdown(std::net::Shutdown::Both).ok();
        crate::node::eventually("it is gone", || {
            (node.metric("chat_connections{kind=\"websocket\"}") == 0.0).then_some(())
        });
    }
}

#[test]
fn closing_is_answered() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::websocket(&node, TEXT).register("ws", "");
    client.send_raw(&frame(0x88, &[0x0f, 0xa0]));
    assert_eq!(client.rest().1, End::Code(4000, "Connection closed".to_owned()));
}

#[test]
fn quit_closes_normally() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let mut client = Client::websocket(&node, TEXT).register("ws", "");
    client.send("QUIT :bye");
    let (lines, end) = client.rest();
    assert!(lines.last().is_some_and(|line| line.starts_with("ERROR ")), "{lines:?}");
    assert!(matches!(end, End::Code(1000, _)), "{end:?}");
}
