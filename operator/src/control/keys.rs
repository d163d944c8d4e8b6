//! Keys that follow from the operator's secret. Pure.

use std::fmt;

use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ED25519};
use ring::hkdf;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::Window;

/// Bytes of a secret that keys are derived from, and of an Ed25519 key.
pub(super) const SECRET_BYTES: usize = 32;

/// Sets these keys apart from others that might be derived from the same secret, and from those of a later scheme.
const SALT: &[u8] = b"chatroom.dev/control/1";

/// A private key in PKCS #8 is these bytes and the 32 of the key itself (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The secret that the authorities of all rooms follow from.
#[derive(Clone, PartialEq, Eq)]
pub struct Root([u8; SECRET_BYTES]);

impl Root {
    pub fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self(secret)
    }

    /// The authority of a room. The namespace counts, so that no pod elsewhere passes for the room's by naming its uid.
    pub fn authority(&self, namespace: &str, uid: &str) -> Authority {
        Authority(derive(&self.0, &["room", namespace, uid]))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root")
    }
}

/// What the keys of one room follow from.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority([u8; SECRET_BYTES]);

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Authority,
    Node,
    Operator,
    /// Who signs for nodes among each other, and for nobody else.
    PeerAuthority,
    Peer,
}

impl Authority {
    pub fn window(&self, now: Timestamp) -> Window {
        let [a, b, c, d, ..] = derive(&self.0, &["shift"]);
        Window::at(now, u32::from_be_bytes([a, b, c, d]))
    }

    pub(super) fn key(&self, holder: Holder, window: Window) -> KeyPair {
        let holder = match holder {
            Holder::Authority => "authority",
            Holder::Node => "node",
            Holder::Operator => "operator",
            Holder::PeerAuthority => "peer authority",
            Holder::Peer => "peer",
        };
        let seed = derive(&self.0, &["key", holder, &window.number().to_string()]);
        let key = PrivatePkcs8KeyDer::from([ED25519_PKCS8.as_slice(), &seed].concat());
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).expect("any 32 bytes are a key")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// HKDF-SHA256 (RFC 5869) for this purpose. None of its words may hold a `/`, so that no two purposes are one.
fn derive(secret: &[u8; SECRET_BYTES], purpose: &[&str]) -> [u8; SECRET_BYTES] {
    let purpose = purpose.join("/");
    let mut key = [0; SECRET_BYTES];
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
        .extract(secret)
        .expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut key))
        .expect("as many bytes are asked for as the hash has");
    key
}
