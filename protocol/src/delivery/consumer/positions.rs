//! Where a lane starts, and where it goes on when the log is no longer what it was (decisions 15 and 34).
//!
//! The group's commit wins; else we go on where we were, if we have owned the partition before (`places.rs`);
//! else, where `declaring` could not, the policy is resolved here, and its answer (for LATEST or a time) is
//! committed before the first fetch, so that nobody resolves it anew. A partition that appeared after the
//! mapping's start was resolved starts at its beginning: the commit's text keeps how many there were.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::lane::{Lane, LaneRef, Search, Stage};
use super::super::links::Role;
use super::super::{Fault, Severity, StartingPosition};
use super::committing::CommitMark;
use super::declaring::PATIENT_BACKOFF;
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    CommittedOffset, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListedOffset,
    OffsetFetchRequest, OffsetFetchResponse, Request,
};
use crate::time::Instant;

/// Before a question about an offset is asked again.
pub(super) const ASK_BACKOFF: Duration = Duration::from_millis(200);

impl Consumer {
    pub(super) fn pump_positions(&mut self) {
        self.move_drained_lanes();
        self.check_new_leaders();
        self.ask_committed();
        self.ask_leaders();
        self.ask_log_starts();
    }

    /// A lane that must go elsewhere first ends what it holds.
    fn move_drained_lanes(&mut self) {
        for lane in self.lanes.values_mut() {
            if lane.is_drained()
                && let Some(search) = lane.reposition.take()
            {
                lane.enter(Stage::Locating(search));
            }
        }
    }

    fn ask_committed(&mut self) {
        let lanes: Vec<LaneRef> = self
            .askable(|lane| lane.stage() == Stage::AwaitingCommit)
            .map(Lane::reference)
            .collect();
        if lanes.is_empty() || !self.is_coordinator_ready() {
            return;
        }
        let request = self.committed_request();
        self.mark_asked(&lanes);
        self.send(Role::Coordinator, &request, Ticket::CommittedOffsets(lanes));
    }

    fn ask_leaders(&mut self) {
        let mut by_node: BTreeMap<i32, Vec<(LaneRef, Question)>> = BTreeMap::new();
        let searching: Vec<(LaneRef, Question)> = self
            .lanes
            .values()
            .filter(|lane| !lane.asked && !lane.revoking && self.now >= lane.not_before)
            .filter_map(|lane| Some((lane.reference(), question(lane)?)))
            .collect();
        for (lane, search) in searching {
            match self.cluster.leader(lane.partition) {
                Some(leader) => by_node.entry(leader.node).or_default().push((lane, search)),
                None => self.cluster.invalidate(self.cluster.view(), self.now),
            }
        }
        for (node, lanes) in by_node {
            if self.is_link_up(node) {
                self.ask_leader(node, &lanes);
            }
        }
    }

    fn ask_leader(&mut self, node: i32, asking: &[(LaneRef, Question)]) {
        let view = self.cluster.view();
        let (mut offsets, mut lanes, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
        for (lane, question) in asking {
            match *question {
                Question::Offset { timestamp } => {
                    lanes.push(*lane);
                    offsets.push(ListOffsetsPartition {
                        partition: lane.partition,
                        current_leader_epoch: self.leader_epoch(lane.partition),
                        timestamp,
                    });
                }
                Question::EndOfEpoch(leader_epoch) => epochs.push((*lane, leader_epoch)),
            }
        }
        if !offsets.is_empty() {
            let request = self.offsets_request(offsets);
            self.mark_asked(&lanes);
            self.send(
                Role::Fetch(node),
                &request,
                Ticket::ListedOffsets { view, lanes },
            );
        }
        if !epochs.is_empty() && self.is_link_up(node) {
            self.ask_epochs(node, &epochs);
        }
    }

    /// Asks for the group's commits. Of all partitions, not only ours: any commit of ours tells how many
    /// there were at the start.
    pub(super) fn committed_request(&self) -> Request {
        Request::OffsetFetch(OffsetFetchRequest {
            group_id: self.config.group_id.clone(),
            topic: self.config.topic.clone(),
            partitions: (0..self.cluster.partitions()).collect(),
            require_stable: true,
        })
    }

    /// Asks a leader for offsets.
    pub(super) fn offsets_request(&self, partitions: Vec<ListOffsetsPartition>) -> Request {
        Request::ListOffsets(ListOffsetsRequest {
            read_committed: self.config.read_committed,
            topic: self.config.topic.clone(),
            partitions,
        })
    }

    pub(super) fn is_link_up(&mut self, node: i32) -> bool {
        let endpoint = self.cluster.broker(node).cloned();
        endpoint.is_some_and(|endpoint| self.is_ready(Role::Fetch(node), &endpoint))
    }

    pub(super) fn handle_committed(&mut self, lanes: &[LaneRef], response: &OffsetFetchResponse) {
        if !response.error.is_ok() {
            self.committed_error(response.error);
            lanes.iter().for_each(|lane| self.ask_again(*lane));
            return;
        }
        self.learn_declared_partitions(response);
        for lane in lanes {
            match response
                .partitions
                .iter()
                .find(|p| p.partition == lane.partition)
            {
                Some(found) if found.error.is_ok() => self.start_lane(*lane, found),
                Some(found) => {
                    self.committed_error(found.error);
                    self.ask_again(*lane);
                }
                None => {
                    // Why: only what our view shows was asked for, and the group knows of a topic's new
                    // partitions before we do.
                    self.cluster.invalidate(self.cluster.view(), self.now);
                    self.ask_again(*lane);
                }
            }
        }
    }

    /// Any commit of ours tells how many partitions there were when the mapping's start was resolved.
    pub(super) fn learn_declared_partitions(&mut self, response: &OffsetFetchResponse) {
        let marks = response
            .partitions
            .iter()
            .filter(|p| p.committed_offset >= 0);
        if let Some(mark) = marks.filter_map(|p| CommitMark::parse(&p.metadata)).next() {
            self.declared_partitions
                .get_or_insert(mark.declared_partitions);
        }
    }

    pub(super) fn committed_error(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => self.group_denied(),
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.coordinator.forget(self.now);
            }
            _ => {}
        }
        self.notice(
            Severity::Debug,
            "Committed offsets are not to be had yet",
            format!("error={error}"),
        );
    }

    fn start_lane(&mut self, of: LaneRef, found: &CommittedOffset) {
        if found.committed_offset < 0 && self.return_to_place(of) {
            return;
        }
        let topic_id = self.cluster.topic_id();
        let policy = self.policy(of.partition);
        let partitions = self.cluster.partitions();
        let now = self.now;
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        if found.committed_offset < 0 {
            lane.enter(Stage::Locating(Search::Start { timestamp: policy }));
            self.declared_partitions.get_or_insert(partitions);
            return;
        }
        let kept = CommitMark::parse(&found.metadata).map(|mark| mark.topic_id);
        let recreated = kept.is_some_and(|id| !id.is_nil() && !topic_id.is_nil() && id != topic_id);
        if recreated {
            lane.enter(Stage::Locating(Search::Start {
                timestamp: ListOffsetsRequest::EARLIEST,
            }));
            self.notice(
                Severity::Warn,
                "Topic was created anew since the commit; starting at its beginning",
                format!(
                    "partition={} committed_offset={}",
                    of.partition, found.committed_offset
                ),
            );
            return;
        }
        let (offset, epoch) = (found.committed_offset, found.leader_epoch);
        lane.begin_at(offset, epoch, topic_id, Stage::Active);
        lane.committed = offset;
        lane.committed_at = Some(now);
    }

    /// The timestamp to ask for where nothing is committed.
    pub(super) fn policy(&self, partition: i32) -> i64 {
        let later = self
            .declared_partitions
            .is_some_and(|declared| partition >= declared);
        match self.config.starting_position {
            _ if later => ListOffsetsRequest::EARLIEST,
            StartingPosition::TrimHorizon => ListOffsetsRequest::EARLIEST,
            StartingPosition::Latest => ListOffsetsRequest::LATEST,
            StartingPosition::AtTimestamp(millis) => millis,
        }
    }

    pub(super) fn handle_listed(
        &mut self,
        view: u64,
        lanes: &[LaneRef],
        response: &ListOffsetsResponse,
    ) {
        for of in lanes {
            let Some(found) = response
                .partitions
                .iter()
                .find(|p| p.partition == of.partition)
            else {
                self.ask_again(*of);
                continue;
            };
            if found.error.is_ok() {
                if self.lane_of(*of).is_some_and(|lane| asks_for_time(lane)) {
                    self.faults.start = None;
                }
                self.located(*of, found);
            } else if found.error == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT {
                self.start_fault();
                self.ask_again_after(*of, PATIENT_BACKOFF);
            } else {
                self.cluster.invalidate(view, self.now);
                self.notice(
                    Severity::Debug,
                    "Offset is not to be had yet",
                    format!("partition={} error={}", of.partition, found.error),
                );
                self.ask_again(*of);
            }
        }
    }

    /// The broker answers that the topic's format has no timestamps to look for (KIP-79): told, and asked again, for
    /// the format may be raised.
    pub(super) fn start_fault(&mut self) {
        if self.faults.start.replace(Fault::NoTimestamps).is_none() {
            self.notice(
                Severity::Error,
                "Topic has no timestamps to start at; it is asked again",
                format!("topic={}", self.config.topic),
            );
        }
    }

    /// Whether the start of something that is ours is looked for by a time, or will be: the owners do what the
    /// declaration could not.
    pub(super) fn looks_for_time(&self) -> bool {
        let will_look = |lane: &Lane| asks_for_time(lane) || lane.stage() == Stage::AwaitingCommit;
        self.declaring.asks_for_offsets()
            || self.membership.generation() < 0
            || self.lanes.values().any(will_look)
    }

    fn located(&mut self, of: LaneRef, found: &ListedOffset) {
        let (now, topic_id) = (self.now, self.cluster.topic_id());
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        let Stage::Locating(search) = lane.stage() else {
            return;
        };
        match search {
            Search::Start { .. } if found.offset < 0 => {
                // No record is that young: the end, so that whatever comes now is taken.
                lane.enter(Stage::Locating(Search::Start {
                    timestamp: ListOffsetsRequest::LATEST,
                }));
            }
            Search::Start { timestamp } => {
                let stage = if timestamp == ListOffsetsRequest::EARLIEST {
                    Stage::Active
                } else {
                    Stage::AwaitingFirstCommit
                };
                lane.begin_at(found.offset, found.leader_epoch, topic_id, stage);
            }
            Search::OutOfRange {
                wanted,
                log_start: None,
            } => {
                lane.learn_log_start(found.offset, now);
                if wanted < found.offset {
                    self.overtaken(of, wanted, found.offset);
                } else {
                    let log_start = Some(found.offset);
                    lane.enter(Stage::Locating(Search::OutOfRange { wanted, log_start }));
                }
            }
            Search::OutOfRange {
                wanted,
                log_start: Some(log_start),
            } => {
                if wanted <= found.offset {
                    // Within the log after all: a replica that lagged had answered.
                    lane.enter(Stage::Active);
                    lane.not_before = now + ASK_BACKOFF;
                } else {
                    lane.enter(Stage::Locating(Search::Truncated { wanted, log_start }));
                }
            }
            Search::Truncated { .. } => {}
        }
    }

    /// Retention removed what we had not read: go on at the log's start, and count what is lost.
    fn overtaken(&mut self, of: LaneRef, wanted: i64, log_start: i64) {
        let topic_id = self.cluster.topic_id();
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        lane.begin_at(log_start, -1, topic_id, Stage::Active);
        let lost = u64::try_from(log_start - wanted).unwrap_or(0);
        self.counters.records_lost_to_retention += lost;
        self.notice(
            Severity::Error,
            "Retention removed records before they were read",
            format!(
                "partition={} from_offset={wanted} to_offset={log_start} lost={lost}",
                of.partition
            ),
        );
    }

    /// The topic was created anew while we ran: every lane ends what it holds and starts at the beginning.
    pub(super) fn handle_recreated(&mut self) {
        self.notice(
            Severity::Warn,
            "Topic was created anew; starting at its beginning",
            format!(
                "topic={} topic_id={}",
                self.config.topic,
                self.cluster.topic_id()
            ),
        );
        self.declare_again();
        let partitions: Vec<i32> = self.lanes.keys().copied().collect();
        for partition in partitions {
            self.drop_pending(partition);
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.reposition = Some(Search::Start {
                    timestamp: ListOffsetsRequest::EARLIEST,
                });
            }
        }
        // At once: an answer about the old topic, heard right after this, must find its question void.
        self.move_drained_lanes();
    }

    /// The question came to nothing: it is asked again after a while.
    pub(super) fn ask_again(&mut self, of: LaneRef) {
        self.ask_again_after(of, ASK_BACKOFF);
    }

    fn ask_again_after(&mut self, of: LaneRef, wait: Duration) {
        let not_before = self.now + wait;
        if let Some(lane) = self.lane_of(of) {
            lane.asked = false;
            lane.not_before = not_before;
        }
    }

    pub(super) fn leader_epoch(&self, partition: i32) -> i32 {
        self.cluster
            .leader(partition)
            .map_or(-1, |leader| leader.epoch)
    }

    fn askable(&self, stage: impl Fn(&Lane) -> bool) -> impl Iterator<Item = &Lane> {
        let now = self.now;
        self.lanes
            .values()
            .filter(move |lane| !lane.asked && !lane.revoking && now >= lane.not_before)
            .filter(move |lane| stage(lane))
    }

    pub(super) fn mark_asked(&mut self, lanes: &[LaneRef]) {
        for of in lanes {
            if let Some(lane) = self.lane_of(*of) {
                lane.asked = true;
            }
        }
    }

    pub(super) fn lanes_timeout(&self) -> Option<Instant> {
        self.lanes
            .values()
            .flat_map(|lane| {
                let retry = lane.halted.as_ref().map(|halt| halt.retry_at);
                [Some(lane.not_before), retry]
            })
            .flatten()
            .filter(|at| *at > self.now)
            .min()
    }
}

/// What a lane asks its leader.
#[derive(Clone, Copy, Debug)]
enum Question {
    Offset { timestamp: i64 },
    EndOfEpoch(i32),
}

fn question(lane: &Lane) -> Option<Question> {
    let search = match lane.stage() {
        Stage::Checking { .. } => return Some(Question::EndOfEpoch(lane.fetched_epoch())),
        Stage::Locating(search) => search,
        Stage::AwaitingCommit | Stage::AwaitingFirstCommit | Stage::Active => return None,
    };
    let timestamp = match search {
        Search::Start { timestamp } => timestamp,
        Search::OutOfRange {
            log_start: None, ..
        } => ListOffsetsRequest::EARLIEST,
        Search::OutOfRange {
            log_start: Some(_), ..
        } => ListOffsetsRequest::LATEST,
        Search::Truncated { .. } => return Some(Question::EndOfEpoch(lane.fetched_epoch())),
    };
    Some(Question::Offset { timestamp })
}

/// Whether that partition's start is looked for by a time.
fn asks_for_time(lane: &Lane) -> bool {
    matches!(lane.stage(), Stage::Locating(Search::Start { timestamp }) if timestamp >= 0)
}
