//! The parameters of WHO, with the fields of WHOX (IRCv3 WHOX).

/// `WHO <mask> [o][%<fields>[,<token>]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhoRequest<'a> {
    /// A channel, a nick or a mask; `*` for everybody, also where the client wrote `0` or nothing.
    pub mask: &'a str,
    /// `o`: operators of the server alone.
    pub who: Who,
    /// Present: answer with `RPL_WHOSPCRPL` (354). Absent: with `RPL_WHOREPLY` (352).
    pub whox: Option<Whox<'a>>,
}

/// Whom a WHO asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Everyone,
    Operators,
}

/// The fields asked for, and the token sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whox<'a> {
    fields: u16,
    /// One to three digits; `0` where the client sent none or something else.
    pub token: &'a str,
}

/// A field of a WHOX reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WhoField {
    Token,
    Channel,
    User,
    /// `255.255.255.255` where the address is not told.
    Ip,
    Host,
    Server,
    Nick,
    Flags,
    /// Hops to the server, `0`; not in the specification, but asked for by clients in use.
    Distance,
    IdleSeconds,
    /// `0` where there is none.
    Account,
    /// `n/a`; as for `Distance`.
    OpLevel,
    RealName,
}

impl WhoField {
    /// Every field, in the order of the reply.
    pub const ALL: [Self; 13] = [
        Self::Token,
        Self::Channel,
        Self::User,
        Self::Ip,
        Self::Host,
        Self::Server,
        Self::Nick,
        Self::Flags,
        Self::Distance,
        Self::IdleSeconds,
        Self::Account,
        Self::OpLevel,
        Self::RealName,
    ];

    pub const fn letter(self) -> char {
        match self {
            Self::Token => 't',
            Self::Channel => 'c',
            Self::User => 'u',
            Self::Ip => 'i',
            Self::Host => 'h',
            Self::Server => 's',
            Self::Nick => 'n',
            Self::Flags => 'f',
            Self::Distance => 'd',
            Self::IdleSeconds => 'l',
            Self::Account => 'a',
            Self::OpLevel => 'o',
            Self::RealName => 'r',
        }
    }
}

impl Whox<'_> {
    /// The fields in the order of the reply, whatever order they were asked in.
    pub fn fields(&self) -> impl Iterator<Item = WhoField> + use<> {
        let fields = self.fields;
        WhoField::ALL.into_iter().filter(move |field| fields & (1 << *field as u8) != 0)
    }
}

impl<'a> WhoRequest<'a> {
    /// Reads the parameters; nothing a client can send is an error.
    pub fn parse(params: &[&'a str]) -> Self {
        let mask = match params.first() {
            None | Some(&("" | "0")) => "*",
            Some(mask) => mask,
        };
        let options = params.get(1).copied().unwrap_or("");
        let (flags, extended) = match options.split_once('%') {
            Some((flags, extended)) => (flags, Some(extended)),
            None => (options, None),
        };
        let who = if flags.contains(['o', 'O']) { Who::Operators } else { Who::Everyone };
        Self { mask, who, whox: extended.map(Whox::parse) }
    }
}

impl<'a> Whox<'a> {
    fn parse(extended: &'a str) -> Self {
        let (letters, token) = extended.split_once(',').unwrap_or((extended, ""));
        let fields = WhoField::ALL
            .into_iter()
            .filter(|field| letters.contains(field.letter()))
            .fold(0, |fields, field| fields | 1 << field as u8);
        let good = matches!(token.len(), 1..=3) && token.bytes().all(|byte| byte.is_ascii_digit());
        Self { fields, token: if good { token } else { "0" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(whox: Whox<'_>) -> String {
        whox.fields().map(WhoField::letter).collect()
    }

    #[test]
    fn plain_who() {
        let plain = |mask, who| WhoRequest { mask, who, whox: None };
        assert_eq!(WhoRequest::parse(&["#a"]), plain("#a", Who::Everyone));
        assert_eq!(WhoRequest::parse(&["*", "o"]), plain("*", Who::Operators));
        assert_eq!(WhoRequest::parse(&["0"]), plain("*", Who::Everyone));
        assert_eq!(WhoRequest::parse(&[]), plain("*", Who::Everyone));
    }

    #[test]
    fn fields_come_in_the_order_of_the_reply() {
        let request = WhoRequest::parse(&["#a", "%afnt,42"]);
        let whox = request.whox.expect("extended");
        assert_eq!((letters(whox).as_str(), whox.token), ("tnfa", "42"));
        // As WeeChat asks.
        let request = WhoRequest::parse(&["#a", "o%cuhsnfdarzz"]);
        assert_eq!(request.who, Who::Operators);
        assert_eq!(letters(request.whox.expect("extended")), "cuhsnfdar");
    }

    #[test]
    fn a_bad_token_is_zero() {
        for options in ["%t", "%t,", "%t,1234", "%t,1a", "%t,-1"] {
            assert_eq!(WhoRequest::parse(&["#a", options]).whox.expect("extended").token, "0", "{options}");
        }
    }
}
