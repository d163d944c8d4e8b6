//! What a run can find.

use std::fmt;

/// The promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// What was acknowledged is in the log exactly once, also after any crash.
    Acknowledged,
    /// Positions and numbers without holes; replicas and recovered states equal.
    Replicas,
    /// A subscriber sees everything it may see, once and in order.
    Subscription,
    /// A session reads what it wrote, and never goes back.
    Reading,
    /// An id is stored at most once, and a repeat is answered rightly.
    Deduplication,
    /// A nick has one owner; names, departures and sessions as the rules say.
    Identity,
    /// When the faults have stopped, everything is answered.
    Liveness,
    /// The log opens after every crash, and refuses what rotted.
    Recovery,
    /// The code under test gave up on an invariant of its own.
    Panic,
}

impl Checker {
    pub fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "C1 acknowledged",
            Self::Replicas => "C2 replicas",
            Self::Subscription => "C3 subscription",
            Self::Reading => "C4 reading",
            Self::Deduplication => "C5 deduplication",
            Self::Identity => "C6 identity",
            Self::Liveness => "C7 liveness",
            Self::Recovery => "recovery",
            Self::Panic => "panic",
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub checker: Checker,
    pub what: String,
}

impl Violation {
    pub(crate) fn new(checker: Checker, what: impl Into<String>) -> Self {
        Self { checker, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

/// Ends the function with a violation unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $checker:ident, $($what:tt)+) => {
        if !$holds {
            return Err($crate::violation::Violation::new(
                $crate::violation::Checker::$checker,
                format!($($what)+),
            ).into());
        }
    };
}
pub(crate) use ensure;
