//! What a coordinator's answers do to a member.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ConsumerMembership, Outstanding, State};
use crate::kafka::error::ErrorCode;
use crate::kafka::membership::lease::Lease;
use crate::kafka::membership::{
    MembershipEvent, MembershipFault, RETRY_BACKOFF_MAX, UNFORESEEN_ANSWERS_MAX,
};
use crate::kafka::messages::{ConsumerGroupAssignment, ConsumerGroupHeartbeatResponse};
use crate::limits::BACKOFF_MAX;
use crate::time::Instant;

/// Whatever a coordinator says, heartbeats are at least so far apart.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl ConsumerMembership {
    pub(super) fn handle_answer(&mut self, answer: &ConsumerGroupHeartbeatResponse, now: Instant) {
        let Some(outstanding) = self.outstanding.take() else {
            if matches!(self.state, State::Leaving { sent: true, .. }) {
                self.state = State::Left;
            }
            return;
        };
        if outstanding.void {
            return;
        }
        match answer.error {
            ErrorCode::NONE => self.handle_accepted(answer, outstanding, now),
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.coordinator_stale(now);
            }
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => self.retry(RETRY_BACKOFF_MAX, now),
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => self.lose(now),
            // A group is forgotten once it is empty: we are out.
            ErrorCode::GROUP_ID_NOT_FOUND if self.state == State::Joined => self.lose(now),
            ErrorCode::FENCED_INSTANCE_ID => self.fence(),
            // It passes with the session of the one before us.
            ErrorCode::UNRELEASED_INSTANCE_ID => {
                self.retry(RETRY_BACKOFF_MAX, now);
                self.report(MembershipFault::Unreleased {
                    group: self.config.group_id.clone(),
                    instance: self.config.group_instance_id.clone().unwrap_or_default(),
                });
            }
            ErrorCode::UNSUPPORTED_VERSION => {
                self.abandon();
                self.events
                    .push_back(MembershipEvent::ConsumerProtocolUnsupported);
            }
            error => self.handle_refusal(error, now),
        }
    }

    /// An operator must act, or something unforeseen has happened.
    fn handle_refusal(&mut self, error: ErrorCode, now: Instant) {
        let group = self.config.group_id.clone();
        let fault = match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => MembershipFault::NotAuthorized(group),
            ErrorCode::GROUP_MAX_SIZE_REACHED => MembershipFault::GroupFull(group),
            ErrorCode::GROUP_ID_NOT_FOUND => MembershipFault::ClassicGroup(group),
            _ => MembershipFault::Refused { group, error },
        };
        let lasts = matches!(
            error,
            ErrorCode::GROUP_AUTHORIZATION_FAILED
                | ErrorCode::TOPIC_AUTHORIZATION_FAILED
                | ErrorCode::GROUP_MAX_SIZE_REACHED
                | ErrorCode::GROUP_ID_NOT_FOUND
                | ErrorCode::INVALID_GROUP_ID
                | ErrorCode::INVALID_REQUEST
                | ErrorCode::UNSUPPORTED_ASSIGNOR
        );
        if lasts {
            self.retry(BACKOFF_MAX, now);
            let probe = now + BACKOFF_MAX / 2;
            self.next = self.next.max(Some(probe));
            self.report(fault);
            return;
        }
        self.retry(RETRY_BACKOFF_MAX, now);
        if self.failures >= UNFORESEEN_ANSWERS_MAX {
            self.report(fault);
        }
    }

    fn handle_accepted(
        &mut self,
        answer: &ConsumerGroupHeartbeatResponse,
        outstanding: Outstanding,
        now: Instant,
    ) {
        if answer.member_epoch <= 0 {
            self.lose(now);
            return;
        }
        self.heartbeat_interval = self.interval_of(answer);
        self.failures = 0;
        self.fault = None;
        let is_news = self.state == State::Joining || answer.member_epoch != self.epoch;
        // Version 0 leaves it to the coordinator what we are called.
        if self.state == State::Joining
            && let Some(id) = answer.member_id.as_ref().filter(|id| !id.is_empty())
        {
            self.member_id.clone_from(id);
        }
        self.state = State::Joined;
        self.epoch = answer.member_epoch;
        if is_news {
            let generation = self.epoch;
            self.events
                .push_back(MembershipEvent::Joined { generation });
        }
        if let Some(assignment) = &answer.assignment {
            self.take_assignment(assignment);
        }
        let sent = outstanding.sent;
        let lease = self.lease.get_or_insert(Lease::granted(sent));
        // A revocation that began before the heartbeat may count against the rebalance timeout still.
        if outstanding.giving_up || self.holdings.is_giving_up() {
            lease.renew(sent);
        } else {
            lease.settle(sent);
        }
        let is_told = outstanding.owned == self.holdings.claims();
        let waits = is_told || self.holdings.is_giving_up();
        self.next = waits.then(|| sent + self.heartbeat_interval);
        self.heard = Some(outstanding.owned);
    }

    fn take_assignment(&mut self, assignment: &[ConsumerGroupAssignment]) {
        // What is held of a topic that was deleted is given up before its successor is begun.
        if self.holdings.is_empty()
            && let Some(named) = assignment.iter().find(|named| !named.partitions.is_empty())
        {
            self.held_topic = named.topic_id;
        }
        let ours: BTreeSet<i32> = assignment
            .iter()
            .filter(|named| named.topic_id == self.held_topic)
            .flat_map(|named| named.partitions.iter().copied())
            .collect();
        self.events.extend(self.holdings.assign(&ours).events());
    }

    /// The coordinator's interval, within what the configured session survives.
    fn interval_of(&self, answer: &ConsumerGroupHeartbeatResponse) -> Duration {
        let millis = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        let most = self.config.session_timeout / 3;
        Duration::from_millis(millis)
            .min(most)
            .max(HEARTBEAT_INTERVAL_MIN)
    }
}
