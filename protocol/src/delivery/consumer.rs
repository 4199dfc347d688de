//! The machine itself.
use super::{ConsumerConfig, ConsumerStatus, Effect, Input};
use crate::time::Instant;

/// One group member.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
}

impl Consumer {
    /// A consumer that has done nothing yet.
    pub fn new(config: ConsumerConfig, budget: super::Budget, now: Instant) -> Self {
        let _ = (now, budget);
        Self { config }
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        let _ = (input, now, &self.config);
    }

    /// Does what has come due; call it when `poll_timeout` has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Decodes and encodes at most about [`TURN_BYTES`](crate::limits::TURN_BYTES); true while more is
    /// to be done: then yield and call it again.
    pub fn work(&mut self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// The next thing to do, if any. Drain it after each of the calls above.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What there is to say to the log since the last call; the shell adds the mapping's fields.
    pub fn poll_notice(&mut self) -> Option<super::Notice> {
        None
    }

    /// How it stands.
    pub fn status(&self) -> ConsumerStatus {
        unreachable!("the machine is under construction")
    }
}
