//! What is wrong in a configuration file, in the words of who wrote it rather than of who reads YAML.

use serde_yaml::Error;

use super::rules::range_of;

/// A key and what is wrong with it.
pub(super) struct Mistake {
    pub(super) key: String,
    pub(super) reason: String,
}

/// `path` is where the reader was.
pub(super) fn explain(path: Option<&str>, error: &Error) -> Mistake {
    let error = error.without_snippet();
    let line = error.location().map_or_else(String::new, |at| format!(" (line {})", at.line()));
    // Where the key itself is what could not be read, the path ends in a question mark.
    let path = path.unwrap_or_default();
    let path = path.strip_suffix('?').unwrap_or(path).trim_end_matches('.');
    let within = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let (key, reason) = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            (within(key), "is there twice: keep one of them".to_owned())
        }
        Error::DuplicateMappingKey { key: None, .. } => {
            (path.to_owned(), "has a key twice: keep one of them".to_owned())
        }
        Error::SerdeUnknownField { expected, .. } => {
            (path.to_owned(), format!("there is no such key; there are {}", expected.join(", ")))
        }
        Error::SerdeMissingField { field, .. } => (within(field), "must be set".to_owned()),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (path.to_owned(), format!("is `{variant}`, must be one of {}", expected.join(", ")))
        }
        Error::InvalidScalar { .. } | Error::NullIntoString { .. } => (path.to_owned(), value_of(path)),
        Error::Unexpected { expected, .. } => (path.to_owned(), shape(path, expected)),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            let above = path.rsplit_once('.').map_or(path, |(above, _)| above);
            (above.to_owned(), "must have one key: keep one of them".to_owned())
        }
        Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => {
            (path.to_owned(), "must have one key".to_owned())
        }
        Error::MultipleDocuments { .. } => {
            (String::new(), "holds several documents, one after each `---`: keep one".to_owned())
        }
        Error::UnknownAnchor { .. } => {
            let reason =
                "the name after `*` stands nowhere after `&`; quote the value if the `*` is a part of it";
            (path.to_owned(), reason.to_owned())
        }
        Error::Message { msg, .. } if msg.contains("socket address") => {
            (path.to_owned(), "must be an IP address and a port, such as 0.0.0.0:6667".to_owned())
        }
        // What our own types say of a value.
        Error::Message { msg, .. } if !path.is_empty() => (path.to_owned(), msg.clone()),
        other => {
            let text = other.to_string();
            let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text);
            (path.to_owned(), format!("is not YAML that can be read: {text}"))
        }
    };
    let key = if key.is_empty() { "the file".to_owned() } else { key };
    Mistake { key, reason: format!("{reason}{line}") }
}

/// What a single value must be.
fn value_of(key: &str) -> String {
    match range_of(key) {
        Some((low, high)) => format!("must be a whole number from {low} to {high}"),
        None => "must be another kind of value".to_owned(),
    }
}

fn shape(key: &str, expected: &str) -> String {
    if range_of(key).is_some() {
        return value_of(key);
    }
    if expected.contains("mapping") {
        "must be keys with values, such as `key: value`".to_owned()
    } else if expected.contains("sequence") {
        "must be a list, such as `[first, second]`".to_owned()
    } else {
        "must be a single value, neither a list nor keys with values".to_owned()
    }
}
