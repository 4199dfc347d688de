//! Two messages by SHA-NI, whose schedules AVX-512 makes ahead of the rounds.
//!
//! On Intel's cores a pair of rounds keeps its unit busy for three of its four cycles, and SHA-NI's
//! instructions for the schedule take it longer still. The other vector units are idle meanwhile. A schedule
//! needs the block alone and not the state: so, between the rounds of two blocks of each message, these
//! units make the schedules of the two that come next, in no time of their own.
//!
//! All of it is assembly, for two reasons. The two must be interleaved, which LLVM undoes. And nothing may
//! be left in the upper halves of the first sixteen registers: while there is, each SHA-NI instruction takes
//! some hundred cycles. The last sixteen are free of that.

#![expect(unsafe_code, reason = "a kernel; see the module above")]

use std::arch::asm;
use std::arch::x86_64::__cpuid;
use std::sync::LazyLock;

use super::sha_ni::{Halves, ROUNDS};
use super::{Block, State};

/// Blocks of each message in a step.
const STEP_BLOCKS: usize = 2;

/// With fewer steps, to make the first schedules takes longer than is won.
const STEPS_MIN: usize = 4;

/// The CPU has SHA-NI, AVX-512F, BW and VL, and is faster by them: there is no other way to one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detected(());

impl Detected {
    /// Only on Intel's: on AMD's Zen 3 two messages by SHA-NI alone take the time of one, so that there is
    /// nothing to win, and on Zen 5 these instructions are in the rounds' way: it takes a twentieth longer.
    pub(super) fn new() -> Option<Self> {
        let detected = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        (detected && is_intel()).then_some(Self(()))
    }

    /// Hashes blocks of two messages, as many of each; tells how many. The others are left to SHA-NI alone.
    pub(super) fn compress_two(self, states: [&mut State; 2], messages: [&[Block]; 2]) -> usize {
        let [left, right] = messages.map(|blocks| blocks.as_chunks().0);
        let steps = left.len().min(right.len());
        if steps < STEPS_MIN {
            return 0;
        }
        // SAFETY: the CPU has what the function asks for.
        unsafe { compress_steps(states, [&left[..steps], &right[..steps]]) }
        steps * STEP_BLOCKS
    }
}

/// Asked once: a virtual machine leaves its CPU for the answer, and every body asks.
fn is_intel() -> bool {
    static IS_INTEL: LazyLock<bool> = LazyLock::new(|| {
        let leaf = __cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
    });
    *IS_INTEL
}

/// The schedules of a step's two blocks of one message. Row i has words 4i to 4i+3 of the first block and
/// then those of the second.
#[repr(C, align(64))]
struct Schedules {
    words: [[u32; 8]; 16],
    /// With the rounds' constants added.
    keyed: [[u32; 8]; 16],
}

impl Schedules {
    const fn new() -> Self {
        Self {
            words: [[0; 8]; 16],
            keyed: [[0; 8]; 16],
        }
    }
}

/// What the schedules are made with, twice in each row.
#[repr(C, align(64))]
struct Constants {
    rounds: [[u32; 8]; 16],
    /// The bytes of big-endian words.
    order: [u8; 32],
}

static CONSTANTS: Constants = {
    let mut constants = Constants {
        rounds: [[0; 8]; 16],
        order: [0; 32],
    };
    let mut at = 0;
    while at < 128 {
        constants.rounds[at / 8][at % 8] = ROUNDS[at / 8][at % 4];
        at += 1;
    }
    let mut at = 0;
    while at < 32 {
        constants.order[at] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12][at % 16];
        at += 1;
    }
    constants
};

#[target_feature(enable = "sha,avx512f,avx512bw,avx512vl")]
fn compress_steps(states: [&mut State; 2], steps: [&[[Block; STEP_BLOCKS]]; 2]) {
    let [left, right] = steps;
    let mut schedules = [const { [const { Schedules::new() }; 2] }; 2];
    let [mut now, mut next] = schedules.each_mut();
    let mut halves = [Halves::load(states[0]), Halves::load(states[1])];
    make_schedules([&left[0], &right[0]], now);
    for step in 1..=left.len() {
        // Behind the last step nothing is made that is used.
        let ahead = step.min(left.len() - 1);
        compress_step(&mut halves, now, [&left[ahead], &right[ahead]], next);
        std::mem::swap(&mut now, &mut next);
    }
    for (state, halves) in states.into_iter().zip(halves) {
        *state = halves.store();
    }
}

/// Writes row `$row` of the schedules of message `$of`; the words are in ymm16.
#[rustfmt::skip]
macro_rules! put_words {
    ($of:literal, $row:literal) => {
        concat!(
            "vmovdqa64 [{next} + 1024 * ", $of, " + 32 * ", $row, "], ymm16\n",
            "vpaddd ymm16, ymm16, [{constants} + 32 * ", $row, "]\n",
            "vmovdqa64 [{next} + 1024 * ", $of, " + 512 + 32 * ", $row, "], ymm16\n",
        )
    };
}

/// Makes one of the first four rows, which the blocks are.
#[rustfmt::skip]
macro_rules! block_words {
    ($of:literal, $row:literal) => {
        concat!(
            "vmovdqu64 xmm16, [{blocks", $of, "} + 16 * ", $row, "]\n",
            "vinserti32x4 ymm16, ymm16, [{blocks", $of, "} + 64 + 16 * ", $row, "], 1\n",
            "vpshufb ymm16, ymm16, [{constants} + 512]\n",
            put_words!($of, $row),
        )
    };
}

/// Into register `$into` a lower sigma of the words in `$of`, by the registers 20 and 21.
#[rustfmt::skip]
macro_rules! lower_sigma {
    ($of:literal, $into:literal, $rotate:literal, $and:literal, $shift:literal) => {
        concat!(
            "vprord ymm20, ymm", $of, ", ", $rotate, "\n",
            "vprord ymm21, ymm", $of, ", ", $and, "\n",
            "vpsrld ymm", $into, ", ymm", $of, ", ", $shift, "\n",
            "vpternlogd ymm", $into, ", ymm20, ymm21, 0x96\n",
        )
    };
}

/// Makes a row of the four before it: the function of FIPS 180-4, section 6.2.2, step 1.
#[rustfmt::skip]
macro_rules! next_words {
    ($of:literal, $row:literal) => {
        concat!(
            "vmovdqa64 ymm16, [{next} + 1024 * ", $of, " + 32 * ", $row, " - 128]\n",
            "vmovdqa64 ymm17, [{next} + 1024 * ", $of, " + 32 * ", $row, " - 96]\n",
            "vmovdqa64 ymm18, [{next} + 1024 * ", $of, " + 32 * ", $row, " - 64]\n",
            "vmovdqa64 ymm19, [{next} + 1024 * ", $of, " + 32 * ", $row, " - 32]\n",
            "vpalignr ymm17, ymm17, ymm16, 4\n", // the words fifteen before
            "vpalignr ymm18, ymm19, ymm18, 4\n", // seven before
            "vpaddd ymm16, ymm16, ymm18\n",
            lower_sigma!(17, 17, 7, 18, 3), // 0
            "vpaddd ymm16, ymm16, ymm17\n",
            // 1, of the two words that are there: it completes the row's first two.
            lower_sigma!(19, 19, 17, 19, 10),
            "vpsrldq ymm19, ymm19, 8\n",
            "vpaddd ymm16, ymm16, ymm19\n",
            // That of these completes the other two.
            lower_sigma!(16, 19, 17, 19, 10),
            "vpslldq ymm19, ymm19, 8\n",
            "vpaddd ymm16, ymm16, ymm19\n",
            put_words!($of, $row),
        )
    };
}

/// Four rounds of both messages, with row `$row` of block `$block`.
#[rustfmt::skip]
macro_rules! four_rounds {
    ($block:literal, $row:literal) => {
        concat!(
            "movdqa xmm0, [{now} + 512 + 32 * ", $row, " + 16 * ", $block, "]\n",
            "sha256rnds2 xmm2, xmm1\n",
            "movdqa xmm0, [{now} + 1536 + 32 * ", $row, " + 16 * ", $block, "]\n",
            "sha256rnds2 xmm4, xmm3\n",
            "movq xmm0, [{now} + 520 + 32 * ", $row, " + 16 * ", $block, "]\n",
            "sha256rnds2 xmm1, xmm2\n",
            "movq xmm0, [{now} + 1544 + 32 * ", $row, " + 16 * ", $block, "]\n",
            "sha256rnds2 xmm3, xmm4\n",
        )
    };
}

/// Between the rounds with two rows of `$block`, makes a row of the next schedules of both messages.
#[rustfmt::skip]
macro_rules! rounds_and_words {
    ($block:literal, $first:literal, $second:literal, $words:ident, $row:literal) => {
        concat!(
            four_rounds!($block, $first),
            $words!(0, $row),
            four_rounds!($block, $second),
            $words!(1, $row),
        )
    };
}

/// Before the rounds of a block, and behind them.
macro_rules! save_states {
    () => {
        "movdqa xmm5, xmm1\nmovdqa xmm6, xmm2\nmovdqa xmm7, xmm3\nmovdqa xmm8, xmm4\n"
    };
}
macro_rules! add_states {
    () => {
        "paddd xmm1, xmm5\npaddd xmm2, xmm6\npaddd xmm3, xmm7\npaddd xmm4, xmm8\n"
    };
}

/// Makes the schedules of both messages' `blocks`.
#[target_feature(enable = "sha,avx512f,avx512bw,avx512vl")]
fn make_schedules(blocks: [&[Block; STEP_BLOCKS]; 2], schedules: &mut [Schedules; 2]) {
    macro_rules! both {
        ($words:ident $($row:literal)*) => { concat!($($words!(0, $row), $words!(1, $row)),*) };
    }
    // SAFETY: reads the 128 bytes of each message's blocks and `CONSTANTS`, and writes nothing but the
    // schedules, of which it reads only what it wrote. Their rows are aligned as they are.
    unsafe {
        asm!(
            both!(block_words 0 1 2 3),
            both!(next_words 4 5 6 7 8 9 10 11 12 13 14 15),
            blocks0 = in(reg) blocks[0],
            blocks1 = in(reg) blocks[1],
            next = in(reg) schedules,
            constants = in(reg) &raw const CONSTANTS,
            out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _, out("xmm20") _, out("xmm21") _,
            options(nostack),
        );
    }
}

/// Hashes the blocks of whose schedules `now` are, and makes those of `blocks`.
#[target_feature(enable = "sha,avx512f,avx512bw,avx512vl")]
fn compress_step(
    halves: &mut [Halves; 2],
    now: &[Schedules; 2],
    blocks: [&[Block; STEP_BLOCKS]; 2],
    next: &mut [Schedules; 2],
) {
    let [left, right] = halves;
    // SAFETY: reads `now`, the 128 bytes of each message's blocks and `CONSTANTS`, and writes nothing but
    // `next`, of which it reads only what it wrote. Their rows are aligned as they are. All the registers
    // whose upper halves are zeroed are given up, but for the states, which have no upper halves.
    unsafe {
        asm!(
            "vzeroupper",
            save_states!(),
            rounds_and_words!(0, 0, 1, block_words, 0),
            rounds_and_words!(0, 2, 3, block_words, 1),
            rounds_and_words!(0, 4, 5, block_words, 2),
            rounds_and_words!(0, 6, 7, block_words, 3),
            rounds_and_words!(0, 8, 9, next_words, 4),
            rounds_and_words!(0, 10, 11, next_words, 5),
            rounds_and_words!(0, 12, 13, next_words, 6),
            rounds_and_words!(0, 14, 15, next_words, 7),
            add_states!(),
            save_states!(),
            rounds_and_words!(1, 0, 1, next_words, 8),
            rounds_and_words!(1, 2, 3, next_words, 9),
            rounds_and_words!(1, 4, 5, next_words, 10),
            rounds_and_words!(1, 6, 7, next_words, 11),
            rounds_and_words!(1, 8, 9, next_words, 12),
            rounds_and_words!(1, 10, 11, next_words, 13),
            rounds_and_words!(1, 12, 13, next_words, 14),
            rounds_and_words!(1, 14, 15, next_words, 15),
            add_states!(),
            blocks0 = in(reg) blocks[0],
            blocks1 = in(reg) blocks[1],
            now = in(reg) now,
            next = in(reg) next,
            constants = in(reg) &raw const CONSTANTS,
            inout("xmm1") left.abef,
            inout("xmm2") left.cdgh,
            inout("xmm3") right.abef,
            inout("xmm4") right.cdgh,
            out("xmm0") _, out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _, out("xmm20") _, out("xmm21") _,
            options(nostack),
        );
    }
}
