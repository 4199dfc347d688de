//! The memory budget of one shard: each consumer has a reserved minimum, the rest is shared.
//!
//! Invariant: bytes are reserved before they are fetched; a consumer's minimum is never lent out.

use std::cell::Cell;
use std::rc::Rc;

/// A handle on a shard's shared part; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Rc<Cell<usize>>,
}

impl Budget {
    /// A budget whose shared part is that many bytes.
    pub fn new(shared_bytes: usize) -> Self {
        Self {
            shared: Rc::new(Cell::new(shared_bytes)),
        }
    }

    /// Bytes of the shared part that nobody holds.
    pub fn available(&self) -> usize {
        self.shared.get()
    }

    /// Takes `bytes` of the shared part, or nothing.
    pub fn take(&self, bytes: usize) -> bool {
        match self.shared.get().checked_sub(bytes) {
            Some(rest) => {
                self.shared.set(rest);
                true
            }
            None => false,
        }
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: usize) {
        self.shared.set(self.shared.get().saturating_add(bytes));
    }
}
