//! TLS as a guest speaks it: whom it trusts, and the handshake.

use std::{
    fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{CheckError, is_timeout};

/// The server's port speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Certificates (PEM): the server's own, or of the authority that signed it. Those of the system if left out.
    pub(crate) trust: Option<PathBuf>,
    /// What the certificate is for, if it is not for the server's host.
    pub(crate) name: Option<String>,
}

/// Ready to connect.
pub(crate) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    server: String,
}

impl Trust {
    /// `server` is `host:port`.
    pub(crate) fn new(tls: &Tls, server: &str) -> Result<Self, CheckError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let name = tls.name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
        let Ok(parsed) = ServerName::try_from(name.to_owned()) else {
            return Err(CheckError::Name { name: name.to_owned() });
        };
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(tls.trust.as_deref(), &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the versions that are safe")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name: parsed, server: server.to_owned() })
    }

    /// Over a connection whose timeouts are set.
    pub(crate) fn shake_hands(
        &self,
        stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, CheckError> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .expect("what is offered by default can be offered");
        let mut stream = StreamOwned::new(connection, stream);
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => Ok(stream),
            Err(source) => Err(self.in_words(source)),
        }
    }

    fn in_words(&self, source: io::Error) -> CheckError {
        let server = self.server.clone();
        match source.get_ref().and_then(|error| error.downcast_ref()) {
            Some(Error::InvalidCertificate(why)) => CheckError::NotTrusted { server, why: why.clone() },
            _ if is_timeout(&source) => CheckError::Timeout { step: "the TLS handshake" },
            _ => CheckError::Tls { server, source },
        }
    }
}

/// Trusts what authorities signed, and what it was given itself.
#[derive(Debug)]
struct Verifier {
    given: Vec<CertificateDer<'static>>,
    /// None where no certificate that was given can be an authority's.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(trust: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, CheckError> {
        let (given, of_system) = match trust {
            Some(file) => (read(file)?, Vec::new()),
            None => (Vec::new(), rustls_native_certs::load_native_certs().certs),
        };
        if given.is_empty() && of_system.is_empty() {
            return Err(match trust {
                Some(file) => CheckError::NoCertificates { file: file.to_owned() },
                None => CheckError::NoSystemCertificates,
            });
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(given.iter().chain(&of_system).cloned());
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok();
        Ok(Self { given, authorities, provider: Arc::clone(provider) })
    }
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, CheckError> {
    let unreadable = |source| CheckError::Certificates { file: file.to_owned(), source };
    let pem = fs::read(file).map_err(unreadable)?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.given.iter().any(|given| given == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(authorities) = &self.authorities else { return Err(CertificateError::UnknownIssuer.into()) };
        authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
