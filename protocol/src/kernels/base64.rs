//! Base64 into room that has some slack.
//!
//! Sources: RFC 4648 section 4; W. Muła and D. Lemire, "Faster Base64 Encoding and Decoding using AVX2
//! Instructions" (2018).

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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #![expect(unsafe_code, reason = "a kernel; see the module above")]

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{SLACK_BYTES, encoded_len, put_padding, zero_padded};
    use crate::kernels;

    /// The CPU has AVX2: there is no other way to one of these.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Detected(());

    impl Detected {
        pub(super) fn new() -> Option<Self> {
            (kernels::may_run() && is_x86_feature_detected!("avx2")).then_some(Self(()))
        }

        #[inline]
        pub(super) fn encode(self, bytes: &[u8], room: &mut [u8]) -> usize {
            // SAFETY: the CPU has AVX2.
            unsafe { encode_blocks(bytes, room) }
        }
    }

    #[target_feature(enable = "avx2")]
    fn encode_blocks(bytes: &[u8], room: &mut [u8]) -> usize {
        let len = encoded_len(bytes.len());
        let (blocks, rest) = bytes.as_chunks::<24>();
        let (outs, _) = room[..len + SLACK_BYTES].as_chunks_mut::<32>();
        let (outs, last) = outs.split_at_mut(blocks.len());
        // Why hidden: see `encode_block`. These must be powers of two.
        let low_factors = _mm256_set1_epi32(black_box(0x0100_0010));
        for (block, out) in blocks.iter().zip(outs) {
            encode_block(halves(block), low_factors, out);
        }
        if !rest.is_empty() {
            encode_block(padded_halves(rest), low_factors, &mut last[0]);
        }
        put_padding(bytes.len(), &mut room[..len]);
        len
    }

    /// Encodes 24 bytes, of which the first sixteen and the last sixteen are given.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn encode_block((first, last): (__m128i, __m128i), low_factors: __m256i, out: &mut [u8; 32]) {
        let bytes = _mm256_set_m128i(last, first);
        // Of three bytes {aaaaaabb|bbbbcccc|ccdddddd} two words: {bbbbcccc|aaaaaabb|ccdddddd|bbbbcccc}.
        let groups = _mm256_shuffle_epi8(
            bytes,
            _mm256_setr_epi8(
                1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, // the first twelve bytes
                5, 4, 6, 5, 8, 7, 9, 8, 11, 10, 12, 11, 14, 13, 15, 14, // the last twelve
            ),
        );
        // Each word has a shift of its own, which AVX2 has only as a product: a >> 10 and c >> 6 are the
        // high halves, b << 4 and d << 8 the low ones.
        //
        // Why 0x41 and 0x401, where 0x40 and 0x400 would do: of powers of two that it can see, LLVM makes
        // shifts again, eight instructions instead of one. What the ones add stays below the high halves.
        let ac = _mm256_mulhi_epu16(
            _mm256_and_si256(groups, _mm256_set1_epi32(0x0fc0_fc00)),
            _mm256_set1_epi32(0x0401_0041),
        );
        let bd = _mm256_mullo_epi16(
            _mm256_and_si256(groups, _mm256_set1_epi32(0x003f_03f0)),
            low_factors,
        );
        let values = _mm256_or_si256(ac, bd);
        // The alphabet's ranges: 13 below 26, 0 below 52, 1 to 10 for digits, 11 for +, 12 for /.
        let range = _mm256_or_si256(
            _mm256_subs_epu8(values, _mm256_set1_epi8(51)),
            _mm256_and_si256(
                _mm256_cmpgt_epi8(_mm256_set1_epi8(26), values),
                _mm256_set1_epi8(13),
            ),
        );
        // From a value to its letter, by range.
        let distances = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0,
        ));
        let letters = _mm256_add_epi8(values, _mm256_shuffle_epi8(distances, range));
        // SAFETY: `out` is as long as what is stored, and no alignment is asked for.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), letters) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves(block: &[u8; 24]) -> (__m128i, __m128i) {
        let start = block.as_ptr();
        // SAFETY: sixteen bytes from 0 and sixteen from 8 are in the block, and no alignment is asked for.
        unsafe {
            (
                _mm_loadu_si128(start.cast()),
                _mm_loadu_si128(start.add(8).cast()),
            )
        }
    }

    /// As of a block, of which there are only the first bytes; zeros stand for the others.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn padded_halves(rest: &[u8]) -> (__m128i, __m128i) {
        let [low, middle, high] = zero_padded(rest).map(u64::cast_signed);
        (_mm_set_epi64x(middle, low), _mm_set_epi64x(high, middle))
    }
}

/// Twelve bytes at a time, in legacy encoding: SHA-NI, beside which it is to run, has no other, and the two
/// forms mixed take a sixth longer.
#[cfg(target_arch = "x86_64")]
pub(super) mod ssse3 {
    #![expect(unsafe_code, reason = "a kernel; see the module above")]

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{encoded_len, put_padding, zero_padded};

    /// Bytes that [`encode_block`] encodes.
    pub(in crate::kernels) const BLOCK_BYTES: usize = 48;

    const GROUP_BYTES: usize = 12;

    /// What [`encode_block`] and [`encode_rest`] multiply with.
    #[inline]
    pub(in crate::kernels) fn low_factors() -> __m128i {
        // Why hidden: see `encode_block` of `avx2`.
        // SAFETY: every CPU of this architecture has SSE2.
        unsafe { _mm_set1_epi32(black_box(0x0100_0010)) }
    }

    /// Encodes a block; what is behind it is read, and has no meaning.
    #[inline]
    #[target_feature(enable = "ssse3")]
    pub(in crate::kernels) fn encode_block(
        bytes: &[u8; BLOCK_BYTES + 4],
        low_factors: __m128i,
        out: &mut [u8; 64],
    ) {
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let bytes = bytes[GROUP_BYTES * group..].first_chunk();
            encode_group(
                load(bytes.expect("the last reads to the end")),
                low_factors,
                out,
            );
        }
    }

    /// Encodes what is not enough for a block; `room` has sixteen bytes more than that needs.
    #[inline]
    #[target_feature(enable = "ssse3")]
    pub(in crate::kernels) fn encode_rest(
        bytes: &[u8],
        low_factors: __m128i,
        room: &mut [u8],
    ) -> usize {
        let len = encoded_len(bytes.len());
        let (mut rest, mut at) = (bytes, 0);
        while let Some(group) = rest.first_chunk() {
            encode_group(load(group), low_factors, room_for_group(room, at));
            rest = &rest[GROUP_BYTES..];
            at += 16;
        }
        if !rest.is_empty() {
            let [low, high, _] = zero_padded(rest).map(u64::cast_signed);
            let last = _mm_set_epi64x(high, low);
            encode_group(last, low_factors, room_for_group(room, at));
            if rest.len() > GROUP_BYTES {
                let end = _mm_srli_si128::<12>(last);
                encode_group(end, low_factors, room_for_group(room, at + 16));
            }
        }
        put_padding(bytes.len(), &mut room[..len]);
        len
    }

    #[inline]
    fn room_for_group(room: &mut [u8], at: usize) -> &mut [u8; 16] {
        let group = room[at..].first_chunk_mut();
        group.expect("the room is for the text and sixteen bytes more")
    }

    #[inline]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: sixteen bytes are read where there are sixteen, and no alignment is asked for.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    /// Encodes the first twelve bytes, as `encode_block` of `avx2` does.
    #[inline]
    #[target_feature(enable = "ssse3")]
    fn encode_group(bytes: __m128i, low_factors: __m128i, out: &mut [u8; 16]) {
        let groups = _mm_shuffle_epi8(
            bytes,
            _mm_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10),
        );
        let ac = _mm_mulhi_epu16(
            _mm_and_si128(groups, _mm_set1_epi32(0x0fc0_fc00)),
            _mm_set1_epi32(0x0401_0041),
        );
        let bd = _mm_mullo_epi16(
            _mm_and_si128(groups, _mm_set1_epi32(0x003f_03f0)),
            low_factors,
        );
        let values = _mm_or_si128(ac, bd);
        let range = _mm_or_si128(
            _mm_subs_epu8(values, _mm_set1_epi8(51)),
            _mm_and_si128(_mm_cmpgt_epi8(_mm_set1_epi8(26), values), _mm_set1_epi8(13)),
        );
        let distances = _mm_setr_epi8(
            71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0,
        );
        let letters = _mm_add_epi8(values, _mm_shuffle_epi8(distances, range));
        // SAFETY: `out` is as long as what is stored, and no alignment is asked for.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), letters) }
    }
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
