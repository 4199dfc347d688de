//! Calls: which records travel together, when a call starts, and what its end means.
//!
//! A lane that fills a body goes alone and at once. Lanes that hold less go together when the earliest of
//! their windows ends, when together they fill a batch, or when memory is short (decision 7). A batch is
//! made only when a call may start, so that records gather while the function is busy.
//!
//! Invariant: a call starts only for lanes that are ours, not being revoked, within the lease, and that no
//! open call carries; `start_call` asserts it.

use std::time::Duration;

use super::super::batch::{Batch, BatchState, Verdict};
use super::super::lane::Lane;
use super::super::part::Part;
use super::super::{CallId, Effect, Fault, OnOversized, Severity};
use super::Consumer;
use crate::lambda::invoke::Outcome;
use crate::limits;
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

    fn permits(&self, open_calls: usize) -> bool {
        u64::try_from(open_calls).is_ok_and(|open| (open + 1) * ONE_CALL <= self.allowed)
    }

    fn succeeded(&mut self) {
        let step = ONE_CALL * ONE_CALL / self.allowed.max(ONE_CALL);
        self.allowed = (self.allowed + step).min(self.max);
    }

    fn throttled(&mut self, now: Instant) {
        if now >= self.decreased_at + DECREASE_INTERVAL {
            self.decreased_at = now;
            // With no permit at all, none may appear by halving.
            self.allowed = (self.allowed / 2).max(ONE_CALL).min(self.max);
        }
    }
}

impl Consumer {
    /// Starts every call that may start.
    pub(super) fn pump_calls(&mut self) {
        self.expire_waiting_parts();
        while self.may_start_calls() {
            let Some(batch) = self.next_batch() else {
                break;
            };
            self.start_call(batch);
        }
    }

    /// The batch whose call may start now: one that is due again, else a new one.
    fn next_batch(&mut self) -> Option<u64> {
        let due = self.batches.iter().find(|(_, batch)| {
            let is_due = match batch.state {
                BatchState::Ready => true,
                BatchState::Waiting(until) => self.now >= until,
                BatchState::InFlight(_) => false,
            };
            is_due
                && batch
                    .parts()
                    .iter()
                    .all(|part| self.may_call(part.partition))
        });
        if let Some((id, _)) = due {
            return Some(*id);
        }
        if let Some(partition) = self.next_alone() {
            let lane = self.lanes.get_mut(&partition)?;
            let part = lane.backlog.pop_front().or_else(|| lane.take_open())?;
            lane.busy = true;
            self.scan_from = partition;
            return Some(self.add_batch(vec![part]));
        }
        let together = self.next_together()?;
        let mut parts = Vec::with_capacity(together.len());
        for partition in together {
            if let Some(lane) = self.lanes.get_mut(&partition)
                && let Some(part) = lane.take_open()
            {
                lane.busy = true;
                parts.push(part);
            }
        }
        Some(self.add_batch(parts))
    }

    /// A lane that goes alone and at once: the rest of a split batch, or a full body. Lanes take turns.
    fn next_alone(&self) -> Option<i32> {
        let after = self.lanes.range(self.scan_from.saturating_add(1)..);
        let before = self.lanes.range(..=self.scan_from);
        after
            .chain(before)
            .map(|(_, lane)| lane)
            .find(|lane| {
                self.is_idle(lane)
                    && (!lane.backlog.is_empty() || (lane.is_full() && lane.open_records() > 0))
            })
            .map(|lane| lane.partition)
    }

    /// The lanes of the next joint batch, if its time has come: those that wait longest first, as many as
    /// fit into one batch.
    fn next_together(&self) -> Option<Vec<i32>> {
        let mut waiting: Vec<(Instant, &Lane)> = self
            .lanes
            .values()
            .filter(|lane| lane.backlog.is_empty() && lane.open_records() > 0)
            .filter_map(|lane| Some((lane.open_since()?, lane)))
            .filter(|(_, lane)| self.is_idle(lane))
            .collect();
        waiting.sort_by_key(|(since, lane)| (*since, lane.partition));
        let (oldest, _) = waiting.first()?;
        let in_time = self.now < *oldest + self.config.window;
        let batch_size = usize::try_from(self.config.batch_size).unwrap_or(usize::MAX);
        let mut joint = Vec::new();
        let mut records = 0;
        let mut bytes = self.shape.envelope_bytes();
        let mut is_full = false;
        for (_, lane) in waiting {
            let lane_bytes = lane.open_lane_bytes();
            let fits = records + lane.open_records() <= batch_size
                && bytes + lane_bytes < self.config.body_limit;
            if !fits && !joint.is_empty() {
                is_full = true;
                break;
            }
            records += lane.open_records();
            bytes += lane_bytes;
            joint.push(lane.partition);
        }
        is_full |= records >= batch_size;
        // In the order of partitions, so that the same records always make the same bytes.
        joint.sort_unstable();
        (is_full || !in_time || self.pressure).then_some(joint)
    }

    /// Whether another call may be open.
    pub(super) fn may_start_calls(&self) -> bool {
        self.concurrency.permits(self.calls.len())
    }

    /// Whether a call for this lane's next records may start.
    pub(super) fn is_idle(&self, lane: &Lane) -> bool {
        !lane.busy && !lane.revoking && self.may_call(lane.partition)
    }

    fn may_call(&self, partition: i32) -> bool {
        !self.called_partitions.contains(&partition)
            && self.membership.may_start_call(partition, self.now)
    }

    fn add_batch(&mut self, parts: Vec<Part>) -> u64 {
        let id = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(id, Batch::new(parts, &self.shape));
        id
    }

    fn start_call(&mut self, id: u64) {
        let call = CallId(self.next_call);
        self.next_call += 1;
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        for part in batch.parts() {
            let lane = self
                .lanes
                .get(&part.partition)
                .expect("a batch that starts has its lanes");
            assert!(
                lane.ownership == part.ownership,
                "a call is for what we own now"
            );
            assert!(
                lane.busy && !lane.revoking,
                "a call is for a lane that it holds"
            );
            assert_eq!(
                part.first_offset(),
                lane.processed(),
                "a lane goes on where it ended"
            );
            let fresh = self.called_partitions.insert(part.partition);
            assert!(fresh, "never two open calls for one partition");
        }
        batch.state = BatchState::InFlight(call);
        self.counters.calls += 1;
        self.counters.records_invoked += batch.records() as u64;
        let invocation = batch.invocation(self.now + self.config.call_deadline);
        self.calls.insert(call, id);
        self.effects.push_back(Effect::Invoke(call, invocation));
        // The lanes' next bodies may be filled while this one is away.
        let partitions: Vec<i32> = batch.parts().iter().map(|part| part.partition).collect();
        for partition in partitions {
            self.queue_encoding(partition);
        }
    }

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
        let verdict = batch.conclude(&outcome, self.now, &mut self.random);
        self.count_outcome(&outcome, batch.records());
        if let (Verdict::Retry, Some(fault)) = (&verdict, &self.faults.function) {
            batch.note_failure(fault.to_string().into(), self.now);
        }
        match verdict {
            Verdict::Succeeded => {
                for part in batch.take_parts() {
                    self.finish_part(part);
                }
            }
            Verdict::Retry => self.keep_batch(id, batch),
            Verdict::TooLarge => self.split_batch(batch),
        }
    }

    /// The records of a part have ended.
    fn finish_part(&mut self, part: Part) {
        if let Some(lane) = self.lanes.get_mut(&part.partition)
            && lane.ownership == part.ownership
        {
            lane.finish(&part);
            self.counters.records_succeeded += part.records() as u64;
            self.queue_encoding(part.partition);
        }
        self.retire(part);
    }

    /// A batch whose call failed waits for its next, without the lanes that leave it.
    fn keep_batch(&mut self, id: u64, mut batch: Batch) {
        let kept: Vec<Part> = batch
            .take_parts()
            .into_iter()
            .filter_map(|part| self.keep_or_let_go(part))
            .collect();
        if kept.is_empty() {
            return;
        }
        batch.reframe(kept, &self.shape);
        self.batches.insert(id, batch);
    }

    /// A part stays in its batch only while its lane is ours and stays ours.
    fn keep_or_let_go(&mut self, part: Part) -> Option<Part> {
        let stays = self.ending.is_running();
        if let Some(lane) = self.lanes.get_mut(&part.partition)
            && lane.ownership == part.ownership
        {
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
        let waiting: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| !matches!(batch.state, BatchState::InFlight(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            if let Some(batch) = self.batches.remove(&id) {
                self.keep_batch(id, batch);
            }
        }
    }

    /// The endpoint takes no body of that size: halves are tried, without an attempt being counted.
    fn split_batch(&mut self, mut batch: Batch) {
        let mut parts = batch.take_parts();
        parts = parts
            .into_iter()
            .filter_map(|part| self.keep_or_let_go(part))
            .collect();
        if parts.len() > 1 {
            let second = parts.split_off(parts.len() / 2);
            self.add_batch(parts);
            self.add_batch(second);
            return;
        }
        let Some(mut part) = parts.pop() else { return };
        let Some(lane) = self.lanes.get_mut(&part.partition) else {
            return;
        };
        if part.records() > 1 {
            let mut second = part.clone();
            let middle = part.range.start + part.records() / 2;
            part.range.end = middle;
            second.range.start = middle;
            lane.backlog.push_front(second);
            self.add_batch(vec![part]);
            return;
        }
        self.refused_record(part);
    }

    /// The endpoint refuses a single record for its size: it is oversized (decision 8).
    fn refused_record(&mut self, part: Part) {
        let (partition, offset) = (part.partition, part.first_offset());
        let detail = format!("partition={partition} offset={offset}");
        match self.config.on_oversized {
            OnOversized::Discard => {
                self.counters.records_dropped += 1;
                self.notice(
                    Severity::Error,
                    "Record refused for its size was discarded",
                    detail,
                );
                if let Some(lane) = self.lanes.get_mut(&partition) {
                    lane.finish(&part);
                }
                self.retire(part);
                self.queue_encoding(partition);
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
                self.halt_lane(partition, offset, reason);
            }
        }
    }

    fn count_outcome(&mut self, outcome: &Outcome, records: usize) {
        match outcome {
            Outcome::Success { .. } => {
                self.concurrency.succeeded();
                self.faults.function = None;
                return;
            }
            Outcome::FunctionError { kind, body } => {
                self.counters.function_errors += 1;
                let error = error_type(body);
                self.function_fault(Fault::FunctionFailing(format!("{kind}: {error}")));
            }
            Outcome::Throttled { message, .. } => {
                self.counters.throttles += 1;
                self.concurrency.throttled(self.now);
                self.function_fault(Fault::FunctionUnavailable(message.clone()));
            }
            Outcome::ServiceError { message, .. } => {
                self.counters.call_failures += 1;
                self.function_fault(Fault::FunctionUnavailable(message.clone()));
            }
            Outcome::Broken { reason } => {
                self.counters.call_failures += 1;
                self.function_fault(Fault::FunctionUnavailable(reason.clone()));
            }
            Outcome::Refused {
                status,
                code,
                message,
            } => {
                self.counters.call_failures += 1;
                self.function_fault(Fault::FunctionRefused(format!(
                    "{status} {code}: {message}"
                )));
            }
            Outcome::TooLarge { .. } => {}
        }
        self.counters.records_failed += records as u64;
    }

    fn function_fault(&mut self, fault: Fault) {
        let is_new = self.faults.function.as_ref().map(std::mem::discriminant)
            != Some(std::mem::discriminant(&fault));
        if is_new {
            let severity = match &fault {
                Fault::FunctionUnavailable(_) => Severity::Warn,
                _ => Severity::Error,
            };
            self.notice(
                severity,
                "Function calls fail; they are tried again",
                fault.to_string(),
            );
        }
        self.faults.function = Some(fault);
    }

    pub(super) fn calls_timeout(&self) -> Option<Instant> {
        if !self.ending.is_running() || !self.concurrency.permits(self.calls.len()) {
            return None;
        }
        let due = self.batches.values().filter_map(|batch| match batch.state {
            BatchState::Waiting(until) => Some(until),
            BatchState::Ready | BatchState::InFlight(_) => None,
        });
        let windows = self
            .lanes
            .values()
            .filter(|lane| !lane.busy && !lane.revoking)
            .filter_map(|lane| Some(lane.open_since()? + self.config.window));
        due.chain(windows).min()
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
