//! SHA-256 of whole blocks, of one message or of two at once.
//!
//! The rounds of one message wait for one another: with SHA-NI each pair of them takes four cycles, of
//! which the unit is busy for two. A second message fills the gap, and two take the time of one.
//!
//! Source: FIPS 180-4, section 6.2; Intel, "Intel SHA Extensions" (2013).

/// The state of a message, of which nothing is hashed yet.
pub(crate) const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// What the blocks so far came to.
pub(crate) type State = [u32; 8];

/// What is hashed in one step.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// Bytes of a [`Block`].
pub(crate) const BLOCK_BYTES: usize = 64;

/// The kernel, on a CPU that can run it. Where there is none, ring's SHA-256 is the fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel(sha_ni::Detected);

impl Kernel {
    pub(crate) fn new() -> Option<Self> {
        let detected = super::may_run().then(sha_ni::Detected::new);
        detected.flatten().map(Self)
    }

    /// Hashes `blocks`.
    pub(crate) fn compress(self, state: &mut State, blocks: &[Block]) {
        self.0.compress([state], blocks.iter().map(|block| [block]));
    }

    /// Hashes blocks of two messages; of the longer one as many as of the shorter one.
    pub(crate) fn compress_two(self, states: [&mut State; 2], [left, right]: [&[Block]; 2]) {
        let pairs = left.iter().zip(right);
        self.0
            .compress(states, pairs.map(|(left, right)| [left, right]));
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
    }
}

#[cfg(target_arch = "x86_64")]
mod sha_ni {
    #![expect(unsafe_code, reason = "a kernel; see the module above")]

    use std::arch::x86_64::*;
    use std::array;

    use super::{Block, State};

    /// The constants of four rounds each.
    #[rustfmt::skip]
    const ROUNDS: [[u32; 4]; 16] = [
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
    }

    // No AVX here: SHA-NI has no instructions of that form, and the two forms mixed take a sixth longer.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress_blocks<'a, const N: usize>(
        mut states: [&mut State; N],
        blocks: impl Iterator<Item = [&'a Block; N]>,
    ) {
        let mut halves = array::from_fn(|lane| split(states[lane]));
        for blocks in blocks {
            compress_block(&mut halves, blocks);
        }
        for (state, halves) in states.iter_mut().zip(halves) {
            **state = join(halves);
        }
    }

    /// The words of a state as SHA-NI has them: a, b, e, f and c, d, g, h, the first one highest.
    #[derive(Clone, Copy)]
    struct Halves {
        abef: __m128i,
        cdgh: __m128i,
    }

    #[inline]
    #[target_feature(enable = "sse4.1")]
    fn split(state: &State) -> Halves {
        let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
        Halves {
            abef: _mm_set_epi32(a, b, e, f),
            cdgh: _mm_set_epi32(c, d, g, h),
        }
    }

    #[inline]
    #[target_feature(enable = "sse4.1")]
    fn join(Halves { abef, cdgh }: Halves) -> State {
        [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ]
        .map(i32::cast_unsigned)
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
