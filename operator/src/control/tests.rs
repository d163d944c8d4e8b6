//! What nodes and operator think of each other's certificates.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn root() -> Root {
    Root::new([7; 32])
}

fn lounge() -> Authority {
    root().authority("default", "lounge-uid")
}

/// The first moment of a window of the room, about now: handshakes look at the real clock.
fn start_of_a_window(authority: &Authority) -> Timestamp {
    let now = Timestamp::now();
    let (before, _) = authority.window(now).validity();
    let start = Timestamp::from_second(i64::try_from(before.as_secs()).unwrap()).unwrap() + DAY;
    assert!(authority.window(start) == authority.window(now));
    start
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// A node's end, as a node configures it.
pub(crate) fn acceptor(files: &NodeFiles) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let mut clients = RootCertStore::empty();
    for authority in certificates(&files.authorities) {
        clients.add(authority).unwrap();
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            certificates(&files.certificate),
            PrivateKeyDer::from_pem_slice(files.key.as_bytes()).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// A byte there and back; the first thing that went wrong otherwise.
async fn meet(node: &NodeFiles, operator: TlsConnector) -> Result<(), String> {
    meet_as(NODE_NAME, node, operator).await
}

async fn meet_as(name: &'static str, node: &NodeFiles, operator: TlsConnector) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = acceptor(node);
    let served = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await
    });
    let asked = async {
        let mut stream = operator.connect(ServerName::try_from(name).unwrap(), near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let asked = asked.await;
    served.await.unwrap().map_err(|error| format!("the node: {error}"))?;
    asked.map(|byte| assert_eq!(byte, 7)).map_err(|error| format!("the operator: {error}"))
}

#[test]
fn the_same_root_room_and_window_give_the_same_bytes_and_others_give_others() {
    let start = start_of_a_window(&lounge());
    let files = lounge().node_files(start);
    assert!(files == lounge().node_files(start));
    assert!(files == lounge().node_files(start + DAY * 29), "for the whole window");
    for (what, other) in [
        ("next window", lounge().node_files(start + DAY * 30)),
        ("another room", root().authority("default", "plaza-uid").node_files(start)),
        ("another namespace", root().authority("other", "lounge-uid").node_files(start)),
        ("another root", Root::new([8; 32]).authority("default", "lounge-uid").node_files(start)),
    ] {
        assert!(files.key != other.key && files.certificate != other.certificate, "{what}");
        assert!(files.authorities != other.authorities, "{what}");
    }
}

#[test]
fn rooms_change_at_different_times() {
    let now = Timestamp::now();
    let starts: std::collections::BTreeSet<_> = (0..100)
        .map(|number| root().authority("default", &format!("uid-{number}")).window(now).validity().0)
        .collect();
    assert_eq!(starts.len(), 100);
}

#[test]
fn windows_follow_each_other_and_their_certificates_overlap() {
    let authority = lounge();
    let start = start_of_a_window(&authority);
    let now = authority.window(start);
    assert_eq!(authority.window(start - SignedDuration::from_secs(1)), now.previous());
    assert_eq!(authority.window(start + DAY * 30).previous(), now);
    let [newest, _, oldest] = now.in_force();
    assert_eq!(newest, now);
    let end_of_window = u64::try_from((start + DAY * 30).as_second()).unwrap();
    assert!(oldest.validity().1.as_secs() >= end_of_window, "in force until the window is over");
}

#[test]
fn neither_root_nor_authority_is_shown() {
    assert_eq!(format!("{:?} {:?}", root(), lounge()), "Root Authority");
}

#[tokio::test]
async fn a_node_and_its_operator_know_each_other() {
    let now = Timestamp::now();
    meet(&lounge().node_files(now), connector(&lounge(), now)).await.unwrap();
}

#[tokio::test]
async fn they_know_each_other_across_the_change_of_a_window() {
    let room = lounge();
    // Certificates of the window to come hold a day before it begins, not yet in the midst of the one before; so the
    // change that is played is the last one.
    let start = start_of_a_window(&room);
    let before = start - DAY;
    for (what, node, operator) in [
        ("the node has not seen the new one yet", before, start),
        ("the room was paused over a whole window", start - DAY * 31, start),
    ] {
        meet(&room.node_files(node), connector(&room, operator)).await.expect(what);
    }
    let error = meet(&room.node_files(start - DAY * 61), connector(&room, start)).await.unwrap_err();
    assert!(error.contains("CertificateExpired"), "{error}");
}

#[tokio::test]
async fn another_room_s_operator_and_another_room_s_node_are_refused() {
    let now = Timestamp::now();
    let other = root().authority("default", "plaza-uid");
    meet(&lounge().node_files(now), connector(&other, now)).await.expect_err("a stranger's node");
    // Trusts the node, shows a certificate of another room.
    let mixed = mixed(&lounge(), &other, now);
    let error = meet(&lounge().node_files(now), mixed).await.unwrap_err();
    assert!(error.contains("the node"), "{error}");
}

/// Who trusts one room's nodes and shows another room's certificate.
fn mixed(trusts: &Authority, shows: &Authority, now: Timestamp) -> TlsConnector {
    let shown = shows.client_identity(shows.window(now));
    client(trusts, vec![shown.certificate], shown.key, now)
}

fn client(
    trusts: &Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    now: Timestamp,
) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    trusted.add(trusts.client_identity(trusts.window(now)).authority).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_client_auth_cert(chain, key);
    TlsConnector::from(Arc::new(config.unwrap()))
}

#[tokio::test]
async fn a_node_s_own_certificate_opens_no_other_node() {
    let now = Timestamp::now();
    let files = lounge().node_files(now);
    let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes()).unwrap();
    let node = client(&lounge(), certificates(&files.certificate), key, now);
    let error = meet(&files, node).await.unwrap_err();
    assert!(error.contains("the node"), "{error}");
}

/// A node's calling end, as a node configures it.
fn calls(files: &NodeFiles) -> TlsConnector {
    let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes()).unwrap();
    client_of(&files.authorities, certificates(&files.certificate), key)
}

/// One node calls another.
async fn call(from: &NodeFiles, to: &NodeFiles) -> Result<(), String> {
    meet_as(contract::config::PEER_NAME, to, calls(from)).await
}

#[tokio::test]
async fn nodes_of_a_room_know_each_other_at_both_ends_and_through_every_renewal() {
    let start = start_of_a_window(&lounge());
    let (now, next, last) = (
        lounge().peer_files(start),
        lounge().peer_files(start + DAY * 30),
        lounge().peer_files(start - DAY * 30),
    );
    for (from, to) in [(&now, &now), (&last, &now), (&now, &last)] {
        call(from, to).await.unwrap();
    }
    // Who was renewed first is believed by those who were not; its certificate holds a day before its window.
    assert_eq!(certificates(&now.authorities)[0], certificates(&next.authorities)[1]);
    assert_eq!(certificates(&now.authorities)[1], certificates(&next.authorities)[2]);
}

#[tokio::test]
async fn no_stranger_passes_for_a_node_not_even_the_operator_or_the_control_port() {
    let now = Timestamp::now();
    let files = lounge().peer_files(now);
    let other = root().authority("default", "plaza-uid").peer_files(now);
    call(&other, &files).await.expect_err("another room's node calls");
    call(&files, &other).await.expect_err("another room's node is called");
    let identity = lounge().client_identity(lounge().window(now));
    let operator = client_of(&files.authorities, vec![identity.certificate], identity.key);
    let error = meet_as(contract::config::PEER_NAME, &files, operator).await.unwrap_err();
    assert!(error.contains("the node"), "{error}");
    // Nor does a node's certificate for its peers open a control port.
    let error = meet(&lounge().node_files(now), calls(&files)).await.unwrap_err();
    assert!(error.contains("UnknownIssuer") || error.contains("the node"), "{error}");
    assert_ne!(files.key, lounge().node_files(now).key);
}

fn client_of(
    authorities: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    for authority in certificates(authorities) {
        trusted.add(authority).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_client_auth_cert(chain, key);
    TlsConnector::from(Arc::new(config.unwrap()))
}
