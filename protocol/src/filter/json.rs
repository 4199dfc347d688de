//! JSON text, read in place: what is asked for is lent, what is not is passed over, and all of it is checked.
//!
//! Every step either consumes what it is named after or gives `None`: then the text is not JSON (RFC 8259), or is
//! nested deeper than [`JSON_DEPTH_MAX`]. Whether the bytes are UTF-8 is asked elsewhere.
//!
//! Invariant: time is linear in the text, nothing is allocated, and no nesting grows the stack.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::limits::JSON_DEPTH_MAX;

/// A place in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

/// A string as it is written, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// It says what is written.
    Plain(&'a [u8]),
    /// There is an escape in it.
    Escaped(&'a [u8]),
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Takes that byte, if it is the next.
    #[inline]
    pub(super) fn take(&mut self, wanted: u8) -> Option<()> {
        match self.rest {
            [byte, rest @ ..] if *byte == wanted => {
                self.rest = rest;
                Some(())
            }
            _ => None,
        }
    }

    // Always: given back through memory, a string is waited for by whoever reads it at once.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Option<Text<'a>> {
        let [b'"', body @ ..] = self.rest else {
            return None;
        };
        let rest = past_plain(body);
        if let [b'"', after @ ..] = rest {
            self.rest = after;
            return Some(Text::Plain(before(body, rest)?));
        }
        self.rest = past_escapes(rest)?;
        let [raw @ .., _] = before(body, self.rest)? else {
            return None;
        };
        Some(Text::Escaped(raw))
    }

    /// A member's name, up to its value.
    #[inline(always)]
    pub(super) fn name(&mut self) -> Option<Text<'a>> {
        let name = self.string()?;
        self.space();
        self.take(b':')?;
        self.space();
        Some(name)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        self.rest = past_number(start)?;
        before(start, self.rest)
    }

    /// `null`, `true` or `false`.
    #[inline]
    pub(super) fn literal(&mut self, word: &'static [u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    /// Passes over a value that stands `depth` containers deep.
    #[inline]
    pub(super) fn pass_value(&mut self, depth: usize) -> Option<()> {
        *self = match self.peek()? {
            b'{' | b'[' => past_container(*self, depth)?,
            _ => past_scalar(*self)?,
        };
        Some(())
    }

    /// Behind a value: closes what ends here, and goes to the next value in what does not. False once all is closed.
    #[inline]
    fn close(&mut self, open: &mut Open) -> Option<bool> {
        while let Some(object) = open.innermost() {
            self.space();
            match (self.rest, object) {
                ([b',', rest @ ..], _) => {
                    self.rest = rest;
                    self.space();
                    if object {
                        *self = past_name(*self)?;
                    }
                    return Some(true);
                }
                ([b'}', rest @ ..], true) | ([b']', rest @ ..], false) => {
                    self.rest = rest;
                    open.pop();
                }
                _ => return None,
            }
        }
        Some(false)
    }
}

// What is called, and not copied to where it is called, takes and gives back the place by value: so it stays in
// registers.

fn past_name(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    cursor.name()?;
    Some(cursor)
}

fn past_scalar(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    match cursor.peek()? {
        b'"' => cursor.string().map(drop)?,
        b't' => cursor.literal(b"true")?,
        b'f' => cursor.literal(b"false")?,
        b'n' => cursor.literal(b"null")?,
        _ => cursor.number().map(drop)?,
    }
    Some(cursor)
}

fn past_container(mut cursor: Cursor<'_>, depth: usize) -> Option<Cursor<'_>> {
    let mut open = Open::within(depth);
    loop {
        match cursor.rest {
            [b'{', rest @ ..] => {
                cursor.rest = rest;
                open.push(true)?;
                cursor.space();
                if cursor.peek()? != b'}' {
                    cursor = past_name(cursor)?;
                    continue;
                }
            }
            [b'[', rest @ ..] => {
                cursor.rest = rest;
                open.push(false)?;
                cursor.space();
                if cursor.peek()? != b']' {
                    continue;
                }
            }
            _ => cursor = past_scalar(cursor)?,
        }
        if !cursor.close(&mut open)? {
            return Some(cursor);
        }
    }
}

fn past_number(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    if let [b'-', after @ ..] = rest {
        rest = after;
    }
    rest = match rest {
        [b'0', after @ ..] => after,
        _ => past_digits(rest)?,
    };
    if let [b'.', after @ ..] = rest {
        rest = past_digits(after)?;
    }
    if let [b'e' | b'E', after @ ..] = rest {
        rest = match after {
            [b'+' | b'-', after @ ..] => past_digits(after)?,
            after => past_digits(after)?,
        };
    }
    Some(rest)
}

/// What stands in the text before the rest of it.
#[inline]
fn before<'a>(text: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    text.get(..text.len().checked_sub(rest.len())?)
}

/// Passes over the rest of a string from its first escape, and over the quote at its end.
#[cold]
fn past_escapes(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match rest {
            [b'"', after @ ..] => return Some(after),
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                after @ ..,
            ] => rest = after,
            [b'\\', b'u', a, b, c, d, after @ ..]
                if [a, b, c, d].iter().all(|it| it.is_ascii_hexdigit()) =>
            {
                rest = after;
            }
            _ => return None,
        }
        rest = past_plain(rest);
    }
}

/// Containers that are open, a bit for each: whether it is an object.
struct Open {
    bits: [u64; JSON_DEPTH_MAX.div_ceil(64)],
    outer: usize,
    depth: usize,
}

impl Open {
    /// None, `depth` containers deep.
    fn within(depth: usize) -> Self {
        Self {
            bits: [0; JSON_DEPTH_MAX.div_ceil(64)],
            outer: depth,
            depth,
        }
    }

    fn push(&mut self, object: bool) -> Option<()> {
        let bit = 1 << (self.depth % 64);
        let word = self.bits.get_mut(self.depth / 64)?;
        *word = if object { *word | bit } else { *word & !bit };
        self.depth = self.depth.saturating_add(1);
        Some(())
    }

    fn innermost(&self) -> Option<bool> {
        if self.depth <= self.outer {
            return None;
        }
        let at = self.depth.checked_sub(1)?;
        Some(self.bits.get(at / 64)? >> (at % 64) & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

impl<'a> Text<'a> {
    /// What it says, in `scratch` where an escape must be resolved.
    #[inline]
    pub(super) fn resolve<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Self::Plain(raw) => raw,
            Self::Escaped(raw) => {
                resolve_into(raw, scratch);
                scratch
            }
        }
    }
}

/// Puts what a string with escapes says into `out`. A half of a surrogate pair that stands alone becomes the three bytes that
/// UTF-8 would give it, so that it equals itself and nothing else.
#[cold]
fn resolve_into(raw: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = raw;
    loop {
        let plain = past_plain(rest);
        out.extend_from_slice(before(rest, plain).unwrap_or_default());
        let [b'\\', kind, after @ ..] = plain else {
            return;
        };
        rest = after;
        match kind {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => rest = push_unit(after, out),
            other => out.push(*other),
        }
    }
}

/// Writes the character whose `\u` stands before `rest`; a pair of surrogates is one. Gives what follows.
fn push_unit<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((unit, after)) = hex_unit(rest) else {
        return &[];
    };
    if (0xd800..0xdc00).contains(&unit)
        && let [b'\\', b'u', low @ ..] = after
        && let Some((second, behind)) = hex_unit(low)
        && (0xdc00..0xe000).contains(&second)
    {
        let high = (unit & 0x3ff) << 10;
        let point = 0x1_0000_u32.saturating_add(high | (second & 0x3ff));
        let point = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(point.encode_utf8(&mut [0; 4]).as_bytes());
        return behind;
    }
    match char::from_u32(unit) {
        Some(point) => out.extend_from_slice(point.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let continuation = |bits: u32| u8::try_from(0x80 | (bits & 0x3f)).unwrap_or(0x80);
            out.extend_from_slice(&[0xed, continuation(unit >> 6), continuation(unit)]);
        }
    }
    after
}

fn hex_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [a, b, c, d] = *digits;
    Some((
        digit(a)? << 12 | digit(b)? << 8 | digit(c)? << 4 | digit(d)?,
        rest,
    ))
}

/// Passes over what needs no look in a string: all but quotes, backslashes and control characters.
#[inline]
fn past_plain(mut rest: &[u8]) -> &[u8] {
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            let plain = special.trailing_zeros() / 8;
            return rest.get(plain as usize..).unwrap_or_default();
        }
        rest = after;
    }
    while let [byte, after @ ..] = rest
        && !matches!(byte, b'"' | b'\\' | 0..0x20)
    {
        rest = after;
    }
    rest
}

/// Of eight bytes, the highest bit of the first one that is a quote, a backslash or a control character, and of
/// some behind it.
#[inline]
fn special_bytes(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = bytes ^ (ONES * 0x22);
    let backslash = bytes ^ (ONES * 0x5c);
    let below = |bytes: u64, least: u64| bytes.wrapping_sub(least) & !bytes;
    (below(bytes, ONES * 0x20) | below(quote, ONES) | below(backslash, ONES)) & HIGH
}

/// Passes over one digit or more.
#[inline]
fn past_digits(rest: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', rest @ ..] = rest else {
        return None;
    };
    let mut rest = rest;
    while let [b'0'..=b'9', after @ ..] = rest {
        rest = after;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `text` is one JSON value, by passing over it.
    fn is_json(text: &[u8]) -> bool {
        let mut cursor = Cursor::new(text);
        cursor.space();
        let passed = cursor.pass_value(0);
        cursor.space();
        passed.is_some() && cursor.rest().is_empty()
    }

    #[test]
    fn what_the_grammar_allows_is_passed_over() {
        for text in [
            "0",
            "-0",
            "10",
            "-1.5e+10",
            "1E5",
            "0.0",
            "null",
            "true",
            "false",
            "\"\"",
            "\"a\\n\\u0041\\\\ \\\" \\/\"",
            "\"\\ud800\"",
            "[]",
            "{}",
            " [ ] ",
            "{ }",
            "[1,[2],{\"a\":[{}]}]",
            "\t{\"a\" : 1 ,\n\"b\":{ \"c\" : [ ] } }\r",
        ] {
            assert!(is_json(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_forbids_is_not() {
        for text in [
            "",
            " ",
            "+1",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "NaN",
            "tru",
            "True",
            "nulll",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\",
            "'a'",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{\"a\":1]",
            "[1}",
            "{} {}",
            "[]x",
            "// \n1",
            "{\"a\" 1}",
        ] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(is_json(&nested(JSON_DEPTH_MAX)));
        assert!(!is_json(&nested(JSON_DEPTH_MAX + 1)));
        assert!(!is_json(&nested(1_000_000)));
        let mut cursor = Cursor::new(b"[[]]");
        assert!(cursor.pass_value(JSON_DEPTH_MAX - 1).is_none());
    }

    #[test]
    fn escapes_are_resolved() {
        let check = |raw: &str, expected: &[u8]| {
            let mut cursor = Cursor::new(raw.as_bytes());
            let text = cursor.string().unwrap();
            assert_eq!(text.resolve(&mut Vec::new()), expected, "{raw}");
        };
        check("\"plain\"", b"plain");
        check(r#""a\"\\\/\b\f\n\r\tz""#, b"a\"\\/\x08\x0c\n\r\tz");
        check(r#""\u0041\u00e9\u20ac""#, "Aé€".as_bytes());
        check(r#""\ud83d\ude00""#, "😀".as_bytes());
        check(r#""\ud83dx""#, &[0xed, 0xa0, 0xbd, b'x']);
        check(r#""\ude00\ud83d""#, &[0xed, 0xb8, 0x80, 0xed, 0xa0, 0xbd]);
        check(r#""\ud83d\u0041""#, &[0xed, 0xa0, 0xbd, b'A']);
    }

    #[test]
    fn a_run_of_plain_bytes_ends_where_it_should() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for at in 0..40 {
                let mut text = vec![b'a'; 40];
                text[at] = special;
                text.extend_from_slice(&[0x80, 0xff, 0x7f, b' ', b'!', b'#', b'[', b']']);
                assert_eq!(past_plain(&text).len(), text.len() - at);
            }
        }
        let plain = [0x80, 0xff, 0x7f, b' ', b'!', b'#', b'[', b']', 0xa2, 0xdc];
        assert!(past_plain(&plain).is_empty());
    }
}
