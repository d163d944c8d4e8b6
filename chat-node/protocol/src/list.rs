//! The conditions of LIST, as `ELIST=CMNTU` promises them.

use crate::casemap;
use crate::mask;

/// `LIST [<channels and conditions, comma-separated>]`.
///
/// A channel is listed if it matches one of the names and masks (where there is any) and every condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest<'a> {
    /// Channel names (`#rust`) and masks (`*rust*`).
    pub names: Vec<&'a str>,
    pub conditions: Vec<ListCondition<'a>>,
}

/// Something a channel must fulfil. Times are in minutes before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListCondition<'a> {
    /// `>n`: more members than this.
    MoreMembers(u32),
    /// `<n`: fewer members than this.
    FewerMembers(u32),
    /// `!mask`: the name does not match.
    NotNamed(&'a str),
    /// `C>n`: made more than this long ago.
    CreatedBefore(u32),
    /// `C<n`: made less than this long ago.
    CreatedWithin(u32),
    /// `T>n`: topic set more than this long ago.
    TopicBefore(u32),
    /// `T<n`: topic set less than this long ago.
    TopicWithin(u32),
}

/// What LIST knows of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    pub name: &'a str,
    pub members: u32,
    pub created_minutes_ago: u64,
    /// `None` where no topic is set.
    pub topic_minutes_ago: Option<u64>,
}

impl<'a> ListRequest<'a> {
    /// Reads the first parameter. A condition that is not well-formed is passed over, as other servers do.
    pub fn parse(param: Option<&'a str>) -> Self {
        use ListCondition as Condition;

        let mut request = Self::default();
        for word in param.unwrap_or("").split(',').filter(|word| !word.is_empty()) {
            match word.as_bytes() {
                [b'<' | b'>', ..] => {
                    request.conditions.extend(compared(
                        word,
                        Condition::MoreMembers,
                        Condition::FewerMembers,
                    ));
                }
                [b'C' | b'c', b'<' | b'>', ..] => {
                    let age = &word[1..];
                    request.conditions.extend(compared(
                        age,
                        Condition::CreatedBefore,
                        Condition::CreatedWithin,
                    ));
                }
                [b'T' | b't', b'<' | b'>', ..] => {
                    let age = &word[1..];
                    request.conditions.extend(compared(age, Condition::TopicBefore, Condition::TopicWithin));
                }
                [b'!', _, ..] => request.conditions.push(Condition::NotNamed(&word[1..])),
                [b'!'] => {}
                _ => request.names.push(word),
            }
        }
        request
    }

    /// The one channel asked for by name, if it is just that: a reply needs no walk over all channels, and a secret
    /// channel is shown to its members.
    pub fn single_name(&self) -> Option<&'a str> {
        match (&self.names[..], &self.conditions[..]) {
            ([name], []) if !mask::has_wildcard(name) => Some(name),
            _ => None,
        }
    }

    /// About how many characters are compared to decide on a channel whose name has so many bytes.
    pub fn cost(&self, name_bytes: usize) -> usize {
        let unwanted = self.conditions.iter().filter_map(|condition| match condition {
            ListCondition::NotNamed(pattern) => Some(*pattern),
            _ => None,
        });
        let patterns = self.names.iter().copied().chain(unwanted);
        self.conditions.len() + patterns.map(|pattern| pattern.len() + name_bytes).sum::<usize>()
    }

    /// Whether a channel is to be listed.
    pub fn accepts(&self, channel: &Listed<'_>) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|name| names(name, channel.name));
        named && self.conditions.iter().all(|condition| condition.accepts(channel))
    }
}

impl ListCondition<'_> {
    fn accepts(&self, channel: &Listed<'_>) -> bool {
        match *self {
            Self::MoreMembers(members) => channel.members > members,
            Self::FewerMembers(members) => channel.members < members,
            Self::NotNamed(pattern) => !names(pattern, channel.name),
            Self::CreatedBefore(minutes) => channel.created_minutes_ago > u64::from(minutes),
            Self::CreatedWithin(minutes) => channel.created_minutes_ago < u64::from(minutes),
            Self::TopicBefore(minutes) => {
                channel.topic_minutes_ago.is_some_and(|ago| ago > u64::from(minutes))
            }
            Self::TopicWithin(minutes) => {
                channel.topic_minutes_ago.is_some_and(|ago| ago < u64::from(minutes))
            }
        }
    }
}

fn names(pattern: &str, channel: &str) -> bool {
    if mask::has_wildcard(pattern) { mask::glob(pattern, channel) } else { casemap::same(pattern, channel) }
}

/// Reads `>n` or `<n`.
fn compared<'a>(
    word: &str,
    more: fn(u32) -> ListCondition<'a>,
    fewer: fn(u32) -> ListCondition<'a>,
) -> Option<ListCondition<'a>> {
    let condition = if word.starts_with('>') { more } else { fewer };
    word[1..].parse().ok().map(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUST: Listed<'_> =
        Listed { name: "#Rust", members: 5, created_minutes_ago: 60, topic_minutes_ago: None };
    const TALK: Listed<'_> =
        Listed { name: "#talk", members: 50, created_minutes_ago: 6000, topic_minutes_ago: Some(10) };

    fn accepted(param: &str) -> Vec<&'static str> {
        let request = ListRequest::parse(Some(param));
        [RUST, TALK]
            .into_iter()
            .filter(|channel| request.accepts(channel))
            .map(|channel| channel.name)
            .collect()
    }

    #[test]
    fn conditions() {
        for (param, names) in [
            ("", &["#Rust", "#talk"][..]),
            (">5", &["#talk"]),
            (">4,<50", &["#Rust"]),
            ("#rust", &["#Rust"]),
            ("#rust,#TALK", &["#Rust", "#talk"]),
            ("*a*", &["#talk"]),
            ("!*a*", &["#Rust"]),
            ("!#talk", &["#Rust"]),
            ("C>60", &["#talk"]),
            ("C<61", &["#Rust"]),
            ("T<11", &["#talk"]),
            ("T>10", &[]),
            ("*t*,>5", &["#talk"]),
            (">x,!,<", &["#Rust", "#talk"]),
        ] {
            assert_eq!(accepted(param), names, "{param}");
        }
    }

    #[test]
    fn a_single_name_is_known() {
        assert_eq!(ListRequest::parse(Some("#a")).single_name(), Some("#a"));
        for param in [None, Some("#a*"), Some("#a,#b"), Some("#a,>1")] {
            assert_eq!(ListRequest::parse(param).single_name(), None, "{param:?}");
        }
    }
}
