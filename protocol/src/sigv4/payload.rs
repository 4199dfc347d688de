//! The SHA-256 of a body, over its pieces, in bounded steps, alone or beside another body's.
//!
//! By the kernel of `kernels::sha256` where the CPU has SHA-NI: it alone can hash two bodies in the time of
//! one, or little more. By ring elsewhere.
//!
//! Invariant: how a body is cut, and which other is hashed beside it, changes no bit of its hash.

use std::fmt;

use bytes::Bytes;
use ring::digest;

use super::{LOWER, hex_digit};
use crate::kernels::sha256::{BLOCK_BYTES, Block, INITIAL, Kernel, State};

/// A body on its way to its [`PayloadDigest`].
///
/// ```
/// use bytes::Bytes;
/// use forebay_protocol::sigv4::PayloadHash;
///
/// let mut hash = PayloadHash::new(vec![Bytes::from("{"), Bytes::from("}")]);
/// while !hash.is_done() {
///     hash.step(&mut 65_536);
///     // Others have their turn here.
/// }
/// assert!(hash.finish().as_str().starts_with("44136fa355b3678a"));
/// ```
pub struct PayloadHash {
    rest: Rest,
    engine: Engine,
}

enum Engine {
    Kernel(Blocks),
    Ring(digest::Context),
}

impl PayloadHash {
    /// Of the body that `pieces` are; nothing of it is hashed yet.
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let engine = match Kernel::new() {
            Some(kernel) => Engine::Kernel(Blocks::new(kernel)),
            None => Engine::Ring(digest::Context::new(&digest::SHA256)),
        };
        let rest = Rest {
            pieces,
            piece: 0,
            at: 0,
        };
        Self { rest, engine }
    }

    /// Whether another body's hash beside this one's takes no time of its own, or much less than by itself.
    pub fn has_company_for_free(&self) -> bool {
        matches!(self.engine, Engine::Kernel(_))
    }

    /// Whether all is hashed.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Hashes `budget` bytes at most, and takes from it what was hashed.
    pub fn step(&mut self, budget: &mut usize) {
        while *budget > 0 && !self.rest.is_empty() {
            let taken = match &mut self.engine {
                Engine::Kernel(blocks) => {
                    let run = blocks.whole(&mut self.rest, budget);
                    blocks.compress(run)
                }
                Engine::Ring(context) => {
                    let next = self.rest.next();
                    let next = next.get(..*budget).unwrap_or(next);
                    context.update(next);
                    next.len()
                }
            };
            self.rest.advance(taken);
            *budget = budget.saturating_sub(taken);
        }
    }

    /// Hashes of each body `budget` bytes at most, until one of them is done; takes from the budget what was
    /// hashed of each.
    pub fn step_two(left: &mut Self, right: &mut Self, budget: &mut usize) {
        let (Engine::Kernel(left_blocks), Engine::Kernel(right_blocks)) =
            (&mut left.engine, &mut right.engine)
        else {
            let mut of_left = *budget;
            left.step(&mut of_left);
            right.step(budget);
            *budget = of_left.min(*budget);
            return;
        };
        while *budget > 0 {
            let left_run = left_blocks.whole(&mut left.rest, budget);
            let right_run = right_blocks.whole(&mut right.rest, budget);
            let blocks = left_run.len().min(right_run.len());
            if blocks == 0 {
                return;
            }
            let taken = Blocks::compress_two(
                [left_blocks, right_blocks],
                [&left_run[..blocks], &right_run[..blocks]],
            );
            left.rest.advance(taken);
            right.rest.advance(taken);
            *budget = budget.saturating_sub(taken);
        }
    }

    /// The hash of the whole body: what is not hashed yet is hashed now.
    pub fn finish(mut self) -> PayloadDigest {
        let mut all = usize::MAX;
        self.step(&mut all);
        match self.engine {
            Engine::Kernel(blocks) => PayloadDigest::new(&blocks.finish()),
            Engine::Ring(context) => PayloadDigest::new(context.finish().as_ref()),
        }
    }
}

impl fmt::Debug for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadHash")
            .field("piece", &self.rest.piece)
            .field("at", &self.rest.at)
            .finish_non_exhaustive()
    }
}

/// What is not hashed yet.
struct Rest {
    pieces: Vec<Bytes>,
    /// The piece that is not hashed to its end, and how far it is.
    piece: usize,
    at: usize,
}

impl Rest {
    /// Empty only at the very end.
    fn next(&mut self) -> &[u8] {
        while self.piece < self.pieces.len() && self.at == self.pieces[self.piece].len() {
            (self.piece, self.at) = (self.piece + 1, 0);
        }
        let piece = self.pieces.get(self.piece);
        piece.map_or(&[], |piece| &piece[self.at..])
    }

    fn is_empty(&self) -> bool {
        let rest = self.pieces.get(self.piece..).unwrap_or_default();
        let mut lens = rest.iter().map(Bytes::len);
        lens.next().is_none_or(|len| len == self.at) && lens.all(|len| len == 0)
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

/// A message whose whole blocks are hashed.
struct Blocks {
    kernel: Kernel,
    state: State,
    /// The bytes behind the last whole block.
    tail: Block,
    tail_len: usize,
    /// Whole blocks.
    hashed: u64,
}

impl Blocks {
    fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            state: INITIAL,
            tail: [0; BLOCK_BYTES],
            tail_len: 0,
            hashed: 0,
        }
    }

    /// The next whole blocks that lie in one piece. What lies over the edges of pieces is hashed on the way,
    /// within the budget. Empty when all that is left has gone into the tail, or the budget is used up.
    fn whole<'a>(&mut self, rest: &'a mut Rest, budget: &mut usize) -> &'a [Block] {
        while *budget > 0 {
            let next = rest.next();
            if next.is_empty() || (self.tail_len == 0 && next.len() >= BLOCK_BYTES) {
                break;
            }
            let taken = next.len().min(BLOCK_BYTES - self.tail_len);
            let end = self.tail_len + taken;
            self.tail[self.tail_len..end].copy_from_slice(&next[..taken]);
            self.tail_len = end % BLOCK_BYTES;
            rest.advance(taken);
            *budget = budget.saturating_sub(taken);
            if end == BLOCK_BYTES {
                let block = self.tail;
                self.compress(&[block]);
            }
        }
        let blocks = rest.next().as_chunks().0;
        &blocks[..blocks.len().min(budget.div_ceil(BLOCK_BYTES))]
    }

    /// Tells how many bytes that were.
    fn compress(&mut self, blocks: &[Block]) -> usize {
        self.kernel.compress(&mut self.state, blocks);
        self.hashed += blocks.len() as u64;
        blocks.as_flattened().len()
    }

    /// Hashes as many blocks of each; tells how many bytes of each that were.
    fn compress_two([left, right]: [&mut Self; 2], blocks: [&[Block]; 2]) -> usize {
        debug_assert_eq!(blocks[0].len(), blocks[1].len());
        left.kernel
            .compress_two([&mut left.state, &mut right.state], blocks);
        left.hashed += blocks[0].len() as u64;
        right.hashed += blocks[1].len() as u64;
        blocks[0].as_flattened().len()
    }

    fn finish(self) -> [u8; 32] {
        let hashed = self.hashed * BLOCK_BYTES as u64;
        self.kernel
            .finish(self.state, hashed, &self.tail[..self.tail_len])
    }
}

/// A SHA-256 in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayloadDigest([u8; 64]);

impl PayloadDigest {
    /// Of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self::new(digest::digest(&digest::SHA256, bytes).as_ref())
    }

    /// Of its 32 bytes.
    pub(crate) fn new(digest: &[u8]) -> Self {
        let mut hex = [b'0'; 64];
        for (byte, digits) in digest.iter().zip(hex.chunks_exact_mut(2)) {
            digits.copy_from_slice(&[hex_digit(byte >> 4, LOWER), hex_digit(byte & 15, LOWER)]);
        }
        Self(hex)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Debug for PayloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
