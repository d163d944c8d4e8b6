//! Clients over TLS that take or send more than their share, or nothing at all.

use std::{io::Write, net::TcpStream, sync::Arc};

use rustls::ClientConfig;
use socket2::SockRef;
use tempfile::TempDir;

use crate::{
    client::{Client, End},
    node::{Node, directory, eventually},
    pki::{self, Authority, Mount, client_config},
};

const NAME: &str = "chat.test";

struct Place {
    _data: TempDir,
    node: Node,
    trusting: Arc<ClientConfig>,
}

impl Place {
    fn new(limits: &str) -> Self {
        let data = directory();
        let authority = Authority::new();
        let keys = Mount::new(data.path().join("secret"), &authority.issue(NAME)).keys();
        let yaml = format!(
            "limits: {{commandBurst: 1000000, commandsPerSecond: 1000000, {limits}}}\n\
             listeners: {{ircs: {{address: '127.0.0.1:0', {keys}}}}}\n"
        );
        let node = Node::start_with(&data.path().join("node"), &yaml);
        Self { _data: data, node, trusting: client_config(&authority.certificate, None) }
    }

    fn slow(&self, nick: &str, capabilities: &str) -> Client {
        let stream = pki::connect(self.node.address("ircs"), &self.trusting, NAME);
        SockRef::from(&stream.sock).set_recv_buffer_size(64 * 1024).expect("set");
        Client::tls(stream).register(nick, capabilities)
    }
}

#[test]
fn who_reads_late_gets_everything_in_order() {
    const MESSAGES: usize = 20_000;
    let place = Place::new("maxWaitingOutput: 67108864");
    let mut late = place.slow("late", "");
    late.join("#lounge");
    let mut speaker = Client::tcp(&place.node).register("speaker", "echo-message");
    speaker.join("#lounge");
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
fn history_goes_to_who_reads_late() {
    const MESSAGES: usize = 1_000;
    const TIMES: usize = 50;
    let place = Place::new("maxWaitingOutput: 67108864");
    let mut speaker = Client::tcp(&place.node).register("speaker", "echo-message");
    speaker.join("#lounge");
    let text = "x".repeat(400);
    for n in 0..MESSAGES {
        speaker.send(&format!("PRIVMSG #lounge :{n} {text}"));
    }
    speaker.wait(&format!(":{} ", MESSAGES - 1));
    let mut late = place.slow("late", "batch message-tags draft/chathistory");
    late.join("#lounge");
    for _ in 0..TIMES {
        late.send("CHATHISTORY LATEST #lounge * 1000");
    }
    // Others go on while it does not read.
    speaker.send("PING meanwhile");
    speaker.wait("meanwhile");
    for _ in 0..TIMES {
        late.wait("BATCH +");
        let first = late.wait("PRIVMSG #lounge :");
        let number = |line: &str| -> usize {
            let text = line.split(" :").last().expect("a text");
            text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
        };
        for n in number(&first) + 1..MESSAGES {
            assert_eq!(number(&late.wait("PRIVMSG #lounge :")), n);
        }
        late.wait("BATCH -");
    }
}

#[test]
fn who_reads_too_slowly_is_closed() {
    let place = Place::new("maxWaitingOutput: 65536");
    let mut slow = place.slow("slow", "");
    slow.join("#lounge");
    let mut speaker = Client::tcp(&place.node).register("speaker", "echo-message");
    speaker.join("#lounge");
    let text = "x".repeat(400);
    let mut sent = 0_u32;
    // The kernel's own buffers take some megabytes first.
    while place.node.metric("chat_connections_closed_total{reason=\"sendq_exceeded\"}") == 0.0 {
        assert!(sent < 100_000, "40 MB were sent and nobody was closed");
        for _ in 0..100 {
            sent += 1;
            speaker.send(&format!("PRIVMSG #lounge :{sent} {text}"));
        }
        speaker.wait(&format!(":{sent} "));
    }
    eventually("the others see it go", || {
        speaker.send("NAMES #lounge");
        (!speaker.wait(" 353 ").contains("slow")).then_some(())
    });
}

#[test]
fn a_handshake_has_the_time_of_a_registration() {
    let place = Place::new("registration: 1s");
    // One says nothing, one begins and stops.
    let _silent = TcpStream::connect(place.node.address("ircs")).expect("connected");
    let mut begun = TcpStream::connect(place.node.address("ircs")).expect("connected");
    begun.write_all(&[22, 3, 1, 0, 200, 1]).expect("sent");
    let tcp = || place.node.metric("chat_connections{kind=\"tcp\"}");
    eventually("they have a place", || (tcp() == 2.0).then_some(()));
    eventually("it is taken from them", || (tcp() == 0.0).then_some(()));
    assert_eq!(place.node.metric("chat_connections_closed_total{reason=\"timeout\"}"), 2.0);
}

#[test]
fn many_lines_and_pieces_of_lines_are_lines() {
    let place = Place::new("");
    let mut stream = pki::connect(place.node.address("ircs"), &place.trusting, NAME);
    // The second is more than one record.
    let many = "PING again\r\n".repeat(3_000);
    for part in ["NI", "CK pieces\r", &format!("\nUSER a 0 * :b\r\n{many}"), "PING la", "st\r\n"] {
        stream.write_all(part.as_bytes()).expect("sent");
        stream.flush().expect("sent");
    }
    let mut client = Client::tls(stream);
    client.wait(" 001 pieces ");
    for _ in 0..3_000 {
        client.wait("again");
    }
    client.wait("last");
    // Who goes without a word of TLS is gone all the same.
    client.stream().shutdown(std::net::Shutdown::Write).expect("shut");
    eventually("it is gone", || (place.node.metric("chat_connections{kind=\"tcp\"}") == 0.0).then_some(()));
}

#[test]
fn garbage_ends_the_connection() {
    let place = Place::new("");
    let mut client = place.slow("garbage", "");
    client.send_raw(&[23, 3, 3, 0, 40]);
    client.send_raw(&[0; 40]);
    let mut other = Client::registered(&place.node, "other");
    eventually("the nick is free", || {
        other.send("ISON garbage");
        other.wait(" 303 ").ends_with(':').then_some(())
    });
    let node_full = Place::new("maxConnections: 1");
    let _first = node_full.slow("first", "");
    let mut second = Client::connect(node_full.node.address("ircs"));
    assert_eq!(second.rest(), (Vec::new(), End::Closed), "closed without a handshake");
}
