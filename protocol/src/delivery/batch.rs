//! A batch: what one invocation carries, from its first call to the end of its records.
//!
//! ```text
//!  Ready --call--> InFlight --success--> ended
//!    ^ ^              |  function error, part of it failed, throttle, service error, broken
//!    | |              v
//!    | +---due---- Waiting (back-off)
//!    |
//!    +--some are left-- Leaving (given up: the destination is written to) --none is left--> ended
//! ```
//!
//! Back-off is exponential with full jitter (decision 11): from 1 s after a function error, from 100 ms
//! after throttles, service errors and broken connections, which consume no attempt. It ends when the batch
//! succeeds, its attempts are exhausted, its records are too old or gone, or its lane is lost.
//!
//! Invariant: as long as the set of records is the same, so are the bytes sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::part::Part;
use super::status::{CallStatus, RetryStatus};
use super::{CallId, DiversionId, Invocation, RetryPolicy};
use crate::lambda::event::{EventShape, frame_event};
use crate::lambda::failure::{Condition, FailedLane, FunctionResponse, RecordPosition};
use crate::lambda::invoke::Outcome;
use crate::lambda::item_failures::ItemIdentifier;
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
    /// What leaves it is written to the destination.
    Leaving(Writing),
}

/// How far the destination has been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writing {
    /// Why records leave.
    pub(super) condition: Condition,
    /// The writing that is under way, and since when.
    pub(super) open: Option<(DiversionId, Instant)>,
    /// When the next may begin.
    pub(super) next_try: Instant,
    /// Those that failed.
    pub(super) failures: u32,
}

/// What became of a batch's call, as far as its records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All of them have ended well.
    Succeeded,
    /// The function failed with all of them.
    Failed,
    /// The function failed with these, by partition and offset, and the others have ended well.
    FailedInPart(BTreeSet<(i32, i64)>),
    /// The function was not reached, or its answer was lost: the first back-off, and what was asked for.
    NotReached(Duration, Option<Duration>),
    /// It is too large for the endpoint.
    TooLarge,
}

/// What happens next with a batch whose records have not all ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is called again later.
    Retry,
    /// Its halves go by themselves, from then on; its one record is oversized, if there is no other.
    Split(Instant),
    /// The function has failed too often.
    Exhausted,
}

/// Some parts, one of each lane, that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    parts: Vec<Part>,
    pub(super) state: BatchState,
    pieces: Vec<Bytes>,
    body_bytes: usize,
    digest: Option<PayloadDigest>,
    /// The newest call.
    call: Option<CallStatus>,
    /// Calls in a row that never reached the function, or whose answer was lost.
    service_failures: u32,
    trouble: Option<Trouble>,
    answer: Option<LastAnswer>,
}

/// What is told of a batch whose calls fail.
#[derive(Clone, Debug)]
struct Trouble {
    failed_calls: u32,
    error: Arc<str>,
    since: Instant,
}

/// How the function answered last.
#[derive(Clone, Debug)]
pub(super) struct LastAnswer {
    pub(super) request_id: String,
    pub(super) response: FunctionResponse,
}

/// A record that leaves alone.
#[derive(Debug)]
pub(super) struct LeavingRecord {
    pub(super) place: FailedLane,
    pub(super) key: Option<Bytes>,
    /// Its own event; none of one that is too large to be held.
    pub(super) event: Vec<Bytes>,
    pub(super) event_bytes: usize,
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
            call: None,
            service_failures: 0,
            trouble: None,
            answer: None,
        };
        batch.reframe(parts, shape);
        batch
    }

    /// One of some of its parts, with what is known of them so far.
    pub(super) fn branch(&self, parts: Vec<Part>, state: BatchState, shape: &EventShape) -> Self {
        let mut batch = Self::new(parts, shape);
        batch.state = state;
        batch.trouble.clone_from(&self.trouble);
        batch.answer.clone_from(&self.answer);
        batch
    }

    /// Carries these parts from now on; attempts stay counted. Where nothing leaves it any more, it is called with.
    pub(super) fn reframe(&mut self, parts: Vec<Part>, shape: &EventShape) {
        assert!(
            !parts.is_empty(),
            "an invocation carries at least one record"
        );
        // What left it may have been of a lane that is gone, or have ended record by record.
        let leaves = parts.iter().any(|part| !part.leaving().is_empty());
        if matches!(self.state, BatchState::Leaving(_)) && !leaves {
            self.state = BatchState::Ready;
        }
        self.pieces = frame(&parts, Part::live, shape);
        self.body_bytes = self.pieces.iter().map(Bytes::len).sum();
        let is_oversized = parts.iter().any(|part| part.body.oversized.is_some());
        assert!(
            self.body_bytes < limits::BODY_BYTES_LIMIT || is_oversized,
            "a body stays below the cap"
        );
        self.digest = match &parts[..] {
            [part] => match part.live() {
                [range] => part.body.sealed.digest(range),
                _ => None,
            },
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
    pub(super) fn invocation(&mut self, now: Instant, deadline: Instant) -> Invocation {
        let since = now;
        self.call = Some(CallStatus { since, deadline });
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
        self.call.map(|call| call.deadline)
    }

    /// The open call, for each partition that it carries.
    pub(super) fn open_call(&self) -> impl Iterator<Item = (i32, CallStatus)> {
        let is_open = matches!(self.state, BatchState::InFlight(_));
        let call = self.call.filter(|_| is_open).into_iter();
        call.flat_map(|call| self.parts.iter().map(move |part| (part.partition, call)))
    }

    pub(super) fn records(&self) -> usize {
        self.parts.iter().map(Part::records).sum()
    }

    /// Calls that count against the limit.
    fn attempts(&self) -> u32 {
        let attempts = self.parts.iter().map(|part| part.attempts);
        attempts.max().unwrap_or(0)
    }

    /// Calls that carried it and in which the function failed.
    pub(super) fn failed_calls(&self) -> u32 {
        let calls = self.parts.iter().map(|part| part.failed_calls);
        calls.max().unwrap_or(0)
    }

    /// The records that it carries, as a log names them.
    pub(super) fn extent(&self) -> String {
        let part = &self.parts[0];
        let (first, last) = (part.first_offset(), part.last_offset());
        let lane = format!("partition {} offsets {first} to {last}", part.partition);
        match self.parts.len() {
            1 => lane,
            parts => format!("{lane} and of {} partitions more", parts - 1),
        }
    }

    /// Whether something waits to be done with it: no call and no writing is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        match self.state {
            BatchState::Ready | BatchState::Waiting(_) => true,
            BatchState::InFlight(_) => false,
            BatchState::Leaving(writing) => writing.open.is_none(),
        }
    }

    /// Whether it waits for its next call.
    pub(super) fn awaits_call(&self) -> bool {
        matches!(self.state, BatchState::Ready | BatchState::Waiting(_))
    }

    /// When time alone lets it go on.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            BatchState::Waiting(until) => Some(until),
            BatchState::Leaving(writing) if writing.open.is_none() => Some(writing.next_try),
            BatchState::Ready | BatchState::InFlight(_) | BatchState::Leaving(_) => None,
        }
    }

    /// Whether a call of it has failed, and its records have not ended.
    pub(super) fn is_failing(&self) -> bool {
        self.trouble.is_some()
    }

    /// Why its last call, or its last writing, failed.
    pub(super) fn error(&self) -> Option<&Arc<str>> {
        self.trouble.as_ref().map(|trouble| &trouble.error)
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

    /// Remembers why the destination has not taken what leaves it.
    pub(super) fn note_undelivered(&mut self, error: Arc<str>, now: Instant) {
        match &mut self.trouble {
            Some(trouble) => trouble.error = error,
            none => {
                *none = Some(Trouble {
                    failed_calls: 0,
                    error,
                    since: now,
                });
            }
        }
    }

    /// How each of its partitions fares, if a call of it failed or it is given up.
    pub(super) fn retries(&self) -> impl Iterator<Item = (i32, RetryStatus)> {
        let leaving = match self.state {
            BatchState::Leaving(writing) => Some(writing.condition),
            BatchState::Ready | BatchState::InFlight(_) | BatchState::Waiting(_) => None,
        };
        let ends = |part: &Part| match part.leaving_ends() {
            Some((first, last)) => (first.offset, last.offset),
            None => (part.first_offset(), part.last_offset()),
        };
        let status = move |part: &Part, trouble: &Trouble| RetryStatus {
            offset: ends(part).0,
            last_offset: ends(part).1,
            attempts: part.attempts,
            function_errors: part.failed_calls,
            failed_calls: trouble.failed_calls,
            error: Arc::clone(&trouble.error),
            since: trouble.since,
            leaving,
            next_try: match self.state {
                BatchState::Ready => Some(trouble.since),
                BatchState::Waiting(until) => Some(until),
                BatchState::Leaving(writing) if writing.open.is_none() => Some(writing.next_try),
                BatchState::InFlight(_) | BatchState::Leaving(_) => None,
            },
        };
        let trouble = self.trouble.iter();
        trouble.flat_map(move |trouble| {
            let parts = self.parts.iter();
            parts.map(move |part| (part.partition, status(part, trouble)))
        })
    }

    /// The records that the function reports as failed.
    ///
    /// # Errors
    /// What it names that is not in the batch: it has failed whole then.
    pub(super) fn resolve(
        &self,
        topic: &str,
        failures: &[ItemIdentifier],
    ) -> Result<BTreeSet<(i32, i64)>, String> {
        let mut failed = BTreeSet::new();
        for ItemIdentifier { partition, offset } in failures {
            let number = partition_of(topic, partition);
            let part = number.and_then(|number| {
                let mut parts = self.parts.iter();
                parts.find(|part| part.partition == number)
            });
            match part {
                Some(part) if part.has_live(*offset) => failed.insert((part.partition, *offset)),
                _ => {
                    return Err(
                        "the function reports a record that it was not called with".to_owned()
                    );
                }
            };
        }
        Ok(failed)
    }

    /// Remembers how the function answered.
    pub(super) fn note_answer(&mut self, outcome: &Outcome) {
        let (execution, function_error) = match outcome {
            Outcome::Success { execution, .. } => (execution, None),
            Outcome::FunctionError {
                execution, kind, ..
            } => (execution, Some(kind.clone())),
            _ => return,
        };
        self.answer = Some(LastAnswer {
            request_id: execution.request_id.clone(),
            response: FunctionResponse {
                status: execution.status,
                executed_version: execution.executed_version.clone(),
                function_error,
            },
        });
    }

    pub(super) fn answer(&self) -> Option<&LastAnswer> {
        self.answer.as_ref()
    }

    /// Takes how the open call ended, for the records that have not.
    pub(super) fn conclude(
        &mut self,
        fate: &Fate,
        policy: &RetryPolicy,
        now: Instant,
        random: &mut Random,
    ) -> Verdict {
        let (base, failures, retry_after) = match fate {
            Fate::Succeeded => unreachable!("what has succeeded has ended"),
            Fate::TooLarge => return Verdict::Split(now),
            Fate::Failed | Fate::FailedInPart(_) => {
                self.service_failures = 0;
                let base = limits::FUNCTION_ERROR_BACKOFF;
                for part in &mut self.parts {
                    part.failed_calls = part.failed_calls.saturating_add(1);
                }
                if *fate == Fate::Failed && policy.bisect && self.records() > 1 {
                    return Verdict::Split(now + backoff(base, 1, random));
                }
                for part in &mut self.parts {
                    part.attempts = part.attempts.saturating_add(1);
                }
                let attempts = self.attempts();
                if policy.max_attempts.is_some_and(|max| attempts > max) {
                    return Verdict::Exhausted;
                }
                (base, attempts, None)
            }
            Fate::NotReached(base, retry_after) => {
                self.service_failures = self.service_failures.saturating_add(1);
                (*base, self.service_failures, *retry_after)
            }
        };
        let wait = backoff(base, failures, random).max(retry_after.unwrap_or(Duration::ZERO));
        self.state = BatchState::Waiting(now + wait.min(limits::RETRY_AFTER_MAX));
        Verdict::Retry
    }

    /// What leaves it goes to the destination.
    pub(super) fn begin_leaving(&mut self, condition: Condition, now: Instant) {
        let leaves = self.parts.iter().all(|part| !part.leaving().is_empty());
        assert!(leaves, "of each lane something leaves");
        self.state = BatchState::Leaving(Writing {
            condition,
            open: None,
            next_try: now,
            failures: 0,
        });
    }

    /// The event of what leaves it, and its size.
    pub(super) fn leaving_event(&self, shape: &EventShape) -> (Vec<Bytes>, usize) {
        if let [part] = &self.parts[..]
            && let Some(event_bytes) = part.body.oversized
        {
            // Of a record that is too large to be held, its place alone was encoded.
            return match part.body.sealed.body() {
                body if body.len() == event_bytes => (vec![body], event_bytes),
                _ => (Vec::new(), event_bytes),
            };
        }
        let event = frame(&self.parts, Part::leaving, shape);
        let event_bytes = event.iter().map(Bytes::len).sum();
        (event, event_bytes)
    }

    /// How many records leave it.
    pub(super) fn leaving_count(&self) -> u64 {
        let records = self.parts.iter().map(Part::leaving_records);
        records.sum::<usize>() as u64
    }

    /// What leaves it, by partition and offset, each record with its key.
    pub(super) fn leaving_records(&self) -> impl Iterator<Item = (i32, i64, Option<Bytes>)> {
        self.parts.iter().flat_map(|part| {
            let marks = part.leaving().iter().cloned().flatten();
            marks
                .zip(part.leaving_marks())
                .map(|(at, mark)| (part.partition, mark.offset, part.body.sealed.key(at)))
        })
    }

    /// One record that leaves it, by itself.
    pub(super) fn leaving_record(
        &self,
        topic: &Arc<str>,
        (partition, offset): (i32, i64),
        shape: &EventShape,
    ) -> Option<LeavingRecord> {
        let mut parts = self.parts.iter();
        let part = parts.find(|part| part.partition == partition)?;
        let at = part.leaving_at(offset)?;
        let sealed = &part.body.sealed;
        let (event, event_bytes) = match part.body.oversized {
            Some(_) => self.leaving_event(shape),
            None => {
                let event = frame_event(shape, &[(sealed, at..at + 1)]);
                let bytes = event.iter().map(Bytes::len).sum();
                (event, bytes)
            }
        };
        let position = RecordPosition {
            offset,
            timestamp: sealed.records().get(at)?.timestamp,
        };
        Some(LeavingRecord {
            place: FailedLane {
                topic: Arc::clone(topic),
                partition,
                records: 1,
                first: position,
                last: position,
            },
            key: sealed.key(at),
            event,
            event_bytes,
        })
    }

    /// What leaves it, by lane.
    pub(super) fn leaving_lanes(&self, topic: &Arc<str>) -> Vec<FailedLane> {
        let position = |mark: crate::lambda::event::RecordMark| RecordPosition {
            offset: mark.offset,
            timestamp: mark.timestamp,
        };
        let lanes = self.parts.iter().filter_map(|part| {
            let (first, last) = part.leaving_ends()?;
            Some(FailedLane {
                topic: Arc::clone(topic),
                partition: part.partition,
                records: part.leaving_records(),
                first: position(first),
                last: position(last),
            })
        });
        lanes.collect()
    }
}

fn frame(
    parts: &[Part],
    of: impl Fn(&Part) -> &[std::ops::Range<usize>],
    shape: &EventShape,
) -> Vec<Bytes> {
    let framed: Vec<_> = parts
        .iter()
        .flat_map(|part| {
            of(part)
                .iter()
                .map(|range| (&part.body.sealed, range.clone()))
        })
        .collect();
    frame_event(shape, &framed)
}

/// The partition that a member of the event's `records` is for.
fn partition_of(topic: &str, member: &str) -> Option<i32> {
    let number = member.strip_prefix(topic)?.strip_prefix('-')?;
    let partition: i32 = number.parse().ok()?;
    // `+1` and `01` are no names that the event has.
    (partition.to_string() == number).then_some(partition)
}

/// Full jitter under an exponential cap; `failures` counts from 1.
pub(super) fn backoff(base: Duration, failures: u32, random: &mut Random) -> Duration {
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
            oversized: None,
        };
        let part = Part::whole(0, 0, Rc::new(body));
        let mut batch = Batch::new(vec![part], &shape);
        drop(batch.invocation(Instant::ZERO, Instant::ZERO));
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
