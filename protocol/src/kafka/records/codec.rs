//! Compressed batches: each is decompressed whole, into a buffer that is used again and again.
//!
//! Invariant: output is capped, and a buffer grows with what came out, not with what was promised.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::limits;

/// Lends the buffers that batches are decompressed into; one for all readers of a consumer.
#[derive(Debug)]
pub struct Decompressor {
    /// The most that one batch may decompress to.
    limit_bytes: usize,
}

impl Decompressor {
    /// Caps a batch at [`limits::DECOMPRESSED_BYTES_MAX`].
    pub fn new() -> Self {
        Self::with_limit(limits::DECOMPRESSED_BYTES_MAX)
    }

    /// Caps a batch at so many bytes.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self { limit_bytes }
    }

    /// The most that one batch may decompress to.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }
}
