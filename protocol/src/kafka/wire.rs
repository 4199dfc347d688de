//! Bounded readers of everything that a broker sends: each takes what it wants off the front of a frame,
//! or says which field is wrong and how.
//!
//! A [`Reader`] knows whether its message is flexible (KIP-482: compact lengths, tagged fields), so one
//! decoder serves all versions of a message. Strings are copied, bytes and records are slices of the frame.
//!
//! Invariant: nothing is reserved for a count before as many bytes have arrived as that many elements take
//! at least; every loop takes at least one byte in each round; no input can panic.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Buf, Bytes};
use uuid::Uuid;

use crate::limits::ARRAY_ELEMENTS_MAX;

/// A request that the wire format cannot hold: a name or a list is longer than its length can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub(super) String);

/// What is wrong with an answer: the peer broke the protocol, or is no Kafka broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The answer ends within a field.
    #[error("{field}: {needed} bytes are wanted, {left} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length below zero where none may be.
    #[error("{field}: length {length} is impossible")]
    BadLength {
        /// The field.
        field: &'static str,
        /// The length as it stands there.
        length: i64,
    },
    /// More elements than can follow, or than we take.
    #[error("{field}: {count} elements are announced, {left} bytes are left")]
    BadCount {
        /// The array.
        field: &'static str,
        /// The count as it stands there.
        count: i64,
        /// Bytes that are left.
        left: usize,
    },
    /// Null where the schema wants a value.
    #[error("{field}: null where a value is wanted")]
    UnexpectedNull {
        /// The field.
        field: &'static str,
    },
    /// Text that is no UTF-8.
    #[error("{field}: text is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A variable-length number that does not end within its five bytes.
    #[error("{field}: variable-length number does not fit 32 bits")]
    BadVarint {
        /// The field.
        field: &'static str,
    },
    /// A number outside of what the field can mean.
    #[error("{field}: value {value} is out of range")]
    BadValue {
        /// The field.
        field: &'static str,
        /// The value.
        value: i64,
    },
    /// The answer is about something that was not asked for.
    #[error("{field}: {found:?} was not asked for")]
    NotAsked {
        /// The field.
        field: &'static str,
        /// What the answer is about.
        found: String,
    },
    /// The answer lacks what was asked for.
    #[error("{field}: nothing about what was asked for")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// Bytes after the end.
    #[error("{field}: {left} bytes follow its end")]
    Trailing {
        /// The message, or the tagged field.
        field: &'static str,
        /// How many.
        left: usize,
    },
}

/// An element takes at most so many times as much memory as it takes on the wire at least.
const EXPANSION_MAX: usize = 32;

/// Reads fields off the front of a frame.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    flexible: bool,
}

impl Reader {
    /// A reader of these bytes, in flexible form or not.
    pub fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible }
    }

    /// Ends the reading: bytes that are left over are an error.
    pub fn finish(self, field: &'static str) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { field, left }),
        }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// One byte; anything but 0 is true, as Kafka reads it.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let left = self.left();
        match self.bytes.try_get_u8() {
            Ok(byte) => Ok(byte != 0),
            Err(_) => Err(truncated(field, 1, left)),
        }
    }

    /// An 8-bit number.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        let left = self.left();
        self.bytes
            .try_get_i8()
            .map_err(|_| truncated(field, 1, left))
    }

    /// A 16-bit number.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        let left = self.left();
        self.bytes
            .try_get_i16()
            .map_err(|_| truncated(field, 2, left))
    }

    /// A 32-bit number.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        let left = self.left();
        self.bytes
            .try_get_i32()
            .map_err(|_| truncated(field, 4, left))
    }

    /// A 64-bit number.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let left = self.left();
        self.bytes
            .try_get_i64()
            .map_err(|_| truncated(field, 8, left))
    }

    /// A UUID.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        let left = self.left();
        self.bytes
            .try_get_u128()
            .map(Uuid::from_u128)
            .map_err(|_| truncated(field, 16, left))
    }

    /// An unsigned number of one to five bytes, seven bits each, the lowest first.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in [0_u32, 7, 14, 21, 28] {
            let Ok(byte) = self.bytes.try_get_u8() else {
                return Err(truncated(field, 1, 0));
            };
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::BadVarint { field });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::BadVarint { field })
    }

    /// Text that must be there.
    pub fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.nullable_string(field)?
            .ok_or(DecodeError::UnexpectedNull { field })
    }

    /// Text that may be null.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        let length = if self.flexible {
            self.compact_length(field)?
        } else {
            plain_length(field, i64::from(self.i16(field)?))?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let bytes = self.take(field, length)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(DecodeError::NotUtf8 { field }),
        }
    }

    /// Bytes that must be there, as a slice of the frame.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(field)?
            .ok_or(DecodeError::UnexpectedNull { field })
    }

    /// Bytes that may be null, as a slice of the frame.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let length = if self.flexible {
            self.compact_length(field)?
        } else {
            plain_length(field, i64::from(self.i32(field)?))?
        };
        length.map(|length| self.take(field, length)).transpose()
    }

    /// An array that must be there. `element_bytes` is the least that one element takes on the wire, not 0.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        element_bytes: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(field, element_bytes, element)?
            .ok_or(DecodeError::UnexpectedNull { field })
    }

    /// An array that may be null.
    pub fn nullable_array<T>(
        &mut self,
        field: &'static str,
        element_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count(field, element_bytes)? else {
            return Ok(None);
        };
        // `count` elements of `element_bytes` have room in what has arrived, so this is the bound of what
        // is reserved: a small multiple of the frame.
        debug_assert!(size_of::<T>() <= element_bytes.saturating_mul(EXPANSION_MAX));
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Passes over an array of 32-bit numbers.
    pub fn skip_i32_array(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let count = self
            .count(field, 4)?
            .ok_or(DecodeError::UnexpectedNull { field })?;
        self.take(field, count.saturating_mul(4)).map(drop)
    }

    /// Passes over the tagged fields that end a flexible structure; nothing in other versions.
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        self.tags(field, |_, _| Ok(()))
    }

    /// Gives each tagged field that ends a flexible structure to `take`, with its tag and a reader of its
    /// bytes alone; nothing in other versions.
    pub fn tags(
        &mut self,
        field: &'static str,
        mut take: impl FnMut(u32, Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint(field)?;
        // A tagged field takes at least two bytes: its tag and its size.
        if usize::try_from(count).map_or(true, |count| count > self.left() / 2) {
            return Err(bad_count(field, i64::from(count), self.left()));
        }
        for _ in 0..count {
            let tag = self.unsigned_varint(field)?;
            let size = self.unsigned_varint(field)?;
            let size = usize::try_from(size).map_err(|_| bad_length(field, i64::from(size)))?;
            take(tag, Self::new(self.take(field, size)?, true))?;
        }
        Ok(())
    }

    /// The count of an array, once it is sure that so many elements can follow.
    fn count(
        &mut self,
        field: &'static str,
        element_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let count = if self.flexible {
            self.compact_length(field)?
        } else {
            plain_length(field, i64::from(self.i32(field)?))?
        };
        let Some(count) = count else {
            return Ok(None);
        };
        let room = self.left().checked_div(element_bytes).unwrap_or(0);
        if count > room || count > ARRAY_ELEMENTS_MAX {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            return Err(bad_count(field, count, self.left()));
        }
        Ok(Some(count))
    }

    /// A length plus one; 0 is null.
    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let length = self.unsigned_varint(field)?.checked_sub(1);
        length
            .map(|length| usize::try_from(length).map_err(|_| bad_length(field, i64::from(length))))
            .transpose()
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.left() {
            return Err(truncated(field, length, self.left()));
        }
        Ok(self.bytes.split_to(length))
    }
}

/// A signed length; -1 is null, below it is an error.
fn plain_length(field: &'static str, length: i64) -> Result<Option<usize>, DecodeError> {
    if length == -1 {
        return Ok(None);
    }
    usize::try_from(length)
        .map(Some)
        .map_err(|_| bad_length(field, length))
}

fn truncated(field: &'static str, needed: usize, left: usize) -> DecodeError {
    DecodeError::Truncated {
        field,
        needed,
        left,
    }
}

fn bad_length(field: &'static str, length: i64) -> DecodeError {
    DecodeError::BadLength { field, length }
}

fn bad_count(field: &'static str, count: i64, left: usize) -> DecodeError {
    DecodeError::BadCount { field, count, left }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes), false)
    }

    fn flexible(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes), true)
    }

    #[test]
    fn error_names_the_field_and_the_value() {
        let error = plain(&[0, 0]).i32("generation_id").unwrap_err();
        let text = "generation_id: 4 bytes are wanted, 2 are left";
        assert_eq!(error.to_string(), text);
        let error = plain(&[0xff, 0xfe]).string("host").unwrap_err();
        assert_eq!(error.to_string(), "host: length -2 is impossible");
        let error = plain(&[0x7f, 0xff, b'x']).string("host").unwrap_err();
        assert_eq!(
            error.to_string(),
            "host: 32767 bytes are wanted, 1 are left"
        );
    }

    fn check_varint(bytes: &'static [u8], expected: Result<u32, DecodeError>) {
        assert_eq!(flexible(bytes).unsigned_varint("n"), expected);
    }

    #[test]
    fn varint_ends_within_32_bits() {
        let bad = DecodeError::BadVarint { field: "n" };
        check_varint(&[0], Ok(0));
        check_varint(&[0x7f], Ok(127));
        check_varint(&[0x80, 0x01], Ok(128));
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(bad.clone()));
        check_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], Err(bad));
        check_varint(&[0x80], Err(truncated("n", 1, 0)));
        check_varint(&[], Err(truncated("n", 1, 0)));
    }

    #[test]
    fn text_is_null_empty_or_utf8() {
        assert_eq!(plain(&[0xff, 0xff]).nullable_string("s"), Ok(None));
        assert_eq!(plain(&[0, 0]).nullable_string("s"), Ok(Some(String::new())));
        assert_eq!(flexible(&[0]).nullable_string("s"), Ok(None));
        assert_eq!(flexible(&[1]).string("s"), Ok(String::new()));
        assert_eq!(flexible(&[3, b'h', b'i']).string("s"), Ok("hi".into()));
        let null = DecodeError::UnexpectedNull { field: "s" };
        assert_eq!(flexible(&[0]).string("s"), Err(null));
        let not_utf8 = DecodeError::NotUtf8 { field: "s" };
        assert_eq!(plain(&[0, 1, 0xc3]).string("s"), Err(not_utf8));
    }

    fn numbers(mut reader: Reader) -> Result<Vec<i32>, DecodeError> {
        reader.array("n", 4, |reader| reader.i32("n"))
    }

    #[test]
    fn count_above_what_has_arrived_is_refused_before_anything_is_reserved() {
        assert_eq!(numbers(plain(&[0, 0, 0, 1, 0, 0, 0, 7])), Ok(vec![7]));
        assert_eq!(numbers(flexible(&[2, 0, 0, 0, 7])), Ok(vec![7]));
        let bad = |count, left| DecodeError::BadCount {
            field: "n",
            count,
            left,
        };
        let huge = plain(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 7]);
        assert_eq!(numbers(huge), Err(bad(i64::from(i32::MAX), 4)));
        let huge = flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 7]);
        assert_eq!(numbers(huge), Err(bad(i64::from(u32::MAX) - 1, 4)));
        assert_eq!(numbers(plain(&[0, 0, 0, 2, 0, 0, 0, 7])), Err(bad(2, 4)));
    }

    #[test]
    fn count_above_the_limit_is_refused_although_it_has_arrived() {
        let count = ARRAY_ELEMENTS_MAX + 1;
        let mut bytes = i32::try_from(count).unwrap().to_be_bytes().to_vec();
        bytes.resize(4 + 4 * count, 0);
        let error = numbers(Reader::new(bytes.into(), false)).unwrap_err();
        assert!(matches!(error, DecodeError::BadCount { .. }), "{error}");
    }

    #[test]
    fn negative_counts_are_refused_and_null_is_told_apart() {
        let null = DecodeError::UnexpectedNull { field: "n" };
        assert_eq!(numbers(plain(&[0xff, 0xff, 0xff, 0xff])), Err(null.clone()));
        assert_eq!(numbers(flexible(&[0])), Err(null));
        let bad = bad_length("n", -2);
        assert_eq!(numbers(plain(&[0xff, 0xff, 0xff, 0xfe])), Err(bad));
    }

    #[test]
    fn tagged_fields_are_passed_over_or_taken() {
        let mut reader = flexible(&[2, 0, 1, 9, 5, 2, 7, 7, 0xaa]);
        let mut seen = Vec::new();
        reader
            .tags("t", |tag, field| {
                seen.push((tag, field.left()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(0, 1), (5, 2)]);
        assert_eq!(reader.left(), 1);
        assert_eq!(plain(&[2, 0]).skip_tags("t"), Ok(()));
    }

    #[test]
    fn tagged_fields_that_cannot_follow_are_refused() {
        let error = flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0])
            .skip_tags("t")
            .unwrap_err();
        assert_eq!(error, bad_count("t", i64::from(u32::MAX), 2));
        let error = flexible(&[1, 0, 3, 7]).skip_tags("t").unwrap_err();
        assert_eq!(error, truncated("t", 3, 1));
    }
}
