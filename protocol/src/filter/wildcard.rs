//! `wildcard`: a star stands for any text, even none; `\*` and `\\` stand for themselves.
//!
//! Invariant: a comparison takes time linear in the text.

use memchr::memmem::Finder;

/// A pattern, cut at its stars.
#[derive(Clone, Debug)]
pub(super) struct Wildcard {
    /// What stands before the first star, or all there is.
    first: Box<[u8]>,
    /// What stands between two stars, in order.
    between: Box<[Finder<'static>]>,
    /// What stands behind the last star; `None` without a star.
    last: Option<Box<[u8]>>,
}

impl Wildcard {
    /// Reads a pattern.
    pub(super) fn parse(pattern: &[u8]) -> Result<Self, &'static str> {
        let mut parts = vec![Vec::new()];
        let mut rest = pattern;
        while let [byte, after @ ..] = rest {
            rest = after;
            match (byte, after) {
                (b'*', [b'*', ..]) => return Err("has two wildcards in a row"),
                (b'*', _) => parts.push(Vec::new()),
                (b'\\', [escaped @ (b'*' | b'\\'), after @ ..]) => {
                    rest = after;
                    parts.last_mut().expect("it begins with one").push(*escaped);
                }
                (b'\\', _) => return Err(r"has a \ that stands before neither * nor \"),
                _ => parts.last_mut().expect("it begins with one").push(*byte),
            }
        }
        let first = parts.remove(0).into();
        let last = parts.pop().map(Vec::into_boxed_slice);
        let finder = |part: &Vec<u8>| Finder::new(part).into_owned();
        Ok(Self {
            first,
            between: parts.iter().map(finder).collect(),
            last,
        })
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some(last) = &self.last else {
            return *text == *self.first;
        };
        let Some(rest) = text.strip_prefix(&*self.first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        // What fits earliest leaves most to the others.
        self.between.iter().all(|part| {
            let found = part.find(rest);
            let behind = found.and_then(|at| rest.get(at + part.needle().len()..));
            rest = behind.unwrap_or_default();
            behind.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let wildcard = Wildcard::parse(pattern.as_bytes()).unwrap();
        for text in matching {
            assert!(wildcard.matches(text.as_bytes()), "{pattern} {text}");
        }
        for text in others {
            assert!(!wildcard.matches(text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn a_star_is_any_text() {
        check(
            "a*c",
            &["ac", "abc", "acbc", "acc"],
            &["a", "c", "acb", "bac", ""],
        );
        check("*", &["", "x", "*"], &[]);
        check("*.png", &[".png", "a.png"], &["a.pngx", "png"]);
        check(
            "a*b*c",
            &["abc", "axbxc", "abbc", "abcbc"],
            &["acb", "ab", "bc"],
        );
        check("aba*ba", &["ababa", "abaxba"], &["aba"]);
        check("*a*a*", &["aa", "xaxax"], &["a", ""]);
        check("plain", &["plain"], &["plainx", "xplain", ""]);
        check("", &[""], &["x"]);
    }

    #[test]
    fn an_escaped_star_is_itself() {
        check(r"a\*b", &["a*b"], &["ab", "axb"]);
        check(r"\\*", &[r"\", r"\x"], &["x"]);
        check(r"*\*", &["*", "a*"], &["a"]);
        check(r"*\**", &["*", "a*b"], &["a"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["a**b", "**", r"a\b", r"a\", r"\"] {
            assert!(Wildcard::parse(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }
}
