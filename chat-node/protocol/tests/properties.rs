//! What holds for every input: nothing panics, and what is written is read back.

use chat_protocol::capability::{self, CapVersion};
use chat_protocol::mode::{self, Shown, Sign};
use chat_protocol::{
    Capabilities, Framed, Line, LineFramer, LineWriter, Mask, MsgId, Source, Tags, UnixMillis, chathistory,
    limits, list, mask, tags, who,
};
use proptest::prelude::*;

/// Bytes that a line is made of, more often than chance would have them.
fn line_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"@:; =+\\!*?,#-<>%\r\n\0aAzZ09".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

/// Text with wildcards, escapes and a two-byte character, short enough to try everything.
fn small_text(alphabet: &'static str) -> impl Strategy<Value = String> {
    let chars: Vec<char> = alphabet.chars().collect();
    prop::collection::vec(prop::sample::select(chars), 0..9).prop_map(|chars| chars.into_iter().collect())
}

/// The definition of a match, tried in every way.
fn naive_glob(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skipped| naive_glob(rest, &text[skipped..])),
        ['?', rest @ ..] => !text.is_empty() && naive_glob(rest, &text[1..]),
        ['\\', want @ ('*' | '?'), rest @ ..] => text.first() == Some(want) && naive_glob(rest, &text[1..]),
        [want, rest @ ..] => {
            text.first().is_some_and(|char| char.eq_ignore_ascii_case(want)) && naive_glob(rest, &text[1..])
        }
    }
}

fn naive_lines(stream: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let Some(last_end) = stream.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    stream[..last_end]
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(|line| (line.len() <= limit).then(|| line.to_vec()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_parsing_panic(bytes in line_bytes()) {
        if let Ok(line) = Line::parse(&bytes) {
            prop_assert!(!line.verb.is_empty());
            prop_assert!(line.params.len() <= limits::PARAMS);
            let _ = (line.label(), line.tags.client_only_raw(), line.verb_upper());
            let _ = (chathistory::parse(&line.params, 100), who::WhoRequest::parse(&line.params));
            let _ = list::ListRequest::parse(line.params.at(0));
            let _ = mode::parse_channel_modes(line.verb, &line.params, 4, 23);
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = (Mask::complete(&text), text.parse::<UnixMillis>(), text.parse::<MsgId>());
        let params: Vec<&str> = text.split(' ').collect();
        let _ = (chathistory::parse(&params, 0), who::WhoRequest::parse(&params));
        let _ = (mode::parse_channel_modes(&text, &params, 4, 23), mode::parse_user_modes(&text));
        let _ = capability::request(&text, Capabilities::all(), Capabilities::all(), CapVersion::V302);
        prop_assert!(list::ListRequest::parse(Some(&text)).names.len() <= bytes.len() + 1);
    }

    #[test]
    fn what_is_written_is_read_back(
        tag_value in ".{0,80}",
        client_tag in "[a-z]{1,8}(/[a-z-]{1,8})?",
        verb in "[A-Z]{1,10}",
        params in prop::collection::vec("[!-9;-~é🦀]{1,12}", 0..14),
        trailing in prop::option::of("[^\r\n\0]{0,120}"),
    ) {
        let mut out = Vec::new();
        let client_tags = format!("+{client_tag}=a\\sb");
        let body = LineWriter::begin(&mut out)
            .tag("label", &tag_value)
            .client_tags(&client_tags)
            .command(Source::User { nick: "nick", user: "~user", host: "0::1" }, &verb)
            .params(params.iter().map(String::as_str));
        match &trailing {
            Some(trailing) => body.trailing(trailing),
            None => body.finish(),
        }
        let line = Line::parse(out.strip_suffix(b"\r\n").expect("the line ends")).expect("well-formed");
        let wanted: Vec<&str> = params.iter().map(String::as_str).chain(trailing.as_deref()).collect();
        prop_assert_eq!(line.verb, &verb);
        prop_assert_eq!(line.source, Some("nick!~user@0::1"));
        prop_assert_eq!(&*line.params, &wanted[..]);
        let value = line.tags.get("label");
        let kept = tag_value.replace('\0', "");
        prop_assert_eq!(value.as_deref().unwrap_or(""), &kept);
        prop_assert_eq!(line.tags.client_only_raw(), client_tags);
    }

    #[test]
    fn a_written_line_is_one_line_within_the_limits(
        source in any::<String>(),
        verb in any::<String>(),
        tags in prop::collection::vec((any::<String>(), ".{0,2000}"), 0..4),
        client_tags in ".{0,200}",
        params in prop::collection::vec("(?s).{0,60}", 0..20),
        trailing in "(?s).{0,700}",
    ) {
        let mut out = b"earlier\r\n".to_vec();
        let mut writer = LineWriter::begin(&mut out);
        for (key, value) in &tags {
            writer = writer.tag("time", value).tag(key, value);
        }
        let body = writer
            .client_tags(&client_tags)
            .command(Source::Server(&source), &verb)
            .params(params.iter().map(String::as_str));
        body.trailing(&trailing);
        let line = out.strip_prefix(b"earlier\r\n").expect("appended").strip_suffix(b"\r\n").expect("ended");
        prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        prop_assert!(std::str::from_utf8(line).is_ok());
        let body_from = if line.starts_with(b"@") {
            let space = line.iter().position(|byte| *byte == b' ').expect("tags end");
            prop_assert!(space < limits::TAGS_BYTES);
            space + 1
        } else {
            0
        };
        prop_assert!(line.len() - body_from <= limits::BODY_TEXT_BYTES);
    }

    #[test]
    fn tag_values_survive_escaping(value in "(?s)[^\0]{0,60}") {
        let mut escaped = Vec::new();
        tags::escape_into(&value, &mut escaped);
        let escaped = String::from_utf8(escaped).expect("UTF-8");
        prop_assert!(!escaped.contains([' ', ';', '\r', '\n']));
        prop_assert_eq!(&tags::unescape(&escaped), &value);
        let data = format!("a;b={escaped};c=1");
        let got = Tags::from_raw(&data).get("b");
        prop_assert_eq!(got.as_deref(), Some(&value[..]));
    }

    #[test]
    fn chunks_do_not_matter_to_the_framer(
        stream in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..120),
        cuts in prop::collection::vec(0_usize..12, 0..60),
        limit in 1_usize..8,
    ) {
        let mut framer = LineFramer::with_limit(limit);
        let mut found = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.into_iter();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
            rest = after;
            let mut input = chunk;
            while let Some(framed) = framer.next_line(&mut input) {
                found.push(match framed {
                    Framed::Line(line) => Some(line.to_vec()),
                    Framed::TooLong => None,
                });
            }
            prop_assert!(input.is_empty());
            prop_assert!(framer.pending() <= limit + 1);
        }
        // The end of an over-long line ends the doubt whether it was reported early.
        let mut end = &b"\n"[..];
        while let Some(framed) = framer.next_line(&mut end) {
            found.push(match framed {
                Framed::Line(line) => Some(line.to_vec()),
                Framed::TooLong => None,
            });
        }
        let whole = [&stream[..], b"\n"].concat();
        prop_assert_eq!(found, naive_lines(&whole, limit));
    }

    #[test]
    fn globs_match_as_defined(pattern in small_text("aB*?\\é"), text in small_text("abB*?\\é")) {
        let naive = naive_glob(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(mask::glob(&pattern, &text), naive);
    }

    #[test]
    fn a_complete_mask_is_complete(typed in small_text("ab*?\\!@")) {
        if let Ok(full) = Mask::complete(&typed) {
            prop_assert_eq!(&Mask::complete(full.as_str()).expect("complete"), &full);
            prop_assert!(full.as_str().contains('!') && full.as_str().contains('@'));
            prop_assert!(!full.as_str().contains("**") || typed.contains('\\'));
        }
    }

    #[test]
    fn times_are_read_back(ms in 0_u64..253_402_300_800_000) {
        let text = UnixMillis(ms).to_string();
        prop_assert_eq!(text.len(), 24);
        prop_assert_eq!(text.parse(), Ok(UnixMillis(ms)));
        if ms > 0 {
            prop_assert!(UnixMillis(ms - 1).to_string() < text);
        }
    }

    #[test]
    fn capability_lines_keep_their_room(bits in any::<u32>(), room in 40_usize..500, value in "[a-z]{0,8}") {
        let set = Capabilities::from_bits(bits);
        let words = || capability::words(set, CapVersion::V302, |_| Some(value.clone()));
        let lines = capability::lines(words(), CapVersion::V302, room);
        prop_assert!(lines.iter().all(|line| line.text.len() <= room));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        prop_assert_eq!(texts.join(" "), words().collect::<Vec<_>>().join(" "));
        // The names of one reply, asked for back, give the set.
        let names = set.names().collect::<Vec<_>>().join(" ");
        prop_assert_eq!(
            capability::request(&names, Capabilities::EMPTY, Capabilities::all(), CapVersion::V302),
            Ok(set)
        );
    }

    #[test]
    fn mode_strings_are_read_back(
        changes in prop::collection::vec((any::<bool>(), prop::sample::select(vec!['o', 'v', 'n', 't', 'i']), "[a-z]{1,9}"), 0..20),
        max_changes in 1_usize..7,
        max_bytes in 20_usize..60,
    ) {
        let shown: Vec<Shown<'_>> = changes
            .iter()
            .map(|(add, letter, nick)| Shown {
                sign: if *add { Sign::Add } else { Sign::Remove },
                letter: *letter,
                param: matches!(letter, 'o' | 'v').then_some(nick.as_str()),
            })
            .collect();
        let strings = mode::format_modes(shown.iter().copied(), max_changes, max_bytes);
        let mut read = Vec::new();
        for string in &strings {
            prop_assert!(string.wire_bytes() <= max_bytes);
            let params: Vec<&str> = string.params.iter().map(String::as_str).collect();
            let items = mode::parse_channel_modes(&string.modes, &params, 20, 23);
            prop_assert!(!items.is_empty() && items.len() <= max_changes);
            for item in items {
                let mode::ChannelModeItem::Change(change) = item else {
                    return Err(TestCaseError::fail(format!("{item:?}")));
                };
                read.push((change.sign(), change.letter(), change.param().map(std::borrow::Cow::into_owned)));
            }
        }
        let wanted: Vec<_> = shown
            .iter()
            .map(|shown| (shown.sign, shown.letter, shown.param.map(str::to_owned)))
            .collect();
        prop_assert_eq!(read, wanted);
    }
}
