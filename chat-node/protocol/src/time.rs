//! Wall-clock time as the protocol writes it: `2026-01-01T00:00:00.000Z` (IRCv3 server-time).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

const DAY_MS: u64 = 86_400_000;

/// 9999-12-31T23:59:59.999Z: past it a year has no four digits.
const LAST_MS: u64 = 253_402_300_799_999;

/// A text is not a time as server-time has it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a time of the form YYYY-MM-DDThh:mm:ss.sssZ")]
pub struct BadTime;

impl UnixMillis {
    /// Whole seconds since 1970, as numerics 317, 329 and 333 have them.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// Years past 9999 are written as the last moment of 9999.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.min(LAST_MS);
        let (year, month, day) = date_of(ms / DAY_MS);
        let in_day = ms % DAY_MS;
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Takes any number of digits of a second, or none; what is finer than a millisecond is dropped. A leap second
/// (`:60`) is the one after it.
impl FromStr for UnixMillis {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let (head, zone) = text.as_bytes().split_at_checked(19).ok_or(BadTime)?;
        let pattern = b"dddd-dd-ddTdd:dd:dd";
        let shaped =
            |(byte, want): (&u8, &u8)| if *want == b'd' { byte.is_ascii_digit() } else { byte == want };
        if !head.iter().zip(pattern).all(shaped) {
            return Err(BadTime);
        }
        let fraction = match zone.strip_suffix(b"Z").ok_or(BadTime)? {
            [] => &[][..],
            [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => digits,
            _ => return Err(BadTime),
        };
        let milli = (0..3).fold(0, |value, place| {
            value * 10 + u64::from(fraction.get(place).map_or(0, |digit| digit - b'0'))
        });
        let number = |from: usize, to: usize| {
            head[from..to].iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'))
        };
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        if year < 1970
            || !(1..=12).contains(&month)
            || !(1..=days_of_month(year, month)).contains(&day)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return Err(BadTime);
        }
        let seconds = hour * 3600 + minute * 60 + second;
        Ok(Self(days_before(year, month, day) * DAY_MS + seconds * 1000 + milli))
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + is_leap(year) as u64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both directions count in years that begin on 1 March, so that the leap day is a year's last; an era is the 400
// years after which the calendar repeats. The constant is the days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
const ERA_DAYS: u64 = 146_097;

/// Days from 1970-01-01 to a date not before it.
const fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// The date `days` after 1970-01-01.
const fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_234_567_890_123, "2009-02-13T23:31:30.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixMillis(ms)));
        }
        assert_eq!(UnixMillis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn fractions_of_any_length() {
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("1970-01-01T00:00:01.123456Z", 1123),
            ("1970-01-01T00:00:60.000Z", 60_000),
        ] {
            assert_eq!(text.parse(), Ok(UnixMillis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "*",
            "2026-01-01",
            "2026-01-01T00:00:00.000",
            "2026-01-01T00:00:00.Z",
            "2026-01-01 00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-02-29T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "+026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00.000é",
        ] {
            assert_eq!(text.parse::<UnixMillis>(), Err(BadTime), "{text}");
        }
    }
}
