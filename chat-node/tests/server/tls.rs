//! TLS: who talks over it, what it is worth, and certificates that change.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::{
    client::{Client, End},
    node::{FAST, Node, directory, eventually, http, program},
    pki::{self, Authority, Mount, Pair, client_config, https},
};

const NAME: &str = "chat.test";

/// A node with all listeners, its certificate, and a client's view of it.
struct Place {
    data: TempDir,
    authority: Authority,
    mount: Mount,
    node: Node,
    trusting: Arc<ClientConfig>,
}

impl Place {
    fn new() -> Self {
        Self::with(2090, "")
    }

    /// `more` are further keys of `listeners.ircs`.
    fn with(until_year: i32, more: &str) -> Self {
        let data = directory();
        let authority = Authority::new();
        let mount = Mount::new(data.path().join("secret"), &authority.issue_until(NAME, until_year));
        let keys = mount.keys();
        let yaml = format!(
            "{FAST}listeners:\n  ircs: {{address: '127.0.0.1:0', {keys}{more}}}\n  webs: {{address: '127.0.0.1:0', {keys}}}\n"
        );
        let node = Node::start_with(&data.path().join("node"), &yaml);
        let trusting = client_config(&authority.certificate, None);
        Self { data, authority, mount, node, trusting }
    }

    fn stream(&self, listener: &str) -> pki::Secure {
        pki::connect(self.node.address(listener), &self.trusting, NAME)
    }

    fn irc(&self) -> Client {
        Client::tls(self.stream("ircs"))
    }

    fn not_after(&self, listener: &str) -> f64 {
        self.node.metric(&format!("chat_certificate_not_after_seconds{{listener=\"{listener}\"}}"))
    }

    /// The certificate that new connections get.
    fn shown(&self, listener: &str) -> Vec<u8> {
        pki::shown(self.node.address(listener), &self.trusting, NAME).expect("a handshake")
    }
}

/// What `chat-node check` says of the listener, with these arguments: all of it, or why not.
fn check(place: &Place, arguments: &[&str]) -> Result<String, String> {
    let output = program()
        .args(["check", &place.node.address("ircs").to_string()])
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn check_tries_a_listener_over_tls() {
    let place = Place::new();
    let file = |name: &str, text: &str| {
        let path = place.data.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let ours = file("ours", &place.authority.certificate);
    let theirs = file("theirs", &Authority::new().certificate);
    let shown = place.mount.file("tls.crt").display().to_string();
    for trusted in [&["--trust", &ours, "--name", NAME][..], &["--trust", &shown]] {
        let said = check(&place, &[&["--tls"], trusted].concat()).expect("it works");
        assert!(said.contains("over TLS") && said.ends_with("ok\n"), "{said}");
    }
    for (arguments, words) in [
        (&["--tls", "--trust", &theirs, "--name", NAME][..], "not trusted here"),
        (&["--tls", "--trust", &ours], "not valid for name"),
        (&["--tls", "--trust", &file("empty", "")], "holds no certificate"),
        (&["--tls", "--name", NAME], "not trusted here"),
        (&["--trust", &ours], "--tls"),
        (&[], "This port is for TLS"),
    ] {
        let why = check(&place, arguments).expect_err("it cannot");
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn everybody_talks_to_everybody() {
    let place = Place::new();
    let mut plain = Client::registered(&place.node, "plain");
    let mut tls = place.irc().register("tls", "");
    let mut page = Client::secure_websocket(place.stream("webs"), "text.ircv3.net").register("page", "");
    for client in [&mut plain, &mut tls, &mut page] {
        client.join("#lounge");
    }
    plain.send("PRIVMSG #lounge :from plain");
    for client in [&mut tls, &mut page] {
        assert!(client.wait("PRIVMSG").starts_with(":plain!"));
    }
    tls.send("PRIVMSG #lounge :from tls");
    assert!(plain.wait("from tls").starts_with(":tls!"));
    assert!(page.wait("from tls").starts_with(":tls!"));
    page.send("PRIVMSG #lounge :from page ☃");
    assert!(plain.wait("from page").ends_with("☃"));
    assert!(tls.wait("from page").ends_with("☃"));

    for (nick, secure) in [("tls", true), ("page", true), ("plain", false)] {
        plain.send(&format!("WHOIS {nick}"));
        let found = plain.wait_any(&[" 671 ", " 318 "]).contains(" 671 ");
        assert_eq!(found, secure, "{nick}");
        if secure {
            plain.wait(" 318 ");
        }
    }
    tls.send("QUIT :bye");
    let (lines, end) = tls.rest();
    assert_eq!(end, End::Closed, "TLS says that it ends, too");
    assert!(lines.last().is_some_and(|line| line.starts_with("ERROR ")), "{lines:?}");
}

#[test]
fn both_versions_are_spoken() {
    let place = Place::new();
    for (nick, version) in [("two", &rustls::version::TLS12), ("three", &rustls::version::TLS13)] {
        let config = pki::client_config_of(&place.authority.certificate, version);
        let stream = pki::connect(place.node.address("ircs"), &config, NAME);
        Client::tls(stream).register(nick, "").join("#lounge");
        let (status, _) =
            https(pki::connect(place.node.address("webs"), &config, NAME), "/").expect("an answer");
        assert_eq!(status, 200);
    }
}

#[test]
fn who_comes_without_tls_is_told() {
    let place = Place::new();
    let mut client = Client::connect(place.node.address("ircs"));
    client.send("CAP LS 302");
    let (lines, end) = client.rest();
    assert_eq!(end, End::Closed);
    assert!(lines.len() == 1 && lines[0].starts_with("ERROR :") && lines[0].contains("TLS"), "{lines:?}");

    let (status, _, body) = http(place.node.address("webs"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(status == 400 && body.contains("https://"), "{status} {body}");

    let mut stream = place.stream("ircs");
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    let (lines, _) = Client::tls(stream).rest();
    assert!(lines.len() == 1 && lines[0].contains("not a web server"), "{lines:?}");
    eventually("nobody is left", || {
        (place.node.metric("chat_connections{kind=\"tcp\"}") == 0.0).then_some(())
    });
}

#[test]
fn frames_right_behind_the_handshake_are_heard() {
    let place = Place::new();
    // More than the HTTP server reads at a time: the first leaves some of it in TLS alone, the second in the socket too.
    for lines in [900, 3_000] {
        send_behind_the_handshake(&place, lines);
    }
}

fn send_behind_the_handshake(place: &Place, lines: usize) {
    let mut stream = place.stream("webs");
    let mut bytes = b"GET /irc HTTP/1.1\r\nHost: chat.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    for n in 0..lines {
        let line = format!("PING {n:04}.");
        bytes.extend([0x81, 0x80 | u8::try_from(line.len()).expect("short"), 0, 0, 0, 0]);
        bytes.extend(line.as_bytes());
    }
    stream.write_all(&bytes).expect("sent");
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains(&format!("{:04}.", lines - 1)) {
        let count = stream.read(&mut buffer).expect("more");
        assert!(count > 0, "closed early");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!((0..lines).all(|n| heard.contains(&format!("{n:04}."))));
}

#[test]
fn a_token_of_tls_is_good_over_tls_only() {
    const CAPABILITIES: &str = "message-tags batch chatroom.dev/resume";
    let resume = |mut client: Client, token: &str| {
        client.send("CAP LS 302");
        client.send(&format!("CAP REQ :{CAPABILITIES}"));
        client.send(&format!("RESUME {token} *"));
        client.send("CAP END");
        client
    };
    let place = Place::new();
    let mut first = place.irc().register("ann", CAPABILITIES);
    let line = first.wait("RESUME TOKEN ");
    let token = line.rsplit(' ').next().expect("a token");
    drop(first);
    resume(Client::tcp(&place.node), token).wait("FAIL RESUME INVALID_TOKEN");
    resume(place.irc(), token).wait("RESUME SUCCESS ann");
}

#[test]
fn a_new_certificate_is_used_and_nobody_is_cut_off() {
    let mut place = Place::new();
    let mut client = place.irc().register("ann", "");
    let before = place.shown("ircs");
    assert_eq!(place.not_after("ircs"), 3_786_912_000.0);
    let next = place.authority.issue_until(NAME, 2080);
    place.mount.swap(&next);
    for listener in ["ircs", "webs"] {
        eventually("it is shown", || (place.shown(listener) != before).then_some(()));
        assert_eq!(place.not_after(listener), 3_471_292_800.0);
    }
    client.send("PING still");
    client.wait("still");
    client.send("JOIN #lounge");
    client.wait(" 366 ");
}

#[test]
fn a_new_certificate_that_is_broken_is_named_and_the_old_one_stays() {
    let mut place = Place::new();
    let before = place.shown("ircs");
    let (one, other) = (place.authority.issue(NAME), place.authority.issue(NAME));
    place.mount.swap(&Pair { certificate: one.certificate, key: other.key });
    eventually("it is said", || {
        let said = place.node.said();
        let line = said.lines().find(|line| line.contains("listeners.ircs.keyFile"))?;
        assert!(
            line.contains("WARN") && line.contains("tls.key") && line.contains("is not the key"),
            "{line}"
        );
        Some(())
    });
    assert_eq!(place.shown("ircs"), before);
    fs::remove_file(place.mount.file("tls.crt")).expect("removed");
    eventually("it is said", || {
        let said = place.node.said();
        said.lines()
            .any(|line| line.contains("listeners.ircs.certificateFile") && line.contains("No such file"))
            .then_some(())
    });
    assert_eq!(place.shown("ircs"), before);
    fs::write(place.mount.file("tls.crt"), &place.authority.issue(NAME).certificate).expect("written");
    // Its key is still another's; a whole pair heals it.
    place.mount.swap(&place.authority.issue(NAME));
    fs::remove_file(place.mount.file("tls.crt")).expect("removed");
    std::os::unix::fs::symlink("..data/tls.crt", place.mount.file("tls.crt")).expect("linked");
    eventually("it is used", || (place.shown("ircs") != before).then_some(()));
}

#[test]
fn a_certificate_that_expires_is_spoken_of() {
    let place = Place::with(2001, "");
    eventually("it is said", || {
        let said = place.node.said();
        let line = said.lines().find(|line| line.contains("has expired") && line.contains("ircs"))?;
        assert!(line.contains("WARN") && line.contains("tls.crt"), "{line}");
        Some(())
    });
    assert_eq!(place.not_after("webs"), 978_307_200.0);
}

#[test]
fn files_that_cannot_be_used_are_a_wrong_configuration() {
    let data = directory();
    let authority = Authority::new();
    let mount = Mount::new(data.path().join("secret"), &authority.issue(NAME));
    let run = |listeners: &str| {
        let config = data.path().join("node.yaml");
        fs::write(&config, format!("listeners:\n  {listeners}\n")).expect("written");
        let output = program()
            .args(["--irc", "127.0.0.1:0", "--web", "off", "--admin", "127.0.0.1:0"])
            .arg("--config")
            .arg(config)
            .arg("--data")
            .arg(data.path().join("node"))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let pair = |certificate: &Path, key: &Path| {
        format!("certificateFile: '{}', keyFile: '{}'", certificate.display(), key.display())
    };
    let (certificate, key) = (mount.file("tls.crt"), mount.file("tls.key"));
    let missing = data.path().join("nowhere.pem");
    let error = run(&format!("ircs: {{{}}}", pair(&missing, &key)));
    assert!(error.contains("listeners.ircs.certificateFile") && error.contains("nowhere.pem"), "{error}");
    let error = run(&format!("webs: {{{}}}", pair(&certificate, &certificate)));
    assert!(error.contains("listeners.webs.keyFile") && error.contains("tls.crt"), "{error}");
    let error = run(&format!("control: {{{}, clientCaFile: '{}'}}", pair(&certificate, &key), key.display()));
    assert!(error.contains("listeners.control.clientCaFile") && error.contains("tls.key"), "{error}");
    let error = run("ircs: {keyFile: k}");
    assert!(error.contains("listeners.ircs.certificateFile: must be set"), "{error}");
}

#[test]
fn clients_are_told_where_tls_is() {
    let place = Place::with(2090, ", stsDuration: 30d");
    let port = place.node.address("ircs").port();
    let offered = |mut client: Client, version: &str| {
        client.send(&format!("CAP LS{version}"));
        let line = client.wait(" LS ");
        line.split([' ', ':']).find(|word| word.starts_with("sts")).map(str::to_owned)
    };
    assert_eq!(offered(Client::tcp(&place.node), " 302"), Some(format!("sts=port={port}")));
    assert_eq!(offered(Client::tcp(&place.node), ""), None, "it means nothing without its value");
    assert_eq!(offered(place.irc(), " 302"), Some("sts=duration=2592000".to_owned()));
    let page = Client::websocket(&place.node, "text.ircv3.net");
    assert_eq!(offered(page, " 302"), None);
    let mut client = Client::tcp(&place.node);
    client.send("CAP REQ :sts");
    client.wait(" NAK :sts");

    let behind = Place::with(2090, ", stsPort: 7000");
    assert_eq!(offered(Client::tcp(&behind.node), " 302"), Some("sts=port=7000".to_owned()));

    let data = directory();
    let without = Node::start(&data.path().join("node"));
    assert_eq!(offered(Client::tcp(&without), " 302"), None);
    drop(place.data);
}
