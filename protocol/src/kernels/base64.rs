//! Base64 into room that has some slack.
//!
//! Sources: RFC 4648 section 4; W. Muła and D. Lemire, "Faster Base64 Encoding and Decoding using AVX2
//! Instructions" (2018).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod ssse3;

use base64_simd::{AsOut, STANDARD};

/// Bytes past its result that [`Encoder::encode`] may overwrite.
pub(crate) const SLACK_BYTES: usize = 31;

/// The way of this CPU, found once for all the values that it encodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::Detected>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Detected::new(),
        }
    }

    /// Writes the base64 of `bytes` to the beginning of `room`, which has [`SLACK_BYTES`] more than that
    /// needs, and tells its length.
    #[inline]
    pub(crate) fn encode(self, bytes: &[u8], room: &mut [u8]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(detected) = self.avx2 {
            return detected.encode(bytes, room);
        }
        STANDARD.encode(bytes, room.as_out()).len()
    }
}

/// What [`Encoder::encode`] writes for that many bytes.
#[inline]
pub(crate) fn encoded_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Writes the `=` at the end of `text`, which is the base64 of that many bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
fn put_padding(bytes: usize, text: &mut [u8]) {
    match (bytes % 3, text) {
        (1, [.., first, second]) => (*first, *second) = (b'=', b'='),
        (2, [.., last]) => *last = b'=',
        _ => {}
    }
}

/// The words of less than 24 bytes; zeros stand for what is not there. Copying it into a block of
/// zeros would take longer than encoding it.
#[cfg(target_arch = "x86_64")]
#[inline]
fn zero_padded(rest: &[u8]) -> [u64; 3] {
    let last_word = |end: usize| {
        // In two steps, since one by 64 bits would be one too far.
        let missing = 8 * (end - rest.len() - 1);
        let last = rest
            .last_chunk()
            .map_or(0, |last| u64::from_le_bytes(*last));
        last >> missing >> 8
    };
    match rest.as_chunks().0 {
        [] => [short_word(rest), 0, 0],
        [low] => [u64::from_le_bytes(*low), last_word(16), 0],
        [low, middle, ..] => [
            u64::from_le_bytes(*low),
            u64::from_le_bytes(*middle),
            last_word(24),
        ],
    }
}

/// The word of less than eight bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            let last_at = 8 * (bytes.len() - last.len());
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << last_at
        }
        _ => bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// With `before` bytes of the room left alone, as those behind the slack must be.
    #[track_caller]
    fn check(bytes: &[u8], before: usize) {
        const UNTOUCHED: u8 = 0xa5;
        let expected = STANDARD.encode_to_string(bytes);
        let end = before + expected.len();
        let mut room = vec![UNTOUCHED; end + SLACK_BYTES + 8];
        let len = Encoder::new().encode(bytes, &mut room[before..end + SLACK_BYTES]);
        assert_eq!(len, encoded_len(bytes.len()));
        assert_eq!(&room[before..before + len], expected.as_bytes());
        let (front, back) = (&room[..before], &room[end + SLACK_BYTES..]);
        assert!(front.iter().chain(back).all(|byte| *byte == UNTOUCHED));
    }

    #[test]
    fn every_group_of_three_bytes_has_its_letters() {
        for first in 0..=u8::MAX {
            let seconds =
                (0..=u8::MAX).flat_map(|second| (0..=u8::MAX).map(move |third| [second, third]));
            let groups: Vec<u8> = seconds
                .flat_map(|[second, third]| [first, second, third])
                .collect();
            check(&groups, 0);
        }
    }

    #[test]
    fn every_short_length_ends_with_its_padding() {
        let bytes: Vec<u8> = (0..200).map(|index: u8| index.wrapping_mul(151)).collect();
        for from in 0..16 {
            for to in from..bytes.len() {
                check(&bytes[from..to], from);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_anywhere(bytes in vec(any::<u8>(), 0..3000), skipped in 0..64_usize, before in 0..64_usize) {
            check(bytes.get(skipped..).unwrap_or_default(), before);
        }
    }
}
