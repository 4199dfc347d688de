//! How many calls may be open: additive increase, multiplicative decrease, under a ceiling (decision 11).
//!
//! Invariant: between one call and the ceiling; none only where the ceiling is none.

use std::time::Duration;

use crate::time::Instant;

/// A throttle that comes this soon after the last cut belongs to the same burst.
const DECREASE_INTERVAL: Duration = Duration::from_secs(1);

/// One call's worth, in thousandths.
const ONE_CALL: u64 = 1000;

/// How many calls may be open: additive increase, multiplicative decrease, under a ceiling.
#[derive(Debug)]
pub(super) struct Concurrency {
    max: u64,
    allowed: u64,
    decreased_at: Instant,
}

impl Concurrency {
    pub(super) fn new(max_in_flight: u32, now: Instant) -> Self {
        let max = u64::from(max_in_flight) * ONE_CALL;
        Self {
            max,
            allowed: max,
            decreased_at: now,
        }
    }

    pub(super) fn set_max(&mut self, max_in_flight: u32) {
        let was_full = self.allowed == self.max;
        self.max = u64::from(max_in_flight) * ONE_CALL;
        self.allowed = if was_full {
            self.max
        } else {
            self.allowed.min(self.max)
        };
    }

    pub(super) fn permits(&self, open_calls: usize) -> bool {
        u64::try_from(open_calls).is_ok_and(|open| (open + 1) * ONE_CALL <= self.allowed)
    }

    pub(super) fn succeeded(&mut self) {
        let step = ONE_CALL * ONE_CALL / self.allowed.max(ONE_CALL);
        self.allowed = (self.allowed + step).min(self.max);
    }

    pub(super) fn throttled(&mut self, now: Instant) {
        if now >= self.decreased_at + DECREASE_INTERVAL {
            self.decreased_at = now;
            // With no permit at all, none may appear by halving.
            self.allowed = (self.allowed / 2).max(ONE_CALL).min(self.max);
        }
    }
}
