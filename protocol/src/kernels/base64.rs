//! Base64 into room that has some slack.
//!
//! Sources: RFC 4648 section 4; W. Muła and D. Lemire, "Faster Base64 Encoding and Decoding using AVX2
//! Instructions" (2018).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod ssse3;
#[cfg(target_arch = "x86_64")]
mod vbmi;

use base64_simd::{AsOut, STANDARD};

use crate::kernels;

/// Bytes past its result that [`Encoder::encode`] may overwrite: the widest kernel writes 64 at a time.
pub(crate) const SLACK_BYTES: usize = 63;

/// The way of this CPU, found once for all the values that it encodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder(Way);

#[derive(Clone, Copy, Debug)]
enum Way {
    #[cfg(target_arch = "x86_64")]
    Vbmi(vbmi::Detected),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Detected),
    Safe,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let kernel = kernels::may_run().then(|| Self::kernels().next());
        kernel.flatten().unwrap_or(Self(Way::Safe))
    }

    /// Writes the base64 of `bytes` to the beginning of `room`, which has [`SLACK_BYTES`] more than that
    /// needs, and tells its length.
    #[inline]
    pub(crate) fn encode(self, bytes: &[u8], room: &mut [u8]) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Vbmi(detected) => detected.encode(bytes, room),
            #[cfg(target_arch = "x86_64")]
            Way::Avx2(detected) => detected.encode(bytes, room),
            Way::Safe => encode_safely(bytes, room),
        }
    }

    /// Those that this CPU can run, the fastest first.
    fn kernels() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let ways = [
            vbmi::Detected::new().map(Way::Vbmi),
            avx2::Detected::new().map(Way::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let ways: [Option<Way>; 0] = [];
        ways.into_iter().flatten().map(Self)
    }
}

/// What [`Encoder::encode`] writes for that many bytes.
#[inline]
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Not inlined, so that what calls a kernel stays small.
#[inline(never)]
fn encode_safely(bytes: &[u8], room: &mut [u8]) -> usize {
    STANDARD.encode(bytes, room.as_out()).len()
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

    /// By every way that this CPU has; with `before` bytes of the room left alone, as those behind the slack
    /// must be.
    #[track_caller]
    fn check(bytes: &[u8], before: usize) {
        let expected = STANDARD.encode_to_string(bytes);
        for encoder in Encoder::kernels().chain([Encoder(Way::Safe)]) {
            check_way(encoder, bytes, before, expected.as_bytes());
        }
    }

    #[track_caller]
    fn check_way(encoder: Encoder, bytes: &[u8], before: usize, expected: &[u8]) {
        const UNTOUCHED: u8 = 0xa5;
        let end = before + expected.len();
        let mut room = vec![UNTOUCHED; end + SLACK_BYTES + 8];
        let len = encoder.encode(bytes, &mut room[before..end + SLACK_BYTES]);
        assert_eq!(len, encoded_len(bytes.len()), "{encoder:?}");
        assert_eq!(&room[before..before + len], expected, "{encoder:?}");
        let (front, back) = (&room[..before], &room[end + SLACK_BYTES..]);
        let untouched = front.iter().chain(back).all(|byte| *byte == UNTOUCHED);
        assert!(untouched, "{encoder:?}");
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
