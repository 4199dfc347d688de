//! gzip, RFC 1952: one member after the other.
//!
//! Invariant: every turn of the loop consumes input, writes output or makes room for it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use flate2::{Decompress, FlushDecompress, Status};

use super::super::input::Input;
use super::{Buffer, CodecError};

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// CRC-32 and size, both of what was decompressed.
const TRAILER_BYTES: usize = 8;

pub(super) fn decompress(
    state: &mut Option<Decompress>,
    input: &[u8],
    output: &mut Buffer,
) -> Result<(), CodecError> {
    let inflate = state.get_or_insert_with(|| Decompress::new(false));
    let mut members = Input::new(input);
    loop {
        skip_header(&mut members).ok_or(CodecError::Corrupt("its gzip header does not decode"))?;
        let after = inflate_member(inflate, members.rest(), output)?;
        members = Input::new(after);
        if members.take(TRAILER_BYTES).is_none() {
            return Err(CodecError::Corrupt("its gzip data is cut"));
        }
        // What follows and is no member is padding, as Java's reader has it.
        if !members.rest().starts_with(&MAGIC) {
            return Ok(());
        }
    }
}

/// Inflates one member's deflate stream; gives what follows it.
fn inflate_member<'a>(
    inflate: &mut Decompress,
    mut input: &'a [u8],
    output: &mut Buffer,
) -> Result<&'a [u8], CodecError> {
    inflate.reset(false);
    loop {
        let (_, room) = output.split();
        let no_room = room.is_empty();
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(input, room, FlushDecompress::None)
            .map_err(|_| CodecError::Corrupt("its gzip data does not decode"))?;
        let consumed = difference(inflate.total_in(), before_in);
        let produced = difference(inflate.total_out(), before_out);
        input = input.get(consumed..).unwrap_or_default();
        output.advance(produced);
        if status == Status::StreamEnd {
            return Ok(input);
        }
        if consumed == 0 && produced == 0 {
            // Without room the end of the stream may still be read, so room is made only now.
            if !no_room {
                return Err(CodecError::Corrupt("its gzip data is cut"));
            }
            output.grow()?;
        }
    }
}

fn skip_header(input: &mut Input<'_>) -> Option<()> {
    const HEADER_CHECKSUM: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;

    if input.chunk()? != MAGIC {
        return None;
    }
    let flags = input.u8()?;
    // Time, extra flags, operating system.
    input.take(6)?;
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes(input.chunk()?);
        input.take(usize::from(length))?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            while input.u8()? != 0 {}
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        input.take(2)?;
    }
    Some(())
}

fn difference(after: u64, before: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}
