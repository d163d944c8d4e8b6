//! The certificate of a listener: from its files to what handshakes need.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use contract::config::{ControlListener, PeerTls, SecureTcpListener, SecureWebListener};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// Largest file that is read; a Secret holds no more.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A listener that has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Ircs,
    Webs,
    Control,
    Peer,
}

impl Door {
    /// Its key below `listeners`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Ircs => "ircs",
            Self::Webs => "webs",
            Self::Control => "control",
            Self::Peer => "peer.tls",
        }
    }

    /// What is spoken there, for clients that want it confirmed (ALPN).
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Ircs => b"irc",
            Self::Webs | Self::Control => b"http/1.1",
            Self::Peer => b"chat-peer",
        }
    }
}

/// Where a listener's certificate is.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) door: Door,
    certificate: PathBuf,
    key: PathBuf,
    /// What clients' certificates must be signed with, where they need one.
    client_ca: Option<PathBuf>,
}

/// What is wrong with a file; the text names the configuration's key and the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("listeners.{}.{key}: {}: {reason}", door.key(), file.display())]
pub(crate) struct CertificateError {
    door: Door,
    key: FileKey,
    file: PathBuf,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKey {
    Certificate,
    Key,
    ClientCa,
    Ca,
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificateFile",
            Self::Key => "keyFile",
            Self::ClientCa => "clientCaFile",
            Self::Ca => "caFile",
        })
    }
}

/// The bytes of the files; a private key is among them, so they are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What handshakes need.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    /// For the other end of a connection, where this node is it.
    pub(crate) client: Option<Arc<ClientConfig>>,
    /// When the certificate expires, seconds since 1970.
    pub(crate) not_after: i64,
}

impl From<&SecureTcpListener> for Files {
    fn from(listener: &SecureTcpListener) -> Self {
        let SecureTcpListener { certificate_file, key_file, .. } = listener;
        Self {
            door: Door::Ircs,
            certificate: certificate_file.clone(),
            key: key_file.clone(),
            client_ca: None,
        }
    }
}

impl From<&SecureWebListener> for Files {
    fn from(listener: &SecureWebListener) -> Self {
        let SecureWebListener { certificate_file, key_file, .. } = listener;
        Self {
            door: Door::Webs,
            certificate: certificate_file.clone(),
            key: key_file.clone(),
            client_ca: None,
        }
    }
}

impl From<&ControlListener> for Files {
    fn from(listener: &ControlListener) -> Self {
        let ControlListener { certificate_file, key_file, client_ca_file, .. } = listener;
        Self {
            door: Door::Control,
            certificate: certificate_file.clone(),
            key: key_file.clone(),
            client_ca: Some(client_ca_file.clone()),
        }
    }
}

impl From<&PeerTls> for Files {
    fn from(tls: &PeerTls) -> Self {
        let PeerTls { certificate_file, key_file, ca_file } = tls;
        Self {
            door: Door::Peer,
            certificate: certificate_file.clone(),
            key: key_file.clone(),
            client_ca: Some(ca_file.clone()),
        }
    }
}

impl Files {
    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub(crate) fn read(&self) -> Result<Contents, CertificateError> {
        let read = |key, path| read(path).map_err(|reason| self.error(key, reason));
        Ok(Contents {
            certificate: read(FileKey::Certificate, &self.certificate)?,
            key: read(FileKey::Key, &self.key)?,
            client_ca: self.client_ca.as_ref().map(|path| read(self.ca_key(), path)).transpose()?,
        })
    }

    /// Whether these are a certificate, its key, and a CA.
    pub(crate) fn load(&self, contents: &Contents) -> Result<Loaded, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let (identity, not_after) = self.identity(contents, &provider)?;
        let identity = Arc::new(SingleCertAndKey::from(identity));
        let client = match &contents.client_ca {
            Some(ca) if self.door == Door::Peer => Some(self.client(ca, &identity, &provider)?),
            _ => None,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let builder = match &contents.client_ca {
            Some(ca) => builder.with_client_cert_verifier(self.client_verifier(ca, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(identity);
        config.alpn_protocols = vec![self.door.protocol().to_vec()];
        // Who comes back usually finds another node, or one that started anew: nothing is kept for resumption.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), client, not_after })
    }

    fn identity(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
    ) -> Result<(CertifiedKey, i64), CertificateError> {
        let chain = self.certificates(FileKey::Certificate, &contents.certificate)?;
        let of_certificate = |reason| self.error(FileKey::Certificate, reason);
        let (_, first) = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|error| of_certificate(format!("its first certificate cannot be read: {error}")))?;
        let not_after = first.validity().not_after.timestamp();

        let of_key = |reason| self.error(FileKey::Key, reason);
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| of_key("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned()))?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| of_key(format!("its private key cannot be used: {error}")))?;
        let identity = CertifiedKey::new(chain, key);
        identity.keys_match().map_err(|_| {
            of_key(format!("is not the key of the certificate in {}", self.certificate.display()))
        })?;
        Ok((identity, not_after))
    }

    fn client_verifier(
        &self,
        ca: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
        WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots(ca)?), provider)
            .build()
            .map_err(|error| self.error(self.ca_key(), format!("cannot be used: {error}")))
    }

    fn roots(&self, ca: &[u8]) -> Result<RootCertStore, CertificateError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(self.ca_key(), ca)? {
            roots.add(certificate).map_err(|error| {
                self.error(self.ca_key(), format!("a certificate in it cannot be used: {error}"))
            })?;
        }
        Ok(roots)
    }

    /// The same certificate for the other end of a connection.
    fn client(
        &self,
        ca: &[u8],
        identity: &Arc<SingleCertAndKey>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<ClientConfig>, CertificateError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(self.roots(ca)?)
            .with_client_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = vec![self.door.protocol().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn ca_key(&self) -> FileKey {
        if self.door == Door::Peer { FileKey::Ca } else { FileKey::ClientCa }
    }

    /// At least one.
    fn certificates(
        &self,
        key: FileKey,
        pem: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(key, format!("is not PEM: {error}")))?;
        if found.is_empty() {
            let reason = "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned();
            return Err(self.error(key, reason));
        }
        Ok(found)
    }

    fn error(&self, key: FileKey, reason: String) -> CertificateError {
        let file = match key {
            FileKey::Certificate => self.certificate.clone(),
            FileKey::Key => self.key.clone(),
            FileKey::ClientCa | FileKey::Ca => self.client_ca.clone().unwrap_or_default(),
        };
        CertificateError { door: self.door, key, file, reason }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let made = rcgen::generate_simple_self_signed(["chat.test".to_owned()]).expect("made");
            let place = Self(tempfile::tempdir().expect("a directory"));
            place.put("tls.crt", &made.cert.pem());
            place.put("tls.key", &made.signing_key.serialize_pem());
            place.put("ca.crt", &made.cert.pem());
            place
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).expect("written");
        }

        fn load(&self) -> Result<Loaded, String> {
            let path = |name| self.0.path().join(name);
            let files = Files {
                door: Door::Control,
                certificate: path("tls.crt"),
                key: path("tls.key"),
                client_ca: Some(path("ca.crt")),
            };
            files.read().and_then(|contents| files.load(&contents)).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_pair_is_taken_with_its_expiry() {
        let loaded = Place::new().load().expect("a pair");
        // What rcgen writes unless told otherwise: the year 4096.
        assert_eq!(loaded.not_after, 67_090_118_400);
    }

    #[test]
    fn what_is_wrong_is_named_with_key_and_file() {
        let other = rcgen::generate_simple_self_signed(["other.test".to_owned()]).expect("made");
        let other_key = other.signing_key.serialize_pem();
        let garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        for (file, text, key, says) in [
            ("tls.crt", "", "certificateFile", "holds no certificate"),
            ("tls.crt", "-----BEGIN CERTIFICATE-----\nMIIB", "certificateFile", "is not PEM"),
            ("tls.crt", garbage, "certificateFile", "its first certificate cannot be read"),
            ("tls.key", "hello", "keyFile", "holds no private key"),
            ("tls.key", &*other_key, "keyFile", "is not the key of the certificate in"),
            ("ca.crt", "", "clientCaFile", "holds no certificate"),
            ("ca.crt", garbage, "clientCaFile", "a certificate in it cannot be used"),
        ] {
            let place = Place::new();
            place.put(file, text);
            let error = place.load().expect_err(says);
            assert!(error.starts_with(&format!("listeners.control.{key}: ")), "{error}");
            assert!(error.contains(&format!("{file}: ")) && error.contains(says), "{error}");
        }
        let place = Place::new();
        fs::remove_file(place.0.path().join("tls.key")).expect("removed");
        let error = place.load().expect_err("missing");
        assert!(error.contains("listeners.control.keyFile") && error.contains("No such file"), "{error}");
    }
}
