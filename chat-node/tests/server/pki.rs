//! Certificates of tests, and TLS as clients speak it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::node::PATIENCE;

pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("made");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self { params, key, certificate }
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2090)
    }

    /// Until the first day of this year.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("made");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// A folder of PEM files as Kubernetes mounts a Secret: links into a folder that is replaced as a whole.
pub(crate) struct Mount {
    path: PathBuf,
    version: u32,
}

impl Mount {
    pub(crate) fn new(path: PathBuf, pair: &Pair) -> Self {
        fs::create_dir(&path).expect("made");
        let mut mount = Self { path, version: 0 };
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mount.path.join(name))
                .expect("linked");
        }
        mount.swap(pair);
        mount
    }

    pub(crate) fn swap(&mut self, pair: &Pair) {
        self.version += 1;
        let folder = format!("..{}", self.version);
        fs::create_dir(self.path.join(&folder)).expect("made");
        fs::write(self.path.join(&folder).join("tls.crt"), &pair.certificate).expect("written");
        fs::write(self.path.join(&folder).join("tls.key"), &pair.key).expect("written");
        let next = self.path.join("..next");
        std::os::unix::fs::symlink(&folder, &next).expect("linked");
        fs::rename(next, self.path.join("..data")).expect("renamed");
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `certificateFile` and `keyFile` for a listener's configuration.
    pub(crate) fn keys(&self) -> String {
        format!(
            "certificateFile: '{}', keyFile: '{}'",
            self.file("tls.crt").display(),
            self.file("tls.key").display()
        )
    }
}

/// A client that trusts this authority, and shows a certificate if it has one.
pub(crate) fn client_config(authority: &str, own: Option<&Pair>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(authority));
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    })
}

/// A client that trusts this authority and knows this version alone.
pub(crate) fn client_config_of(
    authority: &str,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version");
    Arc::new(config.with_root_certificates(roots(authority)).with_no_client_auth())
}

fn roots(authority: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a root");
    roots
}

/// Connected, the handshake still to come.
pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Secure {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("valid"), stream)
}

/// What the server shows who it is with, in a handshake of its own.
pub(crate) fn shown(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Option<Vec<u8>> {
    let mut stream = connect(address, config, name);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

/// One request over TLS; the status and everything after it, or why there was no answer.
pub(crate) fn https(mut stream: Secure, path: &str) -> std::io::Result<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: chat.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    Ok((status, answer))
}
