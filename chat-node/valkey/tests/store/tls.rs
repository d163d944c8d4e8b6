//! A store over TLS: who is believed, who is not and in which words, and certificates that change.

use std::{fs, path::PathBuf, time::Duration};

use chat_log::{
    log::{Durability, Reason},
    shared::store::Store,
};
use chat_valkey::{
    OpenError, Options,
    test_server::{TestServer, free_port},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use crate::nodes::{Node, open, options};

/// What `docs/guide.md` says that a room's user needs.
const RIGHTS: &str = "~chatroom:* +info +config|get +acl|dryrun +eval +evalsha +script|load +time +exists +hset +hget \
    +hmget +hgetall +hincrby +hdel +xadd +xrange +xread +xtrim +get +set +expire +persist +unlink +sadd +srem +smembers";

/// A certificate and its key, PEM.
struct Pair {
    certificate: String,
    key: String,
}

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("made");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self { params, key, certificate }
    }

    /// For `localhost`, until the first day of this year.
    fn issue_until(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("made");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn key(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A server that speaks TLS on one port, and to the test alone on another.
struct Secure {
    files: TempDir,
    server: TestServer,
    port: u16,
}

impl Secure {
    fn start(authority: &Authority) -> Self {
        Self::start_with(&authority.issue_until(2090), authority, "no")
    }

    fn start_with(pair: &Pair, authority: &Authority, auth_clients: &str) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let port = free_port();
        let server = TestServer::start_with(&[
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("certificate", &pair.certificate),
            "--tls-key-file",
            &file("key", &pair.key),
            "--tls-ca-cert-file",
            &file("ca", &authority.certificate),
            "--tls-auth-clients",
            auth_clients,
        ]);
        server.write_url(&format!("rediss://localhost:{port}"));
        Self { files, server, port }
    }

    fn options(&self, ca: Option<&str>) -> Options {
        let ca_file = ca.map(|ca| self.write("trusted", ca));
        let connect_within = Duration::from_secs(2);
        Options { ca_file, connect_within, ..options(self.server.url_file()) }
    }

    /// At once, as a mounted Secret changes.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let next = self.files.path().join("next");
        fs::write(&next, text).expect("written");
        let path = self.files.path().join(name);
        fs::rename(next, &path).expect("renamed");
        path
    }

    /// The server's next life shows another certificate.
    fn restart_with(&mut self, pair: &Pair) {
        self.server.kill();
        self.write("certificate", &pair.certificate);
        self.write("key", &pair.key);
        self.server.run();
    }

    fn refusal(&self, ca: Option<&str>) -> OpenError {
        open(self.options(ca)).err().expect("refused")
    }
}

#[test]
fn a_user_with_the_rights_of_the_guide_keeps_a_room_over_tls() {
    let ours = Authority::new();
    let secure = Secure::start(&ours);
    let mut admin = secure.server.client().expect("a connection");
    let acl = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("market")
        .arg(&["on", ">sesame&more"])
        .arg(RIGHTS.split_whitespace().collect::<Vec<_>>())
        .query(&mut admin);
    let () = acl.expect("a user");
    let url = |password: &str| format!("rediss://market:{password}@localhost:{}/0", secure.port);
    secure.server.write_url(&url("sesame"));
    let refusal = secure.refusal(Some(&ours.certificate)).to_string();
    assert!(refusal.ends_with("refuses the user or password of its URL"), "{refusal}");
    secure.server.write_url(&url("sesame%26more"));
    let options = secure.options(Some(&ours.certificate));
    let (opened, _runtime) = open(options.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened.store.durability(), Durability::LocalFsync);
    let mut node = Node::start(options.clone(), 1);
    // The second snapshot keeps a piece of the first.
    for _ in 0..2 {
        node.store_one();
        node.save_snapshot();
    }
    drop(node);
    let (opened, _runtime) = open(options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened.snapshots.of.len(), 1);
    // What the user was refused meanwhile, be it noticed or not.
    let refused: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(&mut admin).expect("its log");
    let refused: Vec<_> =
        refused.iter().map(|one| format!("{one:?}")).filter(|one| !one.contains("auth")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn who_cannot_be_trusted_is_refused_in_words() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let trusted = Some(&*ours.certificate);
    let secure = Secure::start(&ours);
    let (port, plain) = (secure.port, secure.server.port());
    let url = |url: String| secure.server.write_url(&url);
    let waits = |ca: Option<&str>, words: &str| match secure.refusal(ca) {
        OpenError::Unavailable(said) => assert!(said.contains(words), "{said}"),
        OpenError::Unusable(said) => panic!("for good: {said}"),
    };
    let refuses = |ca: Option<&str>, words: &str| match secure.refusal(ca) {
        OpenError::Unusable(said) => assert!(said.contains(words), "{said}"),
        OpenError::Unavailable(said) => panic!("until it changes: {said}"),
    };
    waits(Some(&theirs.certificate), "no authority signed which is trusted here");
    waits(None, "no authority signed which is trusted here");
    for damaged in [
        "",
        "nothing of the kind",
        &ours.key(),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &ours.certificate.replace("END CERTIFICATE", "END"),
    ] {
        refuses(Some(damaged), "does not hold a certificate (PEM)");
    }
    url(format!("rediss://127.0.0.1:{port}"));
    waits(trusted, "for another name than the one in its URL");
    url(format!("rediss://localhost:{port}/#insecure"));
    refuses(trusted, "ends in #insecure");
    url(format!("redis://localhost:{plain}"));
    refuses(trusted, "write rediss:// (two s)");
    url(format!("rediss://localhost:{plain}"));
    waits(trusted, "If not, the URL begins with redis://");
    url(format!("redis://localhost:{port}"));
    waits(None, "If so, the URL begins with rediss://");
}

#[test]
fn a_certificate_that_is_over_is_not_taken() {
    let ours = Authority::new();
    let secure = Secure::start_with(&ours.issue_until(2020), &ours, "no");
    let refusal = secure.refusal(Some(&ours.certificate)).to_string();
    assert!(refusal.contains("not taken: certificate expired"), "{refusal}");
}

#[test]
fn a_store_that_asks_for_certificates_is_told_of_in_words() {
    let ours = Authority::new();
    let secure = Secure::start_with(&ours.issue_until(2090), &ours, "yes");
    let refusal = secure.refusal(Some(&ours.certificate)).to_string();
    assert!(refusal.contains("set tls-auth-clients no"), "{refusal}");
}

#[test]
fn a_certificate_that_is_renewed_needs_nothing_of_the_nodes() {
    let ours = Authority::new();
    let mut secure = Secure::start(&ours);
    let mut node = Node::start(secure.options(Some(&ours.certificate)), 1);
    node.store_one();
    secure.restart_with(&ours.issue_until(2091));
    node.store_one();
}

#[test]
fn an_authority_is_replaced_by_way_of_both() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut secure = Secure::start(&old);
    let mut node = Node::start(secure.options(Some(&old.certificate)), 1);
    node.store_one();
    // Whom nobody trusts yet is not written to, and no node ends for it.
    secure.restart_with(&new.issue_until(2090));
    node.wait_until_read_only(Some(Reason::StoreUnreachable));
    secure.write("trusted", &format!("{}{}", old.certificate, new.certificate));
    node.wait_until_read_only(None);
    node.store_one();
    secure.write("trusted", &new.certificate);
    node.store_one();
}

#[test]
fn a_mistake_in_the_files_ends_no_node() {
    let ours = Authority::new();
    let mut secure = Secure::start(&ours);
    let mut node = Node::start(secure.options(Some(&ours.certificate)), 1);
    node.store_one();
    let url = fs::read_to_string(secure.server.url_file()).expect("read");
    secure.server.write_url("rediss//mistyped");
    secure.write("trusted", "nothing");
    // Connections that stand go on, and new ones wait.
    node.store_one();
    secure.server.kill();
    secure.server.run();
    node.wait_until_read_only(Some(Reason::StoreUnreachable));
    secure.server.write_url(url.trim());
    secure.write("trusted", &ours.certificate);
    node.wait_until_read_only(None);
    node.store_one();
}
