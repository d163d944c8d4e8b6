//! Message tags: reading what a client sent, and the escaping of values (IRCv3 message-tags).

use std::borrow::Cow;

/// The tags of a line as they came, between the `@` and the space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags<'a> {
    raw: &'a str,
}

/// One tag. `value` is still escaped; a missing and an empty value are the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    pub key: &'a str,
    pub value: &'a str,
}

impl<'a> Tags<'a> {
    /// Takes tag data without the `@` and without the space.
    pub const fn from_raw(raw: &'a str) -> Self {
        Self { raw }
    }

    /// The tag data as it came.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The well-formed tags in the order they came; ill-formed keys are passed over.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Tag<'a>> + use<'a> {
        self.raw.split(';').filter_map(|tag| {
            let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
            is_key(key).then_some(Tag { key, value })
        })
    }

    /// The unescaped value of `key`; where it comes more than once, the last one counts.
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        self.iter().rev().find(|tag| tag.key == key).map(|tag| unescape(tag.value))
    }

    /// The tags a relayed message keeps: those that start with `+`.
    pub fn client_only(&self) -> impl Iterator<Item = Tag<'a>> + use<'a> {
        self.iter().filter(|tag| tag.key.starts_with('+'))
    }

    /// The client-only tags as tag data, ready for [`LineWriter::client_tags`](crate::LineWriter::client_tags).
    /// Empty where there are none.
    pub fn client_only_raw(&self) -> String {
        let mut kept = String::new();
        for tag in self.client_only() {
            if !kept.is_empty() {
                kept.push(';');
            }
            kept.push_str(tag.key);
            if !tag.value.is_empty() {
                kept.push('=');
                kept.push_str(tag.value);
            }
        }
        kept
    }
}

/// `[+][vendor/]name`, where name is letters, digits and `-`, and vendor a host name.
pub(crate) fn is_key(key: &str) -> bool {
    let key = key.strip_prefix('+').unwrap_or(key);
    let (vendor, name) = match key.rsplit_once('/') {
        Some((vendor, name)) => (Some(vendor), name),
        None => (None, key),
    };
    let word = |text: &str, extra: &[u8]| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || extra.contains(&byte))
    };
    // Underscores are outside the grammar, but tags in use have them.
    word(name, b"_") && vendor.is_none_or(|vendor| word(vendor, b"._"))
}

/// Turns an escaped value into text. A lone `\` at the end vanishes; an unknown escape is the character itself.
pub fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some(':') => text.push(';'),
            Some('s') => text.push(' '),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Cow::Owned(text)
}

/// Writes `value` escaped. NUL, which no escape stands for, is left out.
pub fn escape_into(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b';' => out.extend_from_slice(b"\\:"),
            b' ' => out.extend_from_slice(b"\\s"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0 => {}
            other => out.push(other),
        }
    }
}

/// How many bytes [`escape_into`] writes.
pub(crate) fn escaped_len(value: &str) -> usize {
    value
        .bytes()
        .map(|byte| match byte {
            b';' | b' ' | b'\\' | b'\r' | b'\n' => 2,
            0 => 0,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        let tags = Tags::from_raw(r"+example=raw+:=,escaped\:\s\\");
        assert_eq!(tags.get("+example").as_deref(), Some(r"raw+:=,escaped; \"));
    }

    #[test]
    fn lone_and_unknown_escapes() {
        assert_eq!(unescape(r"test\"), "test");
        assert_eq!(unescape(r"a\bc"), "abc");
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        assert_eq!(Tags::from_raw("a=1;b;a=2").get("a").as_deref(), Some("2"));
        assert_eq!(Tags::from_raw("a=1;b;a=2").get("b").as_deref(), Some(""));
        assert_eq!(Tags::from_raw("a=1").get("c"), None);
    }

    #[test]
    fn only_well_formed_client_tags_are_relayed() {
        let tags = Tags::from_raw(
            "label=1;+typing=active;;+;+a b;time=x;+v.example/x=y;+draft/react=\u{1f44b};+/x;+e=",
        );
        assert_eq!(tags.client_only_raw(), "+typing=active;+v.example/x=y;+draft/react=\u{1f44b};+e");
    }
}
