//! Under which producer id records are written, so that brokers can tell a repetition (KIP-98).
//!
//! ```text
//!  Unknown --asked--> Asked --told--> Known --its numbers are of no more use--> Unknown
//!     ^                 |  \
//!     +---not yet-------+   +--not allowed--> Without
//! ```
//!
//! Invariant: where brokers know no such id, or do not let us have one, records are written all the same.

use std::time::Duration;

use super::refusal::is_starting;
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::InitProducerIdResponse;
use crate::time::Instant;

/// A broker that is still getting ready is asked for an id this often in a row, before it is told.
const TRIES: u32 = 50;

/// Between two of these.
const BACKOFF: Duration = Duration::from_millis(100);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Whether brokers can tell a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idempotence {
    Unknown,
    Asked,
    Known(Identity),
    /// They cannot, or do not let us.
    Without,
}

/// What is known of our id.
#[derive(Debug)]
pub(in crate::delivery) struct Identification {
    idempotence: Idempotence,
    /// Brokers in a row that could not give one yet, and when the next is asked.
    failures: u32,
    ask_at: Instant,
}

impl Identification {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            idempotence: Idempotence::Unknown,
            failures: 0,
            ask_at: now,
        }
    }

    /// An id is being asked for.
    pub(in crate::delivery) fn asked(&mut self) {
        self.idempotence = Idempotence::Asked;
    }

    /// Nobody can tell what repeats.
    pub(in crate::delivery) fn go_without(&mut self) {
        self.idempotence = Idempotence::Without;
    }

    /// A broker's answer, if it is an id; while it is still getting ready, it is asked again.
    ///
    /// # Errors
    /// What the broker says instead; it is asked again by the next try, unless it does not let us.
    pub(in crate::delivery) fn handle_answer(
        &mut self,
        answer: &InitProducerIdResponse,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if answer.error.is_ok() {
            self.failures = 0;
            self.idempotence = Idempotence::Known(Identity {
                id: answer.producer_id,
                epoch: answer.producer_epoch,
            });
            return Ok(());
        }
        if answer.error == ErrorCode::CLUSTER_AUTHORIZATION_FAILED {
            self.idempotence = Idempotence::Without;
            return Err(answer.error);
        }
        self.idempotence = Idempotence::Unknown;
        self.ask_at = now + BACKOFF;
        if is_starting(answer.error) && self.failures < TRIES {
            self.failures += 1;
            return Ok(());
        }
        self.failures = 0;
        Err(answer.error)
    }

    /// The question was not answered.
    pub(super) fn handle_no_answer(&mut self) {
        if self.idempotence == Idempotence::Asked {
            self.idempotence = Idempotence::Unknown;
        }
    }

    /// What is written next goes under another id than that.
    pub(super) fn leave(&mut self, identity: Identity) {
        if self.idempotence == Idempotence::Known(identity) {
            self.idempotence = Idempotence::Unknown;
        }
    }

    /// The newest id; `None` where records are written without.
    pub(super) fn identity(&self) -> Option<Identity> {
        match self.idempotence {
            Idempotence::Known(identity) => Some(identity),
            Idempotence::Unknown | Idempotence::Asked | Idempotence::Without => None,
        }
    }

    /// Whether something may be written: what repeats can be told, or never can.
    pub(in crate::delivery) fn is_settled(&self) -> bool {
        match self.idempotence {
            Idempotence::Known(_) | Idempotence::Without => true,
            Idempotence::Unknown | Idempotence::Asked => false,
        }
    }

    /// Whether an id is to be asked for now.
    pub(in crate::delivery) fn is_wanted(&self, now: Instant) -> bool {
        self.wanted_at().is_some_and(|at| now >= at)
    }

    /// When an id is to be asked for.
    pub(super) fn wanted_at(&self) -> Option<Instant> {
        (self.idempotence == Idempotence::Unknown).then_some(self.ask_at)
    }
}
