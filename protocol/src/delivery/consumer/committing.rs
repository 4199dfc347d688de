//! Committing what was processed (decision 35): one commit in flight, the newest offsets win, at least
//! 100 ms apart; owned lanes are committed again at least hourly, because brokers before 2.1 expire commits
//! by age.
//!
//! Invariant: an offset is committed only while its lane is owned, and never above `processed`.

use std::time::Duration;

use uuid::Uuid;

use super::super::lane::{Lane, LaneRef, Stage};
use super::super::links::Role;
use super::super::status::Counters;
use super::super::{Fault, Severity};
use super::places::is_located;
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{CommitPartition, OffsetCommitRequest, OffsetCommitResponse, Request};
use crate::limits;
use crate::time::Instant;

/// Back-off after a commit that failed; it doubles with each that follows.
const COMMIT_BACKOFF: Duration = Duration::from_millis(200);

/// The longest back-off.
const COMMIT_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The first word of the text that goes with our commits.
const METADATA_MARK: &str = "forebay/1";

/// One offset in a commit under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committing {
    lane: LaneRef,
    offset: i64,
}

/// When the next commit may go.
#[derive(Debug)]
pub(super) struct Commits {
    in_flight: bool,
    not_before: Instant,
    /// Failures in a row.
    failures: u32,
    /// What was last said of them.
    said: Option<ErrorCode>,
}

impl Commits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: false,
            not_before: now,
            failures: 0,
            said: None,
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.said = None;
    }

    pub(super) fn failed(&mut self, now: Instant, counters: &mut Counters) {
        self.in_flight = false;
        let wait = COMMIT_BACKOFF * 2u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait.min(COMMIT_BACKOFF_MAX);
        counters.commit_errors += 1;
    }
}

/// What the text beside a commit of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitMark {
    /// The id of the topic that the offset belongs to; nil when the broker told none.
    pub(super) topic_id: Uuid,
    /// How many partitions the topic had when the mapping's start was first resolved.
    pub(super) declared_partitions: i32,
}

impl CommitMark {
    /// Reads our own text; a foreign one says nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some(METADATA_MARK) {
            return None;
        }
        let topic_id = words.next()?.parse().ok()?;
        let declared_partitions = words.next()?.parse().ok()?;
        Some(Self {
            topic_id,
            declared_partitions,
        })
    }

    pub(super) fn text(self) -> String {
        format!(
            "{METADATA_MARK} {} {}",
            self.topic_id, self.declared_partitions
        )
    }
}

impl Consumer {
    pub(super) fn pump_commit(&mut self) {
        if self.commits.in_flight || self.now < self.commits.not_before {
            return;
        }
        let due: Vec<(Committing, i32)> = self
            .lanes
            .values()
            .filter(|lane| self.owes_commit(lane) || self.owes_recommit(lane))
            .filter(|lane| self.membership.may_commit(lane.partition))
            .map(|lane| {
                let committing = Committing {
                    lane: lane.reference(),
                    offset: lane.processed(),
                };
                (committing, lane.epoch)
            })
            .collect();
        if due.is_empty() {
            return;
        }
        if !self.is_coordinator_ready() {
            return;
        }
        let mark = self.commit_mark();
        let generation = self.membership.generation();
        let request = Request::OffsetCommit(OffsetCommitRequest {
            group_id: self.config.group_id.clone(),
            generation_id: generation,
            member_id: self.membership.member_id().to_owned(),
            group_instance_id: self.config.group_instance_id.clone(),
            topic: self.config.topic.clone(),
            topic_id: mark.topic_id,
            partitions: due
                .iter()
                .map(|(committing, epoch)| CommitPartition {
                    partition: committing.lane.partition,
                    offset: committing.offset,
                    leader_epoch: *epoch,
                    metadata: mark.text(),
                })
                .collect(),
        });
        let sent = due.into_iter().map(|(committing, _)| committing).collect();
        self.commits.in_flight = true;
        self.commits.not_before = self.now + limits::COMMIT_INTERVAL_MIN;
        self.send(
            Role::Coordinator,
            &request,
            Ticket::Commit { generation, sent },
        );
    }

    /// What goes with each of our commits.
    pub(super) fn commit_mark(&self) -> CommitMark {
        CommitMark {
            topic_id: self.cluster.topic_id(),
            declared_partitions: self
                .declared_partitions
                .unwrap_or(self.cluster.partitions()),
        }
    }

    /// Whether a lane has processed what is not committed yet. Offsets of a topic that was deleted say
    /// nothing of the one that took its name.
    pub(super) fn owes_commit(&self, lane: &Lane) -> bool {
        is_located(lane)
            && lane.processed() > lane.committed
            && lane.is_of_topic(self.cluster.topic_id())
    }

    /// Whether a lane that is being given up waits for a commit that can still come about.
    pub(super) fn awaits_commit(&self, lane: &Lane) -> bool {
        self.owes_commit(lane) && !lane.commit_refused
    }

    fn owes_recommit(&self, lane: &Lane) -> bool {
        !lane.revoking
            && lane.is_placed()
            && lane
                .committed_at
                .is_some_and(|at| self.now >= at + limits::RECOMMIT_INTERVAL)
    }

    pub(super) fn handle_commit(
        &mut self,
        generation: i32,
        sent: &[Committing],
        response: &OffsetCommitResponse,
    ) {
        self.commits.in_flight = false;
        let mut worst = ErrorCode::NONE;
        for committing in sent {
            let error = response
                .partitions
                .iter()
                .find(|p| p.partition == committing.lane.partition)
                .map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |p| p.error);
            if error.is_ok() {
                self.take_commit(*committing);
            } else {
                worst = error;
                if is_refusal(error) {
                    self.refuse_commit(*committing, error);
                }
            }
        }
        if !worst.is_ok() {
            self.handle_commit_error(worst, generation);
            return;
        }
        self.commits.succeeded();
        if matches!(self.faults.group, Some(Fault::NotAuthorized(_))) {
            self.faults.group = None;
        }
    }

    fn take_commit(&mut self, committing: Committing) {
        let now = self.now;
        let Some(lane) = self.lane_of(committing.lane) else {
            return;
        };
        let before = lane.committed;
        assert!(
            committing.offset <= lane.processed(),
            "only what was processed is committed"
        );
        lane.committed = committing.offset;
        lane.committed_at = Some(now);
        lane.commit_refused = false;
        if lane.stage() == Stage::AwaitingFirstCommit {
            lane.enter(Stage::Active);
        }
        if before >= 0 && committing.offset > before {
            self.counters.offsets_committed +=
                u64::try_from(committing.offset - before).unwrap_or(0);
        }
    }

    /// The coordinator will not take this commit, however often it is asked. A lane that we keep asks
    /// again, for an operator may mend it; one that we give up cannot wait for that.
    fn refuse_commit(&mut self, committing: Committing, error: ErrorCode) {
        let running = self.ending.is_running();
        let Some(lane) = self.lane_of(committing.lane) else {
            return;
        };
        if (running && !lane.revoking) || lane.commit_refused {
            return;
        }
        lane.commit_refused = true;
        let detail = format!(
            "partition={} from_offset={} processed_to={} error={error}",
            lane.partition,
            lane.committed,
            lane.processed()
        );
        self.notice(
            Severity::Error,
            "Commit is refused; the partition is given up without it, and its records will come again",
            detail,
        );
    }

    fn handle_commit_error(&mut self, error: ErrorCode, generation: i32) {
        self.commits.failed(self.now, &mut self.counters);
        if self.commits.said.replace(error) != Some(error) {
            self.notice(
                Severity::Warn,
                "Commit failed; it is tried again",
                format!("error={error}"),
            );
        }
        match error {
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::STALE_MEMBER_EPOCH => {
                self.membership
                    .handle_commit_error(error, generation, self.now);
            }
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.coordinator.forget(self.now);
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => self.group_denied(),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                self.faults.topic =
                    Some(Fault::NotAuthorized(format!("topic {}", self.config.topic)));
            }
            _ => {}
        }
    }

    pub(super) fn commit_timeout(&self) -> Option<Instant> {
        if self.commits.in_flight {
            return None;
        }
        if self.lanes.values().any(|lane| self.owes_commit(lane)) {
            return Some(self.commits.not_before);
        }
        self.lanes
            .values()
            .filter_map(|lane| Some(lane.committed_at? + limits::RECOMMIT_INTERVAL))
            .min()
    }
}

/// Whether asking again cannot help as long as nobody mends the cluster.
fn is_refusal(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::OFFSET_METADATA_TOO_LARGE
            | ErrorCode::INVALID_COMMIT_OFFSET_SIZE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_survives_a_round_trip() {
        let mark = CommitMark {
            topic_id: Uuid::from_u128(7),
            declared_partitions: 12,
        };
        assert_eq!(CommitMark::parse(&mark.text()), Some(mark));
    }

    #[test]
    fn foreign_metadata_says_nothing() {
        for text in [
            "",
            "x",
            "forebay/1",
            "forebay/1 no 3",
            "forebay/2 a b",
            "\u{0}",
        ] {
            assert_eq!(CommitMark::parse(text), None, "{text:?}");
        }
    }
}
