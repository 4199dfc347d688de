//! Passing over what is in the way, as an operator wants it.
//!
//! ```text
//!  Looking --+--> Called (a call is open) --+--> Leaving --acknowledged--> Sent
//!  NotOwned -+--> Discarded                 +--> Succeeded, or as if it had waited
//!            +--> refused: Past, NotBlocking, NoDestination, Undecodable
//! ```
//!
//! Wishes are a snapshot, and each is looked at again whenever something was heard: what a call or a writing that is open
//! comes to is seen by what has become of the record. An offset is in the way if its record has not ended and a call of it has
//! failed or is open, if it is given up and its destination has not taken it, or if the lane is halted there.
//!
//! Invariant: a record that is passed over ends as any that is given up does, once; a batch that does not decode is passed
//! over whole and only where everything before it was read.

use super::super::batch::{Batch, BatchState};
use super::super::lane::{Halt, Obstacle};
use super::super::part::Part;
use super::super::{Severity, Skip, SkipId, SkipStatus};
use super::Consumer;
use crate::lambda::failure::Condition;
use crate::limits;

/// A wish and how it stands.
#[derive(Debug)]
pub(super) struct Wish {
    skip: Skip,
    status: SkipStatus,
}

impl Consumer {
    /// These are wanted from now on, and no others. What has been carried out stays so.
    pub(super) fn take_wishes(&mut self, skips: Vec<Skip>) {
        let before = std::mem::take(&mut self.wishes);
        let known = |id: SkipId| {
            let found = before.iter().find(|wish| wish.skip.id == id);
            found.map_or(SkipStatus::Looking, |wish| wish.status.clone())
        };
        let skips = skips.into_iter().take(limits::SKIPS_MAX);
        let wishes = skips.map(|skip| Wish {
            status: known(skip.id),
            skip,
        });
        self.wishes = wishes.collect();
    }

    pub(super) fn skip_statuses(&self) -> Vec<(SkipId, SkipStatus)> {
        let wishes = self.wishes.iter();
        wishes
            .map(|wish| (wish.skip.id, wish.status.clone()))
            .collect()
    }

    /// Carries out what can be carried out by now.
    pub(super) fn pump_skips(&mut self) {
        for at in 0..self.wishes.len() {
            let Wish { skip, status } = &self.wishes[at];
            if status.is_final() {
                continue;
            }
            let (skip, before) = (*skip, status.clone());
            let status = self.skip(skip, &before);
            if status.is_final() {
                self.say_answered(skip, &status);
            }
            self.wishes[at].status = status;
        }
    }

    fn skip(&mut self, skip: Skip, before: &SkipStatus) -> SkipStatus {
        let Skip {
            partition, offset, ..
        } = skip;
        let lane = self.lanes.get(&partition);
        let Some(lane) = lane.filter(|lane| !lane.revoking) else {
            return SkipStatus::NotOwned;
        };
        if !lane.is_placed() {
            return SkipStatus::Looking;
        }
        let own = |part: &&Part| part.partition == partition && part.ownership == lane.ownership;
        let held = self.batches.iter().find_map(|(id, batch)| {
            let part = batch.parts().iter().find(own)?;
            Some((*id, part))
        });
        let has_ended = |part: &Part| part.has_ended(offset);
        match held {
            Some((id, part)) if part.has_live(offset) => self.skip_carried(id, skip),
            _ if offset < lane.processed() || held.is_some_and(|(_, part)| has_ended(part)) => {
                match before {
                    SkipStatus::Called { .. } => SkipStatus::Succeeded,
                    SkipStatus::Leaving { .. } => SkipStatus::Sent,
                    _ => SkipStatus::Past,
                }
            }
            _ if lane.is_probing(offset) => SkipStatus::Looking,
            _ => match lane.obstacle().filter(|halt| halt.offset == offset) {
                Some(halt) => {
                    let halt = halt.clone();
                    self.skip_obstacle(skip, &halt)
                }
                None => self.not_blocking(partition),
            },
        }
    }

    /// Passes over a record that a batch carries and that has not ended.
    fn skip_carried(&mut self, id: u64, skip: Skip) -> SkipStatus {
        let Skip {
            partition,
            offset,
            discard,
            ..
        } = skip;
        let batch = &self.batches[&id];
        let leaves = |part: &Part| part.partition == partition && part.leaving_at(offset).is_some();
        let error = batch.error().cloned();
        match batch.state {
            BatchState::Leaving(writing) if batch.parts().iter().any(leaves) => {
                if discard && writing.open.is_none() {
                    return self.discard_leaving(id, skip);
                }
                let condition = writing.condition;
                return SkipStatus::Leaving { condition, error };
            }
            BatchState::Leaving(_) => return self.not_blocking(partition),
            BatchState::Ready | BatchState::Waiting(_) if !batch.is_failing() => {
                return self.not_blocking(partition);
            }
            _ if !discard && !self.has_destination() => return SkipStatus::NoDestination,
            BatchState::InFlight(_) => {
                let deadline = batch.deadline().unwrap_or(self.now);
                return SkipStatus::Called { deadline };
            }
            BatchState::Ready | BatchState::Waiting(_) => {}
        }
        let condition = Condition::SkippedByOperator;
        let leaving = self.take_out(id, |_, part, mark| {
            part.partition == partition && mark.offset == offset
        });
        let leaving = leaving.expect("it carries that record");
        if discard {
            self.discard(leaving, condition);
            let last_offset = offset;
            return SkipStatus::Discarded { last_offset };
        }
        self.give_up(leaving, condition);
        SkipStatus::Leaving { condition, error }
    }

    /// Discards a record that its destination has not taken; what else leaves the batch goes on leaving it.
    fn discard_leaving(&mut self, id: u64, skip: Skip) -> SkipStatus {
        let Skip {
            partition, offset, ..
        } = skip;
        let mut batch = self.batches.remove(&id).expect("it was found just now");
        self.say_discarded(partition, offset, offset);
        self.counters.records_dropped += 1;
        self.note_discarded(&batch, |at, record| (at, record) == (partition, offset));
        let mut leaving = Vec::new();
        for mut part in batch.take_parts() {
            if part.partition != partition {
                leaving.push(part);
            } else if !part.end_leaving_of(|mark| mark.offset == offset) {
                self.finish_part(part);
            } else {
                self.pass_part(&part);
                match part.leaving().is_empty() {
                    true => self.call_again(&batch, part),
                    false => leaving.push(part),
                }
            }
        }
        if !leaving.is_empty() {
            batch.reframe(leaving, &self.shape);
            self.batches.insert(id, batch);
        }
        self.settle_function_fault();
        SkipStatus::Discarded {
            last_offset: offset,
        }
    }

    /// What is left of a lane's records once none of them leaves is called with.
    fn call_again(&mut self, of: &Batch, part: Part) {
        if let Some(part) = self.keep_or_let_go(part) {
            let batch = of.branch(vec![part], BatchState::Ready, &self.shape);
            self.insert_batch(batch);
        }
    }

    /// Passes over what a lane is halted at.
    fn skip_obstacle(&mut self, skip: Skip, halt: &Halt) -> SkipStatus {
        let Skip {
            partition,
            offset,
            discard,
            ..
        } = skip;
        let last_offset = halt.last_offset();
        match halt.obstacle {
            _ if discard => {}
            Obstacle::Batch { .. } => return SkipStatus::Undecodable { last_offset },
            // With a destination it would have gone there.
            Obstacle::Record => return SkipStatus::NoDestination,
        }
        self.say_discarded(partition, offset, last_offset);
        // How many records a batch has that does not decode, nobody knows.
        let passed = u64::try_from(last_offset - offset + 1).unwrap_or(1);
        self.counters.records_dropped += passed;
        self.drop_pending(partition);
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.pass_over(last_offset);
        }
        self.queue_encoding(partition);
        SkipStatus::Discarded { last_offset }
    }

    fn not_blocking(&self, partition: i32) -> SkipStatus {
        let lane = self.lanes.get(&partition);
        let carried = self.batches.values().find_map(|batch| {
            let mut parts = batch.parts().iter();
            let part = parts.find(|part| part.partition == partition)?;
            match (batch.state, part.leaving_ends()) {
                (BatchState::Leaving(_), Some((first, last))) => Some((first.offset, last.offset)),
                _ if batch.is_failing() => Some((part.first_offset(), part.last_offset())),
                _ => None,
            }
        });
        let halted = lane.and_then(|lane| lane.halted.as_ref());
        let halted = halted.map(|halt| (halt.offset, halt.last_offset()));
        SkipStatus::NotBlocking {
            processed_offset: lane.map_or(0, |lane| lane.processed()),
            blocking: carried.or(halted),
        }
    }

    /// Records of a batch that leave it, and of which that holds, are discarded, by whatever rule: who wanted one of
    /// them passed over has it so.
    pub(super) fn note_discarded(&mut self, batch: &Batch, holds: impl Fn(i32, i64) -> bool) {
        for Wish { skip, status } in &mut self.wishes {
            let mut parts = batch.parts().iter();
            let is_of = |part: &Part| {
                part.partition == skip.partition && part.leaving_at(skip.offset).is_some()
            };
            if !status.is_final() && holds(skip.partition, skip.offset) && parts.any(is_of) {
                *status = SkipStatus::Discarded {
                    last_offset: skip.offset,
                };
            }
        }
    }

    fn say_answered(&mut self, skip: Skip, status: &SkipStatus) {
        let Skip {
            partition,
            offset,
            discard,
            ..
        } = skip;
        self.notice(
            Severity::Info,
            "An operator wanted an offset passed over",
            format!(
                "partition={partition} offset={offset} discard={discard} answer={}",
                answer(status)
            ),
        );
    }

    fn say_discarded(&mut self, partition: i32, first: i64, last: i64) {
        self.notice(
            Severity::Warn,
            "What was in the way was discarded, as an operator wanted it",
            format!("partition={partition} from_offset={first} to_offset={last}"),
        );
    }
}

/// A word for the log.
fn answer(status: &SkipStatus) -> &'static str {
    match status {
        SkipStatus::NotOwned => "not-owned",
        SkipStatus::Looking => "looking",
        SkipStatus::Called { .. } => "called",
        SkipStatus::Leaving { .. } => "leaving",
        SkipStatus::Sent => "sent",
        SkipStatus::Discarded { .. } => "discarded",
        SkipStatus::Succeeded => "succeeded",
        SkipStatus::Past => "ended-before",
        SkipStatus::NotBlocking { .. } => "not-in-the-way",
        SkipStatus::NoDestination => "no-destination",
        SkipStatus::Undecodable { .. } => "undecodable",
    }
}
