//! What an error of the server, or none, means to a log.

use std::{error::Error, io, sync::Arc};

use chat_log::{log::Reason, shared::store::StoreError};
use redis::{ErrorKind, RedisError};
use rustls::{AlertDescription, CertificateError};

/// Why a store cannot be used at all, in words for who configures it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// It does not help until somebody changes something.
    #[error("{0}")]
    Unusable(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Broken(reason) => Self::Unusable(reason),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Unavailable(reason) => Self::Unavailable(reason),
            OpenError::Unusable(reason) => Self::Broken(reason),
        }
    }
}

/// Sorts an error of a command. Only an answer that says so is a refusal; everything else leaves it open.
pub(crate) fn sort(error: &RedisError, place: &str) -> StoreError {
    let said = said(error);
    if let Some(of_tls) = of_tls(error) {
        return StoreError::Unavailable(format!("the store at {place} {}", in_words(of_tls)));
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return refuses_us(place);
    }
    match error.code() {
        Some("OOM") => StoreError::Refused(Reason::StoreFull, said),
        Some("MISCONF") => StoreError::Refused(Reason::StoreBroken, said),
        Some("READONLY" | "NOPERM" | "NOREPLICAS") => StoreError::Refused(Reason::StoreReadOnly, said),
        // Whether its history is still ours is for the reader to find out.
        Some("LINEAGE") => StoreError::Unavailable(format!(
            "the store at {place} goes on under another lineage than this node knows"
        )),
        Some("NOAUTH" | "WRONGPASS") => refuses_us(place),
        _ => StoreError::Unavailable(format!("the store at {place}: {said}")),
    }
}

fn refuses_us(place: &str) -> StoreError {
    StoreError::Unavailable(format!("the store at {place} refuses the user or password of its URL"))
}

/// Sorts why there is no connection. Who speaks TLS to a port without it, or the reverse, learns of it by silence or a
/// reset alone.
pub(crate) fn cannot_connect(error: &RedisError, place: &str, tls: bool) -> OpenError {
    match sort(error, place) {
        StoreError::Unavailable(said) if tls && error.is_timeout() => OpenError::Unavailable(format!(
            "{said}. Is it a port for TLS? If not, the URL begins with redis://"
        )),
        StoreError::Unavailable(said)
            if !tls && error.is_connection_dropped() && !error.is_connection_refusal() =>
        {
            OpenError::Unavailable(format!(
                "{said}. Is it a port for TLS? If so, the URL begins with rediss://"
            ))
        }
        error => error.into(),
    }
}

/// What is wrong with TLS, if that is what is wrong.
fn of_tls(error: &RedisError) -> Option<&rustls::Error> {
    let inner = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    inner.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

/// What the store does, as a sentence goes on that names it.
fn in_words(error: &rustls::Error) -> String {
    use CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "shows a certificate that no authority signed which is trusted here: name the certificate of the one that \
             did (caFile; caFrom in a ChatRoom)"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(why @ (NotValidForName | NotValidForNameContext { .. })) => {
            format!("shows a certificate for another name than the one in its URL: {why}")
        }
        rustls::Error::InvalidCertificate(why) => format!("shows a certificate that is not taken: {why}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "asks its clients for certificates, and nodes have none: set tls-auth-clients no, and let a password tell \
             who they are"
                .to_owned()
        }
        other => format!("does not come to terms over TLS: {other}"),
    }
}

/// The error's own words; they hold no secret, since the URL is not among them.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (None, Some(detail)) => detail.to_owned(),
        _ => error.to_string(),
    }
}
