//! Which nicks, channel names, user names, host texts and keys are good.

use std::net::IpAddr;

/// Whether `nick` is one: ASCII letters, digits, `-` and ``[]\`_^{|}``, not beginning with a digit or `-`, at most
/// `max_bytes` long (RFC 2812 section 2.3.1). Otherwise: `ERR_ERRONEUSNICKNAME` (432).
pub fn is_nick(nick: &str, max_bytes: usize) -> bool {
    let special = |byte: u8| b"[]\\`_^{|}".contains(&byte);
    let (Some(first), true) = (nick.bytes().next(), nick.len() <= max_bytes) else { return false };
    (first.is_ascii_alphabetic() || special(first))
        && nick.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || special(byte))
}

/// Whether `name` can be a channel's: `#` and then any UTF-8 but commas, control characters (BEL among them), white
/// space of any script, and the wildcards `*` and `?`, which LIST reads as a mask; at most `max_bytes` long.
pub fn is_channel(name: &str, max_bytes: usize) -> bool {
    let bad = |char: char| matches!(char, ',' | '*' | '?') || char.is_control() || char.is_whitespace();
    name.starts_with('#') && name.len() <= max_bytes && !name.chars().any(bad)
}

/// Whether a message or mode target means a channel (`CHANTYPES=#`), good name or not.
pub fn names_channel(target: &str) -> bool {
    target.starts_with('#')
}

/// Splits the prefix of a `STATUSMSG` target: `@#chan` is for those of that rank and above.
pub fn split_status_target<'a>(target: &'a str, statuses: &str) -> (Option<char>, &'a str) {
    match target.chars().next() {
        Some(status) if statuses.contains(status) && names_channel(&target[status.len_utf8()..]) => {
            (Some(status), &target[status.len_utf8()..])
        }
        _ => (None, target),
    }
}

/// The user name shown for what a client gave in USER: `~` (nobody vouches for it), then its ASCII letters, digits
/// and `-_.`, at most `max_bytes` in all; `~user` where nothing of it is left.
pub fn username(given: &str, max_bytes: usize) -> String {
    let room = max_bytes.saturating_sub(1);
    let kept: String = given
        .chars()
        .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
        .take(room)
        .collect();
    if kept.is_empty() { "~user".chars().take(max_bytes).collect() } else { format!("~{kept}") }
}

/// An address as a host: an IPv4 address inside IPv6 is written as the former, and a leading colon, which would end
/// the parameters, gets a zero before it (`0::1`).
pub fn host_of(address: IpAddr) -> String {
    let text = address.to_canonical().to_string();
    if text.starts_with(':') { format!("0{text}") } else { text }
}

/// Whether `key` can be a channel's key: printable ASCII without space and comma, not beginning with a colon, at
/// most `max_bytes` long. Otherwise: `ERR_INVALIDKEY` (525).
pub fn is_key(key: &str, max_bytes: usize) -> bool {
    !key.is_empty()
        && key.len() <= max_bytes
        && !key.starts_with(':')
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// `text` cut to `max_bytes` at a character: for real names, away and quit reasons, topics.
pub fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks() {
        for good in ["a", "Alice", "[x]", "_^`{|}\\", "a-1", &"n".repeat(30)] {
            assert!(is_nick(good, 30), "{good}");
        }
        for bad in [
            "", "1a", "-a", "a b", "a!b", "a@b", "a.b", "#a", "&a", ":a", "a,b", "a*", "a?", "@a", "+a",
            "~a", "é", "a\u{7}",
        ] {
            assert!(!is_nick(bad, 30), "{bad}");
        }
        assert!(!is_nick(&"n".repeat(31), 30));
    }

    #[test]
    fn channels() {
        for good in ["#", "##", "#rust", "#größe", "#a:b", "#🦀"] {
            assert!(is_channel(good, 64), "{good}");
        }
        for bad in [
            "", "rust", "&a", "+a", "!a", "#a b", "#a,b", "#a\u{7}", "#a\u{7f}", "#a\u{85}", "#a\u{a0}",
            "#a*", "#?",
        ] {
            assert!(!is_channel(bad, 64), "{bad:?}");
        }
        assert!(!is_channel(&format!("#{}", "c".repeat(64)), 64));
    }

    #[test]
    fn status_targets() {
        assert_eq!(split_status_target("@#a", "@+"), (Some('@'), "#a"));
        assert_eq!(split_status_target("#a", "@+"), (None, "#a"));
        assert_eq!(split_status_target("@a", "@+"), (None, "@a"));
        assert_eq!(split_status_target("%#a", "@+"), (None, "%#a"));
        assert_eq!(split_status_target("", "@+"), (None, ""));
    }

    #[test]
    fn user_names_are_made_good() {
        assert_eq!(username("al ice@home!", 10), "~alicehome");
        assert_eq!(username("abcdefghijkl", 10), "~abcdefghi");
        assert_eq!(username("*@!", 10), "~user");
    }

    #[test]
    fn hosts_never_begin_with_a_colon() {
        let host = |text: &str| host_of(text.parse().expect(text));
        assert_eq!(host("::1"), "0::1");
        assert_eq!(host("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(host("2001:db8::1"), "2001:db8::1");
    }

    #[test]
    fn keys() {
        assert!(is_key("s3cret:!", 23));
        for bad in ["", "a b", "a,b", ":a", "é", "a\u{1}", &"k".repeat(24)] {
            assert!(!is_key(bad, 23), "{bad}");
        }
    }
}
