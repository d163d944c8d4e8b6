//! Globs: `*` is any characters, `?` is one, ASCII case does not matter.
//!
//! Whoever may write a pattern may write the worst one, so the time to match is linear in the text whatever the
//! pattern. The plain walk, which tries only the last `*` again, is the fastest for what people write and gets as many
//! steps as that takes; the rare rest is decided by following all tries at once, a bit each.

use std::cell::OnceCell;

/// A pattern to be matched against many texts.
pub struct Glob<'a> {
    pattern: &'a str,
    /// Characters that a text needs at least: what is longer than any name is refused without a look at it.
    least: usize,
    tries: OnceCell<Tries>,
}

/// Whether `text` matches `pattern`; see [`Glob`].
pub fn glob(pattern: &str, text: &str) -> bool {
    Glob::new(pattern).matches(text)
}

/// Whether a text has a wildcard, and so is a mask rather than a name.
pub fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

impl<'a> Glob<'a> {
    /// `\*` and `\?` are the characters themselves, and any other `\` is a backslash, since nicks may have one
    /// (RFC 2812 section 2.5).
    pub fn new(pattern: &'a str) -> Self {
        let least = tokens(pattern).filter(|token| !matches!(token, Token::Any)).count();
        Self { pattern, least, tries: OnceCell::new() }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        // Bytes are no fewer than characters.
        if text.len() < self.least {
            return false;
        }
        // A pattern that was too much for one text is so for others.
        let walked =
            if self.tries.get().is_none() { walk(self.pattern, text, self.steps(text)) } else { None };
        walked.unwrap_or_else(|| self.tries.get_or_init(|| Tries::new(self.pattern)).all_at_once(text))
    }

    /// Enough to look at everything about twice.
    fn steps(&self, text: &str) -> usize {
        2 * (self.pattern.len() + text.len()) + 16
    }
}

pub(crate) enum Token {
    Any,
    One,
    Char(char),
}

pub(crate) fn next_token(pattern: &str) -> (Option<Token>, &str) {
    let mut chars = pattern.chars();
    let token = match chars.next() {
        Some('*') => Some(Token::Any),
        Some('?') => Some(Token::One),
        Some('\\') => match chars.clone().next() {
            Some(wild @ ('*' | '?')) => {
                chars.next();
                Some(Token::Char(wild))
            }
            _ => Some(Token::Char('\\')),
        },
        Some(char) => Some(Token::Char(char)),
        None => None,
    };
    (token, chars.as_str())
}

fn tokens(mut pattern: &str) -> impl Iterator<Item = Token> {
    std::iter::from_fn(move || {
        let (token, after) = next_token(pattern);
        pattern = after;
        token
    })
}

/// The answer, if so many steps are enough for it.
fn walk(pattern: &str, text: &str, steps: usize) -> Option<bool> {
    let (mut pattern, mut text) = (pattern, text);
    // What to try next when the present try fails: after the last `*`, and one character further in the text.
    let mut retry: Option<(&str, &str)> = None;
    for _ in 0..steps {
        let (token, after) = next_token(pattern);
        let mut chars = text.chars();
        let matched = match (token, chars.next()) {
            (Some(Token::Any), _) => {
                if after.is_empty() {
                    return Some(true);
                }
                pattern = after;
                retry = Some((after, text));
                continue;
            }
            (None, None) => return Some(true),
            (Some(Token::One), Some(_)) => true,
            (Some(Token::Char(want)), Some(char)) => want.eq_ignore_ascii_case(&char),
            _ => false,
        };
        if matched {
            pattern = after;
            text = chars.as_str();
            continue;
        }
        let Some((star, from)) = retry else { return Some(false) };
        let mut chars = from.chars();
        if chars.next().is_none() {
            return Some(false);
        }
        pattern = star;
        text = chars.as_str();
        retry = Some((star, text));
    }
    None
}

/// Bits of one row: one for each place in the pattern.
type Word = u64;
const BITS: usize = Word::BITS as usize;

/// The pattern as an automaton. Place `n` is "the first `n` characters of the pattern are matched"; a bit says that
/// some try is there.
struct Tries {
    /// Words of a row.
    words: usize,
    /// Rows: for each class of characters the places whose next token takes it. The first is of characters that the
    /// pattern does not name.
    rows: Vec<Word>,
    ascii: [u8; 128],
    others: Vec<(char, usize)>,
    /// Places where a `*` stands: a try may stay there.
    stays: Vec<Word>,
    last: usize,
}

impl Tries {
    fn new(pattern: &str) -> Self {
        let places = 1 + tokens(pattern).filter(|token| !matches!(token, Token::Any)).count();
        let words = places.div_ceil(BITS);
        let mut tries = Self {
            words,
            rows: vec![0; words],
            ascii: [0; 128],
            others: Vec::new(),
            stays: vec![0; words],
            last: places - 1,
        };
        let named = tokens(pattern).filter_map(|token| match token {
            Token::Char(char) => Some(char.to_ascii_lowercase()),
            Token::Any | Token::One => None,
        });
        for char in named {
            if tries.class(char) == 0 {
                let class = tries.rows.len() / words;
                tries.rows.resize((class + 1) * words, 0);
                match tries.ascii.get_mut(char as usize) {
                    Some(slot) => *slot = u8::try_from(class).unwrap_or_default(),
                    None => tries.others.push((char, class)),
                }
            }
        }
        let mut place = 0;
        for token in tokens(pattern) {
            let (word, bit) = (place / BITS, 1 << (place % BITS));
            match token {
                Token::Any => {
                    tries.stays[word] |= bit;
                    continue;
                }
                Token::One => tries.rows.iter_mut().skip(word).step_by(words).for_each(|row| *row |= bit),
                Token::Char(char) => {
                    let class = tries.class(char.to_ascii_lowercase());
                    tries.rows[class * words + word] |= bit;
                }
            }
            place += 1;
        }
        tries
    }

    fn class(&self, lower: char) -> usize {
        match self.ascii.get(lower as usize) {
            Some(class) => usize::from(*class),
            None => self.others.iter().find(|(char, _)| *char == lower).map_or(0, |(_, class)| *class),
        }
    }

    fn all_at_once(&self, text: &str) -> bool {
        let mut at = vec![0; self.words];
        at[0] = 1;
        for char in text.chars() {
            let class = self.class(char.to_ascii_lowercase());
            let takes = &self.rows[class * self.words..][..self.words];
            let (mut carry, mut left) = (0, 0);
            for (word, bits) in at.iter_mut().enumerate() {
                let goes_on = *bits & takes[word];
                *bits = (goes_on << 1) | carry | (*bits & self.stays[word]);
                carry = goes_on >> (BITS - 1);
                left |= *bits;
            }
            if left == 0 {
                return false;
            }
        }
        at[self.last / BITS] & (1 << (self.last % BITS)) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both ways to the answer.
    fn both(pattern: &str, text: &str) -> bool {
        let walked = walk(pattern, text, usize::MAX).expect("it ends");
        assert_eq!(Tries::new(pattern).all_at_once(text), walked, "{pattern} {text}");
        assert_eq!(glob(pattern, text), walked, "{pattern} {text}");
        walked
    }

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("**", "abc"),
            ("a*c", "abc"),
            ("A?C", "abc"),
            ("*!*@*.example", "n!u@h.EXAMPLE"),
            ("*ab*ab", "xabyabab"),
            ("?", "🦀"),
            ("*🦀?é", "a🦀éé"),
            (r"\*a", "*a"),
            (r"\?", "?"),
            (r"foo\bar", r"foo\bar"),
            (r"a\", r"a\"),
        ] {
            assert!(both(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a*c", "ab"),
            (r"\*a", "xa"),
            (r"\?", "a"),
            ("é", "É"),
            ("*a", "ab"),
        ] {
            assert!(!both(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_agree(pattern in r"[aB*?\\é]{0,90}", text in r"[abB*?\\é]{0,90}") {
            both(&pattern, &text);
            both(&format!("*{pattern}*"), &format!("{text}{}{text}", pattern.replace('*', "ab")));
        }
    }

    #[test]
    fn patterns_longer_than_a_word_of_bits() {
        for length in [1, 62, 63, 64, 65, 127, 128, 129, 200] {
            let text: String = ('a'..='z').cycle().take(length).collect();
            assert!(both(&text, &text));
            assert!(both(&format!("*{text}*"), &format!("z{text}z")));
            assert!(both(&"?".repeat(length), &text));
            assert!(!both(&format!("{text}?"), &text));
            assert!(!both(&format!("*{text}"), &text[1..]));
        }
    }

    #[test]
    fn the_worst_pattern_is_not_walked_to_its_end() {
        let (pattern, text) = (format!("*{}b*", "a".repeat(74)), "a".repeat(150));
        let glob = Glob::new(&pattern);
        assert_eq!(walk(&pattern, &text, glob.steps(&text)), None);
        assert!(!glob.matches(&text));
        assert!(glob.matches(&format!("{text}b")) && !glob.matches("b"));
    }

    #[test]
    fn what_is_longer_than_the_text_is_not_looked_at() {
        let pattern = format!("*{}", "a".repeat(400));
        let glob = Glob::new(&pattern);
        assert!(!glob.matches(&"a".repeat(399)));
        assert!(glob.tries.get().is_none());
        assert!(glob.matches(&"a".repeat(400)));
    }
}
