//! The cluster's certificates and kubeconfigs. Made once per cluster, removed with it; nothing outside trusts them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::layout::{API_PORT, CONTROL_PLANE_ADDRESS, pki_dir};

/// A certificate authority whose files are `NAME.crt` and `NAME.key`.
#[derive(Debug)]
pub(crate) struct Authority {
    name: &'static str,
}

/// Who a certificate is for.
#[derive(Debug, Default)]
pub(crate) struct Subject<'a> {
    pub common_name: &'a str,
    pub organization: Option<&'a str>,
    pub dns_names: &'a [&'a str],
    pub addresses: &'a [IpAddr],
}

impl Authority {
    /// Loads the authority, or makes it the first time.
    pub(crate) fn ensure(name: &'static str) -> Result<Self> {
        let authority = Self { name };
        if !(crt(name).exists() && key(name).exists()) {
            let key_pair = KeyPair::generate()?;
            let certificate = authority.params()?.self_signed(&key_pair)?;
            write_private(&key(name), &key_pair.serialize_pem())?;
            fs::write(crt(name), certificate.pem())?;
        }
        Ok(authority)
    }

    /// Issues `NAME.crt` and `NAME.key`, unless they exist.
    pub(crate) fn issue(&self, name: &str, subject: &Subject<'_>) -> Result<()> {
        if crt(name).exists() && key(name).exists() {
            return Ok(());
        }
        let mut params = CertificateParams::new(
            subject.dns_names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(),
        )?;
        params.subject_alt_names.extend(subject.addresses.iter().map(|&address| SanType::IpAddress(address)));
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let ca_key = KeyPair::from_pem(&fs::read_to_string(key(self.name))?)
            .with_context(|| format!("{} is not a private key", key(self.name).display()))?;
        // The authority's parameters are constant, so its key alone brings the issuer back.
        let issuer = Issuer::new(self.params()?, ca_key);
        let key_pair = KeyPair::generate()?;
        let certificate = params.signed_by(&key_pair, &issuer)?;
        write_private(&key(name), &key_pair.serialize_pem())?;
        fs::write(crt(name), certificate.pem())?;
        Ok(())
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("devcluster {}", self.name));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    }
}

/// The pair with which service-account tokens are signed and checked.
pub(crate) fn ensure_token_keys() -> Result<()> {
    let public = pki_dir().join("tokens.pub");
    if !(key("tokens").exists() && public.exists()) {
        let key_pair = KeyPair::generate()?;
        write_private(&key("tokens"), &key_pair.serialize_pem())?;
        fs::write(public, key_pair.public_key_pem())?;
    }
    Ok(())
}

/// Writes the kubeconfig of the holder of certificate `name`.
pub(crate) fn write_kubeconfig(path: &Path, name: &str) -> Result<()> {
    let data = |path: PathBuf| fs::read(path).map(|bytes| STANDARD.encode(bytes));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "devcluster",
        "clusters": [{"name": "devcluster", "cluster": {
            "server": format!("https://{CONTROL_PLANE_ADDRESS}:{API_PORT}"),
            "certificate-authority-data": data(crt("ca"))?,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": data(crt(name))?,
            "client-key-data": data(key(name))?,
        }}],
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": name}}],
    });
    write_private(path, &serde_json::to_string_pretty(&config)?)
}

pub(crate) fn crt(name: &str) -> PathBuf {
    pki_dir().join(format!("{name}.crt"))
}

pub(crate) fn key(name: &str) -> PathBuf {
    pki_dir().join(format!("{name}.key"))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
