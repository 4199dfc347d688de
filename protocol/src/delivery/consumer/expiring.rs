//! Records that no call carries any more: retention has taken them while their call was being tried again, they are too
//! old, or too large (decisions 8, 14, 15).
//!
//! A batch still being tried whose records have all fallen below the log's start has expired: it is given
//! up like one that is too old. The start comes with each fetch; a lane that holds too much to be fetched for asks, and so
//! does one whose broker does not tell.
//!
//! Invariant: a record that the log still holds never expires.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Severity;
use super::super::batch::Batch;
use super::super::lane::{Lane, LaneRef, Stage};
use super::super::links::Role;
use super::super::part::Part;
use super::{Consumer, Ticket};
use crate::kafka::messages::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse};
use crate::lambda::failure::Condition;
use crate::time::Instant;

/// A log's start is asked for when it is older.
const LOG_START_MAX_AGE: Duration = Duration::from_secs(60);

impl Consumer {
    /// Records that wait for a call and have all fallen below the log's start have expired: their batch goes on without
    /// them.
    pub(super) fn expire_waiting_parts(&mut self) {
        let waiting = self.batches.iter().filter(|(_, batch)| batch.awaits_call());
        let gone = waiting.filter(|(_, batch)| batch.parts().iter().any(|part| self.is_gone(part)));
        let gone: Vec<u64> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.say_expired(id);
            self.withdraw(id, Condition::RecordAgeExceeded, |consumer, part, _| {
                consumer.is_gone(part)
            });
        }
    }

    fn say_expired(&mut self, id: u64) {
        let parts = self.batches.get(&id).map_or(&[][..], Batch::parts);
        let gone = parts.iter().filter(|part| self.is_gone(part));
        let details = gone.map(|part| {
            format!(
                "partition={} from_offset={} to_offset={} records={}",
                part.partition,
                part.first_offset(),
                part.last_offset(),
                part.records()
            )
        });
        for detail in details.collect::<Vec<_>>() {
            let said = "Records expired while their call was being tried again";
            self.notice(Severity::Error, said, detail);
        }
    }

    /// Whether the log has no record of that part any more.
    fn is_gone(&self, part: &Part) -> bool {
        let lane = self.lanes.get(&part.partition);
        lane.is_some_and(|lane| {
            lane.ownership == part.ownership && part.last_offset() < lane.log_start
        })
    }

    /// Gives up, before a call of them, records that no call may carry, and those that are too old by now (decision
    /// 14). Whether there were any: then no call starts with what that batch was.
    pub(super) fn withdraw_before_call(&mut self, id: u64) -> bool {
        let Some(batch) = self.batches.get(&id) else {
            return true;
        };
        if batch
            .parts()
            .iter()
            .any(|part| part.body.oversized.is_some())
        {
            return self.withdraw(id, Condition::MaximumPayloadSizeExceeded, |_, part, _| {
                part.body.oversized.is_some()
            });
        }
        let Some(oldest) = self.oldest_timestamp() else {
            return false;
        };
        // A record without a timestamp (-1) never ages.
        self.withdraw(id, Condition::RecordAgeExceeded, |_, _, mark| {
            (0..oldest).contains(&mark.timestamp)
        })
    }

    /// Lanes that are tried again and cannot be fetched for ask where their logs start by now.
    pub(super) fn ask_log_starts(&mut self) {
        let mut by_node: BTreeMap<i32, Vec<LaneRef>> = BTreeMap::new();
        for lane in self.lanes.values() {
            if log_start_due(lane).is_some_and(|at| self.now >= at)
                && let Some(leader) = self.cluster.leader(lane.partition)
            {
                by_node
                    .entry(leader.node)
                    .or_default()
                    .push(lane.reference());
            }
        }
        for (node, lanes) in by_node {
            if !self.is_link_up(node) {
                continue;
            }
            let partitions = lanes
                .iter()
                .map(|lane| ListOffsetsPartition {
                    partition: lane.partition,
                    current_leader_epoch: self.leader_epoch(lane.partition),
                    timestamp: ListOffsetsRequest::EARLIEST,
                })
                .collect();
            let request = self.offsets_request(partitions);
            self.mark_asked(&lanes);
            self.send(Role::Fetch(node), &request, Ticket::LogStarts(lanes));
        }
    }

    pub(super) fn handle_log_starts(&mut self, lanes: &[LaneRef], response: &ListOffsetsResponse) {
        let now = self.now;
        for of in lanes {
            let found = response
                .partitions
                .iter()
                .find(|p| p.partition == of.partition && p.error.is_ok());
            if let Some(lane) = self.lane_of(*of) {
                lane.asked = false;
                let offset = found.map_or(lane.log_start, |found| found.offset);
                lane.learn_log_start(offset, now);
            }
        }
    }

    pub(super) fn expiring_timeout(&self) -> Option<Instant> {
        self.lanes.values().filter_map(log_start_due).min()
    }
}

/// When a lane asks where its log starts, if it has reason to.
fn log_start_due(lane: &Lane) -> Option<Instant> {
    // Whoever is fetched for learns it with each answer, but not from brokers before 1.0.
    let waits = lane.busy && lane.stage() == Stage::Active && !lane.revoking && !lane.asked;
    waits.then(|| lane.log_start_at() + LOG_START_MAX_AGE)
}
