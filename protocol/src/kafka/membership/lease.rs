//! Until when a member may act without hearing from its coordinator.
//!
//! A coordinator gives a member up when it has not heard from it for the session timeout, and when a
//! rebalance has begun and the member has not joined within the rebalance timeout. It counts from when
//! it got our request, which is not before we sent it: so we count from when we sent it, less a margin
//! for what lies between asking for the lease and acting on it. Clocks must go on while the machine
//! sleeps: then a sleeper finds its lease over.
//!
//! Invariant: only a request that was answered renews it, and only from the moment it was sent.

use std::time::Duration;

use crate::time::Instant;

/// What was granted, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// When the last answered request was sent that shows that the coordinator knows us.
    heard: Instant,
    /// When the last answered request was sent that shows that no rebalance waits for us.
    settled: Instant,
}

impl Lease {
    /// The lease that a first answered request grants.
    pub(super) const fn granted(sent: Instant) -> Self {
        Self {
            heard: sent,
            settled: sent,
        }
    }

    /// The coordinator knows us.
    pub(super) fn renew(&mut self, sent: Instant) {
        self.heard = self.heard.max(sent);
    }

    /// The coordinator knows us, and waits for nothing from us.
    pub(super) fn settle(&mut self, sent: Instant) {
        self.renew(sent);
        self.settled = self.settled.max(sent);
    }

    /// When it is over.
    pub(super) fn end(&self, session_timeout: Duration, rebalance_timeout: Duration) -> Instant {
        let heard = self.heard + less_margin(session_timeout);
        heard.min(self.join_by(rebalance_timeout))
    }

    /// When we must have joined a rebalance that has begun.
    pub(super) fn join_by(&self, rebalance_timeout: Duration) -> Instant {
        self.settled + less_margin(rebalance_timeout)
    }
}

/// A timeout of the coordinator's, less a tenth of it but five seconds at most.
fn less_margin(timeout: Duration) -> Duration {
    timeout - (timeout / 10).min(Duration::from_secs(5))
}
