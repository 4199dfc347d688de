//! Bodies that were sent, to be filled again: a fresh 6 MB mapping writes far slower than a warm one.
//!
//! They are held bytes like any others, and the first to go when memory is short, or when nothing is sent.
//!
//! Invariant: it holds [`RECYCLED_BYTES_MAX`] at most.

use crate::lambda::event::Buffer;
use crate::limits::{RECYCLED_AGE_MAX, RECYCLED_BYTES_MAX};
use crate::time::Instant;

/// What a consumer keeps of them.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Vec<Buffer>,
    bytes: usize,
    /// When a body was begun or sent last.
    used: Instant,
}

impl Buffers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            free: Vec::new(),
            bytes: 0,
            used: now,
        }
    }

    /// A body is begun or was sent.
    pub(super) fn note_use(&mut self, now: Instant) {
        self.used = now;
    }

    /// Whether they have been of no use for long.
    pub(super) fn are_idle(&self, now: Instant) -> bool {
        self.bytes > 0 && now.saturating_since(self.used) >= RECYCLED_AGE_MAX
    }

    /// Lets go of them all; tells how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        self.free = Vec::new();
        std::mem::take(&mut self.bytes)
    }

    /// The smallest that holds `bytes`; a new one if none does.
    pub(super) fn take(&mut self, bytes: usize) -> Buffer {
        self.take_kept(bytes)
            .unwrap_or_else(|| Buffer::with_capacity(bytes))
    }

    /// The smallest that holds `usual`; if none does, as [`take`](Self::take) with `expected`.
    pub(super) fn take_for(&mut self, usual: usize, expected: usize) -> Buffer {
        // Why: one that is kept costs nothing more, and need not be outgrown if more comes than is waiting.
        self.take_kept(usual).unwrap_or_else(|| self.take(expected))
    }

    fn take_kept(&mut self, bytes: usize) -> Option<Buffer> {
        let free = self.free.iter().enumerate();
        let fitting = free.filter(|(_, buffer)| buffer.room_bytes() >= bytes);
        let (at, _) = fitting.min_by_key(|(_, buffer)| buffer.room_bytes())?;
        let buffer = self.free.swap_remove(at);
        self.bytes -= buffer.capacity_bytes();
        Some(buffer)
    }

    /// Keeps a buffer, unless it is one too many. Smaller ones make room for it: what they hold a larger one
    /// holds as well.
    pub(super) fn put(&mut self, buffer: Buffer) {
        let wanted = buffer.capacity_bytes();
        while self.bytes + wanted > RECYCLED_BYTES_MAX {
            let smallest = (0..self.free.len()).min_by_key(|at| self.free[*at].room_bytes());
            match smallest {
                Some(at) if self.free[at].room_bytes() < buffer.room_bytes() => {
                    self.bytes -= self.free.swap_remove(at).capacity_bytes();
                }
                _ => return,
            }
        }
        self.bytes += wanted;
        self.free.push(buffer);
    }

    /// The memory that they hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(free: &[usize], wanted: usize, taken: usize, left: &[usize]) {
        let mut buffers = Buffers::new(Instant::ZERO);
        for bytes in free {
            buffers.put(Buffer::with_capacity(*bytes));
        }
        assert_eq!(buffers.take(wanted).room_bytes(), taken);
        let mut rest: Vec<usize> = buffers.free.iter().map(Buffer::room_bytes).collect();
        rest.sort_unstable();
        assert_eq!(rest, left);
        assert_eq!(buffers.bytes(), left.iter().sum::<usize>());
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        const MIB: usize = 1 << 20;
        check(&[], 1, 4096, &[]);
        check(&[MIB, 4096, 4 * MIB], 4097, MIB, &[4096, 4 * MIB]);
        check(&[MIB, 4096], 2 * MIB, 2 * MIB, &[4096, MIB]);
    }

    #[test]
    fn a_kept_one_may_be_larger_than_what_is_waiting() {
        const MIB: usize = 1 << 20;
        let mut buffers = Buffers::new(Instant::ZERO);
        buffers.put(Buffer::with_capacity(4096));
        buffers.put(Buffer::with_capacity(4 * MIB));
        assert_eq!(buffers.take_for(3 * MIB, 4096).room_bytes(), 4 * MIB);
        assert_eq!(buffers.take_for(3 * MIB, 4096).room_bytes(), 4096);
        assert_eq!(buffers.take_for(3 * MIB, MIB).room_bytes(), MIB);
    }

    #[test]
    fn smaller_ones_make_room_for_larger_ones() {
        const MIB: usize = 1 << 20;
        let full = RECYCLED_BYTES_MAX / MIB;
        let mut buffers = Buffers::new(Instant::ZERO);
        for _ in 0..=full {
            buffers.put(Buffer::with_capacity(MIB));
        }
        assert_eq!(buffers.free.len(), full);
        buffers.put(Buffer::with_capacity(4 * MIB));
        assert_eq!(buffers.free.len(), full - 3);
        assert_eq!(buffers.bytes(), RECYCLED_BYTES_MAX);
        buffers.put(Buffer::with_capacity(4096));
        assert_eq!(buffers.bytes(), RECYCLED_BYTES_MAX, "a small one is let go");
    }

    #[test]
    fn unused_ones_are_idle_after_a_while() {
        let mut buffers = Buffers::new(Instant::ZERO);
        let later = Instant::ZERO + RECYCLED_AGE_MAX;
        assert!(!buffers.are_idle(later), "there is nothing to let go");
        buffers.put(Buffer::with_capacity(4096));
        assert!(buffers.are_idle(later));
        buffers.note_use(later);
        assert!(!buffers.are_idle(later));
        assert_eq!((buffers.clear(), buffers.bytes()), (4096, 0));
    }
}
