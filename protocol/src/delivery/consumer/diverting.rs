//! Records that are given up: written to the destination, or discarded where there is none.
//!
//! Why they are given up: the function failed too often, no call may carry them, they are too old, or the brokers keep
//! them no longer. Only what the destination has acknowledged has ended; one that fails is written to again for ever,
//! with back-off, and the lane waits, unless the owner chose that it is dropped then (decision 16).
//!
//! Invariant: a record that is given up ends by an acknowledgement, or by a choice of the mapping's owner; it is counted
//! and said either way.

use super::super::batch::{Batch, BatchState, LastAnswer, Writing, backoff};
use super::super::part::Part;
use super::super::{Diversion, DiversionId, Effect, Fault, Severity, Taken, Undelivered};
use super::Consumer;
use crate::lambda::event::RecordMark;
use crate::lambda::failure::{Condition, Failure};
use crate::limits;
use crate::time::Instant;

impl Consumer {
    /// Gives up those records of a batch that waits of which that holds; the others go on without them. Whether there
    /// are any.
    pub(super) fn withdraw(
        &mut self,
        id: u64,
        condition: Condition,
        given_up: impl Fn(&Self, &Part, &RecordMark) -> bool,
    ) -> bool {
        let leaving = self.take_out(id, given_up);
        let is_touched = leaving.is_some();
        if let Some(leaving) = leaving {
            self.give_up(leaving, condition);
        }
        is_touched
    }

    /// Takes those records out of a batch that waits, as a batch of their own whose records leave. What their lanes
    /// have else goes along, and waits for them.
    pub(super) fn take_out(
        &mut self,
        id: u64,
        given_up: impl Fn(&Self, &Part, &RecordMark) -> bool,
    ) -> Option<Batch> {
        let is_touched = self.batches.get(&id).is_some_and(|batch| {
            let mut parts = batch.parts().iter();
            parts.any(|part| part.any_live(|mark| given_up(self, part, mark)))
        });
        if !is_touched {
            return None;
        }
        let mut batch = self.batches.remove(&id)?;
        let (mut leaving, mut staying) = (Vec::new(), Vec::new());
        for mut part in batch.take_parts() {
            match part.leave(|part, mark| given_up(self, part, mark)) {
                true => leaving.push(part),
                false => staying.push(part),
            }
        }
        let leaving = batch.branch(leaving, BatchState::Ready, &self.shape);
        if !staying.is_empty() {
            batch.reframe(staying, &self.shape);
            self.batches.insert(id, batch);
        }
        Some(leaving)
    }

    /// Gives up all records of those parts, which are what is left of that batch.
    pub(super) fn give_up_whole(
        &mut self,
        mut batch: Batch,
        mut parts: Vec<Part>,
        condition: Condition,
    ) {
        for part in &mut parts {
            part.leave(|_, _| true);
        }
        batch.reframe(parts, &self.shape);
        self.give_up(batch, condition);
    }

    /// Gives up what leaves the batch.
    pub(super) fn give_up(&mut self, mut batch: Batch, condition: Condition) {
        if !self.has_destination() {
            self.discard(batch, condition);
            return;
        }
        let lanes = describe(&batch);
        self.notice(
            Severity::Warn,
            "Records are given up; they go to the destination",
            format!("condition={condition:?} {lanes}"),
        );
        batch.begin_leaving(condition, self.now);
        self.insert_batch(batch);
    }

    /// What leaves the batch has ended without being written anywhere.
    pub(super) fn discard(&mut self, batch: Batch, condition: Condition) {
        let lanes = describe(&batch);
        self.notice(
            Severity::Error,
            "Records were given up and discarded",
            format!("condition={condition:?} {lanes}"),
        );
        self.counters.records_dropped += batch.leaving_count();
        self.note_discarded(&batch, |_, _| true);
        self.end_leaving(batch);
    }

    /// What leaves the batch has ended; it goes on with what is left.
    pub(super) fn end_leaving(&mut self, mut batch: Batch) {
        let mut kept = Vec::new();
        for mut part in batch.take_parts() {
            match part.end_leaving() {
                true => {
                    self.pass_part(&part);
                    kept.extend(self.keep_or_let_go(part));
                }
                false => self.finish_part(part),
            }
        }
        if !kept.is_empty() {
            batch.state = BatchState::Ready;
            batch.reframe(kept, &self.shape);
            self.insert_batch(batch);
        }
        self.settle_function_fault();
    }

    /// Once what the function failed with is gone, nothing is in the way any more.
    pub(super) fn settle_function_fault(&mut self) {
        if !self.batches.values().any(Batch::is_failing) {
            self.faults.function = None;
        }
    }

    /// Begins every writing that may begin.
    pub(super) fn pump_diversions(&mut self) {
        while self.diversions.len() < limits::DIVERSIONS_MAX {
            let due = self.batches.iter().find(|(_, batch)| {
                matches!(batch.state, BatchState::Leaving(writing)
                    if writing.open.is_none() && self.now >= writing.next_try)
            });
            let Some((id, _)) = due else { return };
            self.begin_writing(*id);
        }
    }

    fn begin_writing(&mut self, id: u64) {
        let diversion = DiversionId(self.next_diversion);
        self.next_diversion += 1;
        let (request_id, at_unix_ms) = (self.request_id(), self.unix_ms());
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let BatchState::Leaving(writing) = &mut batch.state else {
            unreachable!("only what leaves is written");
        };
        writing.open = Some((diversion, self.now));
        let condition = writing.condition;
        let (event, event_bytes) = batch.leaving_event(&self.shape);
        let answer = batch.answer().filter(|_| tells_answer(condition));
        let failure = Failure {
            condition,
            request_id: answer.map_or(request_id, |it| it.request_id.clone()),
            invoke_count: batch.failed_calls().max(1),
            response: answer.map(|LastAnswer { response, .. }| response.clone()),
            at_unix_ms,
            event_bytes,
            lanes: batch.leaving_lanes(&self.topic),
        };
        self.diversions.insert(diversion, id);
        match self.producer {
            Some(_) => self.begin_producing(diversion, id, failure),
            None => {
                let diversion_of = Diversion { failure, event };
                let effect = Effect::Divert(diversion, diversion_of);
                self.effects.push_back(effect);
            }
        }
    }

    pub(super) fn handle_diverted(&mut self, of: DiversionId, result: Result<Taken, Undelivered>) {
        let Some(id) = self.diversions.remove(&of) else {
            return;
        };
        let Some(mut batch) = self.batches.remove(&id) else {
            return;
        };
        let BatchState::Leaving(writing) = batch.state else {
            unreachable!("a writing is of what leaves");
        };
        match result {
            Ok(taken) => {
                self.faults.destination = None;
                self.counters.documents_shortened += u64::from(taken == Taken::WithoutEvent);
                self.counters.records_diverted += batch.leaving_count();
                self.end_leaving(batch);
            }
            Err(undelivered) => {
                self.counters.destination_errors += 1;
                self.destination_fault(undelivered.reason.clone());
                let failures = writing.failures.saturating_add(1);
                if self.config.delivery.drop_undelivered
                    && failures >= limits::DIVERSION_TRIES_BEFORE_DROP
                {
                    self.discard(batch, writing.condition);
                    return;
                }
                let wait = backoff(limits::DESTINATION_BACKOFF, failures, &mut self.random);
                batch.note_undelivered(undelivered.reason.into(), self.now);
                batch.state = BatchState::Leaving(Writing {
                    open: None,
                    next_try: self.now + wait,
                    failures,
                    ..writing
                });
                self.keep_batch(id, batch);
            }
        }
    }

    /// What is under way is given up: nobody hears of its end.
    pub(super) fn forget_diversions(&mut self) {
        for (of, id) in std::mem::take(&mut self.diversions) {
            self.forget_try(of);
            if let Some(mut batch) = self.batches.remove(&id) {
                if let BatchState::Leaving(writing) = &mut batch.state {
                    writing.open = None;
                }
                self.keep_batch(id, batch);
            }
        }
    }

    /// Writings of which nothing was heard for long count as failed.
    pub(super) fn end_overdue_diversions(&mut self) {
        let overdue = self.batches.values().filter_map(|batch| match batch.state {
            BatchState::Leaving(writing) => writing.open,
            _ => None,
        });
        let overdue = overdue.filter(|(_, since)| self.now >= *since + limits::DIVERSION_OVERDUE);
        let overdue: Vec<DiversionId> = overdue.map(|(id, _)| id).collect();
        for id in overdue {
            self.forget_try(id);
            let reason = "its end was never told".to_owned();
            self.handle_diverted(id, Err(Undelivered { reason }));
        }
    }

    pub(super) fn destination_fault(&mut self, reason: String) {
        if self.faults.destination.is_none() {
            self.notice(
                Severity::Error,
                "Destination does not take failed records; it is tried again",
                format!("reason={reason:?}"),
            );
        }
        self.faults.destination = Some(Fault::DestinationFailing(reason));
    }

    /// Whether the mapping has a destination.
    pub(super) fn has_destination(&self) -> bool {
        self.config.delivery.destination.is_some()
    }

    /// Unix milliseconds, as far as the shell has told them.
    fn unix_ms(&self) -> i64 {
        let since_origin = i64::try_from(self.now.as_micros() / 1000).unwrap_or(i64::MAX);
        self.unix_origin_ms
            .unwrap_or_default()
            .saturating_add(since_origin)
    }

    /// The oldest timestamp that is not too old; `None` where records do not age.
    pub(super) fn oldest_timestamp(&self) -> Option<i64> {
        let max_age = self.config.delivery.retry.max_age?;
        self.unix_origin_ms?;
        let max_age = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        Some(self.unix_ms().saturating_sub(max_age))
    }

    /// The id of a request that was never made.
    fn request_id(&mut self) -> String {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        let bits = (u128::from(high) << 64) | u128::from(low);
        uuid::Builder::from_random_bytes(bits.to_be_bytes())
            .into_uuid()
            .to_string()
    }

    pub(super) fn diversions_timeout(&self) -> Option<Instant> {
        if !self.ending.is_running() || self.diversions.len() >= limits::DIVERSIONS_MAX {
            return None;
        }
        let leaving = self
            .batches
            .values()
            .filter(|batch| matches!(batch.state, BatchState::Leaving(_)));
        leaving.filter_map(Batch::due).min()
    }
}

/// Whether the document has what the function answered.
fn tells_answer(condition: Condition) -> bool {
    match condition {
        Condition::RetryAttemptsExhausted | Condition::SkippedByOperator => true,
        Condition::MaximumPayloadSizeExceeded | Condition::RecordAgeExceeded => false,
    }
}

/// Which records leave, for the log.
fn describe(batch: &Batch) -> String {
    let lanes = batch.parts().iter().filter_map(|part| {
        let (first, last) = part.leaving_ends()?;
        let (from, to) = (first.offset, last.offset);
        Some(format!("{}@{from}-{to}", part.partition))
    });
    let lanes: Vec<String> = lanes.collect();
    format!("records={} offsets={lanes:?}", batch.leaving_count())
}
