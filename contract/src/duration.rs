//! Durations as people write them: `90s`, `5m`, `12h`, `7d`; whole numbers, one unit.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in whole seconds, written `30s`, `5m`, `12h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    seconds: u64,
}

/// Longest accepted duration: ten years. Keeps every sum of a time stamp and a span far from overflow.
pub const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// The regular expression that a written [`Span`] matches; used in JSON schemas.
pub const PATTERN: &str = "^[0-9]{1,9}[smhd]$";

impl Span {
    pub const fn from_secs(seconds: u64) -> Self {
        Self { seconds }
    }

    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.seconds {
            0 => (0, 's'),
            n if n % 86_400 == 0 => (n / 86_400, 'd'),
            n if n % 3_600 == 0 => (n / 3_600, 'h'),
            n if n % 60 == 0 => (n / 60, 'm'),
            n => (n, 's'),
        };
        write!(f, "{count}{unit}")
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a duration: write a whole number and one of s, m, h, d, such as 90s or 7d"
            )
        };
        let unit = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            _ => return Err(wrong()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        if seconds > MAX_SECONDS {
            return Err(format!("`{text}` is too long: at most 3650d"));
        }
        Ok(Self { seconds })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_alike() {
        for text in ["0s", "90s", "5m", "12h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("120s".parse::<Span>().unwrap().to_string(), "2m");
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "5", "m", "-1s", "1.5h", "5 m", "5w", "99999999999999999999s", "9999d"] {
            let message = text.parse::<Span>().unwrap_err();
            assert!(message.contains("7d") || message.contains("3650d"), "{text}: {message}");
        }
    }
}
