//! What the configuration's files say of the store: its URL, and whom its certificate must be signed by.

use std::{fs::File, io::Read, path::Path};

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{error::OpenError, link::Options};

/// Largest file a URL or a certificate is read from.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The files' content. It is compared, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Given {
    url: String,
    ca: Option<Vec<u8>>,
}

/// Where to connect, and how.
pub(crate) struct Way {
    pub(crate) client: Client,
    /// Host and port, for messages.
    pub(crate) place: String,
    pub(crate) tls: bool,
}

impl Given {
    pub(crate) fn read(options: &Options) -> Result<Self, OpenError> {
        let url = String::from_utf8(read(&options.url_file)?).map_err(|_| no_url(options))?;
        let ca = options.ca_file.as_deref().map(read).transpose()?;
        Ok(Self { url: url.trim().to_owned(), ca })
    }

    /// `options` name the files, for messages.
    pub(crate) fn way(&self, options: &Options) -> Result<Way, OpenError> {
        let info = self.url.as_str().into_connection_info().map_err(|_| no_url(options))?;
        let place = info.addr().to_string();
        let url_file = options.url_file.display();
        let tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(OpenError::Unusable(format!(
                    "the URL in {url_file} ends in #insecure, but a store's certificate is always checked: take that \
                     away, and name its authority's certificate (caFile; caFrom in a ChatRoom)"
                )));
            }
            ConnectionAddr::TcpTls { .. } => true,
            _ => false,
        };
        let client = match &self.ca {
            Some(ca) if tls => trusting(info, ca, options)?,
            Some(_) => {
                return Err(OpenError::Unusable(format!(
                    "the URL in {url_file} is one without TLS, and there are certificates to check the store's \
                     against: write rediss:// (two s), or name no certificates"
                )));
            }
            None => Client::open(info).map_err(|_| no_url(options))?,
        };
        Ok(Way { client, place, tls })
    }
}

fn trusting(info: ConnectionInfo, ca: &[u8], options: &Options) -> Result<Client, OpenError> {
    let mut roots = RootCertStore::empty();
    // What is no certificate is not added, and then there are none.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca).map_while(Result::ok));
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca.to_vec()) };
    let client = if roots.is_empty() { None } else { Client::build_with_tls(info, certificates).ok() };
    client.ok_or_else(|| {
        let file = options.ca_file.as_deref().unwrap_or(Path::new("")).display();
        OpenError::Unusable(format!(
            "{file} does not hold a certificate (PEM) that the store's can be checked against: put there that of the \
             authority which signed it"
        ))
    })
}

fn no_url(options: &Options) -> OpenError {
    OpenError::Unusable(format!(
        "{} does not hold the URL of a store: write redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, in \
         one line (special characters of the password as %XX)",
        options.url_file.display()
    ))
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| OpenError::Unavailable(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}
