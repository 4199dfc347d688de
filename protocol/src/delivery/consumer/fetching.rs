//! Fetching: one request in flight for each broker, with every lane of it that has room.
//!
//! The next fetch is asked for before what came is decoded: a walk over the batch headers tells where it
//! goes on. Bytes are reserved in the budget before they are asked for; a fetch may still bring one batch
//! that is larger (KIP-74). Requests carry no session: a session saves bytes only where thousands of
//! partitions are idle, and costs a state that both sides can lose.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::super::lane::{Lane, LaneRef, Search, Stage};
use super::super::links::Role;
use super::super::memory::Hold;
use super::super::{Fault, Severity};
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchedPartition, Request,
};
use crate::kafka::records::{RecordReader, scan};
use crate::limits;
use crate::time::Instant;

/// How long a broker may hold a fetch that brings nothing.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// The same, while lanes that are left out because they hold enough may want more at any moment.
const FETCH_WAIT_BUSY: Duration = Duration::from_millis(20);

/// A broker that answers within it is asked again so soon that each answer may bring a part.
const QUICK_ANSWER: Duration = Duration::from_millis(20);

/// The part of its lanes that such an answer brings: while one is fetched, another is encoded and a third one called
/// with.
const QUICK_ANSWER_PART: usize = 3;

/// What it brings at most, however many lanes that are: more is cold in the caches before it is encoded.
const QUICK_ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// Before a partition whose fetch failed is asked for again.
const FETCH_BACKOFF: Duration = Duration::from_millis(100);

/// The same where an operator must act.
const DENIED_BACKOFF: Duration = Duration::from_secs(5);

/// How long a replica stays preferred before the leader is asked again (Java: metadata.max.age.ms).
const REPLICA_MAX_AGE: Duration = Duration::from_secs(300);

/// What one broker could be asked for.
#[derive(Debug, Default)]
struct Due {
    /// The lanes that want more, behind how many fetches there had been when one last brought them something.
    lanes: Vec<(u64, i32)>,
    /// Others are left out because they hold enough.
    busy: bool,
    /// What all its lanes would take at a time.
    bytes: usize,
}

/// A fetch in flight.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) node: i32,
    asked_at: Instant,
    pub(super) view: u64,
    /// Bytes reserved for its answer.
    pub(super) reserved: usize,
    /// Ascending by partition, each with the offset asked for.
    pub(super) lanes: Vec<(LaneRef, i64)>,
}

impl Consumer {
    pub(super) fn pump_fetch(&mut self) {
        self.probe_halted();
        let mut by_node: BTreeMap<i32, Due> = BTreeMap::new();
        let mut leaderless = false;
        for lane in self.lanes.values_mut() {
            if lane
                .read_replica
                .is_some_and(|(_, until)| self.now >= until)
            {
                lane.read_replica = None;
            }
            let (wants, saturated) = (lane.wants_fetch(self.now), lane.is_saturated());
            if !wants && !saturated {
                continue;
            }
            let replica = lane.read_replica.map(|(node, _)| node);
            let node = replica.filter(|node| self.cluster.broker(*node).is_some());
            let leader = self
                .cluster
                .leader(lane.partition)
                .map(|leader| leader.node);
            let Some(node) = node.or(leader) else {
                leaderless = true;
                continue;
            };
            let due = by_node.entry(node).or_default();
            due.busy |= saturated;
            due.bytes += lane.fetch_bytes;
            if wants {
                due.lanes.push((lane.brought_by, lane.partition));
            }
        }
        if leaderless {
            self.cluster.invalidate(self.cluster.view(), self.now);
        }
        let mut due: Vec<(i32, Due)> = by_node
            .into_iter()
            .filter(|(node, due)| !due.lanes.is_empty() && !self.fetching.contains(node))
            .collect();
        // Where memory is short, the broker that waits longest is next, and nobody overtakes it: a long
        // poll holds what it reserved, and would be renewed for ever before another one's turn came.
        due.sort_by_key(|(node, _)| self.fetched_at.get(node).copied());
        let mut left = due.len();
        for (node, mut due) in due {
            // Brokers fill an answer in the order asked until it is full: whoever waits longest is first.
            due.lanes.sort_unstable();
            if !self.fetch_from(node, &due, left) {
                break;
            }
            left -= 1;
        }
    }

    /// What that broker's next answer may bring at most. Lanes that get their records together go into one body, and
    /// while its call is under way the others get theirs: two bodies take turns, and never meet to be hashed. So an
    /// answer brings a part of the lanes, where another follows soon.
    fn answer_bytes_max(&self, node: i32, due: &Due, largest: usize) -> usize {
        let bytes = match self.quick.contains(&node) {
            true => (due.bytes / QUICK_ANSWER_PART)
                .min(QUICK_ANSWER_BYTES)
                .max(largest),
            false => due.bytes,
        };
        bytes.min(limits::FETCH_BYTES_MAX)
    }

    /// Asks one broker, with its share of the room that it and the brokers after it have. False when
    /// there is no room.
    fn fetch_from(&mut self, node: i32, due: &Due, brokers: usize) -> bool {
        let Some(endpoint) = self.cluster.broker(node).cloned() else {
            self.cluster.invalidate(self.cluster.view(), self.now);
            return true;
        };
        if !self.is_ready(Role::Fetch(node), &endpoint) {
            return true;
        }
        let lanes = due.lanes.iter();
        let lanes: Vec<&Lane> = lanes.filter_map(|(_, it)| self.lanes.get(it)).collect();
        let each = || lanes.iter().map(|lane| lane.fetch_bytes);
        let answer = self.answer_bytes_max(node, due, each().max().unwrap_or_default());
        let ready = lanes
            .iter()
            .map(|lane| lane.fetch_worth(self.behind(lane)))
            .sum::<usize>();
        let worth = |bytes: usize| bytes.max(limits::FETCH_BYTES_MIN);
        let answer = match ready {
            0 => answer.min(worth(self.seat.share_of(limits::UNKNOWN_BYTES))),
            _ => answer,
        };
        let share = worth(self.fetched.room() / brokers);
        let reserved = each().sum::<usize>().min(answer).min(share);
        if !self.fetched.try_add(reserved) {
            self.pressure = true;
            return false;
        }
        let mut asked = Vec::with_capacity(lanes.len());
        let mut partitions = Vec::with_capacity(lanes.len());
        for lane in lanes {
            asked.push((lane.reference(), lane.fetched()));
            partitions.push(FetchPartition {
                partition: lane.partition,
                current_leader_epoch: self.leader_epoch(lane.partition),
                fetch_offset: lane.fetched(),
                last_fetched_epoch: -1,
                max_bytes: i32::try_from(lane.fetch_bytes.min(reserved)).unwrap_or(i32::MAX),
            });
        }
        self.fetched_at.insert(node, self.now);
        self.fetches += 1;
        let wait = if due.busy {
            FETCH_WAIT_BUSY
        } else {
            FETCH_WAIT
        };
        let request = Request::Fetch(FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: i32::try_from(reserved).unwrap_or(i32::MAX),
            read_committed: self.config.read_committed,
            topic: self.config.topic.clone(),
            topic_id: self.cluster.topic_id(),
            partitions,
            rack_id: self.config.rack_id.clone(),
        });
        asked.sort_unstable_by_key(|(of, _)| of.partition);
        self.fetching.insert(node);
        let fetching = Fetching {
            node,
            asked_at: self.now,
            view: self.cluster.view(),
            reserved,
            lanes: asked,
        };
        let ticket = Ticket::Fetch(fetching);
        self.send_for(ready.min(reserved), Role::Fetch(node), &request, ticket);
        true
    }

    /// Whether records of a lane that no call carries are about to come: brokers were asked, and the log is
    /// known to hold more.
    pub fn expects_records(&self) -> bool {
        let lanes = || self.lanes.values();
        !self.fetching.is_empty()
            && self.ending.is_running()
            && self.may_start_calls()
            && lanes().any(|lane| self.is_behind(lane) && self.is_idle(lane))
    }

    /// Whether its log holds more for a lane than was fetched of it.
    pub(super) fn is_behind(&self, lane: &Lane) -> bool {
        self.behind(lane) > 0
    }

    /// How many offsets its log holds for a lane after those that were fetched of it, as its leader said last: what a
    /// transaction holds back is not there yet.
    fn behind(&self, lane: &Lane) -> u64 {
        let end = lane.high_watermark;
        let end = match self.config.read_committed && lane.last_stable_offset >= 0 {
            true => lane.last_stable_offset.min(end),
            false => end,
        };
        if lane.stage() != Stage::Active || lane.halted.is_some() {
            return 0;
        }
        u64::try_from(end.saturating_sub(lane.fetched())).unwrap_or_default()
    }

    pub(super) fn handle_fetch(&mut self, fetching: Fetching, response: FetchResponse) {
        self.fetching.remove(&fetching.node);
        self.fetched.sub(fetching.reserved);
        if !response.error.is_ok() {
            self.counters.fetch_errors += 1;
            self.notice(
                Severity::Warn,
                "Fetch failed",
                format!("error={}", response.error),
            );
            for (of, _) in &fetching.lanes {
                if let Some(lane) = self.lane_of(*of) {
                    lane.fetch_failures = lane.fetch_failures.saturating_add(1);
                }
                self.ask_again(*of);
            }
            return;
        }
        match self.now.saturating_since(fetching.asked_at) < QUICK_ANSWER {
            true => self.quick.insert(fetching.node),
            false => self.quick.remove(&fetching.node),
        };
        // Its record sets are slices of one answer, which stays as long as the last of them.
        let bytes = response.partitions.iter().map(|it| it.records.len()).sum();
        let answer = Rc::new(self.fetched.hold(bytes));
        for fetched in response.partitions {
            let at = fetching
                .lanes
                .binary_search_by_key(&fetched.partition, |(of, _)| of.partition);
            // What was not asked for is not taken.
            if let Some((of, offset)) = at.ok().and_then(|at| fetching.lanes.get(at)) {
                self.take_partition(*of, *offset, fetching.view, fetched, &answer);
            }
        }
    }

    fn take_partition(
        &mut self,
        of: LaneRef,
        asked: i64,
        view: u64,
        fetched: FetchedPartition,
        answer: &Rc<Hold>,
    ) {
        let now = self.now;
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        assert!(
            lane.stage() == Stage::Active,
            "only a lane whose records flow is fetched"
        );
        // Its fetched bytes were dropped since this was asked, or it is about to go elsewhere.
        if lane.fetched() != asked || lane.revoking || lane.reposition.is_some() {
            return;
        }
        if !fetched.error.is_ok() {
            self.partition_error(of, view, &fetched);
            return;
        }
        lane.fetch_failures = 0;
        lane.high_watermark = fetched.high_watermark;
        lane.high_watermark_at = Some(now);
        lane.last_stable_offset = fetched.last_stable_offset;
        if fetched.log_start_offset >= 0 {
            lane.learn_log_start(fetched.log_start_offset, now);
        }
        if fetched.preferred_read_replica >= 0 {
            lane.read_replica = Some((fetched.preferred_read_replica, now + REPLICA_MAX_AGE));
        }
        self.faults.topic = None;
        if !fetched.records.is_empty() {
            self.take_records(of, asked, fetched, answer);
        }
    }

    fn take_records(
        &mut self,
        of: LaneRef,
        asked: i64,
        fetched: FetchedPartition,
        answer: &Rc<Hold>,
    ) {
        let found = match scan(&fetched.records) {
            Ok(found) => found,
            Err(error) => {
                self.handle_corrupt(of.partition, asked, None, &error.to_string());
                return;
            }
        };
        let (read_committed, fetches) = (self.config.read_committed, self.fetches);
        let bytes = fetched.records.len() as u64;
        self.counters.bytes_fetched += bytes;
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        let Some(next_offset) = found.next_offset else {
            // Not even one whole batch: ask for as much as it takes.
            let needed = found
                .cut_first_bytes
                .unwrap_or(lane.fetch_bytes.saturating_mul(2));
            lane.fetch_bytes = needed.clamp(lane.fetch_bytes, limits::FRAME_BYTES_MAX / 2);
            return;
        };
        lane.fetch_bytes = limits::FETCH_PARTITION_BYTES_MAX;
        if next_offset <= asked {
            self.handle_corrupt(
                of.partition,
                asked,
                None,
                "the broker sent only what lies before the offset asked for",
            );
            return;
        }
        let reader = RecordReader::new(
            fetched.records,
            asked,
            fetched.aborted_transactions,
            read_committed,
        );
        lane.codec = found.codec;
        lane.offset_bytes = Some(bytes.div_ceil(next_offset.abs_diff(asked)));
        lane.brought_by = fetches;
        lane.take_fetched(reader, answer, next_offset, found.leader_epoch);
        self.queue_encoding(of.partition);
    }

    fn partition_error(&mut self, of: LaneRef, view: u64, fetched: &FetchedPartition) {
        self.counters.fetch_errors += 1;
        let now = self.now;
        if let Some((node, epoch)) = fetched.current_leader {
            self.cluster.learn_leader(of.partition, node, epoch);
        }
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        lane.not_before = now + FETCH_BACKOFF;
        lane.fetch_failures = lane.fetch_failures.saturating_add(1);
        let was_replica = lane.read_replica.take().is_some();
        match fetched.error {
            // A follower may simply not have caught up: the leader knows.
            ErrorCode::OFFSET_OUT_OF_RANGE if was_replica => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let wanted = lane.fetched();
                lane.reposition = Some(Search::OutOfRange {
                    wanted,
                    log_start: None,
                });
                // It may be another topic by now: a new view tells.
                self.cluster.invalidate(view, now);
            }
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                lane.not_before = now + DENIED_BACKOFF;
                let fault = Fault::NotAuthorized(format!("topic {}", self.config.topic));
                self.faults.topic = Some(fault);
            }
            ErrorCode::CORRUPT_MESSAGE => {
                let offset = lane.fetched();
                let error = "the broker says CORRUPT_MESSAGE";
                self.handle_corrupt(of.partition, offset, None, error);
            }
            // Everything else says that our view is stale, or that the broker is not ready.
            _ => self.cluster.invalidate(view, now),
        }
        self.notice(
            Severity::Debug,
            "Partition could not be fetched",
            format!("partition={} error={}", of.partition, fetched.error),
        );
    }
}
