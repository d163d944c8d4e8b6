//! The operator's end of a TLS connection to a node.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{
    ClientConfig, DistinguishedName, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::{default_provider, sign},
    sign::CertifiedKey,
};
use tokio_rustls::TlsConnector;

use super::{Authority, certificates::ClientIdentity};

/// For connections to nodes of the room, now. Nodes that were not told of the newest window yet, or for a while, are
/// understood as long as their certificates hold.
pub fn connector(authority: &Authority, now: Timestamp) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    let mut own = Vec::new();
    for window in authority.window(now).in_force() {
        let ClientIdentity { authority, certificate, key } = authority.client_identity(window);
        let key = sign::any_supported_type(&key).expect("ring knows Ed25519");
        trusted.add(authority).expect("an authority that was just made");
        let issuer = trusted.subjects().pop().expect("it was just added");
        own.push((issuer, Arc::new(CertifiedKey::new(vec![certificate], key))));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(trusted)
        .with_client_cert_resolver(Arc::new(OwnCertificates(own)));
    TlsConnector::from(Arc::new(config))
}

/// The operator's certificates with those who signed them, newest first.
#[derive(Debug)]
struct OwnCertificates(Vec<(DistinguishedName, Arc<CertifiedKey>)>);

impl ResolvesClientCert for OwnCertificates {
    /// The newest that the node says it trusts; else the newest, so that the node's refusal is what is told.
    fn resolve(&self, trusted: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let known = self.0.iter().find(|(issuer, _)| trusted.contains(&issuer.as_ref()));
        known.or(self.0.first()).map(|(_, certificate)| Arc::clone(certificate))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
