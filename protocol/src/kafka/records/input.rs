//! A cursor over bytes that a broker sent.
//!
//! Invariant: nothing is read past the end, and no length is believed before its bytes are there.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Bytes, and how far they are read. Every method takes from the front, or gives `None` and then must
/// not be asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    /// Why an index, and not a slice of the rest: in the records' path it is the one thing that moves.
    at: usize,
}

// Why always: what a record is read with must be in the loop over the records; a call for each number is dear.
impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads `bytes` from `at` on.
    #[inline]
    pub(super) fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    #[inline(always)]
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        // An end that wraps lies before the beginning, where there is nothing to get.
        let end = self.at.wrapping_add(count);
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// The next `count` bytes as an input of their own, which keeps its place in the whole.
    #[inline(always)]
    pub(super) fn take_input(&mut self, count: usize) -> Option<Self> {
        let end = self.at.checked_add(count)?;
        let taken = Self {
            bytes: self.bytes.get(..end)?,
            at: self.at,
        };
        self.at = end;
        Some(taken)
    }

    pub(super) fn i8(&mut self) -> Option<i8> {
        self.chunk().map(i8::from_be_bytes)
    }

    #[inline(always)]
    pub(super) fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at = self.at.wrapping_add(1);
        Some(byte)
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
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let raw = self.unsigned_varint()?;
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag number of at most 64 bits.
    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let raw = match self.short_varint()? {
            Some(short) => u64::from(short),
            None => self.long_varint()?,
        };
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag number that counts something; `Some(None)` when it is negative.
    #[inline(always)]
    pub(super) fn length(&mut self) -> Option<Option<usize>> {
        let raw = self.unsigned_varint()?;
        Some((raw & 1 == 0).then_some((raw >> 1) as usize))
    }

    /// Bytes behind their length; any negative length is null, as in Java's reader.
    #[inline(always)]
    pub(super) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.length()? {
            Some(length) => self.take(length).map(Some),
            None => Some(None),
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
    #[inline]
    pub(super) fn header(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let key = self.nullable()??;
        let value = self.nullable()?;
        Some((key, value))
    }

    /// What is left to read.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// How far it is read.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether all is read.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let chunk = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at = self.at.wrapping_add(N);
        Some(chunk)
    }

    #[inline(always)]
    fn unsigned_varint(&mut self) -> Option<u32> {
        match self.short_varint()? {
            Some(short) => Some(short),
            None => u32::try_from(self.long_varint()?).ok(),
        }
    }

    /// A base-128 number of one byte or two, which most are; `Some(None)`, with nothing read, when it
    /// has more.
    #[inline(always)]
    fn short_varint(&mut self) -> Option<Option<u32>> {
        let first = *self.bytes.get(self.at)?;
        if first < 0x80 {
            self.at = self.at.wrapping_add(1);
            return Some(Some(u32::from(first)));
        }
        let second = *self.bytes.get(self.at.wrapping_add(1))?;
        if second < 0x80 {
            self.at = self.at.wrapping_add(2);
            return Some(Some(u32::from(first & 0x7f) | u32::from(second) << 7));
        }
        Some(None)
    }

    /// A base-128 number of up to 64 bits; more bits are an error, not cut off.
    #[inline(never)]
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
