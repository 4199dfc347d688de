//! Committing what was processed (decision 35): one commit in flight, the newest offsets win, at least
//! 100 ms apart; owned lanes are committed again at least hourly, because brokers before 2.1 expire commits
//! by age.
//!
//! Invariant: an offset is committed only while its lane is owned, and never above `processed`.

use std::time::Duration;

use uuid::Uuid;

use super::super::lane::{Lane, Stage};
use super::super::links::Role;
use super::super::status::Counters;
use super::super::{Fault, Severity};
use super::{Consumer, Owned, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{CommitPartition, OffsetCommitRequest, OffsetCommitResponse, Request};
use crate::limits;
use crate::time::Instant;

/// Back-off after a commit that failed.
const COMMIT_BACKOFF: Duration = Duration::from_millis(200);

/// The first word of the text that goes with our commits.
const METADATA_MARK: &str = "forebay/1";

/// One offset in a commit under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committing {
    pub(super) owned: Owned,
    offset: i64,
}

/// When the next commit may go.
#[derive(Debug)]
pub(super) struct Commits {
    in_flight: bool,
    not_before: Instant,
}

impl Commits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: false,
            not_before: now,
        }
    }

    pub(super) fn failed(&mut self, now: Instant, counters: &mut Counters) {
        self.in_flight = false;
        self.not_before = now + COMMIT_BACKOFF;
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

    fn text(self) -> String {
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
                let owned = Owned {
                    partition: lane.partition,
                    ownership: lane.ownership,
                };
                (
                    Committing {
                        owned,
                        offset: lane.processed(),
                    },
                    lane.epoch,
                )
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let Some(coordinator) = self.coordinator.endpoint() else {
            return;
        };
        if !self.is_ready(Role::Coordinator, &coordinator) {
            return;
        }
        let mark = CommitMark {
            topic_id: self.cluster.topic_id(),
            declared_partitions: self
                .declared_partitions
                .unwrap_or(self.cluster.partitions()),
        };
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
                    partition: committing.owned.partition,
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

    /// Whether a lane has processed what is not committed yet.
    pub(super) fn owes_commit(&self, lane: &Lane) -> bool {
        let located =
            matches!(lane.stage, Stage::Active | Stage::AwaitingFirstCommit) || lane.committed >= 0;
        located && lane.processed() > lane.committed
    }

    fn owes_recommit(&self, lane: &Lane) -> bool {
        !lane.revoking
            && lane.stage == Stage::Active
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
                .find(|p| p.partition == committing.owned.partition)
                .map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |p| p.error);
            if error.is_ok() {
                self.take_commit(*committing);
            } else {
                worst = error;
            }
        }
        if !worst.is_ok() {
            self.handle_commit_error(worst, generation);
        } else if matches!(self.faults.group, Some(Fault::NotAuthorized(_))) {
            self.faults.group = None;
        }
    }

    fn take_commit(&mut self, committing: Committing) {
        let now = self.now;
        let Some(lane) = self.owned_lane(committing.owned) else {
            return;
        };
        let before = lane.committed;
        assert!(
            committing.offset <= lane.processed(),
            "only what was processed is committed"
        );
        lane.committed = committing.offset;
        lane.committed_at = Some(now);
        if lane.stage == Stage::AwaitingFirstCommit {
            lane.stage = Stage::Active;
        }
        if before >= 0 && committing.offset > before {
            self.counters.offsets_committed +=
                u64::try_from(committing.offset - before).unwrap_or(0);
        }
    }

    fn handle_commit_error(&mut self, error: ErrorCode, generation: i32) {
        self.commits.failed(self.now, &mut self.counters);
        self.notice(
            Severity::Warn,
            "Commit failed; it is tried again",
            format!("error={error}"),
        );
        match error {
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::REBALANCE_IN_PROGRESS => {
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
