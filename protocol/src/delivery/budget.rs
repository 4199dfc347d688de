//! The memory budget of one shard: each consumer has a reserved minimum, the rest is shared.
//!
//! What nobody holds of the shared part may keep buffers of sent bodies for the next ones. They are the first to
//! go: whoever takes bytes gets theirs.
//!
//! Invariant: bytes are reserved before they are fetched; a consumer's minimum is never lent out; what is free and
//! what is kept are together what nobody holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::buffers::Buffers;
use crate::lambda::event::Buffer;
use crate::time::Instant;

/// A handle on a shard's shared part; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that nobody holds, those of kept buffers among them.
    available: Cell<usize>,
    kept: RefCell<Buffers>,
    /// Who has a seat.
    consumers: Cell<usize>,
}

/// Makes a consumer count among those that share, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Rc<Shared>);

impl Seat {
    /// An equal part of what all consumers of the shard may have together.
    pub(super) fn share_of(&self, bytes: usize) -> usize {
        bytes / self.0.consumers.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.consumers.update(|count| count - 1);
    }
}

impl Budget {
    /// A budget whose shared part is that many bytes.
    pub fn new(shared_bytes: usize) -> Self {
        Self(Rc::new(Shared {
            available: Cell::new(shared_bytes),
            kept: RefCell::default(),
            consumers: Cell::new(0),
        }))
    }

    /// For one consumer more.
    pub(super) fn seat(&self) -> Seat {
        self.0.consumers.update(|count| count + 1);
        Seat(Rc::clone(&self.0))
    }

    /// Bytes of the shared part that nobody holds.
    pub fn available(&self) -> usize {
        self.0.available.get()
    }

    /// Takes `bytes` of the shared part, or nothing.
    pub fn take(&self, bytes: usize) -> bool {
        match self.available().checked_sub(bytes) {
            Some(rest) => {
                self.0.available.set(rest);
                self.0.kept.borrow_mut().shrink_to(rest);
                true
            }
            None => false,
        }
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: usize) {
        let available = self.available().saturating_add(bytes);
        self.0.available.set(available);
    }

    /// Gives back the memory of buffers that nobody has needed for a while. Call it now and then.
    pub fn let_go_of_idle(&self, now: Instant) {
        self.0.kept.borrow_mut().let_go_of_idle(now);
    }

    /// A buffer for a body: one that was kept and holds `usual` bytes, else one for `expected`. Its memory is then
    /// the caller's to account for.
    pub(super) fn buffer(&self, usual: usize, expected: usize) -> Buffer {
        self.0.kept.borrow_mut().take(usual, expected)
    }

    /// Keeps a buffer whose memory has been given back, if there is room for it.
    pub(super) fn keep(&self, buffer: Buffer) {
        let mut kept = self.0.kept.borrow_mut();
        kept.put(buffer, self.available());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn kept_buffers_are_available_and_go_first() {
        let budget = Budget::new(3 * MIB);
        let kept = || budget.0.kept.borrow().bytes();
        for _ in 0..4 {
            budget.keep(Buffer::with_capacity(MIB));
        }
        assert_eq!((budget.available(), kept()), (3 * MIB, 3 * MIB));
        assert!(budget.take(MIB));
        assert_eq!((budget.available(), kept()), (2 * MIB, 2 * MIB));
        assert!(!budget.take(2 * MIB + 1));
        assert_eq!(kept(), 2 * MIB, "nothing was taken");
        assert_eq!(budget.buffer(MIB, MIB).room_bytes(), MIB);
        assert_eq!((budget.available(), kept()), (2 * MIB, MIB));
        budget.keep(Buffer::with_capacity(4 * MIB));
        assert_eq!(kept(), MIB, "it is too large for what is there");
    }
    #[test]
    fn consumers_share_by_their_number() {
        let budget = Budget::new(0);
        let first = budget.seat();
        assert_eq!(first.share_of(MIB), MIB);
        let others = [budget.seat(), budget.seat(), budget.clone().seat()];
        assert_eq!(first.share_of(MIB), MIB / 4);
        drop(others);
        assert_eq!(first.share_of(MIB), MIB);
    }
}
