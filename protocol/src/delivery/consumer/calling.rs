//! Calls: which records travel together, and when a call starts.
//!
//! A lane that fills a body goes alone and at once. Lanes that hold less go together when the earliest of
//! their windows ends, when together they fill a batch, or when memory is short (decision 7). A batch is
//! made only when a call may start, so that records gather while the function is busy.
//!
//! Invariant: a call starts only for lanes that are ours, not being revoked, within the lease, and that no
//! open call carries; `start_call` asserts it.

use super::super::batch::{Batch, BatchState};
use super::super::lane::Lane;
use super::super::part::Part;
use super::super::{CallId, Effect};
use super::Consumer;
use crate::time::Instant;

impl Consumer {
    /// Starts every call that may start.
    pub(super) fn pump_calls(&mut self) {
        self.expire_waiting_parts();
        while self.may_start_calls() {
            let Some(batch) = self.next_batch() else {
                break;
            };
            if !self.withdraw_before_call(batch) {
                self.start_call(batch);
            }
        }
    }

    /// The batch whose call may start now: one that is due again, else a new one.
    fn next_batch(&mut self) -> Option<u64> {
        let due = self.batches.iter().find(|(_, batch)| {
            let is_due = match batch.state {
                BatchState::Ready => true,
                BatchState::Waiting(until) => self.now >= until,
                BatchState::InFlight(_) | BatchState::Leaving(_) => false,
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
            .filter(|lane| !lane.backlog.is_empty() || (lane.is_full() && lane.open_records() > 0))
            .find(|lane| self.is_idle(lane))
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
        let in_time = self.now < *oldest + self.config.delivery.window;
        let batch_size = usize::try_from(self.config.delivery.batch_size).unwrap_or(usize::MAX);
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
        self.insert_batch(Batch::new(parts, &self.shape))
    }

    pub(super) fn insert_batch(&mut self, batch: Batch) -> u64 {
        let id = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(id, batch);
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
        let invocation = batch.invocation(self.now, self.now + self.config.call_deadline);
        self.calls.insert(call, id);
        self.effects.push_back(Effect::Invoke(call, invocation));
        // The lanes' next bodies may be filled while this one is away.
        let partitions: Vec<i32> = batch.parts().iter().map(|part| part.partition).collect();
        for partition in partitions {
            self.queue_encoding(partition);
        }
    }

    pub(super) fn calls_timeout(&self) -> Option<Instant> {
        if !self.ending.is_running() || !self.concurrency.permits(self.calls.len()) {
            return None;
        }
        let waiting = self.batches.values().filter(|batch| batch.awaits_call());
        let due = waiting.filter_map(Batch::due);
        let windows = self
            .lanes
            .values()
            .filter(|lane| !lane.busy && !lane.revoking)
            .filter_map(|lane| Some(lane.open_since()? + self.config.delivery.window));
        due.chain(windows).min()
    }
}
