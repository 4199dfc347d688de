//! The hash of a body that is still being written, a little behind its end.
//!
//! What it takes is mostly what the CPU has to spare between the rounds of the hash: a body that is written
//! this way has its hash ready when it is sealed. Of two bodies that are there at the same time, both are
//! hashed in the time of one, or little more, which is better still: this is for the one that is alone.
//!
//! Invariant: only what is written is hashed, and never anew.

use crate::kernels::sha256::{BLOCK_BYTES, INITIAL, Kernel, State};
use crate::sigv4::PayloadDigest;

/// The hash of what is written so far, up to a whole block.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrailingHash {
    kernel: Kernel,
    state: State,
    /// Bytes that are hashed.
    hashed: usize,
}

impl TrailingHash {
    /// Of a body of which nothing is hashed; `None` where the CPU would gain nothing by it.
    pub(super) fn new() -> Option<Self> {
        Some(Self {
            kernel: Kernel::new()?,
            state: INITIAL,
            hashed: 0,
        })
    }

    /// Hashes the whole blocks of `written`.
    #[inline]
    pub(super) fn follow(&mut self, written: &[u8]) {
        let blocks = written[self.hashed..].as_chunks().0;
        self.kernel.compress(&mut self.state, blocks);
        self.hashed += blocks.len() * BLOCK_BYTES;
    }

    /// Writes the base64 of `bytes` behind the first `at` bytes of `body`, hashing on the way; tells its length.
    #[inline]
    pub(super) fn put_base64(&mut self, bytes: &[u8], body: &mut [u8], at: usize) -> usize {
        let hashed = &mut self.hashed;
        self.kernel
            .encode_base64(&mut self.state, hashed, bytes, (body, at))
    }

    /// The hash of the whole body.
    pub(super) fn finish(mut self, body: &[u8]) -> PayloadDigest {
        self.follow(body);
        let tail = &body[self.hashed..];
        let hash = self.kernel.finish(self.state, self.hashed as u64, tail);
        PayloadDigest::new(&hash)
    }
}
