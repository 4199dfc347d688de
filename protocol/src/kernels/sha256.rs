//! SHA-256 of whole blocks, of one message or of two at once, or of a text that is being written.
//!
//! The rounds of one message wait for one another: with SHA-NI each pair of them takes four cycles, of
//! which the unit is busy for two on AMD's cores, and for three on Intel's. A second message fills the gap:
//! two take the time of one there, and of one and a half here. So does base64: to encode between the blocks
//! takes hardly any time of its own.
//!
//! Source: FIPS 180-4, section 6.2; Intel, "Intel SHA Extensions" (2013).

#[cfg(target_arch = "x86_64")]
mod ahead;

use std::iter;

/// The state of a message, of which nothing is hashed yet.
pub(crate) const INITIAL: State = [
    [0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667],
    [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372],
];

/// What the blocks so far came to: the words f, e, b, a and h, g, d, c of FIPS 180-4, as SHA-NI has them.
pub(crate) type State = [[u32; 4]; 2];

/// What is hashed in one step.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// Bytes of a [`Block`].
pub(crate) const BLOCK_BYTES: usize = 64;

/// The kernel, on a CPU that can run it. Where there is none, ring's SHA-256 is the fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    sha_ni: sha_ni::Detected,
    #[cfg(target_arch = "x86_64")]
    ahead: Option<ahead::Detected>,
}

impl Kernel {
    pub(crate) fn new() -> Option<Self> {
        let sha_ni = super::may_run().then(sha_ni::Detected::new).flatten()?;
        Some(Self {
            sha_ni,
            #[cfg(target_arch = "x86_64")]
            ahead: ahead::Detected::new(),
        })
    }

    /// Hashes `blocks`.
    #[inline]
    pub(crate) fn compress(self, state: &mut State, blocks: &[Block]) {
        self.sha_ni
            .compress([state], blocks.iter().map(|block| [block]));
    }

    /// Hashes blocks of two messages; of the longer one as many as of the shorter one.
    #[inline]
    pub(crate) fn compress_two(self, [first, second]: [&mut State; 2], messages: [&[Block]; 2]) {
        #[cfg(target_arch = "x86_64")]
        let hashed = self.ahead.map_or(0, |ahead| {
            ahead.compress_two([&mut *first, &mut *second], messages)
        });
        #[cfg(not(target_arch = "x86_64"))]
        let hashed = 0;
        let [left, right] = messages.map(|blocks| &blocks[hashed..]);
        let pairs = iter::zip(left, right);
        self.sha_ni
            .compress([first, second], pairs.map(|(left, right)| [left, right]));
    }

    /// Writes the base64 of `bytes` behind the first `at` bytes of `text`, and tells its length. Meanwhile
    /// it hashes blocks of `text` from `hashed` on, and moves that.
    ///
    /// `text` has [`SLACK_BYTES`](super::base64::SLACK_BYTES) more than that needs.
    #[inline]
    pub(crate) fn encode_base64(
        self,
        state: &mut State,
        hashed: &mut usize,
        bytes: &[u8],
        (text, at): (&mut [u8], usize),
    ) -> usize {
        self.sha_ni.encode_base64(state, hashed, bytes, (text, at))
    }

    /// The hash of a message of which `hashed` bytes, in whole blocks, came to `state`; `tail` is the rest of
    /// it, and less than a block.
    pub(crate) fn finish(self, mut state: State, hashed: u64, tail: &[u8]) -> [u8; 32] {
        // The padding of section 5.1.1.
        let bits = (hashed + tail.len() as u64) * 8;
        let mut last = [[0; BLOCK_BYTES]; 2];
        last[0][..tail.len()].copy_from_slice(tail);
        last[0][tail.len()] = 0x80;
        // The length has the last eight bytes, if they are free.
        let count = 1 + usize::from(tail.len() >= BLOCK_BYTES - size_of_val(&bits));
        let end = last[..count].as_flattened_mut();
        *end.last_chunk_mut().expect("a block is longer") = bits.to_be_bytes();
        self.compress(&mut state, &last[..count]);
        let [[f, e, b, a], [h, g, d, c]] = state;
        let mut hash = [0; 32];
        for (bytes, word) in iter::zip(hash.as_chunks_mut().0, [a, b, c, d, e, f, g, h]) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod sha_ni {
    use super::{Block, State};

    /// Never detected here.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Detected {}

    impl Detected {
        pub(super) fn new() -> Option<Self> {
            None
        }

        pub(super) fn compress<'a, const N: usize>(
            self,
            _states: [&mut State; N],
            _blocks: impl Iterator<Item = [&'a Block; N]>,
        ) {
            match self {}
        }

        pub(super) fn encode_base64(
            self,
            _state: &mut State,
            _hashed: &mut usize,
            _bytes: &[u8],
            _text: (&mut [u8], usize),
        ) -> usize {
            match self {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod sha_ni {
    #![expect(unsafe_code, reason = "a kernel; see the module above")]

    use std::arch::x86_64::*;
    use std::array;

    use super::{BLOCK_BYTES, Block, State};
    use crate::kernels::base64::ssse3;

    /// How far the hash stays behind what is written, so that the block it reads has left the store buffer.
    const LAG_BYTES: usize = BLOCK_BYTES;

    /// The constants of four rounds each.
    #[rustfmt::skip]
    pub(super) const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// The CPU has SHA-NI and SSE4.1: there is no other way to one of these.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Detected(());

    impl Detected {
        pub(super) fn new() -> Option<Self> {
            let detected = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
            detected.then_some(Self(()))
        }

        /// Hashes a block of each of `N` messages at a time.
        #[inline]
        pub(super) fn compress<'a, const N: usize>(
            self,
            states: [&mut State; N],
            blocks: impl Iterator<Item = [&'a Block; N]>,
        ) {
            // SAFETY: the CPU has SHA-NI and SSE4.1, and every CPU that has those has SSSE3.
            unsafe { compress_blocks(states, blocks) }
        }

        /// As [`Kernel::encode_base64`](super::Kernel::encode_base64).
        #[inline]
        pub(super) fn encode_base64(
            self,
            state: &mut State,
            hashed: &mut usize,
            bytes: &[u8],
            text: (&mut [u8], usize),
        ) -> usize {
            // SAFETY: as above.
            unsafe { encode_and_compress(state, hashed, bytes, text) }
        }
    }

    // No AVX here: SHA-NI has no instructions of that form, and the two forms mixed take a sixth longer.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress_blocks<'a, const N: usize>(
        mut states: [&mut State; N],
        blocks: impl Iterator<Item = [&'a Block; N]>,
    ) {
        let mut halves = array::from_fn(|lane| Halves::load(states[lane]));
        for blocks in blocks {
            compress_block(&mut halves, blocks);
        }
        for (state, halves) in states.iter_mut().zip(halves) {
            **state = halves.store();
        }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn encode_and_compress(
        state: &mut State,
        hashed: &mut usize,
        mut bytes: &[u8],
        (text, start): (&mut [u8], usize),
    ) -> usize {
        let mut at = start;
        let mut halves = [Halves::load(state)];
        while at - *hashed >= LAG_BYTES + BLOCK_BYTES {
            let block = text[*hashed..].first_chunk();
            compress_block(&mut halves, [block.expect("it lies before the end")]);
            *hashed += BLOCK_BYTES;
        }
        let factors = ssse3::low_factors();
        while let Some(block) = bytes.first_chunk() {
            let out = text[at..].first_chunk_mut();
            ssse3::encode_block(block, factors, out.expect("the text has room"));
            bytes = &bytes[ssse3::BLOCK_BYTES..];
            at += BLOCK_BYTES;
            if at - *hashed >= LAG_BYTES + BLOCK_BYTES {
                let block = text[*hashed..].first_chunk();
                compress_block(&mut halves, [block.expect("it lies before the end")]);
                *hashed += BLOCK_BYTES;
            }
        }
        *state = halves[0].store();
        at - start + ssse3::encode_rest(bytes, factors, &mut text[at..])
    }

    /// A state in two registers: a, b, e, f and c, d, g, h, the first word highest.
    #[derive(Clone, Copy)]
    pub(super) struct Halves {
        pub(super) abef: __m128i,
        pub(super) cdgh: __m128i,
    }

    impl Halves {
        #[inline]
        pub(super) fn load([abef, cdgh]: &State) -> Self {
            // SAFETY: sixteen bytes are read where there are sixteen, and no alignment is asked for.
            unsafe {
                Self {
                    abef: _mm_loadu_si128(abef.as_ptr().cast()),
                    cdgh: _mm_loadu_si128(cdgh.as_ptr().cast()),
                }
            }
        }

        #[inline]
        pub(super) fn store(self) -> State {
            let mut state = State::default();
            let [abef, cdgh] = &mut state;
            // SAFETY: each is as long as what is stored, and no alignment is asked for.
            unsafe {
                _mm_storeu_si128(abef.as_mut_ptr().cast(), self.abef);
                _mm_storeu_si128(cdgh.as_mut_ptr().cast(), self.cdgh);
            }
            state
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress_block<const N: usize>(halves: &mut [Halves; N], blocks: [&Block; N]) {
        let before = *halves;
        // Words 4i to 4i+3 of the message schedule lie in i mod 4.
        let mut schedule = [[_mm_setzero_si128(); 4]; N];
        macro_rules! four_rounds {
            ($($group:literal)*) => { $(
                for ((halves, words), block) in halves.iter_mut().zip(&mut schedule).zip(blocks) {
                    let next = match $group {
                        0..4 => block_words(block, $group),
                        _ => next_words(words, $group),
                    };
                    words[$group % 4] = next;
                    four_rounds(halves, next, &ROUNDS[$group]);
                }
            )* };
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for (halves, before) in halves.iter_mut().zip(before) {
            halves.abef = _mm_add_epi32(halves.abef, before.abef);
            halves.cdgh = _mm_add_epi32(halves.cdgh, before.cdgh);
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn four_rounds(halves: &mut Halves, words: __m128i, constants: &[u32; 4]) {
        let [first, second, third, fourth] = constants.map(u32::cast_signed);
        let words = _mm_add_epi32(words, _mm_setr_epi32(first, second, third, fourth));
        halves.cdgh = _mm_sha256rnds2_epu32(halves.cdgh, halves.abef, words);
        let words = _mm_shuffle_epi32::<0b1110>(words);
        halves.abef = _mm_sha256rnds2_epu32(halves.abef, halves.cdgh, words);
    }

    /// Four words of the message schedule, of the sixteen before them.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn next_words(words: &[__m128i; 4], group: usize) -> __m128i {
        let [first, second, third, fourth] = array::from_fn(|at| words[(group + at) % 4]);
        let seven_before = _mm_alignr_epi8::<4>(fourth, third);
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first, second), seven_before);
        _mm_sha256msg2_epu32(sum, fourth)
    }

    /// The first sixteen words of the message schedule are the block's, which are big-endian.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn block_words(block: &Block, group: usize) -> __m128i {
        let big_endian = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
        let words = &block.as_chunks::<16>().0[group];
        // SAFETY: sixteen bytes are read where there are sixteen, and no alignment is asked for.
        let words = unsafe { _mm_loadu_si128(words.as_ptr().cast()) };
        _mm_shuffle_epi8(words, big_endian)
    }
}
