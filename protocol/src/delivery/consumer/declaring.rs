//! Where a mapping starts, decided for all partitions at once (decisions 25 and 34): at first contact with
//! the cluster, before the group is joined, LATEST or a time is resolved for every partition that has no
//! commit, and committed. So nothing is missed that is produced while the group gathers, and a partition
//! whose first owner dies early does not start later for its next.
//!
//! ```text
//!  Commits --some without, nothing found for them--> Offsets --all found--> Commits
//!     |\--some without, all found--> Commit --taken, or the group has members--> Done
//!     |                                  \--refused, or not answered--> Commits
//!     \--all there, or declared before--> Done
//! ```
//!
//! The commit is one of no member, which a coordinator takes only while the group is empty. With members
//! in it each partition is left to its owner, as is whatever cannot be resolved in time: `positions`.
//!
//! A consumer that keeps a place (`keeping`) is never done: it rests, and looks again.
//!
//! Invariant: what is committed here was found for a partition that had no commit when asked just before,
//! or is the commit that it had.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::links::Role;
use super::super::{Duty, Severity, StartingPosition};
use super::keeping::Place;
use super::positions::ASK_BACKOFF;
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    CommitPartition, CommittedOffset, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchResponse, Request,
};
use crate::time::Instant;

/// How long the group is not joined for its sake: a partition without a leader must not hold up the others.
const PATIENCE: Duration = Duration::from_secs(15);

/// Before a question is asked again once the patience is over.
pub(super) const PATIENT_BACKOFF: Duration = Duration::from_secs(10);

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
pub(super) struct Wanted {
    timestamp: i64,
    asked: Option<i32>,
}

#[derive(Debug)]
pub(super) enum Step {
    Commits {
        asked: bool,
    },
    Offsets {
        wanted: BTreeMap<i32, Wanted>,
    },
    Commit {
        starts: Vec<CommitPartition>,
        asked: bool,
    },
    /// A place is kept, and nothing is to be done for it until then.
    Resting(Instant),
    Done,
}

/// How far the declaration has come.
#[derive(Debug)]
pub(super) struct Declaring {
    pub(super) step: Step,
    /// The starts that were found for partitions without a commit, until they are committed.
    pub(super) found: BTreeMap<i32, CommitPartition>,
    pub(super) place: Place,
    attempt: u64,
    /// A view of the cluster that is older says nothing of now.
    pub(super) from_view: u64,
    not_before: Instant,
    pub(super) deadline: Option<Instant>,
    /// The deadline has passed, and the place is not kept yet.
    pub(super) overdue: bool,
}

impl Declaring {
    /// TRIM_HORIZON needs none: the log's start is the same for everyone, at any time.
    pub(super) fn new(duty: Duty, policy: StartingPosition, now: Instant) -> Self {
        let step = match (duty, policy) {
            (Duty::Serve, StartingPosition::TrimHorizon) => Step::Done,
            _ => Step::Commits { asked: false },
        };
        Self {
            step,
            found: BTreeMap::new(),
            place: Place::unknown(now),
            attempt: 0,
            from_view: 0,
            not_before: now,
            deadline: None,
            overdue: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    pub(super) fn asks_for_offsets(&self) -> bool {
        matches!(self.step, Step::Offsets { .. })
    }

    /// Whether a commit is under way: it must not arrive after we have ended.
    pub(super) fn awaits_commit(&self) -> bool {
        matches!(self.step, Step::Commit { asked: true, .. })
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let times = [self.not_before, self.deadline?];
        let next = times.into_iter().filter(|at| *at > now).min();
        next.filter(|_| !self.is_done())
    }

    fn asked(&self, node: Option<i32>) -> Asked {
        let attempt = self.attempt;
        Asked { attempt, node }
    }

    /// The question came to nothing: it is asked again after a while. A commit that was not answered may
    /// have been made all the same, and others may have come since: first what there is.
    fn ask_again(&mut self, of: Asked, now: Instant) {
        let wait = match self.overdue {
            true => PATIENT_BACKOFF,
            false => ASK_BACKOFF,
        };
        self.ask_again_after(of, now, wait);
    }

    fn ask_again_after(&mut self, of: Asked, now: Instant, wait: Duration) {
        if of.attempt != self.attempt {
            return;
        }
        match &mut self.step {
            Step::Commits { asked } => *asked = false,
            Step::Commit { .. } => self.step = Step::Commits { asked: false },
            Step::Offsets { wanted } => {
                for wanted in wanted.values_mut().filter(|wanted| wanted.asked == of.node) {
                    wanted.asked = None;
                }
            }
            Step::Resting(_) | Step::Done => return,
        }
        self.not_before = now + wait;
    }
}

impl Consumer {
    pub(super) fn pump_declaring(&mut self) {
        let behind = self.cluster.view() < self.declaring.from_view;
        if self.declaring.is_done() || self.cluster.partitions() == 0 || behind {
            return;
        }
        let now = self.now;
        let deadline = *self.declaring.deadline.get_or_insert(now + PATIENCE);
        if now >= deadline && !self.declaring.overdue {
            self.pass_deadline();
        }
        if now < self.declaring.not_before {
            return;
        }
        if self.declaring.overdue && !self.declaring.found.is_empty() {
            // What is found is not held up by what is not.
            if let Step::Offsets { .. } = self.declaring.step {
                self.declaring.step = Step::Commits { asked: false };
            }
        }
        match &self.declaring.step {
            Step::Commits { asked: false } => self.ask_declared_commits(),
            Step::Offsets { .. } => self.ask_declared_offsets(),
            Step::Commit { asked: false, .. } => self.commit_declared(),
            Step::Commits { .. } | Step::Commit { .. } | Step::Resting(_) | Step::Done => {}
        }
    }

    /// All is done that can be: a consumer that keeps a place rests, the other begins.
    fn declared(&mut self) {
        match self.config.duty {
            Duty::Serve => self.declaring.step = Step::Done,
            Duty::KeepPlace => self.rest(),
        }
    }

    fn pass_deadline(&mut self) {
        let message = match self.config.duty {
            Duty::Serve => {
                self.declaring.step = Step::Done;
                "Start could not be resolved before joining; each partition's owner does it"
            }
            Duty::KeepPlace => {
                self.declaring.overdue = true;
                "Start could not be resolved and committed yet; it is tried until it is"
            }
        };
        let detail = format!("topic={}", self.config.topic);
        self.notice(Severity::Warn, message, detail);
    }

    /// The topic is another one: it starts at its beginning, whatever the old one's start was to be.
    pub(super) fn declare_again(&mut self) {
        if !self.declaring.is_done() {
            self.declaring.attempt += 1;
            self.declaring.found.clear();
            self.declaring.step = Step::Commits { asked: false };
            self.declared_partitions = Some(0);
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
        let commits: Vec<&CommittedOffset> = response
            .partitions
            .iter()
            .filter(|p| p.committed_offset >= 0)
            .collect();
        let makes_again = self.declaring.place.note(&commits, self.now);
        let makes_again = makes_again && self.config.duty == Duty::KeepPlace;
        let is_committed = |partition: i32| commits.iter().any(|p| p.partition == partition);
        let declaring = &mut self.declaring;
        declaring
            .found
            .retain(|partition, _| !is_committed(*partition));
        let declared_before = self.config.duty == Duty::Serve
            && self.declared_partitions.is_some()
            && declaring.found.is_empty();
        let goes_on_without = declaring.overdue && !declaring.found.is_empty();
        let found = |partition: i32| self.declaring.found.contains_key(&partition);
        let wanted: BTreeMap<i32, Wanted> = (0..self.cluster.partitions())
            .filter(|_| !declared_before && !goes_on_without)
            .filter(|&partition| !is_committed(partition) && !found(partition))
            .map(|partition| {
                let timestamp = self.policy(partition);
                let asked = None;
                (partition, Wanted { timestamp, asked })
            })
            .collect();
        if !wanted.is_empty() {
            self.declaring.step = Step::Offsets { wanted };
            return;
        }
        let text = self.commit_mark().text();
        let mut starts: Vec<CommitPartition> = self.declaring.found.values().cloned().collect();
        for start in &mut starts {
            start.metadata.clone_from(&text);
        }
        if makes_again {
            starts.extend(commits.into_iter().map(|commit| CommitPartition {
                partition: commit.partition,
                offset: commit.committed_offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.clone(),
            }));
        }
        if starts.is_empty() {
            self.declared();
        } else {
            let asked = false;
            self.declaring.step = Step::Commit { starts, asked };
        }
    }

    fn ask_declared_offsets(&mut self) {
        let Step::Offsets { wanted } = &self.declaring.step else {
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
            if let Step::Offsets { wanted } = &mut self.declaring.step {
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
        let Step::Offsets { wanted } = &mut self.declaring.step else {
            return;
        };
        let (mut failed, mut has_no_timestamps) = (false, false);
        for listed in &response.partitions {
            let Some(question) = wanted
                .get_mut(&listed.partition)
                .filter(|question| question.asked == asked.node)
            else {
                continue;
            };
            if listed.error == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT {
                has_no_timestamps = true;
            } else if !listed.error.is_ok() {
                failed = true;
            } else if listed.offset < 0 {
                // No record is that young: the end, so that whatever comes now is taken.
                *question = Wanted {
                    timestamp: ListOffsetsRequest::LATEST,
                    asked: None,
                };
            } else {
                wanted.remove(&listed.partition);
                let start = CommitPartition {
                    partition: listed.partition,
                    offset: listed.offset,
                    leader_epoch: listed.leader_epoch,
                    metadata: String::new(),
                };
                self.declaring.found.insert(listed.partition, start);
            }
        }
        if wanted.is_empty() {
            self.declaring.step = Step::Commits { asked: false };
            self.faults.start = None;
        } else if has_no_timestamps {
            self.declaring.ask_again_after(asked, now, PATIENT_BACKOFF);
            self.start_fault();
        } else if failed {
            self.cluster.invalidate(self.cluster.view(), now);
            self.declaring.ask_again(asked, now);
        }
    }

    fn commit_declared(&mut self) {
        if !self.is_coordinator_ready() {
            return;
        }
        let Step::Commit { starts, asked } = &mut self.declaring.step else {
            return;
        };
        *asked = true;
        let request = Request::OffsetCommit(OffsetCommitRequest {
            group_id: self.config.group_id.clone(),
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
            topic: self.config.topic.clone(),
            topic_id: self.cluster.topic_id(),
            partitions: starts.clone(),
        });
        let ticket = Ticket::DeclaredCommit(self.declaring.asked(None));
        self.send(Role::Coordinator, &request, ticket);
    }

    pub(super) fn handle_declared_commit(&mut self, asked: Asked, response: &OffsetCommitResponse) {
        if asked.attempt != self.declaring.attempt {
            return;
        }
        let Step::Commit { .. } = &self.declaring.step else {
            return;
        };
        let errors = response.partitions.iter().map(|p| p.error);
        match errors.into_iter().find(|error| !error.is_ok()) {
            None => self.starts_committed(),
            // The group has members: they keep its commits, and resolve what has none.
            Some(
                ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::REBALANCE_IN_PROGRESS,
            ) => {
                self.declaring.place.since = self.now;
                self.declared();
            }
            Some(error) => {
                self.committed_error(error);
                self.declaring.ask_again(asked, self.now);
            }
        }
    }

    fn starts_committed(&mut self) {
        self.declared_partitions
            .get_or_insert(self.cluster.partitions());
        let found = std::mem::take(&mut self.declaring.found);
        if !found.is_empty() {
            let each = found.values();
            let offsets: Vec<String> = each
                .map(|start| format!("{}@{}", start.partition, start.offset))
                .collect();
            self.notice(
                Severity::Info,
                "Start was resolved for all partitions, and committed",
                format!("offsets={}", offsets.join(",")),
            );
        }
        self.declaring.place.since = self.now;
        self.declaring.step = match self.config.duty {
            Duty::Serve => Step::Done,
            // It rests only on what it has seen there.
            Duty::KeepPlace => Step::Commits { asked: false },
        };
    }
}
