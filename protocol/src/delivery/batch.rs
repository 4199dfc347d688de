//! A batch: what one invocation carries, from its first call to the end of its records.
//!
//! ```text
//!  Ready --call--> InFlight --success--> ended
//!    ^                |  function error, throttle, service error, broken
//!    |                v
//!    +---due----- Waiting (back-off)
//! ```
//!
//! Back-off is exponential with full jitter (decision 11): from 1 s after a function error, from 100 ms
//! after throttles, service errors and broken connections, which consume no attempt. It has no end of its
//! own: a batch is retried until it succeeds, its records expire, or its lane is lost.
//!
//! Invariant: as long as the set of records is the same, so are the bytes sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::part::Part;
use super::status::RetryStatus;
use super::{CallId, Invocation};
use crate::lambda::event::{EventShape, frame_event};
use crate::lambda::invoke::Outcome;
use crate::limits;
use crate::random::Random;
use crate::sigv4::PayloadDigest;
use crate::time::Instant;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchState {
    /// A call may start.
    Ready,
    /// A call is open.
    InFlight(CallId),
    /// The last call failed; the next is due then.
    Waiting(Instant),
}

/// What became of a batch's call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its records have ended well.
    Succeeded,
    /// It is called again later.
    Retry,
    /// It is too large for the endpoint: split it, or its one record is oversized.
    TooLarge,
}

/// Some parts, one of each lane, that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    parts: Vec<Part>,
    pub(super) state: BatchState,
    pieces: Vec<Bytes>,
    body_bytes: usize,
    digest: Option<PayloadDigest>,
    /// When the open call must have ended.
    deadline: Option<Instant>,
    /// Calls that the function answered with an error.
    pub(super) attempts: u32,
    /// Calls in a row that never reached the function, or whose answer was lost.
    service_failures: u32,
    trouble: Option<Trouble>,
}

/// What is told of a batch whose calls fail.
#[derive(Debug)]
struct Trouble {
    failed_calls: u32,
    error: Arc<str>,
    since: Instant,
}

impl Batch {
    /// A batch of these parts, framed.
    pub(super) fn new(parts: Vec<Part>, shape: &EventShape) -> Self {
        let mut batch = Self {
            parts: Vec::new(),
            state: BatchState::Ready,
            pieces: Vec::new(),
            body_bytes: 0,
            digest: None,
            deadline: None,
            attempts: 0,
            service_failures: 0,
            trouble: None,
        };
        batch.reframe(parts, shape);
        batch
    }

    /// Carries these parts from now on; attempts stay counted.
    pub(super) fn reframe(&mut self, parts: Vec<Part>, shape: &EventShape) {
        assert!(
            !parts.is_empty(),
            "an invocation carries at least one record"
        );
        let framed: Vec<_> = parts
            .iter()
            .map(|p| (&p.body.sealed, p.range.clone()))
            .collect();
        self.pieces = frame_event(shape, &framed);
        self.body_bytes = self.pieces.iter().map(Bytes::len).sum();
        assert!(
            self.body_bytes < limits::BODY_BYTES_LIMIT,
            "a body stays below the cap"
        );
        self.digest = match &framed[..] {
            [(sealed, range)] => sealed.digest(range),
            _ => None,
        };
        self.parts = parts;
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What it carried. It holds on to no byte of them then, so that their bodies can be filled again.
    pub(super) fn take_parts(&mut self) -> Vec<Part> {
        self.pieces = Vec::new();
        std::mem::take(&mut self.parts)
    }

    /// The call to make now.
    pub(super) fn invocation(&mut self, deadline: Instant) -> Invocation {
        self.deadline = Some(deadline);
        Invocation {
            pieces: self.pieces.clone(),
            body_bytes: self.body_bytes,
            digest: self.digest,
            records: u32::try_from(self.records()).unwrap_or(u32::MAX),
            deadline,
        }
    }

    /// When the open call must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn records(&self) -> usize {
        self.parts.iter().map(Part::records).sum()
    }

    /// Remembers why the call that has just ended failed.
    pub(super) fn note_failure(&mut self, error: Arc<str>, now: Instant) {
        let before = self.trouble.take();
        self.trouble = Some(Trouble {
            failed_calls: before
                .as_ref()
                .map_or(0, |it| it.failed_calls)
                .saturating_add(1),
            error,
            since: before.map_or(now, |it| it.since),
        });
    }

    /// How each of its partitions fares, if a call of it failed.
    pub(super) fn retries(&self) -> impl Iterator<Item = (i32, RetryStatus)> {
        let status = move |part: &Part, trouble: &Trouble| RetryStatus {
            offset: part.first_offset(),
            last_offset: part.last_offset(),
            attempts: self.attempts,
            failed_calls: trouble.failed_calls,
            error: Arc::clone(&trouble.error),
            since: trouble.since,
            next_try: match self.state {
                BatchState::Ready => Some(trouble.since),
                BatchState::Waiting(until) => Some(until),
                BatchState::InFlight(_) => None,
            },
        };
        let trouble = self.trouble.iter();
        trouble.flat_map(move |trouble| {
            let parts = self.parts.iter();
            parts.map(move |part| (part.partition, status(part, trouble)))
        })
    }

    /// Takes the outcome of the open call.
    pub(super) fn conclude(
        &mut self,
        outcome: &Outcome,
        now: Instant,
        random: &mut Random,
    ) -> Verdict {
        let (base, failures, retry_after) = match outcome {
            Outcome::Success { .. } => return Verdict::Succeeded,
            Outcome::TooLarge { .. } => return Verdict::TooLarge,
            Outcome::FunctionError { .. } => {
                self.attempts = self.attempts.saturating_add(1);
                self.service_failures = 0;
                (limits::FUNCTION_ERROR_BACKOFF, self.attempts, None)
            }
            Outcome::Throttled { retry_after, .. } | Outcome::ServiceError { retry_after, .. } => {
                self.service_failures = self.service_failures.saturating_add(1);
                (
                    limits::SERVICE_ERROR_BACKOFF,
                    self.service_failures,
                    *retry_after,
                )
            }
            Outcome::Broken { .. } => {
                self.service_failures = self.service_failures.saturating_add(1);
                (limits::SERVICE_ERROR_BACKOFF, self.service_failures, None)
            }
            Outcome::Refused { .. } => {
                self.service_failures = self.service_failures.saturating_add(1);
                (limits::REFUSED_BACKOFF, self.service_failures, None)
            }
        };
        let wait = backoff(base, failures, random).max(retry_after.unwrap_or(Duration::ZERO));
        self.state = BatchState::Waiting(now + wait.min(limits::RETRY_AFTER_MAX));
        Verdict::Retry
    }
}

/// Full jitter under an exponential cap; `failures` counts from 1.
fn backoff(base: Duration, failures: u32, random: &mut Random) -> Duration {
    let cap = base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
    random.jitter(cap.min(limits::BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::delivery::part::Body;
    use crate::kafka::records::{Headers, Record, TimestampType};
    use crate::lambda::event::{Buffer, Fragment, Push};

    #[test]
    fn bodies_of_a_batch_that_has_ended_can_be_filled_again() {
        let shape = EventShape::new("k:9092", "t");
        let mut fragment = Fragment::new(&shape, 0, Buffer::default());
        let record = Record {
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            key: None,
            value: Some(&[7; 3000]),
            headers: Headers::default(),
        };
        assert_eq!(fragment.push(&record, 6_000_000), Push::Appended);
        let body = Body {
            sealed: fragment.seal(),
            held_bytes: 0,
        };
        let part = Part {
            partition: 0,
            ownership: 0,
            body: Rc::new(body),
            range: 0..1,
        };
        let mut batch = Batch::new(vec![part], &shape);
        drop(batch.invocation(Instant::ZERO));
        let part = batch.take_parts().pop().unwrap();
        let body = Rc::try_unwrap(part.body).unwrap();
        assert!(body.sealed.into_buffer().is_some());
    }

    #[test]
    fn backoff_grows_to_its_cap_and_no_further() {
        let mut random = Random::new(1);
        let longest = |failures, random: &mut Random| {
            (0..500)
                .map(|_| backoff(limits::FUNCTION_ERROR_BACKOFF, failures, random))
                .max()
        };
        assert!(longest(1, &mut random) <= Some(Duration::from_secs(1)));
        assert!(longest(3, &mut random) > Some(Duration::from_secs(2)));
        assert!(longest(4000, &mut random) <= Some(limits::BACKOFF_MAX));
    }
}
