//! Bodies that were sent, to be filled again: a fresh 6 MB mapping writes far slower than a warm one.
//!
//! A shard's consumers share them, so that many mappings need no more than are being filled at a time, and the one
//! that was sent last is filled next, while the CPU's caches still hold it.
//!
//! Invariant: they take no more than the room they are given, and [`RECYCLED_BYTES_MAX`] at most.

use std::collections::BTreeMap;

use crate::lambda::event::Buffer;
use crate::limits::{RECYCLED_AGE_MAX, RECYCLED_BYTES_MAX};
use crate::time::Instant;

/// A buffer is taken for a body of a quarter of it at least, or of that many bytes: in a large one a small body would
/// hold memory that others need.
const SMALL_BODY_BYTES: usize = 16 * 1024;

/// What a shard keeps of them.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// By their room.
    free: BTreeMap<usize, Alike>,
    bytes: usize,
    /// When [`let_go_of_idle`](Self::let_go_of_idle) looked last.
    looked_at: Instant,
}

/// Buffers of one size.
#[derive(Debug, Default)]
struct Alike {
    /// Those that were kept last are last, and are taken first.
    buffers: Vec<Buffer>,
    /// So many of them, the first ones, nobody has needed since the last look.
    spare: usize,
}

impl Buffers {
    /// The memory that they hold.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The smallest that holds `usual`; if none does, the smallest that holds `expected`, or a new one.
    pub(super) fn take(&mut self, usual: usize, expected: usize) -> Buffer {
        // Why: one that is kept costs nothing more, and need not be outgrown if more comes than is waiting.
        self.take_kept(usual)
            .or_else(|| self.take_kept(expected))
            .unwrap_or_else(|| Buffer::with_capacity(expected))
    }

    fn take_kept(&mut self, bytes: usize) -> Option<Buffer> {
        let most = bytes.max(SMALL_BODY_BYTES).saturating_mul(4);
        let (room, _) = self.free.range(bytes..=most).next()?;
        self.remove(*room)
    }

    /// Keeps a buffer, if all that are kept then take `limit` bytes at most. Smaller ones make room for it: what
    /// they hold a larger one holds as well.
    pub(super) fn put(&mut self, buffer: Buffer, limit: usize) {
        let limit = limit.min(RECYCLED_BYTES_MAX);
        let wanted = buffer.capacity_bytes();
        if wanted > limit {
            return;
        }
        while self.bytes + wanted > limit {
            match self.free.first_key_value() {
                Some((room, _)) if *room < buffer.room_bytes() => drop(self.remove(*room)),
                _ => return,
            }
        }
        self.bytes += wanted;
        let alike = self.free.entry(buffer.room_bytes()).or_default();
        alike.buffers.push(buffer);
    }

    /// Lets go of the largest until they hold `bytes` at most.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some((room, _)) = self.free.last_key_value()
        {
            drop(self.remove(*room));
        }
    }

    /// Lets go of those that nobody has needed for [`RECYCLED_AGE_MAX`].
    pub(super) fn let_go_of_idle(&mut self, now: Instant) {
        if now.saturating_since(self.looked_at) < RECYCLED_AGE_MAX {
            return;
        }
        self.looked_at = now;
        let bytes = &mut self.bytes;
        self.free.retain(|_, alike| {
            let idle = alike.buffers.drain(..alike.spare);
            *bytes -= idle.map(|it| it.capacity_bytes()).sum::<usize>();
            alike.spare = alike.buffers.len();
            alike.spare > 0
        });
    }

    fn remove(&mut self, room: usize) -> Option<Buffer> {
        let alike = self.free.get_mut(&room)?;
        let buffer = alike.buffers.pop()?;
        alike.spare = alike.spare.min(alike.buffers.len());
        if alike.buffers.is_empty() {
            self.free.remove(&room);
        }
        self.bytes -= buffer.capacity_bytes();
        Some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    fn kept(sizes: &[usize]) -> Buffers {
        let mut buffers = Buffers::default();
        for bytes in sizes {
            buffers.put(Buffer::with_capacity(*bytes), usize::MAX);
        }
        buffers
    }

    fn rooms(buffers: &Buffers) -> Vec<usize> {
        let rooms = buffers.free.values();
        let rooms = rooms.flat_map(|alike| alike.buffers.iter().map(Buffer::room_bytes));
        let rooms: Vec<usize> = rooms.collect();
        assert_eq!(buffers.bytes(), rooms.iter().sum::<usize>());
        rooms
    }

    #[track_caller]
    fn check(free: &[usize], wanted: usize, taken: usize, left: &[usize]) {
        let mut buffers = kept(free);
        assert_eq!(buffers.take(wanted, wanted).room_bytes(), taken);
        assert_eq!(rooms(&buffers), left);
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        check(&[], 1, 4 * KIB, &[]);
        let sizes = [MIB, 4 * KIB, 4 * MIB];
        check(&sizes, MIB / 4, MIB, &[4 * KIB, 4 * MIB]);
        let fresh = Buffer::with_capacity(4097).room_bytes();
        check(&sizes, 4097, fresh, &[4 * KIB, MIB, 4 * MIB]);
        check(&[MIB, 4 * KIB], 2 * MIB, 2 * MIB, &[4 * KIB, MIB]);
    }

    #[test]
    fn a_kept_one_may_be_larger_than_what_is_waiting() {
        let mut buffers = kept(&[4 * KIB, 4 * MIB]);
        assert_eq!(buffers.take(3 * MIB, 4 * KIB).room_bytes(), 4 * MIB);
        assert_eq!(buffers.take(3 * MIB, 4 * KIB).room_bytes(), 4 * KIB);
        assert_eq!(buffers.take(3 * MIB, MIB).room_bytes(), MIB);
    }

    #[test]
    fn smaller_ones_make_room_for_larger_ones() {
        let full = RECYCLED_BYTES_MAX / MIB;
        let mut buffers = kept(&vec![MIB; full + 1]);
        assert_eq!(rooms(&buffers), vec![MIB; full]);
        buffers.put(Buffer::with_capacity(4 * MIB), usize::MAX);
        assert_eq!(buffers.bytes(), RECYCLED_BYTES_MAX);
        assert_eq!(rooms(&buffers).len(), full - 3);
        buffers.put(Buffer::with_capacity(4 * KIB), usize::MAX);
        assert_eq!(rooms(&buffers).len(), full - 3, "a small one is let go");
    }

    #[test]
    fn they_take_no_more_than_their_room() {
        let mut buffers = kept(&[4 * KIB, MIB]);
        buffers.put(Buffer::with_capacity(MIB), 2 * MIB - 1);
        assert_eq!(rooms(&buffers), [MIB], "small ones went, in vain");
        buffers.put(Buffer::with_capacity(MIB), 2 * MIB);
        assert_eq!(rooms(&buffers), [MIB, MIB]);
        buffers.shrink_to(MIB);
        assert_eq!(rooms(&buffers), [MIB]);
    }

    #[test]
    fn what_made_room_is_not_let_go_once_more() {
        let after = |ages| Instant::ZERO + RECYCLED_AGE_MAX * ages;
        let full = RECYCLED_BYTES_MAX / (4 * MIB);
        let mut buffers = kept(&vec![4 * MIB; full]);
        buffers.let_go_of_idle(after(1));
        buffers.put(Buffer::with_capacity(6 * MIB), usize::MAX);
        assert!(buffers.bytes() < RECYCLED_BYTES_MAX, "two made room for it");
        buffers.let_go_of_idle(after(2));
        assert!(rooms(&buffers).len() <= 1);
        let mut buffers = kept(&[MIB; 3]);
        buffers.let_go_of_idle(after(1));
        buffers.put(Buffer::with_capacity(4 * MIB), 3 * MIB);
        assert_eq!(
            rooms(&buffers),
            [MIB; 3],
            "none makes room for what never fits"
        );
    }

    #[test]
    fn those_go_that_nobody_has_needed_whatever_their_size() {
        let mut buffers = kept(&[MIB, MIB, 4 * MIB, 6 * MIB]);
        let after = |ages| Instant::ZERO + RECYCLED_AGE_MAX * ages;
        buffers.let_go_of_idle(after(1));
        let needed = buffers.take(4 * MIB, 4 * MIB);
        buffers.put(needed, usize::MAX);
        buffers.let_go_of_idle(after(2));
        assert_eq!(rooms(&buffers), [4 * MIB]);
    }

    #[test]
    fn what_nobody_has_needed_for_a_while_is_let_go() {
        let mut buffers = kept(&[4 * KIB, MIB, 4 * MIB]);
        let after = |ages| Instant::ZERO + RECYCLED_AGE_MAX * ages;
        buffers.let_go_of_idle(after(1));
        assert_eq!(rooms(&buffers).len(), 3, "they have come since");
        let taken = [buffers.take(1, 1), buffers.take(MIB, MIB)];
        taken.into_iter().for_each(|it| buffers.put(it, usize::MAX));
        buffers.let_go_of_idle(after(2) - std::time::Duration::from_millis(1));
        assert_eq!(rooms(&buffers).len(), 3, "it is not long ago");
        buffers.let_go_of_idle(after(2));
        assert_eq!(rooms(&buffers), [4 * KIB, MIB], "two were needed at a time");
        buffers.let_go_of_idle(after(3));
        assert!(rooms(&buffers).is_empty());
    }
}
