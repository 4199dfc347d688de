//! Records that retention takes while their call is being tried again (decision 15).
//!
//! A batch still being tried whose records have all fallen below the log's start has expired: it is given
//! up, counted, and said. The start comes with each fetch; a lane that holds too much to be fetched for asks, and so
//! does one whose broker does not tell.
//!
//! Invariant: a record that the log still holds never expires.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Severity;
use super::super::batch::BatchState;
use super::super::lane::{Lane, LaneRef, Stage};
use super::super::links::Role;
use super::super::part::Part;
use super::{Consumer, Ticket};
use crate::kafka::messages::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse};
use crate::time::Instant;

/// A log's start is asked for when it is older.
const LOG_START_MAX_AGE: Duration = Duration::from_secs(60);

impl Consumer {
    /// Records that wait for another attempt and have all fallen below the log's start have expired
    /// (decision 15): their batch goes on without them.
    pub(super) fn expire_waiting_parts(&mut self) {
        let expired = |lanes: &BTreeMap<i32, Lane>, part: &Part| {
            lanes.get(&part.partition).is_some_and(|lane| {
                lane.ownership == part.ownership && part.last_offset() < lane.log_start
            })
        };
        let touched: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| !matches!(batch.state, BatchState::InFlight(_)))
            .filter(|(_, batch)| batch.parts().iter().any(|part| expired(&self.lanes, part)))
            .map(|(id, _)| *id)
            .collect();
        for id in touched {
            let Some(mut batch) = self.batches.remove(&id) else {
                continue;
            };
            let parts = batch.take_parts();
            let (gone, kept): (Vec<Part>, Vec<Part>) = parts
                .into_iter()
                .partition(|part| expired(&self.lanes, part));
            for part in gone {
                self.expire_part(part);
            }
            if !kept.is_empty() {
                batch.reframe(kept, &self.shape);
                self.batches.insert(id, batch);
            }
        }
    }

    fn expire_part(&mut self, part: Part) {
        self.counters.records_dropped += part.records() as u64;
        self.notice(
            Severity::Error,
            "Records expired while their call was being tried again",
            format!(
                "partition={} from_offset={} to_offset={} records={}",
                part.partition,
                part.first_offset(),
                part.last_offset(),
                part.records()
            ),
        );
        if let Some(lane) = self.lanes.get_mut(&part.partition) {
            lane.finish(&part);
        }
        self.queue_encoding(part.partition);
        self.retire(part);
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
