//! The control port: `/v1/*` for clients with a certificate.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
};

use contract::status::{NodeState, NodeStatus};
use tempfile::TempDir;

use crate::{
    node::{Node, directory, eventually, http, program},
    pki::{self, Authority, Mount, Pair, client_config, https},
};

const NAME: &str = "node.test";

struct Place {
    data: TempDir,
    authority: Authority,
    node: Node,
}

/// The configuration's lines for a control port at this address.
fn listeners(data: &Path, authority: &Authority, address: SocketAddr) -> String {
    let keys = Mount::new(data.join("secret"), &authority.issue(NAME)).keys();
    let ca = data.join("ca.crt");
    fs::write(&ca, &authority.certificate).expect("written");
    format!("listeners: {{control: {{address: '{address}', {keys}, clientCaFile: '{}'}}}}\n", ca.display())
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl Place {
    fn new() -> Self {
        let data = directory();
        let authority = Authority::new();
        let yaml = listeners(data.path(), &authority, SocketAddr::from(([127, 0, 0, 1], 0)));
        let node = Node::start_with(&data.path().join("node"), &yaml);
        Self { data, authority, node }
    }

    fn ask(&self, own: Option<&Pair>, path: &str) -> std::io::Result<(u16, String)> {
        let config = client_config(&self.authority.certificate, own);
        https(pki::connect(self.node.address("control"), &config, NAME), path)
    }
}

#[test]
fn status_is_for_those_with_a_certificate() {
    let place = Place::new();
    let operator = place.authority.issue("operator.test");
    let (status, answer) = place.ask(Some(&operator), "/v1/status").expect("an answer");
    assert_eq!(status, 200);
    let body = answer.lines().find(|line| line.starts_with('{')).expect("a body");
    let told: NodeStatus = serde_json::from_str(body).expect("a status");
    assert_eq!(told.state, NodeState::Serving);

    let stranger = Authority::new().issue("operator.test");
    for (who, own) in [("nobody", None), ("a stranger", Some(&stranger))] {
        assert!(place.ask(own, "/v1/status").is_err(), "{who}");
    }
}

#[test]
fn each_port_has_its_pages_alone() {
    let place = Place::new();
    let (status, body) = place.node.ask("/v1/status");
    assert!(status == 404 && body.contains("listeners.control"), "{status} {body}");
    assert_eq!(place.node.ask("/v1/anything").0, 404);
    assert_eq!(place.node.ask("/readyz").0, 200);
    assert!(place.node.metric("chat_certificate_not_after_seconds{listener=\"control\"}") > 0.0);
    let operator = place.authority.issue("operator.test");
    for path in ["/readyz", "/livez", "/metrics", "/"] {
        assert_eq!(place.ask(Some(&operator), path).expect("an answer").0, 404, "{path}");
    }
}

#[test]
fn a_new_authority_counts_from_then_on() {
    let place = Place::new();
    let next = Authority::new();
    let (old, new) = (place.authority.issue("operator.test"), next.issue("operator.test"));
    assert!(place.ask(Some(&new), "/v1/status").is_err());
    fs::write(place.data.path().join("ca.crt"), &next.certificate).expect("written");
    eventually("the new one is known", || place.ask(Some(&new), "/v1/status").ok());
    assert!(place.ask(Some(&old), "/v1/status").is_err());
}

/// Ends with this value.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_that_waits_for_its_store_says_so_to_those_with_a_certificate() {
    let data = directory();
    let authority = Authority::new();
    let (control, admin, nobody) = (free_address(), free_address(), free_address());
    let url = data.path().join("url");
    fs::write(&url, format!("redis://{nobody}/0\n")).expect("written");
    let config = data.path().join("node.yaml");
    let listeners = listeners(data.path(), &authority, control);
    let log = format!("log: {{valkey: {{shards: 1, room: r, urlFile: '{}'}}}}\n", url.display());
    fs::write(&config, listeners + &log).expect("written");
    let child = program()
        .args(["--irc", "127.0.0.1:0", "--web", "off", "--admin", &admin.to_string(), "--config"])
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let _waiting = Waiting(child);
    eventually("it listens", || TcpStream::connect(control).ok());
    let operator = authority.issue("operator.test");
    let ask =
        |own| https(pki::connect(control, &client_config(&authority.certificate, own), NAME), "/v1/status");
    let (status, answer) = ask(Some(&operator)).expect("an answer");
    assert!(status == 200 && answer.contains("waiting for the store"), "{status} {answer}");
    assert!(ask(None).is_err());
    let get = |path| http(admin, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).0;
    assert_eq!((get("/v1/status"), get("/livez"), get("/readyz")), (404, 200, 503));
}
