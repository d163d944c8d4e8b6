//! Capabilities: names, sets, and the CAP command's lists (IRCv3 capability negotiation).

use std::fmt;

use crate::write::pack_words;

macro_rules! capabilities {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A capability this server knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Capability {
            $($(#[$doc])* $variant,)*
        }

        impl Capability {
            /// Every one, in the order they are listed to clients.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Names are case-sensitive.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

capabilities! {
    AwayNotify = "away-notify",
    Batch = "batch",
    CapNotify = "cap-notify",
    /// Exactly-once sending: the tag `chatroom.dev/id`.
    MessageId = "chatroom.dev/id",
    /// Going on after a lost connection: the command `RESUME`.
    Resume = "chatroom.dev/resume",
    ChatHistory = "draft/chathistory",
    EchoMessage = "echo-message",
    ExtendedJoin = "extended-join",
    InviteNotify = "invite-notify",
    LabeledResponse = "labeled-response",
    MessageTags = "message-tags",
    MultiPrefix = "multi-prefix",
    ServerTime = "server-time",
    SetName = "setname",
    StandardReplies = "standard-replies",
    UserhostInNames = "userhost-in-names",
}

impl Capability {
    /// What must be on for this one to have an effect. The order of asking does not matter, so a request for one
    /// alone is accepted; see [`Capabilities::effective`].
    pub const fn requires(self) -> Capabilities {
        match self {
            Self::LabeledResponse => Capabilities::EMPTY.with(Self::Batch),
            Self::Resume => Capabilities::EMPTY.with(Self::Batch).with(Self::MessageTags),
            _ => Capabilities::EMPTY,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capabilities(u32);

impl Capabilities {
    pub const EMPTY: Self = Self(0);

    /// Every capability this crate knows.
    pub const fn all() -> Self {
        Self((1 << Capability::ALL.len()) - 1)
    }

    /// The set as a number, and back; a bit that stands for none is dropped. The numbers change from one version to
    /// another: use [`Self::names`] in anything that is kept.
    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::all().0)
    }

    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    pub const fn contains_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !capability.bit())
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities in the order of [`Capability::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.contains(*capability))
    }

    /// Their names, in that order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Capability::name)
    }

    /// Those whose requirements are on as well: the ones that change what is sent.
    #[must_use]
    pub fn effective(self) -> Self {
        self.iter().filter(|capability| self.contains_all(capability.requires())).collect()
    }

    /// Whether a client that negotiated these may be sent any message tag at all.
    pub const fn has_tags(self) -> bool {
        self.contains(Capability::MessageTags)
            || self.contains(Capability::ServerTime)
            || self.contains(Capability::Batch)
            || self.contains(Capability::LabeledResponse)
            || self.contains(Capability::MessageId)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The version of the negotiation a client spoke of in `CAP LS <version>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapVersion {
    /// None, or below 302: no values, one line.
    #[default]
    V301,
    /// 302 or above: values, continuation lines, `cap-notify` always on.
    V302,
}

impl CapVersion {
    /// Reads the parameter of `CAP LS`; what is no number counts as none.
    pub fn parse(param: Option<&str>) -> Self {
        match param.and_then(|param| param.parse::<u32>().ok()) {
            Some(302..) => Self::V302,
            _ => Self::V301,
        }
    }
}

/// A `CAP REQ` cannot be granted: answer `NAK` with the list as it was asked; nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nak;

/// Works out what a client has after `CAP REQ :<list>`: all of the list is granted or none of it. A name that is not
/// in `offered` is refused, and so is switching off `cap-notify` for who speaks 302. On success answer `ACK` with the
/// list as it was asked.
pub fn request(
    list: &str,
    current: Capabilities,
    offered: Capabilities,
    version: CapVersion,
) -> Result<Capabilities, Nak> {
    list.split(' ').filter(|word| !word.is_empty()).try_fold(current, |set, word| {
        let (off, name) = match word.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, word),
        };
        let capability = Capability::from_name(name).filter(|known| offered.contains(*known)).ok_or(Nak)?;
        match (off, capability, version) {
            (true, Capability::CapNotify, CapVersion::V302) => Err(Nak),
            (true, _, _) => Ok(set.without(capability)),
            (false, _, _) => Ok(set.with(capability)),
        }
    })
}

/// The words of `CAP LS` and `CAP NEW`: names, with values for those who speak 302. `value` gives a capability's.
pub fn words(
    set: Capabilities,
    version: CapVersion,
    value: impl Fn(Capability) -> Option<String>,
) -> impl Iterator<Item = String> {
    set.iter().map(move |capability| match (version, value(capability)) {
        (CapVersion::V302, Some(value)) => format!("{capability}={value}"),
        _ => capability.name().to_owned(),
    })
}

/// One line of an answer to `CAP LS` or `CAP LIST`: `CAP <client> LS [*] :<text>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapLine {
    /// More lines follow: the `*` is sent.
    pub continued: bool,
    pub text: String,
}

/// Splits words into lines whose text has at most `room` bytes; always at least one line, which may be empty. A
/// client below 302 does not know continuation lines and gets one, with as many words as fit.
pub fn lines(words: impl IntoIterator<Item: AsRef<str>>, version: CapVersion, room: usize) -> Vec<CapLine> {
    let mut texts = pack_words(words, room);
    if version == CapVersion::V301 {
        texts.truncate(1);
    }
    if texts.is_empty() {
        texts.push(String::new());
    }
    let last = texts.len() - 1;
    texts.into_iter().enumerate().map(|(index, text)| CapLine { continued: index < last, text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Capabilities = Capabilities::all();

    fn set(names: &[Capability]) -> Capabilities {
        names.iter().copied().collect()
    }

    #[test]
    fn names_and_bits_lead_back() {
        for capability in Capability::ALL {
            assert_eq!(Capability::from_name(capability.name()), Some(*capability));
        }
        assert_eq!(ALL.iter().count(), Capability::ALL.len());
        assert_eq!(Capabilities::from_bits(u32::MAX), ALL);
        assert_eq!(Capability::from_name("Batch"), None);
    }

    #[test]
    fn a_request_is_granted_whole_or_not() {
        let current = set(&[Capability::Batch]);
        let ask = |list| request(list, current, ALL, CapVersion::V302);
        assert_eq!(ask("server-time -batch "), Ok(set(&[Capability::ServerTime])));
        assert_eq!(ask("batch -setname"), Ok(current));
        assert_eq!(ask("-batch batch"), Ok(current));
        assert_eq!(ask("server-time unknown"), Err(Nak));
        assert_eq!(ask("-"), Err(Nak));
        assert_eq!(ask("batch=1"), Err(Nak));
        assert_eq!(ask(""), Ok(current));
        assert_eq!(request("resume", current, current, CapVersion::V302), Err(Nak));
    }

    #[test]
    fn cap_notify_stays_on_for_302() {
        let current = set(&[Capability::CapNotify]);
        assert_eq!(request("-cap-notify", current, ALL, CapVersion::V302), Err(Nak));
        assert_eq!(request("-cap-notify", current, ALL, CapVersion::V301), Ok(Capabilities::EMPTY));
    }

    #[test]
    fn what_lacks_its_requirement_has_no_effect() {
        let alone = set(&[Capability::LabeledResponse, Capability::Resume, Capability::MessageTags]);
        assert_eq!(alone.effective(), set(&[Capability::MessageTags]));
        assert_eq!(alone.with(Capability::Batch).effective(), alone.with(Capability::Batch));
    }

    #[test]
    fn versions() {
        for (param, version) in [
            (None, CapVersion::V301),
            (Some("301"), CapVersion::V301),
            (Some("x"), CapVersion::V301),
            (Some("302"), CapVersion::V302),
            (Some("307"), CapVersion::V302),
        ] {
            assert_eq!(CapVersion::parse(param), version, "{param:?}");
        }
    }

    #[test]
    fn lists_are_split_with_continuation_for_302_alone() {
        let value = |capability| (capability == Capability::ChatHistory).then(|| "x=1".to_owned());
        let listed = |version, room| lines(words(ALL, version, value), version, room);
        let many = listed(CapVersion::V302, 60);
        assert!(many.len() > 2);
        assert!(many.iter().all(|line| line.text.len() <= 60));
        assert!(many[..many.len() - 1].iter().all(|line| line.continued) && !many[many.len() - 1].continued);
        let joined = many.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(joined, words(ALL, CapVersion::V302, value).collect::<Vec<_>>().join(" "));
        assert!(joined.contains("draft/chathistory=x=1"));

        let one = listed(CapVersion::V301, 480);
        assert_eq!(one.len(), 1);
        assert!(!one[0].continued && !one[0].text.contains('='));
        assert_eq!(lines([""; 0], CapVersion::V302, 60), [CapLine { continued: false, text: String::new() }]);
    }
}
