//! Turning fetched bytes into bodies, a bounded turn at a time, within the memory budget.
//!
//! When the budget has no room, encoding waits until a body has been sent; half-full bodies then go early.
//! With nothing in flight and no body open, one lane may always go on: that is what the consumer's own
//! minimum is for, so that a full budget never stops us.

use std::rc::Rc;

use super::super::OnOversized;
use super::super::Severity;
use super::super::lane::{Encoded, Halt, Obstacle, Workbench};
use super::super::links::Role;
use super::super::part::Part;
use super::Consumer;
use crate::limits;

impl Consumer {
    /// One turn; true while more is to be encoded that may be encoded now.
    pub(super) fn encode_turn(&mut self) -> bool {
        let mut turn_bytes = limits::TURN_BYTES;
        let mut rounds = self.encode_queue.len();
        while turn_bytes > 0 && rounds > 0 {
            rounds -= 1;
            let Some(partition) = self.encode_queue.pop_front() else {
                break;
            };
            if !self.may_encode(partition) {
                self.pressure = true;
                self.encode_queue.push_front(partition);
                return false;
            }
            self.encode_lane(partition, &mut turn_bytes);
        }
        !self.encode_queue.is_empty()
    }

    /// Whether there is room for another piece of a body, or nothing that could make room.
    fn may_encode(&self, partition: i32) -> bool {
        if self.bodies.fits(limits::ENCODE_STEP_BYTES) {
            return true;
        }
        let others_open = self
            .lanes
            .values()
            .any(|lane| lane.partition != partition && lane.open_records() > 0);
        !others_open && self.batches.is_empty()
    }

    fn encode_lane(&mut self, partition: i32, turn_bytes: &mut usize) {
        let hash_along = self.hash_along && self.lanes.len() == 1;
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        lane.queued = false;
        if !lane.can_encode() {
            return;
        }
        let (decompressed_before, open_before) = (lane.decompressed_bytes(), lane.open_bytes());
        let step = (*turn_bytes).min(limits::ENCODE_STEP_BYTES);
        let mut bench = Workbench {
            shape: &self.shape,
            filters: &self.config.delivery.filters,
            topic: &self.config.topic,
            scratch: &mut self.filter_scratch,
            decompressor: &mut self.decompressor,
            budget: &self.budget,
            body_limit: self.config.body_limit,
            batch_size: usize::try_from(self.config.delivery.batch_size).unwrap_or(usize::MAX),
            hash_along,
            now: self.now,
            turn_bytes: step,
            polled: 0,
            filtered: 0,
        };
        let outcome = lane.encode(&mut bench);
        // A lane that decodes nothing but still asks for more must not hold the turn for ever.
        let spent = (step - bench.turn_bytes).max(1);
        *turn_bytes = turn_bytes.saturating_sub(spent);
        self.counters.records_polled += bench.polled;
        self.counters.records_filtered += bench.filtered;
        self.fetched
            .change(decompressed_before, lane.decompressed_bytes());
        self.bodies.change(open_before, lane.open_bytes());
        match outcome {
            Encoded::Drained | Encoded::Full => {}
            Encoded::Paused => self.queue_encoding(partition),
            Encoded::Oversized { offset, body_bytes } => {
                self.handle_oversized(partition, offset, body_bytes);
            }
            Encoded::Corrupt { offset, end, error } => {
                self.handle_corrupt(partition, offset, end, &error.to_string());
            }
        }
    }

    /// The lane can be encoded further: it gets its turn.
    pub(super) fn queue_encoding(&mut self, partition: i32) {
        if let Some(lane) = self.lanes.get_mut(&partition)
            && lane.can_encode()
            && !lane.queued
        {
            lane.queued = true;
            self.encode_queue.push_back(partition);
        }
    }

    /// A record that no body can hold (decision 8).
    fn handle_oversized(&mut self, partition: i32, offset: i64, body_bytes: usize) {
        let detail = format!("partition={partition} offset={offset} body_bytes={body_bytes}");
        if self.has_destination() {
            self.encode_oversized(partition, body_bytes);
            return;
        }
        match self.config.delivery.on_oversized {
            OnOversized::Discard => {
                self.counters.records_dropped += 1;
                self.notice(
                    Severity::Error,
                    "Record too large for any body was discarded",
                    detail,
                );
                if let Some(lane) = self.lanes.get_mut(&partition) {
                    lane.skip_record(&mut self.decompressor);
                }
                self.queue_encoding(partition);
            }
            OnOversized::Halt => {
                let reason = format!(
                    "record at offset {offset} makes a body of {body_bytes} bytes, which no call may carry"
                );
                self.notice(
                    Severity::Error,
                    "Record too large for any body halts its lane",
                    detail,
                );
                self.halt_lane(partition, offset, Obstacle::Record, reason);
            }
        }
    }

    /// A record that no body can hold is a body of its own, which no call carries: the destination gets it. What is
    /// encoded before it goes first.
    fn encode_oversized(&mut self, partition: i32, body_bytes: usize) {
        let holds_it = body_bytes < limits::OVERSIZED_EVENT_BYTES_MAX
            && self.bodies.fits(body_bytes + limits::ENCODE_STEP_BYTES);
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        let decompressed_before = lane.decompressed_bytes();
        let open_before = lane.open_bytes();
        if lane.encode_oversized(
            &self.shape,
            &mut self.decompressor,
            body_bytes,
            holds_it,
            self.now,
        ) {
            self.counters.records_polled += 1;
        }
        self.fetched
            .change(decompressed_before, lane.decompressed_bytes());
        self.bodies.change(open_before, lane.open_bytes());
    }

    /// A batch that does not decode is fetched anew from another connection a few times; then its lane
    /// halts, loudly. It is never passed over but by an operator; `end` is the offset behind it, if that is known.
    pub(super) fn handle_corrupt(
        &mut self,
        partition: i32,
        offset: i64,
        end: Option<i64>,
        error: &str,
    ) {
        self.counters.fetch_errors += 1;
        self.drop_pending(partition);
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        lane.corrupt_fetches += 1;
        let halts = lane.corrupt_fetches > limits::CORRUPT_FETCHES_MAX;
        // What it says of itself is not believed beyond what the partition holds.
        let end = end.filter(|end| *end <= lane.high_watermark);
        self.notice(
            Severity::Error,
            if halts {
                "Record batch stays corrupt; its lane halts"
            } else {
                "Record batch is corrupt; fetching it anew"
            },
            format!("partition={partition} offset={offset} error={error:?}"),
        );
        if halts {
            let reason = format!(
                "{error}; it is read on once the broker has it whole, and forebay skip --discard passes over it"
            );
            self.halt_lane(partition, offset, Obstacle::Batch { end }, reason);
        }
        let replica = self
            .lanes
            .get(&partition)
            .and_then(|lane| lane.read_replica);
        let node = replica.map(|(node, _)| node);
        if let Some(node) = node.or_else(|| self.cluster.leader(partition).map(|l| l.node))
            && let Some(broken) = self.links.close(
                Role::Fetch(node),
                "a corrupt record batch",
                &mut self.effects,
            )
        {
            self.handle_broken(broken);
        }
    }

    /// The lane stands before `offset` until it heals. It keeps no memory that others could use: what it
    /// fetched is fetched again.
    pub(super) fn halt_lane(
        &mut self,
        partition: i32,
        offset: i64,
        obstacle: Obstacle,
        reason: String,
    ) {
        self.drop_pending(partition);
        let retry_at = self.now + limits::HALT_PROBE_INTERVAL;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.halted = Some(Halt {
                offset,
                obstacle,
                reason,
                retry_at,
            });
        }
    }

    /// Halted lanes are probed: what an operator has mended heals by itself.
    pub(super) fn probe_halted(&mut self) {
        let due: Vec<i32> = self
            .lanes
            .values()
            .filter(|lane| {
                lane.halted
                    .as_ref()
                    .is_some_and(|halt| self.now >= halt.retry_at)
            })
            .map(|lane| lane.partition)
            .collect();
        for partition in due {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.probe();
            }
            self.queue_encoding(partition);
        }
    }

    /// Lets go of what a lane fetched but did not encode.
    pub(super) fn drop_pending(&mut self, partition: i32) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            self.fetched.sub(lane.decompressed_bytes());
            lane.drop_pending();
        }
    }

    /// Lets go of all that a lane holds and no batch carries, to fetch it again.
    pub(super) fn rewind_lane(&mut self, partition: i32) {
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        for part in lane.rewind() {
            self.retire(part);
        }
        self.drop_pending(partition);
    }

    /// Lets go of all that a lane holds and no batch carries. The lane is being given up.
    pub(super) fn drop_unsent(&mut self, partition: i32) {
        self.drop_pending(partition);
        let Some(lane) = self.lanes.get_mut(&partition) else {
            return;
        };
        lane.abandon();
        let parts: Vec<Part> = lane.backlog.drain(..).collect();
        let open = lane.take_open();
        for part in parts.into_iter().chain(open) {
            self.retire(part);
        }
    }

    /// A part is done with: when it is the last of its body, the body's memory is given back and its buffer
    /// is kept for the next.
    pub(super) fn retire(&self, part: Part) {
        if let Ok(body) = Rc::try_unwrap(part.body) {
            self.bodies.sub(body.held_bytes);
            if body.oversized.is_none()
                && let Some(buffer) = body.sealed.into_buffer()
            {
                self.budget.keep(buffer);
            }
        }
    }
}
