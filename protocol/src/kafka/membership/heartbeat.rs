//! When the next heartbeat is due, and which one is out.

use std::time::Duration;

use crate::time::Instant;

/// At most one heartbeat is out at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Heartbeats {
    /// Before it none is sent; `None` when one is due.
    next: Option<Instant>,
    outstanding: Option<Outstanding>,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sent: Instant,
    generation: i32,
}

impl Heartbeats {
    /// The next one is due an interval from now.
    pub(super) fn restart(&mut self, interval: Duration, now: Instant) {
        self.next = Some(now + interval);
    }

    /// Sends one if it is due, and says so.
    pub(super) fn send(&mut self, generation: i32, interval: Duration, now: Instant) -> bool {
        let due = self.next.is_none_or(|next| now >= next);
        if !due || self.outstanding.is_some() {
            return false;
        }
        let sent = now;
        self.outstanding = Some(Outstanding { sent, generation });
        self.restart(interval, now);
        true
    }

    /// When the answered one was sent; `None` if it was of another generation, and proves nothing.
    pub(super) fn answered(&mut self, generation: i32) -> Option<Instant> {
        let answered = self.outstanding.take()?;
        (answered.generation == generation).then_some(answered.sent)
    }

    /// The one that is out will have no answer: another is due at once.
    pub(super) fn lost(&mut self) {
        if self.outstanding.take().is_some() {
            self.next = None;
        }
    }

    /// Notices that one has come due.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.next.is_some_and(|next| now >= next) {
            self.next = None;
        }
    }

    /// None is sent before then.
    pub(super) fn hold_off(&mut self, until: Instant) {
        self.next = Some(until);
    }

    /// When one comes due, if that is still ahead.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.filter(|_| self.outstanding.is_none())
    }

    /// When the one that is out was sent.
    pub(super) fn outstanding_since(&self) -> Option<Instant> {
        self.outstanding.map(|outstanding| outstanding.sent)
    }
}
