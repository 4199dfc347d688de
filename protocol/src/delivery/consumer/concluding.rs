//! What the end of a call means: for its records, for the lanes that they are of, for what is told.
//!
//! Records end well, are tried again, split in halves, or are given up (decisions 8, 12, 13). A batch that goes on is
//! reframed without the lanes that leave it, so as long as its records are the same, so are its bytes.
//!
//! Invariant: a record ends once; `processed` of its lane never passes one that has not.

use std::collections::BTreeSet;

use super::super::batch::{Batch, BatchState, Fate, Verdict};
use super::super::lane::{Lane, Obstacle};
use super::super::part::Part;
use super::super::{CallId, Fault, OnOversized, Severity};
use super::Consumer;
use crate::lambda::failure::Condition;
use crate::lambda::invoke::Outcome;
use crate::lambda::item_failures::item_failures;
use crate::limits;
use crate::time::Instant;

impl Consumer {
    pub(super) fn handle_call_ended(&mut self, call: CallId, outcome: Outcome) {
        let Some(id) = self.calls.remove(&call) else {
            return;
        };
        let Some(mut batch) = self.batches.remove(&id) else {
            return;
        };
        for part in batch.parts() {
            self.called_partitions.remove(&part.partition);
        }
        batch.note_answer(&outcome);
        let fate = self.fate(&batch, outcome);
        if fate == Fate::Succeeded {
            for part in batch.take_parts() {
                self.succeed_part(part);
            }
            return;
        }
        if let (false, Some(fault)) = (fate == Fate::TooLarge, &self.faults.function) {
            batch.note_failure(fault.to_string().into(), self.now);
        }
        if let Fate::FailedInPart(failed) = &fate {
            self.end_all_but(&mut batch, failed);
        }
        match batch.conclude(
            &fate,
            &self.config.delivery.retry,
            self.now,
            &mut self.random,
        ) {
            Verdict::Retry => self.keep_batch(id, batch),
            Verdict::Split(then) => self.split_batch(batch, then),
            Verdict::Exhausted => self.give_up_if_ours(batch, Condition::RetryAttemptsExhausted),
        }
    }

    /// What the end of its call means for the records of a batch; counted and said.
    fn fate(&mut self, batch: &Batch, outcome: Outcome) -> Fate {
        let records = batch.records();
        let (fate, failed) = match outcome {
            Outcome::Success { body, .. } => {
                self.concurrency.succeeded();
                match self.reported(batch, &body) {
                    Ok(failed) if failed.is_empty() => {
                        self.faults.function = None;
                        return Fate::Succeeded;
                    }
                    Ok(failed) => {
                        let count = failed.len();
                        let fault = Fault::FunctionFailing(format!(
                            "it reports {count} of {records} records as failed"
                        ));
                        self.function_fault(batch, fault);
                        (Fate::FailedInPart(failed), count)
                    }
                    Err(reason) => {
                        self.counters.function_errors += 1;
                        self.function_fault(batch, Fault::FunctionFailing(reason));
                        (Fate::Failed, records)
                    }
                }
            }
            Outcome::FunctionError { kind, body, .. } => {
                self.counters.function_errors += 1;
                let error = error_type(&body);
                let fault = Fault::FunctionFailing(format!("{kind}: {error}"));
                self.function_fault(batch, fault);
                (Fate::Failed, records)
            }
            Outcome::TooLarge { .. } => (Fate::TooLarge, records),
            unreached => (self.not_reached(batch, unreached), records),
        };
        self.counters.records_failed += failed as u64;
        fate
    }

    /// The function was not reached, or its answer was lost.
    fn not_reached(&mut self, batch: &Batch, outcome: Outcome) -> Fate {
        let mut base = limits::SERVICE_ERROR_BACKOFF;
        let (fault, retry_after) = match outcome {
            Outcome::Throttled {
                retry_after,
                message,
            } => {
                self.counters.throttles += 1;
                self.concurrency.throttled(self.now);
                (Fault::FunctionUnavailable(message), retry_after)
            }
            Outcome::ServiceError {
                retry_after,
                message,
            } => {
                self.counters.call_failures += 1;
                (Fault::FunctionUnavailable(message), retry_after)
            }
            Outcome::Broken { reason } => {
                self.counters.call_failures += 1;
                (Fault::FunctionUnavailable(reason), None)
            }
            Outcome::Refused {
                status,
                code,
                message,
            } => {
                self.counters.call_failures += 1;
                base = limits::REFUSED_BACKOFF;
                let words = format!("{status} {code}: {message}");
                (Fault::FunctionRefused(words), None)
            }
            Outcome::Success { .. } | Outcome::FunctionError { .. } | Outcome::TooLarge { .. } => {
                unreachable!("the function was reached, or its body refused")
            }
        };
        self.function_fault(batch, fault);
        Fate::NotReached(base, retry_after)
    }

    /// The records that the function reports as failed, where the mapping has it report any.
    fn reported(&self, batch: &Batch, body: &[u8]) -> Result<BTreeSet<(i32, i64)>, String> {
        match self.config.delivery.retry.report_item_failures {
            true => batch.resolve(&self.config.topic, &item_failures(body)?),
            false => Ok(BTreeSet::new()),
        }
    }

    /// The records of a batch that did not fail have ended; lanes without any that did go on.
    fn end_all_but(&mut self, batch: &mut Batch, failed: &BTreeSet<(i32, i64)>) {
        let mut kept = Vec::new();
        for mut part in batch.take_parts() {
            let (partition, before) = (part.partition, part.records());
            let lives = part.keep(|mark| failed.contains(&(partition, mark.offset)));
            if !lives {
                self.counters.records_succeeded += before as u64;
                self.finish_part(part);
                continue;
            }
            self.counters.records_succeeded += (before - part.records()) as u64;
            self.pass_part(&part);
            kept.push(part);
        }
        batch.reframe(kept, &self.shape);
    }

    /// The records of a part have ended well.
    fn succeed_part(&mut self, part: Part) {
        if self.lane_with(&part).is_some() {
            self.counters.records_succeeded += part.records() as u64;
        }
        self.finish_part(part);
    }

    /// The lane that a part is of, if it is still owned as it was then.
    fn lane_with(&mut self, part: &Part) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&part.partition);
        lane.filter(|lane| lane.ownership == part.ownership)
    }

    /// The first records of a part have ended; it goes on with the others.
    pub(super) fn pass_part(&mut self, part: &Part) {
        if let Some(lane) = self.lane_with(part) {
            lane.pass(part);
        }
    }

    /// The records of a part have ended.
    pub(super) fn finish_part(&mut self, part: Part) {
        if let Some(lane) = self.lane_with(&part) {
            lane.finish(&part);
            self.queue_encoding(part.partition);
        }
        self.retire(part);
    }

    /// A batch whose call failed waits for its next, without the lanes that leave it.
    pub(super) fn keep_batch(&mut self, id: u64, mut batch: Batch) {
        let kept = self.keep_ours(&mut batch);
        if kept.is_empty() {
            return;
        }
        batch.reframe(kept, &self.shape);
        self.batches.insert(id, batch);
    }

    /// What the batch carries, without the lanes that leave it.
    fn keep_ours(&mut self, batch: &mut Batch) -> Vec<Part> {
        let parts = batch.take_parts().into_iter();
        parts.filter_map(|part| self.keep_or_let_go(part)).collect()
    }

    /// Gives up the records of a batch, without the lanes that leave it.
    fn give_up_if_ours(&mut self, mut batch: Batch, condition: Condition) {
        let kept = self.keep_ours(&mut batch);
        if !kept.is_empty() {
            self.give_up_whole(batch, kept, condition);
        }
    }

    /// A part stays in its batch only while its lane is ours and stays ours.
    pub(super) fn keep_or_let_go(&mut self, part: Part) -> Option<Part> {
        let stays = self.ending.is_running();
        if let Some(lane) = self.lane_with(&part) {
            if stays && !lane.revoking {
                return Some(part);
            }
            lane.abandon();
            lane.busy = false;
        }
        self.retire(part);
        None
    }

    /// Lanes that are being given up leave the batches that wait between two attempts.
    pub(super) fn release_waiting_parts(&mut self) {
        self.forget_unsent_tries();
        let waiting: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| batch.is_at_rest())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            if let Some(batch) = self.batches.remove(&id) {
                self.keep_batch(id, batch);
            }
        }
    }

    /// The halves of a batch go by themselves, from then on: groups of lanes first, then the records of a lane, one
    /// half after the other. Without an attempt being counted.
    fn split_batch(&mut self, mut batch: Batch, then: Instant) {
        let mut parts = self.keep_ours(&mut batch);
        let state = match then > self.now {
            true => BatchState::Waiting(then),
            false => BatchState::Ready,
        };
        if parts.len() > 1 {
            let second = parts.split_off(parts.len() / 2);
            for half in [parts, second] {
                self.insert_batch(batch.branch(half, state, &self.shape));
            }
            return;
        }
        let Some(part) = parts.pop() else { return };
        if part.records() == 1 {
            self.refused_record(batch, part);
            return;
        }
        let (first, second) = part.split();
        if let Some(lane) = self.lanes.get_mut(&second.partition) {
            lane.backlog.push_front(second);
        }
        self.insert_batch(batch.branch(vec![first], state, &self.shape));
    }

    /// The endpoint refuses a single record for its size: it is oversized (decision 8).
    fn refused_record(&mut self, batch: Batch, part: Part) {
        if self.has_destination() {
            self.give_up_whole(batch, vec![part], Condition::MaximumPayloadSizeExceeded);
            return;
        }
        let (partition, offset) = (part.partition, part.first_offset());
        let detail = format!("partition={partition} offset={offset}");
        match self.config.delivery.on_oversized {
            OnOversized::Discard => {
                self.counters.records_dropped += 1;
                self.notice(
                    Severity::Error,
                    "Record refused for its size was discarded",
                    detail,
                );
                self.finish_part(part);
            }
            OnOversized::Halt => {
                self.notice(
                    Severity::Error,
                    "Record refused for its size halts its lane",
                    detail,
                );
                if let Some(lane) = self.lanes.get_mut(&partition) {
                    lane.busy = false;
                }
                self.retire(part);
                self.rewind_lane(partition);
                let reason =
                    format!("the endpoint refuses the record at offset {offset} for its size");
                self.halt_lane(partition, offset, Obstacle::Record, reason);
            }
        }
    }

    fn function_fault(&mut self, batch: &Batch, fault: Fault) {
        let is_new = self.faults.function.as_ref().map(std::mem::discriminant)
            != Some(std::mem::discriminant(&fault));
        if is_new {
            let severity = match &fault {
                Fault::FunctionUnavailable(_) => Severity::Warn,
                _ => Severity::Error,
            };
            let detail = format!("{fault}; in a call of {}", batch.extent());
            self.notice(severity, "Function calls fail", detail);
        }
        self.faults.function = Some(fault);
    }
}

/// The type in a function's error document. Its message is the function's own and may quote a record, so it
/// goes neither into the status nor into the log.
fn error_type(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorDocument {
        #[serde(rename = "errorType")]
        error_type: Option<String>,
    }
    let document = serde_json::from_slice::<ErrorDocument>(body).ok();
    let named = document.and_then(|document| document.error_type);
    named.map_or_else(
        || "no errorType given".to_owned(),
        |name| name.chars().take(limits::ERROR_TYPE_CHARS_MAX).collect(),
    )
}
