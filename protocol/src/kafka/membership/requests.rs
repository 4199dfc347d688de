//! What a member sends.

use std::time::Duration;

use bytes::Bytes;

use super::Membership;
use super::state::{Joining, LeaveStep, State, SyncStep};
use crate::kafka::assignor::{Subscription, TopicPartitions};
use crate::kafka::messages::{
    GroupProtocol, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, Request, SyncGroupRequest,
};
use crate::time::Instant;

impl Membership {
    /// The JoinGroup, SyncGroup or LeaveGroup that is due.
    pub(super) fn membership_request(&mut self, may_join: bool, now: Instant) -> Option<Request> {
        match &mut self.state {
            State::Unjoined(_) | State::Syncing(_) if !may_join => None,
            State::Unjoined(unjoined) => {
                let ready = unjoined.not_before.is_none_or(|at| now >= at);
                let drained = self.assignor.is_cooperative() || self.holdings.is_empty();
                if !ready || !drained {
                    return None;
                }
                let reason = unjoined.reason;
                Some(self.join_group(reason, now))
            }
            State::Syncing(syncing) => {
                let SyncStep::Send(assignments) = &mut syncing.step else {
                    return None;
                };
                let assignments = std::mem::take(assignments);
                syncing.step = SyncStep::Sent(now);
                Some(Request::SyncGroup(SyncGroupRequest {
                    group_id: self.config.group_id.clone(),
                    generation_id: self.generation,
                    member_id: self.member_id.clone(),
                    group_instance_id: self.config.group_instance_id.clone(),
                    protocol_name: self.assignor.name().to_owned(),
                    assignments,
                }))
            }
            State::Leaving(leaving) if leaving.step == LeaveStep::Send => {
                leaving.step = LeaveStep::Sent;
                Some(Request::LeaveGroup(LeaveGroupRequest {
                    group_id: self.config.group_id.clone(),
                    member_id: self.member_id.clone(),
                    reason: Some("the consumer is stopping".to_owned()),
                }))
            }
            State::Joining(_)
            | State::Stable(_)
            | State::Leaving(_)
            | State::Fenced
            | State::Left => None,
        }
    }

    pub(super) fn heartbeat(&self) -> Request {
        Request::Heartbeat(HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
        })
    }

    fn join_group(&mut self, reason: &str, now: Instant) -> Request {
        let claimed = self.holdings.claims();
        let metadata = self
            .subscription(claimed.iter().copied().collect())
            .encode();
        self.state = State::Joining(Joining { sent: now, claimed });
        self.join_unanswered = true;
        Request::JoinGroup(JoinGroupRequest {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocols: vec![GroupProtocol {
                name: self.assignor.name().to_owned(),
                metadata,
            }],
            reason: Some(reason.to_owned()),
        })
    }

    fn subscription(&self, claimed: Vec<i32>) -> Subscription {
        let owned = TopicPartitions {
            topic: self.config.topic.clone(),
            partitions: claimed,
        };
        let user_data = if self.assignor.is_cooperative() {
            Subscription::generation_as_user_data(self.generation)
        } else {
            Bytes::new()
        };
        Subscription {
            topics: vec![self.config.topic.clone()],
            user_data,
            owned: Some(owned)
                .filter(|owned| !owned.partitions.is_empty())
                .into_iter()
                .collect(),
            generation: (self.generation >= 0).then_some(self.generation),
            rack_id: self.config.rack_id.clone(),
        }
    }
}

/// A duration as the wire has it.
fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
