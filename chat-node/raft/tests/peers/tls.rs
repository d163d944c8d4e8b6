//! Certificates of both sides.

use std::sync::Arc;

use chat_raft::peers::{CallError, Peers, Tls};
use chat_state::ids::MemberId;
use futures::future;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use crate::nodes::{PATIENCE, echo, me, options, start};

const TWO: MemberId = MemberId(2);
const NAME: &str = "node.chat.test";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("made");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("made");
        let params = CertificateParams::new([NAME.to_owned()]).expect("valid");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        Arc::new(roots)
    }
}

/// Shows a certificate of one authority and trusts those of another.
fn tls(shown: &Authority, trusted: &Authority) -> Tls {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted.roots(), Arc::clone(&provider));
    let (chain, key) = shown.issue();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a pair");
    let (chain, key) = shown.issue();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(trusted.roots())
        .with_client_auth_cert(chain, key)
        .expect("a pair");
    let (server, client) = (Arc::new(server), Arc::new(client));
    Tls {
        server: Arc::new(move || Arc::clone(&server)),
        client: Arc::new(move || Arc::clone(&client)),
        name: NAME,
    }
}

#[tokio::test]
async fn nodes_of_one_authority_speak() {
    let authority = Authority::new();
    let two = start(me(2), Some(tls(&authority, &authority)), options(), echo);
    let one = Peers::new(me(1), Some(tls(&authority, &authority)), options());
    one.know(TWO, vec![two.address.to_string()]);
    let large = bytes::Bytes::from(vec![7; 5 << 20]);
    let calls = (0..500).map(|n| {
        let body = if n % 250 == 0 { large.clone() } else { bytes::Bytes::from(vec![n as u8; 128]) };
        let call = one.call(TWO, body.clone(), PATIENCE);
        async move { assert_eq!(call.await.expect("answered"), body) }
    });
    future::join_all(calls).await;
    let mut losses = one.losses();
    drop(two);
    assert_eq!(losses.recv().await, Ok(TWO));
}

async fn refused(one: Option<Tls>, two: Option<Tls>) -> String {
    let two = start(me(2), two, options(), echo);
    let one = Peers::new(me(1), one, options());
    one.know(TWO, vec![two.address.to_string()]);
    match one.call(TWO, "hello".into(), PATIENCE).await {
        Err(CallError::Refused(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_by_who_dials() {
    let (ours, other) = (Authority::new(), Authority::new());
    let words = refused(Some(tls(&ours, &ours)), Some(tls(&other, &ours))).await;
    assert!(words.contains("no agreement on TLS: invalid peer certificate"), "{words}");
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_by_who_is_dialed() {
    let (ours, other) = (Authority::new(), Authority::new());
    let words = refused(Some(tls(&other, &ours)), Some(tls(&ours, &ours))).await;
    assert!(words.contains("no agreement on TLS: received fatal alert"), "{words}");
}

#[tokio::test]
async fn a_node_without_tls_is_refused() {
    let authority = Authority::new();
    let words = refused(Some(tls(&authority, &authority)), None).await;
    assert!(words.contains("no agreement on TLS"), "{words}");
    let words = refused(None, Some(tls(&authority, &authority))).await;
    assert!(words.contains("what came is no frame of the nodes' protocol"), "{words}");
}
