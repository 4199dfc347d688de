//! The texts inside an event: JSON strings, decimals and header bytes, written into room that is there.
//!
//! Sources: RFC 8259 section 7 (strings), RFC 4648 section 4 (base64).
//!
//! Invariant: a length that a function here foretells is the length that its twin writes.

use super::trailing::TrailingHash;
use crate::kafka::records::Headers;
use crate::kernels::base64;

/// Bytes past the end of what is written that a writer may overwrite: it copies whole blocks.
pub(super) const SLACK_BYTES: usize = BLOCK_BYTES;

/// What [`Output::put_blocks`] copies at once.
pub(super) const BLOCK_BYTES: usize = 64;

const _: () = assert!(base64::SLACK_BYTES <= SLACK_BYTES);

const HEADERS_OPEN: &[u8; 12] = br#","headers":["#;
const HEADER_KEY_OPEN: &[u8; 2] = br#"{""#;
const HEADER_KEY_CLOSE: &[u8; 3] = br#"":["#;
const HEADER_CLOSE: &[u8; 2] = b"]}";
const RECORD_CLOSE: &[u8; 2] = b"]}";

/// Room to write into, and how far it is filled.
pub(super) struct Output<'a> {
    room: &'a mut [u8],
    at: usize,
    base64: base64::Encoder,
    /// Of all that is before `at`, where it is wanted.
    hash: Option<&'a mut TrailingHash>,
}

impl<'a> Output<'a> {
    /// Writes from `at` on. The room reaches [`SLACK_BYTES`] past the last byte that will be written.
    pub(super) fn new(
        room: &'a mut [u8],
        at: usize,
        base64: base64::Encoder,
        hash: Option<&'a mut TrailingHash>,
    ) -> Self {
        Self {
            room,
            at,
            base64,
            hash,
        }
    }

    /// How far the room is filled.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.room[self.at..self.at + N].copy_from_slice(text);
        self.at += N;
    }

    /// The first `len` bytes of `padded`, which reaches to a whole block.
    #[inline]
    pub(super) fn put_blocks(&mut self, padded: &[u8], len: usize) {
        debug_assert!(self.at + padded.len() <= self.room.len());
        let blocks = padded.chunks_exact(BLOCK_BYTES);
        for (from, to) in blocks.zip(self.room[self.at..].chunks_exact_mut(BLOCK_BYTES)) {
            to.copy_from_slice(from);
        }
        self.at += len;
    }

    #[inline]
    pub(super) fn put_base64(&mut self, bytes: &[u8]) {
        self.at += match &mut self.hash {
            None => self.base64.encode(bytes, &mut self.room[self.at..]),
            Some(hash) => hash.put_base64(bytes, self.room, self.at),
        };
    }

    pub(super) fn put_slice(&mut self, text: &[u8]) {
        self.room[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += text.len();
    }

    /// From `,"headers":[` to the record's closing brace.
    #[inline]
    pub(super) fn put_headers(&mut self, headers: &Headers<'_>) {
        self.put(HEADERS_OPEN);
        for (index, (key, value)) in headers.iter().enumerate() {
            if index > 0 {
                self.put(b",");
            }
            self.put(HEADER_KEY_OPEN);
            escape(key, |text| self.put_slice(text));
            self.put(HEADER_KEY_CLOSE);
            self.put_signed(value.unwrap_or_default());
            self.put(HEADER_CLOSE);
        }
        self.put(RECORD_CLOSE);
    }

    /// Each byte as a signed decimal, with commas between.
    fn put_signed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let decimal = &SIGNED[usize::from(*byte)];
            let text = &decimal.text;
            self.room[self.at..self.at + text.len()].copy_from_slice(text);
            self.at += usize::from(decimal.len);
        }
        if !bytes.is_empty() {
            self.at -= 1;
        }
    }
}

/// What [`Output::put_headers`] writes, and how many bytes of header keys are not UTF-8.
#[inline]
pub(super) fn headers_len(headers: &Headers<'_>) -> (usize, usize) {
    let fixed = HEADERS_OPEN.len() + RECORD_CLOSE.len();
    if headers.is_empty() {
        return (fixed, 0);
    }
    let mut len = fixed + headers.len() - 1;
    let mut replaced = 0;
    for (key, value) in headers.iter() {
        len += HEADER_KEY_OPEN.len() + HEADER_KEY_CLOSE.len() + HEADER_CLOSE.len();
        replaced += escape(key, |text| len += text.len());
        let value = value.unwrap_or_default();
        let decimals: usize = value
            .iter()
            .map(|byte| usize::from(SIGNED[usize::from(*byte)].len))
            .sum();
        len += decimals.saturating_sub(1);
    }
    (len, replaced)
}

/// Gives `text` piece by piece as the inside of a JSON string in ASCII. A byte that is not UTF-8 becomes
/// U+FFFD; the number of these is returned.
pub(super) fn escape(text: &[u8], mut put: impl FnMut(&[u8])) -> usize {
    if text.iter().all(|byte| is_plain(*byte)) {
        put(text);
        return 0;
    }
    let mut replaced = 0;
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            escape_char(char, &mut put);
        }
        for _ in chunk.invalid() {
            put(br"\ufffd");
            replaced += 1;
        }
    }
    replaced
}

/// `text` as the inside of a JSON string in ASCII.
pub(super) fn escaped(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    escape(text.as_bytes(), |piece| out.extend_from_slice(piece));
    out
}

fn escape_char(char: char, put: &mut impl FnMut(&[u8])) {
    match char {
        '"' => put(br#"\""#),
        '\\' => put(br"\\"),
        '\u{8}' => put(br"\b"),
        '\u{c}' => put(br"\f"),
        '\n' => put(br"\n"),
        '\r' => put(br"\r"),
        '\t' => put(br"\t"),
        ' '..='~' => {
            let mut plain = [0; 4];
            put(char.encode_utf8(&mut plain).as_bytes());
        }
        _ => {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                let [high, low] = unit.to_be_bytes();
                let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                let digits = [hex(high >> 4), hex(high), hex(low >> 4), hex(low)];
                put(br"\u");
                put(&digits);
            }
        }
    }
}

/// Whether a byte stands for itself inside a JSON string.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends `value` in decimal.
pub(super) fn append_decimal(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let start = out.len();
    let value = value.unsigned_abs();
    let digits = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    out.resize(start + digits, b'0');
    write_digits(&mut out[start..], value);
}

/// Fills `out` from its end with the last digits of `value`.
#[inline]
pub(super) fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
    }
}

/// Adds one to a decimal that has a digit that is not 9.
#[inline]
pub(super) fn increment_digits(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// A byte as a signed decimal with a comma behind it, padded so that copying it has a fixed size.
struct SignedByte {
    text: [u8; 5],
    len: u8,
}

static SIGNED: [SignedByte; 256] = signed_bytes();

const fn signed_bytes() -> [SignedByte; 256] {
    const NONE: SignedByte = SignedByte {
        text: [b','; 5],
        len: 0,
    };
    let mut table = [NONE; 256];
    let mut byte: u8 = 0;
    loop {
        let entry = &mut table[byte as usize];
        let magnitude = byte.cast_signed().unsigned_abs();
        let mut len = 0;
        if byte.cast_signed() < 0 {
            entry.text[len] = b'-';
            len += 1;
        }
        if magnitude >= 100 {
            entry.text[len] = b'0' + magnitude / 100;
            len += 1;
        }
        if magnitude >= 10 {
            entry.text[len] = b'0' + magnitude / 10 % 10;
            len += 1;
        }
        entry.text[len] = b'0' + magnitude % 10;
        // The digit, and the comma that fills the rest of the text.
        entry.len = match len {
            0 => 2,
            1 => 3,
            2 => 4,
            _ => 5,
        };
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_escaped(text: &[u8], expected: &str, replaced: usize) {
        let mut out = Vec::new();
        let count = escape(text, |piece| out.extend_from_slice(piece));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(count, replaced);
    }

    #[test]
    fn strings_are_ascii() {
        check_escaped(b"plain ~", "plain ~", 0);
        check_escaped(br#"a"b\c"#, r#"a\"b\\c"#, 0);
        check_escaped(
            b"\x08\x0c\n\r\t\x00\x1f\x7f",
            r"\b\f\n\r\t\u0000\u001f\u007f",
            0,
        );
        check_escaped("é☃".as_bytes(), r"\u00e9\u2603", 0);
        check_escaped("😀".as_bytes(), r"\ud83d\ude00", 0);
    }

    #[test]
    fn each_byte_that_is_not_utf8_is_replaced_and_counted() {
        check_escaped(b"a\xffb", r"a\ufffdb", 1);
        check_escaped(b"\xe2\x98", r"\ufffd\ufffd", 2);
        check_escaped(b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd", 3);
        check_escaped(b"\xe2\x98\x83\xc0", r"\u2603\ufffd", 1);
    }

    #[test]
    fn escapes_agree_with_serde_json_for_any_string() {
        for text in ["", "\u{0}\u{7f}\u{80}\u{ffff}\u{10000}\u{10ffff}", "\"\\/"] {
            let json = format!("\"{}\"", String::from_utf8(escaped(text)).unwrap());
            assert!(json.is_ascii());
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn decimals_have_no_more_digits_than_they_need() {
        for value in [0, 9, 10, 99, 100, -1, i64::MAX, i64::MIN, 1_700_000_000_123] {
            let mut out = b"x".to_vec();
            append_decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{value}"));
        }
    }

    #[test]
    fn incrementing_carries() {
        for (before, after) in [("0", "1"), ("09", "10"), ("1999", "2000"), ("8", "9")] {
            let mut digits = before.as_bytes().to_vec();
            increment_digits(&mut digits);
            assert_eq!(digits, after.as_bytes());
        }
    }

    #[test]
    fn header_bytes_are_signed() {
        for byte in 0..=u8::MAX {
            let entry = &SIGNED[usize::from(byte)];
            let text = &entry.text[..usize::from(entry.len)];
            assert_eq!(text, format!("{},", byte.cast_signed()).as_bytes());
        }
    }
}
