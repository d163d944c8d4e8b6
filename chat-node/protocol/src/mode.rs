//! MODE: what clients ask for, and mode strings of what was changed.
//!
//! Channel modes, as `CHANMODES=beI,k,l,imnst` and `PREFIX=(ov)@+` have them.

use std::borrow::Cow;

use crate::name;

/// `+` or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sign {
    Add,
    Remove,
}

impl Sign {
    pub const fn as_char(self) -> char {
        match self {
            Self::Add => '+',
            Self::Remove => '-',
        }
    }
}

/// Declares an enum of mode letters with its two conversions.
macro_rules! letters {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $letter:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every one, in the order of its letters in ISUPPORT.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn letter(self) -> char {
                match self {
                    $(Self::$variant => $letter,)*
                }
            }

            pub const fn from_letter(letter: char) -> Option<Self> {
                match letter {
                    $($letter => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

letters! {
    /// Ranks of members, highest first.
    Rank {
        Op = 'o',
        Voice = 'v',
    }
}

impl Rank {
    /// The sign before the nick in NAMES.
    pub const fn prefix(self) -> char {
        match self {
            Self::Op => '@',
            Self::Voice => '+',
        }
    }

    pub const fn from_prefix(prefix: char) -> Option<Self> {
        match prefix {
            '@' => Some(Self::Op),
            '+' => Some(Self::Voice),
            _ => None,
        }
    }
}

letters! {
    /// Lists of masks.
    ListMode {
        Ban = 'b',
        Except = 'e',
        InviteExcept = 'I',
    }
}

letters! {
    /// Channel modes that are on or off.
    Flag {
        InviteOnly = 'i',
        Moderated = 'm',
        NoExternal = 'n',
        Secret = 's',
        TopicLocked = 't',
    }
}

letters! {
    /// Modes of a user on itself.
    UserMode {
        Invisible = 'i',
        Bot = 'B',
    }
}

/// The letter of the channel key.
pub const KEY_LETTER: char = 'k';

/// The letter of the member limit.
pub const LIMIT_LETTER: char = 'l';

/// One change that a client asks for, well-formed; whether it may is another's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelModeChange<'a> {
    Rank {
        sign: Sign,
        rank: Rank,
        nick: &'a str,
    },
    /// The mask is as it was typed; see [`Mask::complete`](crate::Mask::complete).
    List {
        sign: Sign,
        list: ListMode,
        mask: &'a str,
    },
    Flag {
        sign: Sign,
        flag: Flag,
    },
    SetKey(&'a str),
    /// The key need not be named, nor be right.
    RemoveKey,
    SetLimit(u32),
    RemoveLimit,
}

impl<'a> ChannelModeChange<'a> {
    pub const fn sign(&self) -> Sign {
        match self {
            Self::Rank { sign, .. } | Self::List { sign, .. } | Self::Flag { sign, .. } => *sign,
            Self::SetKey(_) | Self::SetLimit(_) => Sign::Add,
            Self::RemoveKey | Self::RemoveLimit => Sign::Remove,
        }
    }

    pub const fn letter(&self) -> char {
        match self {
            Self::Rank { rank, .. } => rank.letter(),
            Self::List { list, .. } => list.letter(),
            Self::Flag { flag, .. } => flag.letter(),
            Self::SetKey(_) | Self::RemoveKey => KEY_LETTER,
            Self::SetLimit(_) | Self::RemoveLimit => LIMIT_LETTER,
        }
    }

    /// The parameter as it is shown. `-k` has one, `*`: modes of its kind always do (ISUPPORT `CHANMODES`, type B).
    pub fn param(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Rank { nick: param, .. } | Self::List { mask: param, .. } | Self::SetKey(param) => {
                Some(Cow::Borrowed(param))
            }
            Self::SetLimit(members) => Some(Cow::Owned(members.to_string())),
            Self::RemoveKey => Some(Cow::Borrowed("*")),
            Self::Flag { .. } | Self::RemoveLimit => None,
        }
    }
}

/// One letter of a MODE command, understood or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelModeItem<'a> {
    Change(ChannelModeChange<'a>),
    /// A list letter without a mask: send the list. Comes once for each list.
    Query(ListMode),
    /// `ERR_UNKNOWNMODE` (472). Comes once for each letter.
    Unknown(char),
    /// The letter needs a parameter and there is none: `ERR_INVALIDMODEPARAM` (696) with `*`.
    MissingParam(char),
    /// A limit that is not a number from 1: `ERR_INVALIDMODEPARAM` (696).
    BadLimit(&'a str),
    /// `ERR_INVALIDKEY` (525).
    BadKey(&'a str),
}

/// Reads the mode string and the parameters of `MODE <channel> <modes> <params…>`.
///
/// At most `max_with_param` letters take a parameter (`MODES=` of ISUPPORT); those past it are passed over, as other
/// servers do. `max_key_bytes` is `KEYLEN`.
pub fn parse_channel_modes<'a>(
    modes: &str,
    params: &[&'a str],
    max_with_param: usize,
    max_key_bytes: usize,
) -> Vec<ChannelModeItem<'a>> {
    let mut items = Vec::new();
    let mut params = params.iter().copied();
    let mut taken = 0;
    let mut sign = Sign::Add;
    for letter in modes.chars() {
        match letter {
            '+' => sign = Sign::Add,
            '-' => sign = Sign::Remove,
            _ => {
                let wants = param_of(letter, sign);
                let param = if wants == Takes::None { None } else { params.next() };
                if param.is_some() || wants == Takes::Required {
                    taken += 1;
                    if taken > max_with_param {
                        continue;
                    }
                }
                let item = channel_mode_item(letter, sign, param, max_key_bytes);
                // Only a change may come twice; a flood of `b` or of unknown letters is one answer each.
                let repeats = !matches!(item, ChannelModeItem::Change(_)) && items.contains(&item);
                if !repeats {
                    items.push(item);
                }
            }
        }
    }
    items
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    None,
    Optional,
    Required,
}

fn param_of(letter: char, sign: Sign) -> Takes {
    if Rank::from_letter(letter).is_some() {
        return Takes::Required;
    }
    if ListMode::from_letter(letter).is_some() {
        return Takes::Optional;
    }
    match (letter, sign) {
        (KEY_LETTER | LIMIT_LETTER, Sign::Add) => Takes::Required,
        (KEY_LETTER, Sign::Remove) => Takes::Optional,
        _ => Takes::None,
    }
}

fn channel_mode_item<'a>(
    letter: char,
    sign: Sign,
    param: Option<&'a str>,
    max_key_bytes: usize,
) -> ChannelModeItem<'a> {
    use ChannelModeChange as Change;
    use ChannelModeItem as Item;

    let param = param.filter(|param| !param.is_empty());
    if let Some(rank) = Rank::from_letter(letter) {
        return match param {
            Some(nick) => Item::Change(Change::Rank { sign, rank, nick }),
            None => Item::MissingParam(letter),
        };
    }
    if let Some(list) = ListMode::from_letter(letter) {
        return match param {
            Some(mask) => Item::Change(Change::List { sign, list, mask }),
            None => Item::Query(list),
        };
    }
    if let Some(flag) = Flag::from_letter(letter) {
        return Item::Change(Change::Flag { sign, flag });
    }
    match (letter, sign, param) {
        (KEY_LETTER, Sign::Remove, _) => Item::Change(Change::RemoveKey),
        (LIMIT_LETTER, Sign::Remove, _) => Item::Change(Change::RemoveLimit),
        (KEY_LETTER | LIMIT_LETTER, Sign::Add, None) => Item::MissingParam(letter),
        (KEY_LETTER, Sign::Add, Some(key)) if name::is_key(key, max_key_bytes) => {
            Item::Change(Change::SetKey(key))
        }
        (KEY_LETTER, Sign::Add, Some(key)) => Item::BadKey(key),
        (LIMIT_LETTER, Sign::Add, Some(limit)) => match limit.parse() {
            Ok(members) if members > 0 => Item::Change(Change::SetLimit(members)),
            _ => Item::BadLimit(limit),
        },
        _ => Item::Unknown(letter),
    }
}

/// One letter of `MODE <own nick> <modes>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserModeItem {
    Change(Sign, UserMode),
    /// `ERR_UMODEUNKNOWNFLAG` (501). Comes once, however many there are.
    Unknown(char),
}

/// Reads a user's mode string. A mode that comes more than once counts as it came last.
pub fn parse_user_modes(modes: &str) -> Vec<UserModeItem> {
    let mut items: Vec<UserModeItem> = Vec::new();
    let mut sign = Sign::Add;
    for letter in modes.chars() {
        match (letter, UserMode::from_letter(letter)) {
            ('+', _) => sign = Sign::Add,
            ('-', _) => sign = Sign::Remove,
            (_, Some(mode)) => {
                items.retain(|item| !matches!(item, UserModeItem::Change(_, earlier) if *earlier == mode));
                items.push(UserModeItem::Change(sign, mode));
            }
            (_, None) if items.iter().any(|item| matches!(item, UserModeItem::Unknown(_))) => {}
            (_, None) => items.push(UserModeItem::Unknown(letter)),
        }
    }
    items
}

/// A change that happened, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    pub sign: Sign,
    pub letter: char,
    pub param: Option<&'a str>,
}

/// A mode string and its parameters: `+o-v`, `["alice", "bob"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeString {
    pub modes: String,
    pub params: Vec<String>,
}

impl ModeString {
    /// Bytes on the wire from the first sign on: `+o-v alice bob`.
    pub fn wire_bytes(&self) -> usize {
        self.modes.len() + self.params.iter().map(|param| 1 + param.len()).sum::<usize>()
    }
}

/// Writes changes as mode strings, as many as it takes for each to have at most `max_changes` letters and `max_bytes`
/// bytes (the room after `:source MODE #channel `). No changes, no strings.
pub fn format_modes<'a>(
    changes: impl IntoIterator<Item = Shown<'a>>,
    max_changes: usize,
    max_bytes: usize,
) -> Vec<ModeString> {
    let mut strings: Vec<ModeString> = Vec::new();
    let (mut count, mut last_sign) = (0, None);
    for change in changes {
        let param_bytes = change.param.map_or(0, |param| 1 + param.len());
        let starts_new = strings.last().is_none_or(|string| {
            let sign_bytes = usize::from(last_sign != Some(change.sign));
            count >= max_changes || string.wire_bytes() + sign_bytes + 1 + param_bytes > max_bytes
        });
        if starts_new {
            strings.push(ModeString::default());
            (count, last_sign) = (0, None);
        }
        if let Some(string) = strings.last_mut() {
            if last_sign != Some(change.sign) {
                string.modes.push(change.sign.as_char());
            }
            string.modes.push(change.letter);
            string.params.extend(change.param.map(str::to_owned));
        }
        count += 1;
        last_sign = Some(change.sign);
    }
    strings
}

#[cfg(test)]
mod tests {
    use super::ChannelModeChange as Change;
    use super::ChannelModeItem as Item;
    use super::*;

    fn parse<'a>(modes: &str, params: &[&'a str]) -> Vec<Item<'a>> {
        parse_channel_modes(modes, params, 4, 23)
    }

    #[test]
    fn a_mixed_change() {
        let (add, remove) = (Sign::Add, Sign::Remove);
        assert_eq!(
            parse("+o-v+bt-k", &["alice", "bob", "*!*@h", "whatever"]),
            [
                Item::Change(Change::Rank { sign: add, rank: Rank::Op, nick: "alice" }),
                Item::Change(Change::Rank { sign: remove, rank: Rank::Voice, nick: "bob" }),
                Item::Change(Change::List { sign: add, list: ListMode::Ban, mask: "*!*@h" }),
                Item::Change(Change::Flag { sign: add, flag: Flag::TopicLocked }),
                Item::Change(Change::RemoveKey),
            ]
        );
    }

    #[test]
    fn parameters_go_to_the_letters_that_take_one() {
        assert_eq!(
            parse("lk-l", &["30", "key", "left"]),
            [
                Item::Change(Change::SetLimit(30)),
                Item::Change(Change::SetKey("key")),
                Item::Change(Change::RemoveLimit)
            ]
        );
        assert_eq!(parse("-k", &[]), [Item::Change(Change::RemoveKey)]);
    }

    #[test]
    fn questions_and_errors_come_once() {
        assert_eq!(
            parse("bb+b-eIzzä", &[]),
            [
                Item::Query(ListMode::Ban),
                Item::Query(ListMode::Except),
                Item::Query(ListMode::InviteExcept),
                Item::Unknown('z'),
                Item::Unknown('ä'),
            ]
        );
        assert_eq!(parse("ook", &[]), [Item::MissingParam('o'), Item::MissingParam('k')]);
        assert_eq!(parse("l", &[]), [Item::MissingParam('l')]);
        assert_eq!(
            parse("lllk", &["0", "-1", "x", "a b"]),
            [Item::BadLimit("0"), Item::BadLimit("-1"), Item::BadLimit("x"), Item::BadKey("a b")]
        );
        assert_eq!(parse("k", &[""]), [Item::MissingParam('k')]);
    }

    #[test]
    fn only_so_many_letters_take_a_parameter() {
        let items = parse("+vvvvvvn", &["a", "b", "c", "d", "e", "f"]);
        assert_eq!(items.len(), 5);
        assert_eq!(items[4], Item::Change(Change::Flag { sign: Sign::Add, flag: Flag::NoExternal }));
    }

    #[test]
    fn user_modes() {
        assert_eq!(
            parse_user_modes("+iB-ixyB"),
            [
                UserModeItem::Change(Sign::Remove, UserMode::Invisible),
                UserModeItem::Unknown('x'),
                UserModeItem::Change(Sign::Remove, UserMode::Bot),
            ]
        );
    }

    #[test]
    fn changes_are_written_compactly_and_split() {
        let shown = |sign, letter, param| Shown { sign, letter, param };
        let changes = [
            shown(Sign::Add, 'o', Some("alice")),
            shown(Sign::Add, 'n', None),
            shown(Sign::Remove, 'v', Some("bob")),
            shown(Sign::Remove, 't', None),
        ];
        let one = format_modes(changes, 4, 100);
        assert_eq!(one, [ModeString { modes: "+on-vt".into(), params: vec!["alice".into(), "bob".into()] }]);
        assert_eq!(one[0].wire_bytes(), "+on-vt alice bob".len());

        let modes =
            |strings: Vec<ModeString>| strings.into_iter().map(|string| string.modes).collect::<Vec<_>>();
        assert_eq!(modes(format_modes(changes, 2, 100)), ["+on", "-vt"]);
        assert_eq!(modes(format_modes(changes, 4, 15)), ["+on-v", "-t"]);
        assert!(format_modes([], 4, 100).is_empty());
    }
}
