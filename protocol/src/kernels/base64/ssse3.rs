//! Twelve bytes at a time, in legacy encoding: SHA-NI, beside which it is to run, has no other, and the two
//! forms mixed take a sixth longer.

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
