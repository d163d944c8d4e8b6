//! A disk that fills up.

use std::{fs, path::Path, process::Command};

use contract::status::{NodeState, NodeStatus};

use crate::{
    client::Client,
    node::{FAST, Node, directory, eventually, program},
};

/// A command that runs the program with a small file system of its own at `place`, in a mount namespace that ends
/// with it. `None` where this system does not let us.
fn on_small_disk(place: &Path, megabytes: u32) -> Option<Command> {
    let allowed =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|run| run.status.success());
    if !allowed {
        return None;
    }
    fs::create_dir_all(place).expect("a directory");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$0\" && exec \"$@\""))
        .arg(place)
        .arg(program().get_program());
    Some(command)
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    fill_and_free(200);
}

/// As small as a volume may reasonably be: the log's files are smaller there, too.
#[test]
fn a_small_disk_recovers_as_well() {
    fill_and_free(64);
}

fn fill_and_free(megabytes: u32) {
    let data = directory();
    let place = data.path().join("node");
    let Some(command) = on_small_disk(&place, megabytes) else {
        eprintln!("skipped: this system lets nobody make mount namespaces");
        return;
    };
    let node = Node::spawn(command, &place, FAST);
    let status = || serde_json::from_str::<NodeStatus>(&node.ask("/v1/status").1).expect("a status");
    let mut client =
        Client::tcp(&node).register("client", "message-tags echo-message batch draft/chathistory");
    client.join("#lounge");
    client.send("PRIVMSG #lounge :before");
    client.wait(":before");

    // The node's own view of its file system, reached from outside of its namespace.
    let inside = Path::new("/proc").join(node.pid().to_string()).join("root");
    let filler = inside.join(place.strip_prefix("/").expect("absolute")).join("filler");
    fs::write(&filler, vec![0_u8; 1 << 20]).expect("there is space for the first");
    let mut taken = 1_usize;
    while fs::OpenOptions::new()
        .append(true)
        .open(&filler)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![0_u8; 1 << 20]))
        .is_ok()
    {
        taken += 1;
        assert!(taken < 400, "the small disk has an end");
    }
    // Large messages, many at a time: the log's present file has room for many.
    let tags = format!("+filler={}", "x".repeat(4000));
    let mut sent = 0;
    loop {
        assert!(sent < 50_000, "200 MB were stored on a full disk of {megabytes} MB");
        for _ in 0..100 {
            sent += 1;
            client.send(&format!("@{tags} PRIVMSG #lounge :{sent}."));
        }
        let last = format!(":{sent}.");
        if client.wait_any(&[&last, "READ_ONLY"]).contains("READ_ONLY") {
            break;
        }
    }
    let full =
        eventually("status says so", || Some(status()).filter(|status| status.state == NodeState::ReadOnly));
    assert!(full.reason.contains("disk is full"), "{}", full.reason);
    assert_eq!(node.metric("chat_read_only"), 1.0);
    // Reading goes on.
    client.send("CHATHISTORY LATEST #lounge * 1");
    client.wait("BATCH +");
    client.wait("BATCH -");
    client.send("NAMES #lounge");
    client.wait(" 366 ");

    fs::remove_file(&filler).expect("removed");
    eventually("it serves again", || (status().state == NodeState::Serving).then_some(()));
    // A client that is told to try again does; in the end its message is stored.
    eventually("a message is stored again", || {
        client.send("PRIVMSG #lounge :after");
        let answer = client.wait_any(&[":after", "READ_ONLY"]);
        (!answer.contains("READ_ONLY")).then_some(())
    });
}
