//! What a schedule came to.

use std::ops::AddAssign;

use forebay_protocol::time::Instant;

use super::Violation;

/// A violation, with what it takes to see it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at:?}: {violation}\n{nodes}")]
pub struct Failure {
    /// The schedule's seed.
    pub seed: u64,
    /// Virtual time.
    pub at: Instant,
    /// What was broken.
    pub violation: Violation,
    /// How the nodes stood.
    pub nodes: String,
}

/// What a schedule came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps played.
    pub steps: u64,
    /// Records produced that had to be delivered.
    pub records: u64,
    /// Calls made.
    pub calls: u64,
    /// Of these, calls whose body was hashed while it was written.
    pub hashed_along: u64,
    /// Of these, calls of whose end nobody told.
    pub vanished: u64,
    /// Writings that the destination has taken.
    pub diverted: u64,
    /// Writings whose records were dropped for want of one.
    pub dropped: u64,
    /// Records that were discarded as an operator wanted.
    pub skipped: u64,
    /// Inputs that a node heard together with others.
    pub heard_together: u64,
    /// Faults that struck.
    pub faults: u64,
    /// How often a broker has let a connection in.
    pub authentications: u64,
    /// How often one was not let in.
    pub refusals: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.records += other.records;
        self.calls += other.calls;
        self.hashed_along += other.hashed_along;
        self.vanished += other.vanished;
        self.diverted += other.diverted;
        self.dropped += other.dropped;
        self.skipped += other.skipped;
        self.heard_together += other.heard_together;
        self.faults += other.faults;
        self.authentications += other.authentications;
        self.refusals += other.refusals;
    }
}
