//! 24 bytes at a time.

#![expect(unsafe_code, reason = "a kernel; see the module above")]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{SLACK_BYTES, encoded_len, put_padding, zero_padded};

/// The CPU has AVX2: there is no other way to one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detected(());

impl Detected {
    pub(super) fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
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
