//! What an error of the server, or none, means to a log.

use chat_log::{log::Reason, shared::store::StoreError};
use redis::RedisError;

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
    match error.code() {
        Some("OOM") => StoreError::Refused(Reason::StoreFull, said),
        Some("MISCONF") => StoreError::Refused(Reason::StoreBroken, said),
        Some("READONLY" | "NOPERM" | "NOREPLICAS") => StoreError::Refused(Reason::StoreReadOnly, said),
        // Whether its history is still ours is for the reader to find out.
        Some("LINEAGE") => StoreError::Unavailable(format!(
            "the store at {place} goes on under another lineage than this node knows"
        )),
        Some("NOAUTH" | "WRONGPASS") => {
            StoreError::Unavailable(format!("the store at {place} refuses the user or password of its URL"))
        }
        _ => StoreError::Unavailable(format!("the store at {place}: {said}")),
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
