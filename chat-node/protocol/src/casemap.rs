//! Case folding as `CASEMAPPING=ascii` has it: A–Z are a–z, all else is itself.

use std::fmt;
use std::sync::Arc;

/// A name in its folded form, for comparing and as a key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Folded(Arc<str>);

impl Folded {
    pub fn new(name: &str) -> Self {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self(name.to_ascii_lowercase().into())
        } else {
            Self(name.into())
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether two names are the same name.
pub fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

impl From<&str> for Folded {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Folded {
    fn from(mut name: String) -> Self {
        name.make_ascii_lowercase();
        Self(name.into())
    }
}

impl From<Folded> for String {
    fn from(name: Folded) -> Self {
        name.as_str().to_owned()
    }
}

impl AsRef<str> for Folded {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_letters_fold() {
        assert_eq!(Folded::new("#RuSt[]\\É").as_str(), "#rust[]\\É");
        assert_eq!(Folded::from("A".to_owned()), Folded::new("a"));
        assert_ne!(Folded::new("a{"), Folded::new("A["));
        assert!(same("Nick", "nICK") && !same("é", "É"));
    }
}
