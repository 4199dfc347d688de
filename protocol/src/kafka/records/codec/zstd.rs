//! zstd, with the content size in the frame or (as Kafka's own producers write it) without.
//!
//! A frame is decompressed in one call into one buffer, which spares zstd its own window (up to 128
//! MiB, by one byte of the frame) and a copy. The blocks' headers bound how much can come out.
//!
//! Source: RFC 8878.
//!
//! Invariant: the first buffer is in proportion to the input, and each further one to a failed try.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use ::zstd::zstd_safe::DCtx;

use super::super::input::Input;
use super::{Buffer, CodecError, Room};

const MAGIC: u32 = 0xFD2F_B528;
/// Sixteen magics, of frames to be passed over.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
/// What any compressed block may decompress to.
const BLOCK_BYTES_MAX: usize = 128 * 1024;
/// zstd gives an error as its negative code; this one is `ZSTD_error_dstSize_tooSmall`.
const OUTPUT_TOO_SMALL: usize = 70_usize.wrapping_neg();
/// The ratio that the first try expects.
const LIKELY_EXPANSION: usize = 8;
const FIRST_TRY_BYTES_MIN: usize = 64 * 1024;

pub(super) fn decompress(
    context: &mut Option<DCtx<'static>>,
    input: &[u8],
    output: &mut Buffer,
) -> Result<(), CodecError> {
    const WRONG: CodecError = CodecError::Corrupt("its zstd data does not decode");

    let size = Size::of(input).ok_or(WRONG)?;
    if size.declared > output.limit_bytes {
        return Err(CodecError::TooLarge);
    }
    let context = context.get_or_insert_with(DCtx::create);
    let likely = input.len().saturating_mul(LIKELY_EXPANSION);
    let mut room_bytes = likely.max(FIRST_TRY_BYTES_MIN).min(size.bound);
    loop {
        let reserved = output.reserve(room_bytes);
        let (_, room) = output.split();
        room_bytes = room.len();
        match context.decompress(room, input) {
            Ok(written) => {
                output.advance(written);
                return Ok(());
            }
            Err(OUTPUT_TOO_SMALL) if reserved == Room::Cut => return Err(CodecError::TooLarge),
            Err(OUTPUT_TOO_SMALL) if room_bytes < size.bound => {
                room_bytes = room_bytes.saturating_mul(2).min(size.bound);
            }
            Err(_) => return Err(WRONG),
        }
    }
}

/// How much may come out of frames, by their headers and those of their blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// Not more than this, however often a valid input is decompressed.
    bound: usize,
    /// At least this, by the frames that say their size, or they are not valid.
    declared: usize,
}

impl Size {
    /// `None` when `input` does not consist of whole frames.
    fn of(input: &[u8]) -> Option<Self> {
        let mut input = Input::new(input);
        let mut size = Self::default();
        while !input.is_empty() {
            let magic = u32::from_le_bytes(input.chunk()?);
            if magic & !0xf == SKIPPABLE_MAGIC {
                let length = u32::from_le_bytes(input.chunk()?);
                input.take(usize::try_from(length).ok()?)?;
                continue;
            }
            if magic != MAGIC {
                return None;
            }
            let descriptor = input.u8()?;
            let declared = read_content_size(&mut input, descriptor)?;
            let blocks = read_blocks(&mut input)?;
            let has_checksum = descriptor & 0x04 != 0;
            if has_checksum {
                input.take(4)?;
            }
            size.bound = size
                .bound
                .saturating_add(blocks.min(declared.unwrap_or(usize::MAX)));
            size.declared = size.declared.saturating_add(declared.unwrap_or(0));
        }
        Some(size)
    }
}

/// Reads the rest of a frame's header; `Some(None)` when it does not say the size.
fn read_content_size(input: &mut Input<'_>, descriptor: u8) -> Option<Option<usize>> {
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let _window = input.u8()?;
    }
    let dictionary_bytes = [0, 1, 2, 4].get(usize::from(descriptor & 0x03)).copied()?;
    input.take(dictionary_bytes)?;
    let size = match descriptor >> 6 {
        0 if is_single_segment => u64::from(input.u8()?),
        0 => return Some(None),
        1 => u64::from(u16::from_le_bytes(input.chunk()?)).saturating_add(256),
        2 => u64::from(u32::from_le_bytes(input.chunk()?)),
        _ => u64::from_le_bytes(input.chunk()?),
    };
    Some(Some(usize::try_from(size).unwrap_or(usize::MAX)))
}

/// Passes a frame's blocks; gives what they may decompress to.
fn read_blocks(input: &mut Input<'_>) -> Option<usize> {
    let mut bound = 0_usize;
    loop {
        let [low, middle, high] = input.chunk()?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).ok()?;
        // Raw, one byte repeated, compressed, and one that does not exist.
        let (stored, decompressed) = match header >> 1 & 0x03 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, BLOCK_BYTES_MAX),
            _ => return None,
        };
        input.take(stored)?;
        bound = bound.saturating_add(decompressed);
        let is_last = header & 1 != 0;
        if is_last {
            return Some(bound);
        }
    }
}
