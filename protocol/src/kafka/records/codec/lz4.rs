//! LZ4 in its frame format, walked here, with the blocks left to `lz4_flex`.
//!
//! ```text
//! magic, flags, block size, [content size (8)], [dictionary (4)], header checksum (1)
//! [size (4, the highest bit: not compressed), block, [checksum (4)]]..., 0 (4), [checksum (4)]
//! ```
//!
//! Kafka before 0.10 computed the header's checksum wrongly, over the magic too (KIP-57). It is not
//! looked at, nor are the other checksums, so that both kinds are read.
//!
//! Source: "LZ4 Frame Format Description", 1.6.
//!
//! Invariant: room is made for no more than a block's bytes can expand to.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

use super::super::input::Input;
use super::{Buffer, CodecError, Room};

const MAGIC: u32 = 0x184D_2204;
/// Sixteen magics, of frames to be passed over.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
/// How far back a block may point into those before it.
const WINDOW_BYTES: usize = 64 * 1024;
/// The largest that one byte can become: it lengthens a match by 255.
const EXPANSION_MAX: usize = 256;

pub(super) fn decompress(input: &[u8], output: &mut Buffer) -> Result<(), CodecError> {
    const CUT: CodecError = CodecError::Corrupt("its lz4 data is cut");

    let mut input = Input::new(input);
    while !input.is_empty() {
        let magic = u32::from_le_bytes(input.chunk().ok_or(CUT)?);
        if magic & !0xf == SKIPPABLE_MAGIC {
            let size = u32::from_le_bytes(input.chunk().ok_or(CUT)?);
            input.take(widen(size)).ok_or(CUT)?;
            continue;
        }
        if magic != MAGIC {
            return Err(CodecError::Corrupt("its lz4 frame has no magic"));
        }
        let frame = Frame::read(&mut input)?;
        // Matches may reach into this frame's own output only.
        let start = output.filled().len();
        while let Some(block) = frame.block(&mut input).ok_or(CUT)? {
            frame.decompress(block, start, output)?;
        }
    }
    Ok(())
}

/// What a frame's header says.
struct Frame {
    linked_blocks: bool,
    block_checksums: bool,
    content_checksum: bool,
    block_bytes_max: usize,
}

/// One block, as it stands in its frame.
struct Block<'a> {
    is_compressed: bool,
    bytes: &'a [u8],
}

impl Frame {
    /// Reads the header behind the magic.
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        const WRONG: CodecError = CodecError::Corrupt("its lz4 frame header does not decode");

        let [flags, sizes] = input.chunk().ok_or(WRONG)?;
        // Version 1, no reserved bit, and a dictionary that only its producer knows.
        if flags & 0b1100_0011 != 0b0100_0000 || sizes & 0b1000_1111 != 0 {
            return Err(WRONG);
        }
        let has_content_size = flags & 0x08 != 0;
        if has_content_size {
            input.take(8).ok_or(WRONG)?;
        }
        let _header_checksum = input.u8().ok_or(WRONG)?;
        Ok(Self {
            linked_blocks: flags & 0x20 == 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            block_bytes_max: match sizes >> 4 {
                4 => 64 * 1024,
                5 => 256 * 1024,
                6 => 1024 * 1024,
                7 => 4 * 1024 * 1024,
                _ => return Err(WRONG),
            },
        })
    }

    /// The next block; `Some(None)` behind the last one, `None` when the input ends before that.
    fn block<'a>(&self, input: &mut Input<'a>) -> Option<Option<Block<'a>>> {
        const STORED: u32 = 0x8000_0000;

        let size = u32::from_le_bytes(input.chunk()?);
        if size == 0 {
            if self.content_checksum {
                input.take(4)?;
            }
            return Some(None);
        }
        let block = Block {
            is_compressed: size & STORED == 0,
            bytes: input.take(widen(size & !STORED))?,
        };
        if self.block_checksums {
            input.take(4)?;
        }
        Some(Some(block))
    }

    /// Appends a block to `output`, where this frame's began at `start`.
    fn decompress(
        &self,
        block: Block<'_>,
        start: usize,
        output: &mut Buffer,
    ) -> Result<(), CodecError> {
        const WRONG: CodecError = CodecError::Corrupt("its lz4 data does not decode");

        let bytes = block.bytes;
        let size_max = match block.is_compressed {
            true => bytes.len().saturating_mul(EXPANSION_MAX),
            false => bytes.len(),
        };
        let size_max = size_max.min(self.block_bytes_max);
        let reserved = output.reserve(size_max);
        let (filled, room) = output.split();
        // A block that writes more than its frame allows is wrong, whatever room there is.
        let room_bytes = room.len().min(size_max);
        let room = room.get_mut(..room_bytes).unwrap_or_default();
        let written = match block.is_compressed {
            true if self.linked_blocks => {
                let window = start.max(filled.len().saturating_sub(WINDOW_BYTES));
                let window = filled.get(window..).unwrap_or_default();
                decompress_into_with_dict(bytes, room, window)
            }
            true => decompress_into(bytes, room),
            false => copy_into(bytes, room),
        };
        match written {
            Ok(written) => {
                output.advance(written);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if reserved == Room::Cut => {
                Err(CodecError::TooLarge)
            }
            Err(_) => Err(WRONG),
        }
    }
}

fn copy_into(bytes: &[u8], room: &mut [u8]) -> Result<usize, DecompressError> {
    let actual = room.len();
    let target = room
        .get_mut(..bytes.len())
        .ok_or(DecompressError::OutputTooSmall {
            expected: bytes.len(),
            actual,
        })?;
    target.copy_from_slice(bytes);
    Ok(bytes.len())
}

fn widen(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
