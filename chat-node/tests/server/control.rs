//! The control port: `/v1/*` for clients with a certificate.

use std::fs;

use contract::status::{NodeState, NodeStatus};
use tempfile::TempDir;

use crate::{
    node::{Node, directory, eventually},
    pki::{self, Authority, Mount, Pair, client_config, https},
};

const NAME: &str = "node.test";

struct Place {
    data: TempDir,
    authority: Authority,
    node: Node,
}

impl Place {
    fn new() -> Self {
        let data = directory();
        let authority = Authority::new();
        let keys = Mount::new(data.path().join("secret"), &authority.issue(NAME)).keys();
        let ca = data.path().join("ca.crt");
        fs::write(&ca, &authority.certificate).expect("written");
        let yaml = format!(
            "listeners: {{control: {{address: '127.0.0.1:0', {keys}, clientCaFile: '{}'}}}}\n",
            ca.display()
        );
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
