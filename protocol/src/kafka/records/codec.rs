//! Compressed batches: each is decompressed whole, into a buffer that is used again and again.
//!
//! The checksums inside the compressed formats are not looked at: the batch's own covers the same
//! bytes, and was compared before.
//!
//! Invariant: output is capped, and a buffer grows with what came out (or can come out of the bytes
//! that are there), not with what was promised.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;

use crate::limits;

/// Lends the buffers that batches are decompressed into, and keeps the state that decompression
/// needs: one for all the readers of a consumer.
pub struct Decompressor {
    /// The most that one batch may decompress to.
    limit_bytes: usize,
    /// Buffers that nobody has.
    spare: Vec<Buffer>,
    /// Made when the first batch needs it, as is `zstd`.
    gzip: Option<flate2::Decompress>,
    zstd: Option<::zstd::zstd_safe::DCtx<'static>>,
}

impl Decompressor {
    /// Caps a batch at [`limits::DECOMPRESSED_BYTES_MAX`].
    pub fn new() -> Self {
        Self::with_limit(limits::DECOMPRESSED_BYTES_MAX)
    }

    /// Caps a batch at so many bytes.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            spare: Vec::with_capacity(limits::SPARE_BUFFERS_MAX),
            gzip: None,
            zstd: None,
        }
    }

    /// The most that one batch may decompress to.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The memory of the buffers that nobody has.
    pub fn spare_bytes(&self) -> usize {
        self.spare.iter().map(Buffer::held_bytes).sum()
    }

    /// Decompresses `input` into a buffer, which should come back by `take_back`.
    pub(super) fn decompress(&mut self, codec: Codec, input: &[u8]) -> Result<Buffer, CodecError> {
        let mut output = self.spare.pop().unwrap_or_default();
        output.begin(self.limit_bytes);
        let result = match codec {
            Codec::Gzip => gzip::decompress(&mut self.gzip, input, &mut output),
            Codec::Snappy => snappy::decompress(input, &mut output),
            Codec::Lz4 => lz4::decompress(input, &mut output),
            Codec::Zstd => zstd::decompress(&mut self.zstd, input, &mut output),
        };
        match result {
            Ok(()) => Ok(output),
            Err(error) => {
                self.take_back(output);
                Err(error)
            }
        }
    }

    /// Keeps a buffer for the next batch, unless there are enough or it grew out of the ordinary.
    pub(super) fn take_back(&mut self, buffer: Buffer) {
        if self.spare.len() < limits::SPARE_BUFFERS_MAX
            && (1..=limits::SPARE_BUFFER_BYTES_MAX).contains(&buffer.held_bytes())
        {
            self.spare.push(buffer);
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("limit_bytes", &self.limit_bytes)
            .field("spare_bytes", &self.spare_bytes())
            .finish_non_exhaustive()
    }
}

/// How a batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1952.
    Gzip,
    /// Snappy, in the framing of snappy-java.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// RFC 8878; in format v2 only (KIP-110).
    Zstd,
}

impl Codec {
    /// What the attributes of a batch or a message say: their lowest three bits.
    ///
    /// # Errors
    /// The number, if it is no codec's.
    pub(super) const fn of_attributes(low: u8) -> Result<Option<Self>, u8> {
        match low & 0x07 {
            0 => Ok(None),
            1 => Ok(Some(Self::Gzip)),
            2 => Ok(Some(Self::Snappy)),
            3 => Ok(Some(Self::Lz4)),
            4 => Ok(Some(Self::Zstd)),
            other => Err(other),
        }
    }

    /// What stands for it in attributes.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Why a batch does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodecError {
    /// The bytes are wrong; says how.
    Corrupt(&'static str),
    /// It would be more than the limit.
    TooLarge,
}

/// Where decompressed bytes go: `bytes` is written before it is ever read, so it is cleared once, as
/// it grows, and not for each batch.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    limit_bytes: usize,
}

impl Buffer {
    /// What was decompressed.
    #[inline]
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// The memory it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets what is in it.
    fn begin(&mut self, limit_bytes: usize) {
        self.filled = 0;
        self.limit_bytes = limit_bytes;
    }

    /// All that was written, and all the room there is behind it.
    fn split(&mut self) -> (&[u8], &mut [u8]) {
        let (filled, room) = self
            .bytes
            .split_at_mut_checked(self.filled)
            .unwrap_or_default();
        (filled, room)
    }

    /// So many bytes of the room were written.
    fn advance(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.bytes.len());
    }

    /// Makes room for `count` more bytes, or for as many as the limit leaves, which is told.
    fn reserve(&mut self, count: usize) -> Room {
        let wanted = self.filled.saturating_add(count);
        let length = wanted.min(self.limit_bytes);
        if length > self.bytes.len() {
            self.bytes
                .reserve_exact(length.saturating_sub(self.bytes.len()));
            self.bytes.resize(length, 0);
        }
        if wanted > self.limit_bytes {
            Room::Cut
        } else {
            Room::Whole
        }
    }

    /// Makes more room, in proportion to what there is.
    fn grow(&mut self) -> Result<(), CodecError> {
        let more = self.bytes.len().max(GROWTH_BYTES_MIN);
        self.reserve(
            more.saturating_add(self.bytes.len())
                .saturating_sub(self.filled),
        );
        if self.filled == self.bytes.len() {
            return Err(CodecError::TooLarge);
        }
        Ok(())
    }
}

/// Whether the limit let a buffer have all the room that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Whole,
    Cut,
}

/// A buffer grows by this at least.
const GROWTH_BYTES_MIN: usize = 16 * 1024;
