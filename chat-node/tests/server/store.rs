//! Several nodes, one room: their log in a real Valkey or Redis.

use std::path::Path;

use chat_valkey::test_server::TestServer;
use contract::status::{Durability, NodeState, NodeStatus};
use tempfile::TempDir;

use crate::{
    client::{Client, tag},
    node::{FAST, Node, directory, eventually},
};

const RESUMABLE: &str =
    "message-tags batch echo-message server-time draft/chathistory chatroom.dev/id chatroom.dev/resume";

/// A room whose nodes come and go.
struct Room {
    server: TestServer,
    directory: TempDir,
    nodes: u32,
}

impl Room {
    fn new() -> Self {
        Self { server: TestServer::start(), directory: directory(), nodes: 0 }
    }

    fn node(&mut self) -> Node {
        self.nodes += 1;
        let yaml = format!(
            "{FAST}log: {{valkey: {{shards: 2, room: lounge, urlFile: {}}}}}\n",
            self.server.url_file().display()
        );
        Node::start_with(&self.directory.path().join(format!("node-{}", self.nodes)), &yaml)
    }
}

fn status(node: &Node) -> NodeStatus {
    serde_json::from_str(&node.ask("/v1/status").1).expect("a status")
}

/// The token of a client that just registered with the resume capability.
fn token(client: &mut Client) -> String {
    let line = client.wait("RESUME TOKEN ");
    line.rsplit(' ').next().expect("a token").to_owned()
}

fn resume(node: &Node, token: &str, seen: &[&str]) -> Client {
    let mut client = Client::tcp(node);
    client.send("CAP LS 302");
    client.send(&format!("CAP REQ :{RESUMABLE}"));
    let seen = if seen.is_empty() { "*".to_owned() } else { seen.join(",") };
    client.send(&format!("RESUME {token} {seen}"));
    client.send("CAP END");
    client
}

#[test]
fn people_on_two_nodes_are_in_one_room() {
    let mut room = Room::new();
    let (one, two) = (room.node(), room.node());
    assert_eq!(status(&one).durability, Durability::LocalFsync);
    let mut ann = Client::tcp(&one).register("ann", "message-tags echo-message");
    let mut bob = Client::tcp(&two).register("bob", "message-tags echo-message");
    ann.join("#lounge");
    bob.join("#lounge");
    ann.wait(" JOIN #lounge");
    for n in 0..50 {
        ann.send(&format!("PRIVMSG #lounge :from ann {n}"));
        bob.send(&format!("PRIVMSG #lounge :from bob {n}"));
    }
    let msgids = |client: &mut Client| -> Vec<String> {
        (0..100)
            .map(|_| {
                let line = client.wait("PRIVMSG #lounge :");
                tag(&line, "msgid").expect("every message has one").to_owned()
            })
            .collect()
    };
    let (at_ann, at_bob) = (msgids(&mut ann), msgids(&mut bob));
    assert_eq!(at_ann, at_bob, "both nodes tell the same order");
    // A nick is taken in the whole room.
    let mut other = Client::tcp(&two);
    other.send("NICK ann");
    other.send("USER test 0 * :A test");
    other.wait(" 433 ");
    bob.send("PRIVMSG ann :just us");
    ann.wait("PRIVMSG ann :just us");
}

#[test]
fn a_client_resumes_on_another_node_after_its_own_was_killed() {
    let mut room = Room::new();
    let (one, two) = (room.node(), room.node());
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let token = token(&mut ann);
    let mut bob = Client::tcp(&two).register("bob", RESUMABLE);
    ann.join("#lounge");
    bob.join("#lounge");
    ann.wait("bob!");
    bob.send("PRIVMSG #lounge :seen");
    let seen = ann.wait(":seen");
    let seen = tag(&seen, "msgid").expect("a msgid").to_owned();
    one.kill();
    for n in 0..20 {
        bob.send(&format!("PRIVMSG #lounge :missed {n}."));
        bob.wait(&format!(":missed {n}."));
    }
    let mut ann = resume(&two, &token, &[&seen]);
    ann.wait("RESUME SUCCESS ann");
    for n in 0..20 {
        ann.wait(&format!(":missed {n}."));
    }
    ann.wait("BATCH -");
    ann.send("PRIVMSG #lounge :back");
    // Bob saw nobody come or go.
    let (mut lines, end) = (Vec::new(), ":back");
    loop {
        let line = bob.receive().expect("bob stays");
        if line.contains(end) {
            break;
        }
        lines.push(line);
    }
    assert!(!lines.iter().any(|line| line.contains("QUIT") || line.contains("JOIN")), "{lines:#?}");
}

#[test]
fn a_store_that_restarts_loses_nothing_and_nobody_is_cut_off() {
    let mut room = Room::new();
    let (one, two) = (room.node(), room.node());
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let mut bob = Client::tcp(&two).register("bob", RESUMABLE);
    ann.join("#lounge");
    bob.join("#lounge");
    ann.wait("bob!");
    ann.send("PRIVMSG #lounge :before");
    ann.wait(":before");
    room.server.kill();
    // Reading goes on, and in a while writing is refused.
    ann.send("NAMES #lounge");
    ann.wait(" 366 ");
    let waiting = eventually("the node says so", || {
        Some(status(&one)).filter(|status| status.state == NodeState::ReadOnly)
    });
    assert!(waiting.reason.contains("store"), "{}", waiting.reason);
    assert_eq!(one.ask("/livez").0, 200);
    assert_eq!(one.ask("/readyz").0, 503);
    ann.send("PRIVMSG #lounge :during");
    ann.wait("READ_ONLY");
    room.server.run();
    for node in [&one, &two] {
        eventually("it serves again", || (status(node).state == NodeState::Serving).then_some(()));
    }
    ann.send("PRIVMSG #lounge :after");
    ann.wait(":after");
    bob.wait(":before");
    let line = bob.wait_any(&[":during", ":after"]);
    assert!(line.contains(":after"), "what was refused was not stored");
}

#[test]
fn a_node_that_starts_before_its_store_waits_for_it() {
    let mut room = Room::new();
    room.server.kill();
    let url = room.server.url_file();
    let directory = directory();
    let node = std::thread::spawn({
        let place = directory.path().join("node");
        move || Node::start_with(&place, &waiting_config(&url))
    });
    // Long enough for a first try that fails.
    std::thread::sleep(std::time::Duration::from_secs(2));
    room.server.run();
    let node = node.join().expect("it became ready");
    assert!(node.said().contains("waiting for the store"), "{}", node.said());
    Client::registered(&node, "ann").join("#lounge");
}

fn waiting_config(url: &Path) -> String {
    format!("{FAST}log: {{valkey: {{shards: 2, room: lounge, urlFile: {}}}}}\n", url.display())
}

#[test]
fn a_node_that_starts_finds_what_others_said() {
    let mut room = Room::new();
    let one = room.node();
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    ann.join("#lounge");
    for n in 0..50 {
        ann.send(&format!("PRIVMSG #lounge :old {n}."));
        ann.wait(&format!(":old {n}."));
    }
    let two = room.node();
    let mut bob = Client::tcp(&two).register("bob", RESUMABLE);
    bob.join("#lounge");
    bob.send("CHATHISTORY LATEST #lounge * 100");
    for n in 0..50 {
        bob.wait(&format!(":old {n}."));
    }
}

#[test]
fn a_store_that_would_drop_keys_is_refused() {
    let room = Room::new();
    room.server.set("maxmemory", "100mb");
    room.server.set("maxmemory-policy", "allkeys-lru");
    let data = directory();
    let config = data.path().join("node.yaml");
    std::fs::write(&config, waiting_config(&room.server.url_file())).expect("written");
    let output = crate::node::program()
        .args(["--irc", "127.0.0.1:0", "--web", "off", "--admin", "127.0.0.1:0"])
        .arg("--config")
        .arg(&config)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("maxmemory-policy noeviction"), "{said}");
}

#[test]
fn a_stock_client_gets_its_nick_back_after_its_node_died() {
    let mut room = Room::new();
    let (one, two) = (room.node(), room.node());
    let mut keeper = Client::registered(&two, "keeper");
    keeper.join("#lounge");
    let mut ann = Client::registered(&one, "ann");
    ann.join("#lounge");
    keeper.wait("ann!");
    one.kill();
    // Until the others take the node for dead the nick is taken.
    eventually("the nick is free", || {
        let mut again = Client::tcp(&two);
        again.send("NICK ann");
        again.send("USER test 0 * :A test");
        (!again.wait_any(&[" 001 ", " 433 "]).contains(" 433 ")).then_some(())
    });
    let lines = keeper.wait("QUIT");
    assert!(lines.contains("ann!"), "{lines}");
}

#[test]
fn a_node_that_was_taken_for_dead_ends_and_its_clients_resume_elsewhere() {
    let mut room = Room::new();
    let (mut one, two) = (room.node(), room.node());
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let token = token(&mut ann);
    ann.join("#lounge");
    ann.send("PRIVMSG #lounge :here");
    let seen = ann.wait(":here");
    let seen = tag(&seen, "msgid").expect("a msgid").to_owned();
    let signal = |name: &str, node: &Node| {
        let pid = node.pid().to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    };
    signal("-STOP", &one);
    eventually("its sessions are detached", || (status(&two).detached == 1).then_some(()));
    signal("-CONT", &one);
    let ended = one.wait();
    assert!(!ended.success());
    assert!(one.said().contains("took this one for dead"), "{}", one.said());
    let mut ann = resume(&two, &token, &[&seen]);
    ann.wait("RESUME SUCCESS ann");
    ann.wait("BATCH -");
    ann.send("PRIVMSG #lounge :still here");
    ann.wait(":still here");
}

#[test]
fn a_node_that_is_drained_is_gone_at_once_and_the_room_goes_on() {
    let mut room = Room::new();
    let (mut one, two) = (room.node(), room.node());
    let mut bob = Client::registered(&two, "bob");
    bob.join("#lounge");
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let token = token(&mut ann);
    ann.join("#lounge");
    bob.wait("ann!");
    one.terminate();
    // She is alone, so that nobody has to be spared.
    ann.wait("RECONNECT * 0");
    assert!(one.wait().success());
    let mut ann = resume(&two, &token, &[]);
    ann.wait("RESUME SUCCESS ann");
    ann.wait("BATCH -");
    // Somebody has to lead for a nick to be freed.
    ann.send("QUIT :done");
    let line = bob.wait("QUIT");
    assert!(line.contains("ann!"), "{line}");
}

#[test]
fn a_resume_goes_on_where_it_was_after_the_store_was_another_process() {
    let mut room = Room::new();
    let one = room.node();
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let token = token(&mut ann);
    ann.join("#lounge");
    ann.send("PRIVMSG #lounge :before");
    let before = tag(&ann.wait(":before"), "msgid").expect("a msgid").to_owned();
    room.server.kill();
    room.server.run();
    let mut bob = Client::registered(&one, "bob");
    bob.join("#lounge");
    eventually("a message is stored again", || {
        bob.send("PRIVMSG #lounge :missed");
        bob.send("PING 1");
        (!bob.wait_any(&["READ_ONLY", "PONG"]).contains("READ_ONLY")).then_some(())
    });
    let mut again = resume(&one, &token, &[&before]);
    again.wait("RESUME SUCCESS ann");
    // What is missing is told as what it is: nothing is.
    let line = again.wait_any(&["RESUME GAP", ":missed"]);
    assert!(line.contains(":missed"), "{line}");
    let after = tag(&line, "msgid").expect("a msgid").to_owned();
    assert_ne!(stream(&before), stream(&after), "another process of the store, another lineage");
}

/// The part of a msgid that names the stream.
fn stream(msgid: &str) -> &str {
    msgid.rsplit_once('-').expect("a msgid").0
}

#[test]
fn what_a_restored_store_lost_is_told_as_a_gap() {
    let mut room = Room::new();
    let one = room.node();
    let mut ann = Client::tcp(&one).register("ann", RESUMABLE);
    let token = token(&mut ann);
    ann.join("#lounge");
    ann.send("PRIVMSG #lounge :kept");
    ann.wait(":kept");
    room.server.kill();
    let backup = room.server.back_up();
    room.server.run();
    eventually("it serves again", || (status(&one).state == NodeState::Serving).then_some(()));
    let mut lost = String::new();
    for n in 0..10 {
        ann.send(&format!("PRIVMSG #lounge :lost {n}."));
        lost = tag(&ann.wait(&format!(":lost {n}.")), "msgid").expect("a msgid").to_owned();
    }
    one.kill();
    room.server.kill();
    room.server.restore(&backup);
    // A lineage is named by the second in which it begins; the one that was lost began in an earlier one.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    room.server.run();
    let two = room.node();
    let mut bob = Client::registered(&two, "bob");
    bob.join("#lounge");
    bob.send("PRIVMSG #lounge :new");
    let mut ann = resume(&two, &token, &[&lost]);
    ann.wait("RESUME SUCCESS ann");
    ann.wait("RESUME GAP #lounge ");
    ann.wait("BATCH -");
    ann.wait(" JOIN #lounge");
    // What the channel has is in its history; what was lost is not.
    ann.send("CHATHISTORY LATEST #lounge * 50");
    ann.wait(":kept");
    ann.wait(":new");
}
