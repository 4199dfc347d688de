//! Where a mapping starts, decided for all partitions at once (decisions 25 and 34): at first contact with
//! the cluster, before the group is joined, LATEST or a time is resolved for every partition that has no
//! commit, and committed. So nothing is missed that is produced while the group gathers, and a partition
//! whose first owner dies early does not start later for its next.
//!
//! ```text
//!  Commits --some without--> Offsets --all found--> Commit --taken, or the group has members--> Done
//!     \--all there, or declared before----------------------------------------------------------^
//! ```
//!
//! The commit is one of no member, which a coordinator takes only while the group is empty. With members
//! in it each partition is left to its owner, as is whatever cannot be resolved in time: `positions`.
//!
//! Invariant: what is committed here was found for a partition without a commit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::links::Role;
use super::super::{Severity, StartingPosition};
use super::positions::ASK_BACKOFF;
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    CommitPartition, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchResponse, Request,
};
use crate::time::Instant;

/// How long the group is not joined for its sake: a partition without a leader must not hold up the others.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which question an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The topic may have been created anew since.
    attempt: u64,
    /// The leader that was asked for offsets.
    node: Option<i32>,
}

/// A partition whose start is looked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    timestamp: i64,
    asked: Option<i32>,
}

#[derive(Debug)]
enum Step {
    Commits {
        asked: bool,
    },
    Offsets {
        wanted: BTreeMap<i32, Wanted>,
        found: Vec<CommitPartition>,
    },
    Commit {
        found: Vec<CommitPartition>,
        asked: bool,
    },
    Done,
}

/// How far the declaration has come.
#[derive(Debug)]
pub(super) struct Declaring {
    step: Step,
    attempt: u64,
    not_before: Instant,
    deadline: Option<Instant>,
}

impl Declaring {
    /// TRIM_HORIZON needs none: the log's start is the same for everyone, at any time.
    pub(super) fn new(policy: StartingPosition, now: Instant) -> Self {
        let step = match policy {
            StartingPosition::TrimHorizon => Step::Done,
            StartingPosition::Latest | StartingPosition::AtTimestamp(_) => {
                Step::Commits { asked: false }
            }
        };
        Self {
            step,
            attempt: 0,
            not_before: now,
            deadline: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadline?;
        (!self.is_done()).then(|| self.not_before.min(deadline))
    }

    fn asked(&self, node: Option<i32>) -> Asked {
        let attempt = self.attempt;
        Asked { attempt, node }
    }

    /// The question came to nothing: it is asked again after a while.
    fn ask_again(&mut self, of: Asked, now: Instant) {
        if of.attempt != self.attempt {
            return;
        }
        self.not_before = now + ASK_BACKOFF;
        match &mut self.step {
            Step::Commits { asked } | Step::Commit { asked, .. } => *asked = false,
            Step::Offsets { wanted, .. } => {
                for wanted in wanted.values_mut().filter(|wanted| wanted.asked == of.node) {
                    wanted.asked = None;
                }
            }
            Step::Done => {}
        }
    }
}

impl Consumer {
    pub(super) fn pump_declaring(&mut self) {
        if self.declaring.is_done() || self.cluster.partitions() == 0 {
            return;
        }
        let now = self.now;
        let deadline = *self.declaring.deadline.get_or_insert(now + PATIENCE);
        if now >= deadline {
            self.declaring.step = Step::Done;
            self.notice(
                Severity::Warn,
                "Start could not be resolved before joining; each partition's owner does it",
                format!("topic={}", self.config.topic),
            );
            return;
        }
        if now < self.declaring.not_before {
            return;
        }
        match &self.declaring.step {
            Step::Commits { asked: false } => self.ask_declared_commits(),
            Step::Offsets { .. } => self.ask_declared_offsets(),
            Step::Commit { asked: false, .. } => self.commit_declared(),
            Step::Commits { .. } | Step::Commit { .. } | Step::Done => {}
        }
    }

    /// The topic is another one: where it starts is decided anew.
    pub(super) fn declare_again(&mut self) {
        if !self.declaring.is_done() {
            self.declaring.attempt += 1;
            self.declaring.step = Step::Commits { asked: false };
        }
    }

    pub(super) fn handle_undeclared(&mut self, asked: Asked) {
        self.declaring.ask_again(asked, self.now);
    }

    fn ask_declared_commits(&mut self) {
        if !self.is_coordinator_ready() {
            return;
        }
        let request = self.committed_request();
        self.declaring.step = Step::Commits { asked: true };
        let ticket = Ticket::DeclaredCommits(self.declaring.asked(None));
        self.send(Role::Coordinator, &request, ticket);
    }

    pub(super) fn handle_declared_commits(&mut self, asked: Asked, response: &OffsetFetchResponse) {
        if asked.attempt != self.declaring.attempt || self.declaring.is_done() {
            return;
        }
        let errors = response.partitions.iter().map(|p| p.error);
        let error = errors.chain([response.error]).find(|error| !error.is_ok());
        if let Some(error) = error {
            self.committed_error(error);
            self.declaring.ask_again(asked, self.now);
            return;
        }
        self.learn_declared_partitions(response);
        if self.declared_partitions.is_some() {
            self.declaring.step = Step::Done;
            return;
        }
        let wanted: BTreeMap<i32, Wanted> = (0..self.cluster.partitions())
            .filter(|partition| {
                let found = response
                    .partitions
                    .iter()
                    .find(|p| p.partition == *partition);
                found.is_none_or(|found| found.committed_offset < 0)
            })
            .map(|partition| {
                let timestamp = self.policy(partition);
                (
                    partition,
                    Wanted {
                        timestamp,
                        asked: None,
                    },
                )
            })
            .collect();
        self.declaring.step = if wanted.is_empty() {
            Step::Done
        } else {
            Step::Offsets {
                wanted,
                found: Vec::new(),
            }
        };
    }

    fn ask_declared_offsets(&mut self) {
        let Step::Offsets { wanted, .. } = &self.declaring.step else {
            return;
        };
        let mut by_node: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
        let mut leaderless = false;
        for (partition, wanted) in wanted.iter().filter(|(_, wanted)| wanted.asked.is_none()) {
            match self.cluster.leader(*partition) {
                Some(leader) => {
                    by_node
                        .entry(leader.node)
                        .or_default()
                        .push(ListOffsetsPartition {
                            partition: *partition,
                            current_leader_epoch: leader.epoch,
                            timestamp: wanted.timestamp,
                        });
                }
                None => leaderless = true,
            }
        }
        if leaderless {
            self.cluster.invalidate(self.cluster.view(), self.now);
        }
        for (node, partitions) in by_node {
            if !self.is_link_up(node) {
                continue;
            }
            if let Step::Offsets { wanted, .. } = &mut self.declaring.step {
                for asked in &partitions {
                    if let Some(wanted) = wanted.get_mut(&asked.partition) {
                        wanted.asked = Some(node);
                    }
                }
            }
            let request = self.offsets_request(partitions);
            let ticket = Ticket::DeclaredOffsets(self.declaring.asked(Some(node)));
            self.send(Role::Fetch(node), &request, ticket);
        }
    }

    pub(super) fn handle_declared_offsets(&mut self, asked: Asked, response: &ListOffsetsResponse) {
        if asked.attempt != self.declaring.attempt {
            return;
        }
        let now = self.now;
        let Step::Offsets { wanted, found } = &mut self.declaring.step else {
            return;
        };
        let mut failed = false;
        for listed in &response.partitions {
            let Some(question) = wanted
                .get_mut(&listed.partition)
                .filter(|question| question.asked == asked.node)
            else {
                continue;
            };
            if !listed.error.is_ok() {
                failed = true;
            } else if listed.offset < 0 {
                // No record is that young: the end, so that whatever comes now is taken.
                *question = Wanted {
                    timestamp: ListOffsetsRequest::LATEST,
                    asked: None,
                };
            } else {
                wanted.remove(&listed.partition);
                found.push(CommitPartition {
                    partition: listed.partition,
                    offset: listed.offset,
                    leader_epoch: listed.leader_epoch,
                    metadata: String::new(),
                });
            }
        }
        let is_complete = wanted.is_empty();
        let found = if is_complete {
            std::mem::take(found)
        } else {
            Vec::new()
        };
        if is_complete {
            self.declaring.step = Step::Commit {
                found,
                asked: false,
            };
        } else if failed {
            self.cluster.invalidate(self.cluster.view(), now);
            self.declaring.ask_again(asked, now);
        }
    }

    fn commit_declared(&mut self) {
        if !self.is_coordinator_ready() {
            return;
        }
        let mark = self.commit_mark();
        let Step::Commit { found, asked } = &mut self.declaring.step else {
            return;
        };
        *asked = true;
        let mut partitions = found.clone();
        for partition in &mut partitions {
            partition.metadata = mark.text();
        }
        let request = Request::OffsetCommit(OffsetCommitRequest {
            group_id: self.config.group_id.clone(),
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
            topic: self.config.topic.clone(),
            topic_id: mark.topic_id,
            partitions,
        });
        let ticket = Ticket::DeclaredCommit(self.declaring.asked(None));
        self.send(Role::Coordinator, &request, ticket);
    }

    pub(super) fn handle_declared_commit(&mut self, asked: Asked, response: &OffsetCommitResponse) {
        if asked.attempt != self.declaring.attempt {
            return;
        }
        let Step::Commit { found, .. } = &self.declaring.step else {
            return;
        };
        let offsets: Vec<String> = found
            .iter()
            .map(|start| format!("{}@{}", start.partition, start.offset))
            .collect();
        let error = response
            .partitions
            .iter()
            .map(|p| p.error)
            .find(|e| !e.is_ok());
        match error {
            None => {
                self.declared_partitions
                    .get_or_insert(self.cluster.partitions());
                self.declaring.step = Step::Done;
                self.notice(
                    Severity::Info,
                    "Start was resolved for all partitions, and committed",
                    format!("offsets={}", offsets.join(",")),
                );
            }
            // The group has members.
            Some(
                ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::REBALANCE_IN_PROGRESS,
            ) => self.declaring.step = Step::Done,
            Some(error) => {
                self.committed_error(error);
                self.declaring.ask_again(asked, self.now);
            }
        }
    }
}
