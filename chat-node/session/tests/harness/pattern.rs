//! Expected lines: text with places for what cannot be known beforehand.
//!
//! `{kind}` stands for something of that kind; `{name:kind}` remembers it, and `${name}` is it from then on.

use std::collections::BTreeMap;

pub(crate) type Names = BTreeMap<String, String>;

enum Part<'a> {
    Text(&'a str),
    Place { name: Option<&'a str>, kind: &'a str },
}

/// Puts in what was remembered.
pub(crate) fn fill(text: &str, names: &Names) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a `${` without its `}`")?;
        filled.push_str(before);
        filled.push_str(names.get(name).ok_or_else(|| format!("nothing is remembered as `{name}`"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Whether the line is as expected; then what its places held.
pub(crate) fn matches(expected: &str, line: &str) -> Result<Option<Names>, String> {
    let parts = parse(expected)?;
    let mut names = Names::new();
    Ok(follow(&parts, line, &mut names)?.then_some(names))
}

fn parse(expected: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = expected;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').ok_or("a `{` without its `}`")?;
        parts.push(Part::Text(before));
        parts.push(match place.split_once(':') {
            Some((name, kind)) => Part::Place { name: Some(name), kind },
            None => Part::Place { name: None, kind: place },
        });
        rest = after;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn follow(parts: &[Part<'_>], line: &str, names: &mut Names) -> Result<bool, String> {
    let Some((part, parts)) = parts.split_first() else { return Ok(line.is_empty()) };
    match part {
        Part::Text(text) => match line.strip_prefix(text) {
            Some(rest) => follow(parts, rest, names),
            None => Ok(false),
        },
        Part::Place { name, kind } => {
            let allowed = allowed(kind)?;
            let longest: usize = line.chars().take_while(|char| allowed(*char)).map(char::len_utf8).sum();
            let shortest = usize::from(*kind != "any");
            for end in (shortest..=longest).rev().filter(|end| line.is_char_boundary(*end)) {
                if follow(parts, &line[end..], names)? {
                    if let Some(name) = name {
                        names.insert((*name).to_owned(), line[..end].to_owned());
                    }
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

fn allowed(kind: &str) -> Result<fn(char) -> bool, String> {
    Ok(match kind {
        "time" => |char| char.is_ascii_digit() || "TZ:.-".contains(char),
        "msgid" => |char| char.is_ascii_digit() || ".-".contains(char),
        "number" => |char| char.is_ascii_digit(),
        "word" => |char| char != ' ',
        "any" => |_| true,
        _ => return Err(format!("`{kind}` is no kind: time, msgid, number, word, any")),
    })
}
