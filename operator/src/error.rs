//! Why a reconcile could not finish, and what that means for the next one.
//!
//! Errors of users are no errors here: they become conditions and wait for a change of the spec.

/// An error of a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server could not be asked or told; it is tried again with growing delays.
    #[error("{doing}: {source}")]
    Transient { doing: String, source: kube::Error },
    /// A mistake of ours.
    #[error("this is a bug of chatroom-operator: {0}")]
    Bug(String),
}

impl Error {
    pub fn read(kind: &str, name: &str, source: kube::Error) -> Self {
        Self::Transient { doing: format!("reading {kind} {name}"), source }
    }

    pub fn write(kind: &str, name: &str, source: kube::Error) -> Self {
        Self::Transient { doing: format!("writing {kind} {name}"), source }
    }

    /// Word for the metric.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Transient { .. } => "transient",
            Self::Bug(_) => "bug",
        }
    }
}

/// What the API server says when it will not take an object, however often it is offered: the author of the spec can
/// mend it. `None` for everything that may pass by itself.
pub fn refusal(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(status.message.clone()),
        _ => None,
    }
}
