//! Round trips per second between two nodes in threads of their own, over loopback.
//!
//! `cargo run -p chat-raft --example peer_echo [seconds per row]`

use std::{
    error::Error,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chat_raft::peers::{Me, PeerOptions, Peers, Tls, serve};
use chat_state::ids::MemberId;
use futures::{StreamExt, stream::FuturesUnordered};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpListener;

const BODY_BYTES: usize = 128;
const WITHIN: Duration = Duration::from_secs(10);
const NAME: &str = "node.chat.test";

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |seconds| seconds.parse())?;
    let build = if cfg!(debug_assertions) { "with debug assertions" } else { "release" };
    println!("bodies of {BODY_BYTES} bytes, built {build}");
    println!("{:>6} {:>10} {:>16} {:>10}", "over", "in flight", "round trips/s", "each");
    for (over, tls) in [("TCP", None), ("TLS", Some(tls()?))] {
        let server = peers(2, tls.clone());
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?.to_string();
        listener.set_nonblocking(true)?;
        std::thread::spawn(move || {
            runtime().block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                serve(listener, server, |_, body| async { body }).await;
            });
        });
        runtime().block_on(async {
            let client = peers(1, tls);
            client.know(MemberId(2), vec![address]);
            for in_flight in [1, 64, 512] {
                let (trips, took) = measure(&client, in_flight, Duration::from_secs(seconds)).await?;
                let rate = f64::from(trips) / took.as_secs_f64();
                let each = took * in_flight / trips;
                println!("{over:>6} {in_flight:>10} {rate:>16.0} {each:>10.1?}");
            }
            Ok::<_, Box<dyn Error>>(())
        })?;
    }
    Ok(())
}

async fn measure(peers: &Peers, in_flight: u32, time: Duration) -> Result<(u32, Duration), Box<dyn Error>> {
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let call = || peers.call(MemberId(2), body.clone(), WITHIN);
    call().await?;
    let began = Instant::now();
    let mut trips = 0;
    let mut calls: FuturesUnordered<_> = (0..in_flight).map(|_| call()).collect();
    while let Some(answer) = calls.next().await {
        answer?;
        trips += 1;
        if began.elapsed() < time {
            calls.push(call());
        }
    }
    Ok((trips, began.elapsed()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn peers(member: u64, tls: Option<Tls>) -> Peers {
    let me = Me {
        room: "bench".into(),
        member: MemberId(member),
        name: format!("node-{member}"),
        advertise: format!("node-{member}.invalid:7000"),
    };
    Peers::new(me, tls, PeerOptions::default())
}

fn tls() -> Result<Tls, Box<dyn Error>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &authority)?;
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let roots = Arc::new(roots);
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain.clone(), key.clone_key())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let (server, client) = (Arc::new(server), Arc::new(client));
    Ok(Tls {
        server: Arc::new(move || Arc::clone(&server)),
        client: Arc::new(move || Arc::clone(&client)),
        name: NAME,
    })
}
