//! How much is begun to be received before the driver is entered once more.

use std::cell::Cell;

use forebay_protocol::limits::TURN_BYTES;
use forebay_protocol::time::Instant;

use super::line::{Line, Place};

pub(super) struct Pace {
    /// Bytes; less than none after a frame that was larger, for which the next ones wait as many turns.
    left: Cell<isize>,
    line: Line<()>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            left: Cell::new(signed(TURN_BYTES)),
            line: Line::default(),
        }
    }
}

impl Pace {
    /// Whether so much may be begun now; then it counts. Nobody overtakes those who wait.
    pub(super) fn begin(&self, bytes: usize) -> bool {
        let may = self.left.get() > 0 && self.line.is_empty();
        if may {
            self.spend(bytes);
        }
        may
    }

    pub(super) fn join(&self, bytes: usize, now: Instant) -> Place<'_, ()> {
        self.line.join(bytes, now)
    }

    /// Bytes of the frames whose turn has not come.
    pub(super) fn waiting(&self) -> usize {
        self.line.bytes()
    }

    /// Whether something of a turn is spent, or somebody waits for the next one.
    pub(super) fn is_in_use(&self) -> bool {
        self.left.get() < signed(TURN_BYTES) || !self.line.is_empty()
    }

    /// A turn has passed: so much more may be begun, first by who has waited longest.
    pub(super) fn begin_turn(&self) {
        let turn = signed(TURN_BYTES);
        self.left.update(|left| turn.min(left + turn));
        while self.left.get() > 0 && !self.line.is_empty() {
            self.line.let_in(|bytes| self.spend(bytes));
        }
    }

    /// Bytes that may be begun in this turn.
    #[cfg(test)]
    pub(super) fn left(&self) -> isize {
        self.left.get()
    }

    fn spend(&self, bytes: usize) {
        self.left.update(|left| left - signed(bytes));
    }
}

/// Of bytes that one frame may have.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).expect("a frame is far smaller than an address space")
}
