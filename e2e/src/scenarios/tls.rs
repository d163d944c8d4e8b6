//! A room that people reach over TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::World;
use crate::room::{Log, NAMESPACE, Wish};

const NAME: &str = "vault";
const SECRET: &str = "vault-certificate";
/// What the certificate is for.
const HOST: &str = "chat.example.org";
const WITHIN: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn room_serves_over_tls(world: &mut World) -> Result<String> {
    let room = world.room(NAMESPACE, NAME);
    let wish = Wish {
        name: NAME,
        namespace: NAMESPACE,
        image: world.node_image.clone(),
        topic: "Behind TLS".into(),
        replicas: Some(1),
        log: Log::OwnVolume,
        memory_limit: "256Mi",
        storage_class: "local-path",
        paused: false,
    };
    let listeners = format!(
        "  listeners:\n    ircs: {{certificateSecret: {SECRET}}}\n    webs: {{certificateSecret: {SECRET}}}\n"
    );
    world.cluster.apply(&(wish.manifest() + &listeners)).await?;
    // Nobody made the Secret yet: the room says so by name.
    room.wait_condition("Ready", "False", &[SECRET, "tls.crt"], WITHIN).await?;
    let (manifest, authority) = certificate()?;
    world.cluster.apply(&manifest).await?;
    room.wait_ready(WITHIN).await?;

    let address = *room.addresses("ircs", &[]).await?.first().context("no Kubernetes node is up")?;
    let mut irc = connect(address, &authority).await?;
    irc.write_all(b"NICK keeper\r\nUSER keeper 0 * :Keeper\r\n").await?;
    let welcome = until(&mut irc, " 376 ").await?;
    ensure!(welcome.contains(" 001 keeper "), "no welcome over TLS: {welcome}");
    irc.write_all(b"JOIN #lounge\r\nWHOIS keeper\r\n").await?;
    let whois = until(&mut irc, " 318 ").await?;
    ensure!(whois.contains(" 671 keeper "), "WHOIS does not say that the connection is secure: {whois}");

    let address = *room.addresses("webs", &[]).await?.first().context("no Kubernetes node is up")?;
    let mut page = connect(address, &authority).await?;
    page.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let page = until(&mut page, "</html>").await?;
    ensure!(page.starts_with("HTTP/1.1 200"), "the page over TLS: {page}");
    world.cluster.kubectl(&["delete", "chatroom", NAME, "--namespace", NAMESPACE, "--wait"]).await?;
    // It is its owner's, and stays when the room goes.
    world.cluster.kubectl(&["delete", "secret", SECRET, "--namespace", NAMESPACE]).await?;
    Ok("IRC and the page, by a certificate of a Secret that came later than the room".into())
}

/// The Secret's manifest, and the certificate to trust.
fn certificate() -> Result<(String, CertificateDer<'static>)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([HOST.to_owned()])?.self_signed(&key)?;
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
    });
    Ok((manifest.to_string(), certificate.der().clone()))
}

async fn connect(address: SocketAddr, authority: &CertificateDer<'static>) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = timeout(ANSWER, TcpStream::connect(address)).await.context("no answer")??;
    let name = ServerName::try_from(HOST)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(ANSWER, handshake).await.context("the handshake takes too long")?.context("no handshake")
}

/// What comes until it holds this.
async fn until(stream: &mut TlsStream<TcpStream>, end: &str) -> Result<String> {
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains(end) {
        let read = timeout(ANSWER, stream.read(&mut buffer))
            .await
            .with_context(|| format!("no {end:?} within {ANSWER:?}, only {heard}"))??;
        ensure!(read > 0, "closed before {end:?}: {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    Ok(heard)
}
