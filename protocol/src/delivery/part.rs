//! What leaves a lane: a sealed body, and the parts of it that travel in batches.
//!
//! Invariant: a part holds at least one record, all of one lane, in order.

use std::ops::Range;
use std::rc::Rc;

use crate::lambda::event::Sealed;

/// A sealed body, with the memory that stands for it in the budget.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) sealed: Sealed,
    pub(super) held_bytes: usize,
}

/// Some records of one lane, already encoded.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) partition: i32,
    /// Which ownership of the partition it belongs to.
    pub(super) ownership: u64,
    pub(super) body: Rc<Body>,
    pub(super) range: Range<usize>,
}

impl Part {
    pub(super) fn first_offset(&self) -> i64 {
        self.body.sealed.records()[self.range.start].offset
    }

    pub(super) fn last_offset(&self) -> i64 {
        self.body.sealed.records()[self.range.end - 1].offset
    }

    pub(super) fn records(&self) -> usize {
        self.range.len()
    }
}
