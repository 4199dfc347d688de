//! 48 bytes at a time.
//!
//! Source: W. Muła and D. Lemire, "Base64 encoding and decoding at almost the speed of a memory copy" (2019).

#![expect(unsafe_code, reason = "a kernel; see the module above")]

use std::arch::x86_64::*;

use super::encoded_len;

/// Bytes of a block.
const BLOCK_BYTES: usize = 48;

/// What a block becomes.
const TEXT_BYTES: usize = encoded_len(BLOCK_BYTES);

/// The letters of all values of six bits.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Where in a block the bytes are that make each four letters: {aaaaaabb|bbbbcccc|ccdddddd} becomes
/// {bbbbcccc|aaaaaabb|ccdddddd|bbbbcccc}, so that each letter's six bits lie side by side in a word.
const GROUPS: [u8; 64] = {
    let mut groups = [0; 64];
    let mut at = 0;
    let mut first = 0;
    while at < groups.len() {
        (groups[at], groups[at + 1]) = (first + 1, first);
        (groups[at + 2], groups[at + 3]) = (first + 2, first + 1);
        at += 4;
        first += 3;
    }
    groups
};

/// The CPU has AVX-512F, BW and VBMI: there is no other way to one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detected(());

impl Detected {
    pub(super) fn new() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi");
        detected.then_some(Self(()))
    }

    #[inline]
    pub(super) fn encode(self, bytes: &[u8], room: &mut [u8]) -> usize {
        // SAFETY: the CPU has what the function asks for.
        unsafe { encode_blocks(bytes, room) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn encode_blocks(bytes: &[u8], room: &mut [u8]) -> usize {
    let alphabet = load(ALPHABET);
    let (mut rest, mut at) = (bytes, 0);
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK_BYTES>() {
        let text = _mm512_permutexvar_epi8(values(block), alphabet);
        store(text, &mut room[at..]);
        rest = behind;
        at += TEXT_BYTES;
    }
    if !rest.is_empty() {
        // Of whole groups one too many, which then lies in the slack.
        let letters = first(4 * rest.len() / 3 + 1);
        let padding = _mm512_set1_epi8(b'='.cast_signed());
        let text = _mm512_mask_permutexvar_epi8(padding, letters, values(rest), alphabet);
        store(text, &mut room[at..]);
    }
    at + encoded_len(rest.len())
}

/// The six bits of each letter, below two that the alphabet's permutation does not look at. Zeros stand for
/// what is not there of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn values(block: &[u8]) -> __m512i {
    // SAFETY: what the mask leaves out is not read, and it leaves in no more than the block's bytes.
    let bytes = unsafe { _mm512_maskz_loadu_epi8(first(block.len()), block.as_ptr().cast()) };
    let groups = _mm512_permutexvar_epi8(load(&GROUPS), bytes);
    // Of each eight bytes, where the six bits of each letter begin.
    let shifts = i64::from_le_bytes([10, 4, 22, 16, 42, 36, 54, 48]);
    _mm512_multishift_epi64_epi8(_mm512_set1_epi64(shifts), groups)
}

/// A mask of that many bits, which are less than 64; of more it would have fewer.
#[inline]
fn first(bits: usize) -> __mmask64 {
    !(u64::MAX << bits)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: as many bytes are read as there are, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(letters: __m512i, room: &mut [u8]) {
    let out: &mut [u8; TEXT_BYTES] = room
        .first_chunk_mut()
        .expect("the room is for the text and the slack");
    // SAFETY: `out` is as long as what is stored, and no alignment is asked for.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), letters) }
}
