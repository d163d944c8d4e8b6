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
        Self::of(format!("reading {kind} {name}"), source)
    }

    pub fn write(kind: &str, name: &str, source: kube::Error) -> Self {
        Self::of(format!("writing {kind} {name}"), source)
    }

    fn of(doing: String, source: kube::Error) -> Self {
        match source {
            // We wrote what cannot be sent, or cannot read what a kind of ours is.
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                Self::Bug(format!("{doing}: {source}"))
            }
            source => Self::Transient { doing, source },
        }
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

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: "no".into(), ..Status::default() }))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_refused_is_told() {
        for code in [409, 429, 500, 503] {
            assert_eq!(refusal(&answer(code)), None, "{code}");
            assert_eq!(Error::write("Service", "lounge", answer(code)).class(), "transient");
        }
        for code in [400, 403, 422] {
            assert_eq!(refusal(&answer(code)).as_deref(), Some("no"), "{code}");
        }
    }

    #[test]
    fn an_object_that_cannot_be_written_down_is_a_bug() {
        let error = serde_json::from_str::<u8>("x").unwrap_err();
        let error = Error::write("Service", "lounge", kube::Error::SerdeError(error));
        assert_eq!(error.class(), "bug");
        assert!(error.to_string().contains("writing Service lounge"), "{error}");
    }
}
