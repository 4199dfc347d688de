//! Snappy: raw, or in the framing of xerial's snappy-java, which Kafka's own clients write.
//!
//! ```text
//! 0x82 'SNAPPY' 0x00, version (int32), compatible version (int32), then [size (int32), raw block]...
//! ```
//!
//! Invariant: room is made for no more than a block's bytes can expand to.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::input::Input;
use super::{Buffer, CodecError, Room};

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The first four bytes of the magic, where a block's size is looked for.
const XERIAL_MAGIC_HEAD: u32 = u32::from_be_bytes(*b"\x82SNA");
/// The largest that one byte can become: a copy of 64 bytes takes three.
const EXPANSION_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], output: &mut Buffer) -> Result<(), CodecError> {
    if !input.starts_with(&XERIAL_MAGIC) {
        return decompress_block(input, output);
    }
    read_blocks(input, output)
}

fn read_blocks(input: &[u8], output: &mut Buffer) -> Result<(), CodecError> {
    const CUT: CodecError = CodecError::Corrupt("its snappy data is cut");

    let mut input = Input::new(input);
    while !input.is_empty() {
        let size = input.u32().ok_or(CUT)?;
        if size == XERIAL_MAGIC_HEAD {
            // The rest of a header: streams may follow one another.
            input.take(12).ok_or(CUT)?;
            continue;
        }
        let size = usize::try_from(size).map_err(|_| CUT)?;
        decompress_block(input.take(size).ok_or(CUT)?, output)?;
    }
    Ok(())
}

fn decompress_block(block: &[u8], output: &mut Buffer) -> Result<(), CodecError> {
    const WRONG: CodecError = CodecError::Corrupt("its snappy data does not decode");

    let size = snap::raw::decompress_len(block).map_err(|_| WRONG)?;
    if size > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(WRONG);
    }
    if output.reserve(size) == Room::Cut {
        return Err(CodecError::TooLarge);
    }
    let (_, room) = output.split();
    let written = snap::raw::Decoder::new()
        .decompress(block, room)
        .map_err(|_| WRONG)?;
    output.advance(written);
    Ok(())
}
