//! Certificates of a room's authority. Pure: the same authority and window give the same bytes, signatures included.

use contract::config::PEER_NAME;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Authority, NODE_NAME, Window, keys::Holder};

/// Name in the operator's certificates, for people who look into one.
const OPERATOR_NAME: &str = "operator.chatroom.dev";

/// What a node's control port or its peer port needs; PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeFiles {
    pub certificate: String,
    pub key: String,
    /// Whose certificates the node believes.
    pub authorities: String,
}

/// A certificate of the operator's.
pub(super) struct ClientIdentity {
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// For control ports.
    pub fn node_files(&self, now: Timestamp) -> NodeFiles {
        let window = self.window(now);
        let issuer = self.issuer(Purpose::Control, window);
        let key = self.key(Holder::Node, window);
        let params = leaf(window, NODE_NAME, &[ExtendedKeyUsagePurpose::ServerAuth]);
        NodeFiles {
            certificate: signed(&params, &key, &issuer).pem(),
            key: key.serialize_pem(),
            // What the operator shows before a node has seen the newest.
            authorities: issuer.pem() + &self.issuer(Purpose::Control, window.previous()).pem(),
        }
    }

    /// For the nodes among each other: good for both ends. Nodes see a new certificate at different times, and neither end
    /// can tell what the other has seen: so each believes the authority of the next window before anybody shows it.
    pub fn peer_files(&self, now: Timestamp) -> NodeFiles {
        let window = self.window(now);
        let issuer = self.issuer(Purpose::Peers, window);
        let key = self.key(Holder::Peer, window);
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let believed = [window.next(), window, window.previous()];
        NodeFiles {
            certificate: signed(&leaf(window, PEER_NAME, &both), &key, &issuer).pem(),
            key: key.serialize_pem(),
            authorities: believed.map(|window| self.issuer(Purpose::Peers, window).pem()).concat(),
        }
    }

    /// The operator's certificate of a window. A node's is of no use in its place, nor the other way round.
    pub(super) fn client_identity(&self, window: Window) -> ClientIdentity {
        let issuer = self.issuer(Purpose::Control, window);
        let key = self.key(Holder::Operator, window);
        let params = leaf(window, OPERATOR_NAME, &[ExtendedKeyUsagePurpose::ClientAuth]);
        ClientIdentity {
            authority: issuer.der().clone(),
            certificate: signed(&params, &key, &issuer).der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn issuer(&self, purpose: Purpose, window: Window) -> CertifiedIssuer<'static, KeyPair> {
        let (what, holder) = match purpose {
            Purpose::Control => ("control of a chat room", Holder::Authority),
            Purpose::Peers => ("nodes of a chat room", Holder::PeerAuthority),
        };
        // The number tells the authorities of a room apart where a node lists whom it trusts.
        let mut params = params(window, &format!("{what}, window {}", window.number()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        CertifiedIssuer::self_signed(params, self.key(holder, window)).expect("all names in it are ASCII")
    }
}

/// What an authority signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Control,
    Peers,
}

fn leaf(window: Window, name: &str, usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let alternative = CertificateParams::new([name.to_owned()]).expect("the name is ASCII");
    let mut params = params(window, name);
    params.subject_alt_names = alternative.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params
}

fn params(window: Window, name: &str) -> CertificateParams {
    let (not_before, not_after) = window.validity();
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = epoch + not_before;
    params.not_after = epoch + not_after;
    params
}

fn signed(
    params: &CertificateParams,
    key: &KeyPair,
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> rcgen::Certificate {
    params.signed_by(key, issuer).expect("all names in it are ASCII")
}
