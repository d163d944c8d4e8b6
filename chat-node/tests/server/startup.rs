//! How a node starts, and how it says that it cannot.

use std::{fs, net::TcpListener, process::Output};

use crate::{
    client::Client,
    node::{Node, directory, program},
};

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program runs")
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_configuration_names_file_and_key_and_ends_with_two() {
    let data = directory();
    let file = data.path().join("node.yaml");
    fs::write(&file, "limits:\n  maxConnections: lots\n").expect("written");
    let output = run(&["--config", file.to_str().expect("UTF-8")]);
    let error = error(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("node.yaml") && error.contains("limits.maxConnections"), "{error}");

    assert_eq!(run(&["--workers", "0"]).status.code(), Some(2));
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn a_port_that_is_taken_is_named_and_ends_with_one() {
    let data = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let place = data.path().join("node");
    let place = place.to_str().expect("UTF-8");
    let output = run(&["--data", place, "--irc", &address, "--web", "off", "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).contains(&address) && error(&output).contains("listeners.irc"),
        "{}",
        error(&output)
    );
}

#[test]
fn a_directory_belongs_to_one_process_and_one_configuration() {
    let data = directory();
    let place = data.path().join("node");
    let text = place.to_str().expect("UTF-8");
    let local = ["--data", text, "--irc", "127.0.0.1:0", "--web", "off", "--admin", "127.0.0.1:0"];
    let node = Node::start(&place);
    let output = run(&local);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("in use by another process"), "{}", error(&output));
    node.kill();

    let output = run(&[&local[..], &["--network", "other"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("other"), "{}", error(&output));
}

#[test]
fn damage_in_the_log_is_refused_with_its_place() {
    let data = directory();
    let place = data.path().join("node");
    let node = Node::start(&place);
    let mut client = Client::tcp(&node).register("client", "echo-message");
    client.join("#lounge");
    for n in 0..50 {
        client.send(&format!("PRIVMSG #lounge :message {n}"));
        client.wait(&format!(":message {n}"));
    }
    node.kill();
    let segment = fs::read_dir(&place)
        .expect("a directory")
        .map(|file| file.expect("a file").path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wal-")))
        .expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    let at = bytes.windows(9).position(|window| window == b"message 7").expect("it is there");
    bytes[at] ^= 0x20;
    fs::write(&segment, bytes).expect("written");

    let text = place.to_str().expect("UTF-8");
    let output = run(&["--data", text, "--irc", "127.0.0.1:0", "--web", "off", "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("wal-"), "{}", error(&output));
}

#[test]
fn check_says_what_it_did() {
    let data = directory();
    let node = Node::start(&data.path().join("node"));
    let output = run(&["check", &node.irc.to_string(), "--channel", "#check-me"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", error(&output));
    assert!(said.contains("#check-me") && said.contains("received") && said.ends_with("ok\n"), "{said}");

    let address = node.irc.to_string();
    node.kill();
    let output = run(&["check", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("cannot connect"), "{}", error(&output));
}

#[test]
fn help_tells_how_to_begin() {
    let output = run(&["--help"]);
    let said = String::from_utf8_lossy(&output.stdout);
    for part in ["--data", "--config", "check", "6667", "Exit codes"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
