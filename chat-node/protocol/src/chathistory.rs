//! The CHATHISTORY command (IRCv3 draft/chathistory).

use thiserror::Error;

use crate::msgid::MsgId;
use crate::time::UnixMillis;

/// Where in a history something is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    Time(UnixMillis),
    Message(MsgId),
}

/// What a client asks for. Selectors are always excluded from what is returned; `limit` is at least 1 and at most the
/// server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryRequest<'a> {
    /// The last `limit` before `at`.
    Before { target: &'a str, at: Selector, limit: u32 },
    /// The first `limit` after `at`.
    After { target: &'a str, at: Selector, limit: u32 },
    /// The last `limit` there are, all after `after` where it is given.
    Latest { target: &'a str, after: Option<Selector>, limit: u32 },
    /// About `limit` / 2 on each side of `at`.
    Around { target: &'a str, at: Selector, limit: u32 },
    /// The `limit` nearest to `from` on the way to `to`, which may lie before it.
    Between { target: &'a str, from: Selector, to: Selector, limit: u32 },
    /// The conversations that had a message between two times, in either order.
    Targets { from: UnixMillis, to: UnixMillis, limit: u32 },
}

impl<'a> HistoryRequest<'a> {
    /// The channel or nick; none for `TARGETS`.
    pub const fn target(&self) -> Option<&'a str> {
        match self {
            Self::Before { target, .. }
            | Self::After { target, .. }
            | Self::Latest { target, .. }
            | Self::Around { target, .. }
            | Self::Between { target, .. } => Some(*target),
            Self::Targets { .. } => None,
        }
    }

    /// The subcommand in upper case, the context of every `FAIL CHATHISTORY`.
    pub const fn subcommand(&self) -> &'static str {
        match self {
            Self::Before { .. } => "BEFORE",
            Self::After { .. } => "AFTER",
            Self::Latest { .. } => "LATEST",
            Self::Around { .. } => "AROUND",
            Self::Between { .. } => "BETWEEN",
            Self::Targets { .. } => "TARGETS",
        }
    }
}

/// Why a request cannot be read: `FAIL CHATHISTORY <code()> <context()…> :<text>`, where the text is the error's own.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HistoryError<'a> {
    #[error("A subcommand is missing: BEFORE, AFTER, LATEST, AROUND, BETWEEN or TARGETS")]
    NoSubcommand,
    #[error("Unknown subcommand; use BEFORE, AFTER, LATEST, AROUND, BETWEEN or TARGETS")]
    UnknownSubcommand { given: &'a str },
    #[error("Missing parameters")]
    MissingParams { subcommand: &'static str },
    #[error("Too many parameters")]
    ExcessParams { subcommand: &'static str },
    #[error("Not a message reference; use timestamp=YYYY-MM-DDThh:mm:ss.sssZ or msgid=<id>")]
    BadSelector { subcommand: &'static str, given: &'a str },
    #[error("The limit must be a number from 1")]
    BadLimit { subcommand: &'static str, given: &'a str },
}

impl<'a> HistoryError<'a> {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSubcommand | Self::MissingParams { .. } => "NEED_MORE_PARAMS",
            Self::UnknownSubcommand { .. } => "UNKNOWN_COMMAND",
            Self::ExcessParams { .. } | Self::BadSelector { .. } | Self::BadLimit { .. } => "INVALID_PARAMS",
        }
    }

    /// The parameters between code and text.
    pub fn context(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (first, second): (Option<&'a str>, Option<&'a str>) = match *self {
            Self::NoSubcommand => (None, None),
            Self::UnknownSubcommand { given } => (Some(given), None),
            Self::MissingParams { subcommand } | Self::ExcessParams { subcommand } => {
                (Some(subcommand), None)
            }
            Self::BadSelector { subcommand, given } | Self::BadLimit { subcommand, given } => {
                (Some(subcommand), Some(given))
            }
        };
        first.into_iter().chain(second)
    }
}

/// Reads the parameters of `CHATHISTORY`. A limit above `max_limit` is lowered to it.
pub fn parse<'a>(params: &[&'a str], max_limit: u32) -> Result<HistoryRequest<'a>, HistoryError<'a>> {
    let Some((&given, rest)) = params.split_first() else {
        return Err(HistoryError::NoSubcommand);
    };
    let subcommand = ["BEFORE", "AFTER", "LATEST", "AROUND", "BETWEEN", "TARGETS"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(given))
        .ok_or(HistoryError::UnknownSubcommand { given })?;

    let fields = if subcommand == "BETWEEN" { 4 } else { 3 };
    if rest.len() < fields || rest.iter().any(|param| param.is_empty()) {
        return Err(HistoryError::MissingParams { subcommand });
    }
    if rest.len() > fields {
        return Err(HistoryError::ExcessParams { subcommand });
    }
    let selector =
        |given: &'a str| parse_selector(given).ok_or(HistoryError::BadSelector { subcommand, given });
    let time = |given: &'a str| match selector(given)? {
        Selector::Time(time) => Ok(time),
        Selector::Message(_) => Err(HistoryError::BadSelector { subcommand, given }),
    };
    let given_limit = rest[fields - 1];
    let limit = match given_limit.parse::<u32>() {
        Ok(limit) if limit > 0 => limit.min(max_limit.max(1)),
        _ => return Err(HistoryError::BadLimit { subcommand, given: given_limit }),
    };

    let target = rest[0];
    Ok(match subcommand {
        "BEFORE" => HistoryRequest::Before { target, at: selector(rest[1])?, limit },
        "AFTER" => HistoryRequest::After { target, at: selector(rest[1])?, limit },
        "AROUND" => HistoryRequest::Around { target, at: selector(rest[1])?, limit },
        "BETWEEN" => {
            HistoryRequest::Between { target, from: selector(rest[1])?, to: selector(rest[2])?, limit }
        }
        "TARGETS" => HistoryRequest::Targets { from: time(rest[0])?, to: time(rest[1])?, limit },
        _ => {
            let after = if rest[1] == "*" { None } else { Some(selector(rest[1])?) };
            HistoryRequest::Latest { target, after, limit }
        }
    })
}

fn parse_selector(text: &str) -> Option<Selector> {
    match text.split_once('=')? {
        ("timestamp", time) => time.parse().ok().map(Selector::Time),
        ("msgid", id) => id.parse().ok().map(Selector::Message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<HistoryRequest<'static>, HistoryError<'static>> {
        parse(&text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(), 100)
    }

    #[test]
    fn every_subcommand() {
        let id = Selector::Message("1.0-7".parse().expect("id"));
        let time = UnixMillis(1_546_612_466_123);
        let at = Selector::Time(time);
        for (text, request) in [
            ("before #a msgid=1.0-7 50", HistoryRequest::Before { target: "#a", at: id, limit: 50 }),
            (
                "AFTER bob timestamp=2019-01-04T14:34:26.123Z 1000",
                HistoryRequest::After { target: "bob", at, limit: 100 },
            ),
            ("LATEST #a * 50", HistoryRequest::Latest { target: "#a", after: None, limit: 50 }),
            ("LATEST #a msgid=1.0-7 50", HistoryRequest::Latest { target: "#a", after: Some(id), limit: 50 }),
            ("AROUND #a msgid=1.0-7 1", HistoryRequest::Around { target: "#a", at: id, limit: 1 }),
            (
                "BETWEEN #a msgid=1.0-7 timestamp=2019-01-04T14:34:26.123Z 5",
                HistoryRequest::Between { target: "#a", from: id, to: at, limit: 5 },
            ),
            (
                "TARGETS timestamp=2019-01-04T14:34:26.123Z timestamp=2019-01-04T14:34:26.123Z 5",
                HistoryRequest::Targets { from: time, to: time, limit: 5 },
            ),
        ] {
            assert_eq!(read(text), Ok(request), "{text}");
        }
    }

    #[test]
    fn errors_have_their_code_and_context() {
        for (text, code, context) in [
            ("", "NEED_MORE_PARAMS", &[][..]),
            ("SIDEWAYS #a * 5", "UNKNOWN_COMMAND", &["SIDEWAYS"]),
            ("LATEST #a *", "NEED_MORE_PARAMS", &["LATEST"]),
            ("BETWEEN #a msgid=1.0-1 5", "NEED_MORE_PARAMS", &["BETWEEN"]),
            ("LATEST #a * 5 6", "INVALID_PARAMS", &["LATEST"]),
            ("BEFORE #a * 5", "INVALID_PARAMS", &["BEFORE", "*"]),
            ("BEFORE #a msgid=x 5", "INVALID_PARAMS", &["BEFORE", "msgid=x"]),
            ("BEFORE #a timestamp=yesterday 5", "INVALID_PARAMS", &["BEFORE", "timestamp=yesterday"]),
            ("TARGETS msgid=1.0-1 msgid=1.0-2 5", "INVALID_PARAMS", &["TARGETS", "msgid=1.0-1"]),
            ("LATEST #a * 0", "INVALID_PARAMS", &["LATEST", "0"]),
            ("LATEST #a * -1", "INVALID_PARAMS", &["LATEST", "-1"]),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error.code(), code, "{text}");
            assert_eq!(error.context().collect::<Vec<_>>(), context, "{text}");
        }
    }
}
