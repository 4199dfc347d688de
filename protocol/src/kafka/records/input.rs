//! A cursor over bytes that a broker sent.
//!
//! Invariant: nothing is read past the end, and no length is believed before its bytes are there.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What is left to read. Every method takes from the front, or gives `None` and then must not be
/// asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn i8(&mut self) -> Option<i8> {
        self.chunk().map(i8::from_be_bytes)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.chunk().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.chunk().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_be_bytes)
    }

    /// A zigzag number of at most 32 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let raw = match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                u32::from(a)
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                u32::from(a & 0x7f) | u32::from(b) << 7
            }
            _ => u32::try_from(self.long_varint()?).ok()?,
        };
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag number of at most 64 bits.
    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let raw = match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                u64::from(a)
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                u64::from(a & 0x7f) | u64::from(b) << 7
            }
            _ => self.long_varint()?,
        };
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// Bytes behind their length; any negative length is null, as in Java's reader.
    #[inline]
    pub(super) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    /// As `nullable`, with the length of the formats before v2.
    pub(super) fn nullable_i32(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.i32()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    /// One header of a v2 record; its key cannot be null.
    pub(super) fn header(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let key = self.nullable()??;
        let value = self.nullable()?;
        Some((key, value))
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*chunk)
    }

    /// A base-128 number of up to 64 bits; more bits are an error, not cut off.
    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_varint(bytes: &[u8], expected: Option<i32>) {
        assert_eq!(Input::new(bytes).varint(), expected, "{bytes:x?}");
    }

    #[track_caller]
    fn check_varlong(bytes: &[u8], expected: Option<i64>) {
        assert_eq!(Input::new(bytes).varlong(), expected, "{bytes:x?}");
    }

    #[test]
    fn varints_are_zigzag() {
        check_varint(&[0x00], Some(0));
        check_varint(&[0x01], Some(-1));
        check_varint(&[0x02], Some(1));
        check_varint(&[0x7f], Some(-64));
        check_varint(&[0x80, 0x01], Some(64));
        check_varint(&[0xff, 0x7f], Some(-8192));
        check_varint(&[0x80, 0x80, 0x01], Some(8192));
        check_varint(&[0xfe, 0xff, 0xff, 0xff, 0x0f], Some(i32::MAX));
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0x0f], Some(i32::MIN));
        check_varlong(
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Some(i64::MAX),
        );
        check_varlong(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Some(i64::MIN),
        );
    }

    #[test]
    fn varints_with_too_many_bits_are_refused() {
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0x10], None);
        check_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], None);
        check_varlong(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            None,
        );
        check_varlong(&[0x80; 11], None);
    }

    #[test]
    fn cut_varints_are_refused() {
        check_varint(&[], None);
        check_varint(&[0x80], None);
        check_varint(&[0x80, 0x80], None);
        check_varlong(&[0xff; 9], None);
    }
}
