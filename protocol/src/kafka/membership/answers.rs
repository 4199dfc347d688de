//! What a coordinator's answers do to a member.
#![deny(clippy::wildcard_enum_match_arm)]

use super::lease::Lease;
use super::state::{AwaitCounts, Joining, Lead, LeaveStep, Stable, State, SyncStep, Syncing};
use super::verdict::Verdict;
use super::{
    COUNTS_ASKED_EVERY, Membership, MembershipEvent, MembershipFault, UNFORESEEN_ANSWERS_MAX,
};
use crate::kafka::assignor::{Assignment, Assignor, subscribed_topics};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{JoinGroupResponse, SyncGroupResponse};
use crate::time::Instant;

impl Membership {
    pub(super) fn handle_join_group(&mut self, answer: &JoinGroupResponse, now: Instant) {
        if let State::Leaving(leaving) = &mut self.state
            && leaving.step == LeaveStep::AwaitMemberId
        {
            self.member_id.clone_from(&answer.member_id);
            leaving.step = LeaveStep::Send;
            if self.member_id.is_empty() {
                self.state = State::Left;
            }
        }
        let State::Joining(joining) = &mut self.state else {
            return;
        };
        let joining = std::mem::take(joining);
        self.join_unanswered = false;
        match Verdict::of(answer.error) {
            Verdict::Accepted => self.joined(answer, joining, now),
            Verdict::MemberIdRequired => {
                self.member_id.clone_from(&answer.member_id);
                self.rejoin("the coordinator has given us a member id", now);
            }
            Verdict::StaleCoordinator => self.coordinator_stale(now),
            Verdict::UnknownMember => {
                self.member_id.clear();
                self.forget();
                self.retry("the coordinator does not know us", now);
            }
            Verdict::IllegalGeneration => {
                self.forget();
                self.retry("our generation is over", now);
            }
            Verdict::Fenced => self.fence(),
            Verdict::Inconsistent => self.change_assignor(now),
            Verdict::GroupFull => {
                self.member_id.clear();
                self.forget();
                self.halt(
                    MembershipFault::GroupFull(self.config.group_id.clone()),
                    now,
                );
            }
            Verdict::Refused => self.halt(self.refusal(answer.error), now),
            Verdict::Rebalancing | Verdict::Later => self.unforeseen(answer.error, now),
        }
    }

    pub(super) fn handle_sync_group(&mut self, answer: &SyncGroupResponse, now: Instant) {
        let State::Syncing(syncing) = &mut self.state else {
            return;
        };
        let SyncStep::Sent(sent) = syncing.step else {
            return;
        };
        match Verdict::of(answer.error) {
            Verdict::Accepted => self.synced(answer, sent, now),
            // The claims go along once more: they were heard in the generation that we have joined.
            Verdict::Rebalancing => self.rejoin("the group has begun another rebalance", now),
            Verdict::StaleCoordinator => self.coordinator_stale(now),
            Verdict::Inconsistent => self.change_assignor(now),
            Verdict::Refused => self.halt(self.refusal(answer.error), now),
            Verdict::UnknownMember | Verdict::IllegalGeneration | Verdict::Fenced => {
                self.handle_standing(answer.error, now);
            }
            Verdict::MemberIdRequired | Verdict::GroupFull | Verdict::Later => {
                self.unforeseen(answer.error, now);
            }
        }
    }

    pub(super) fn handle_heartbeat(&mut self, error: ErrorCode, now: Instant) {
        let Some(sent) = self.heartbeats.answered(self.generation) else {
            return;
        };
        let Some(lease) = &mut self.lease else {
            return;
        };
        match (Verdict::of(error), &self.state) {
            (Verdict::Accepted, State::Stable(_)) => {
                lease.settle(sent);
                self.failures = 0;
            }
            // The coordinator may have begun to wait for our JoinGroup or SyncGroup long ago.
            (Verdict::Accepted, _) => lease.renew(sent),
            // Brokers before 2.4 say this to everybody who waits for the leader, and renew nothing.
            (Verdict::Rebalancing, State::Syncing(_)) => {}
            (Verdict::Rebalancing, _) => {
                lease.renew(sent);
                self.handle_standing(error, now);
            }
            (Verdict::StaleCoordinator, _) => self.coordinator_stale(now),
            (Verdict::Refused, State::Stable(_)) => self.halt(self.refusal(error), now),
            (Verdict::UnknownMember | Verdict::IllegalGeneration | Verdict::Fenced, _) => {
                self.handle_standing(error, now);
            }
            (
                Verdict::Refused
                | Verdict::MemberIdRequired
                | Verdict::Inconsistent
                | Verdict::GroupFull
                | Verdict::Later,
                _,
            ) => {}
        }
    }

    pub(super) fn handle_leave_group(&mut self) {
        if let State::Leaving(leaving) = &self.state
            && leaving.step == LeaveStep::Sent
        {
            self.state = State::Left;
        }
    }

    /// What an error says of our standing in the present generation, whatever it answers.
    pub(super) fn handle_standing(&mut self, error: ErrorCode, now: Instant) {
        match Verdict::of(error) {
            Verdict::Rebalancing => {
                if matches!(self.state, State::Stable(_)) {
                    self.rejoin("the group is rebalancing", now);
                }
            }
            Verdict::IllegalGeneration => {
                // With a JoinGroup out the next generation may have begun, with us: its answer tells.
                if !self.join_unanswered {
                    self.lose("our generation is over", now);
                }
            }
            Verdict::UnknownMember => {
                self.member_id.clear();
                self.lose("the coordinator does not know us", now);
            }
            Verdict::Fenced => self.fence(),
            Verdict::Accepted
            | Verdict::MemberIdRequired
            | Verdict::StaleCoordinator
            | Verdict::Inconsistent
            | Verdict::GroupFull
            | Verdict::Refused
            | Verdict::Later => {}
        }
    }

    fn joined(&mut self, answer: &JoinGroupResponse, joining: Joining, now: Instant) {
        let ours = self.assignor.name();
        let chosen = Some(answer.protocol_name.as_str()).filter(|name| !name.is_empty());
        let invalid = answer.generation_id < 0 || answer.member_id.is_empty();
        if invalid || chosen.is_some_and(|chosen| chosen != ours) {
            self.forget();
            self.unforeseen(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, now);
            return;
        }
        let went_by = i64::from(answer.generation_id) - i64::from(self.generation);
        let claims_stand = self.generation < 0 || (0..=1).contains(&went_by);
        self.member_id.clone_from(&answer.member_id);
        self.generation = answer.generation_id;
        let lease = self.lease.get_or_insert(Lease::granted(joining.sent));
        lease.settle(joining.sent);
        self.heartbeats.restart(self.config.heartbeat_interval, now);

        let leads = answer.leader == answer.member_id;
        let mut topics = subscribed_topics(&answer.members);
        if let Err(at) = topics.binary_search(&self.config.topic) {
            topics.insert(at, self.config.topic.clone());
        }
        let must_assign = leads && !answer.skip_assignment;
        let step = if must_assign {
            SyncStep::AwaitCounts(AwaitCounts {
                members: answer.members.clone(),
                partial: None,
                ask_again: now + COUNTS_ASKED_EVERY,
            })
        } else {
            SyncStep::Send(Vec::new())
        };
        self.state = State::Syncing(Syncing {
            claimed: joining.claimed,
            claims_stand,
            lead: leads.then(|| Lead::of(topics)),
            step,
        });
        if must_assign {
            self.ask_for_counts();
        }
    }

    fn synced(&mut self, answer: &SyncGroupResponse, sent: Instant, now: Instant) {
        let State::Syncing(syncing) = &mut self.state else {
            return;
        };
        let Ok(assignment) = Assignment::decode(&answer.assignment) else {
            self.forget();
            self.retry("the assignment cannot be read", now);
            return;
        };
        let assignment = assignment.of_topic(&self.config.topic);
        let (claimed, lead) = (std::mem::take(&mut syncing.claimed), syncing.lead.take());
        if let Some(lease) = &mut self.lease {
            lease.settle(sent);
        }
        self.failures = 0;
        self.inconsistencies = 0;
        self.fault = None;
        let generation = self.generation;
        self.events
            .push_back(MembershipEvent::Joined { generation });
        self.events
            .extend(self.holdings.assign(&assignment).events());
        // The leader waits for what it believes that we hold, but we released it in the meantime.
        let mut gone = claimed.difference(&assignment);
        let waited_for = gone.any(|partition| !self.holdings.holds(*partition));
        let rejoin_at = None;
        self.state = State::Stable(Stable { lead, rejoin_at });
        if waited_for {
            self.join_without_released(now);
        }
    }

    /// Offers the other assignor, never both: a group could flip while we hold partitions.
    fn change_assignor(&mut self, now: Instant) {
        self.forget();
        self.assignor = match self.assignor {
            Assignor::CooperativeSticky => Assignor::Range,
            Assignor::Range => Assignor::CooperativeSticky,
        };
        self.inconsistencies = self.inconsistencies.saturating_add(1);
        if self.inconsistencies > 1 {
            let group = self.config.group_id.clone();
            self.halt(MembershipFault::NoCommonAssignor(group), now);
        } else {
            self.rejoin("the group uses another assignor", now);
        }
    }

    fn unforeseen(&mut self, error: ErrorCode, now: Instant) {
        self.retry("trying again after an error", now);
        let passes = [
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::REBALANCE_IN_PROGRESS,
        ];
        if self.failures >= UNFORESEEN_ANSWERS_MAX && !passes.contains(&error) {
            self.report(self.refusal(error));
        }
    }

    fn fence(&mut self) {
        self.forget();
        self.state = State::Fenced;
        self.report(MembershipFault::Fenced {
            group: self.config.group_id.clone(),
            instance: self.config.group_instance_id.clone().unwrap_or_default(),
        });
    }

    fn refusal(&self, error: ErrorCode) -> MembershipFault {
        let group = self.config.group_id.clone();
        match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => MembershipFault::NotAuthorized(group),
            ErrorCode::INVALID_SESSION_TIMEOUT => {
                MembershipFault::SessionTimeout(self.config.session_timeout.as_millis())
            }
            _ => MembershipFault::Refused { group, error },
        }
    }
}
