//! A group member of either protocol, for a caller that need not know which.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{ConsumerMembership, Membership, MembershipEvent};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{ApiKey, Request, Response};
use crate::time::Instant;

/// One group member.
#[derive(Debug)]
pub enum Member {
    /// JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
    Classic(Box<Membership>),
    /// ConsumerGroupHeartbeat.
    Consumer(Box<ConsumerMembership>),
}

impl Member {
    /// Whether it speaks the protocol of consumer groups (KIP-848).
    pub fn is_consumer(&self) -> bool {
        matches!(self, Self::Consumer(_))
    }

    /// The next request for the coordinator, if any; `may_join` says whether JoinGroup and SyncGroup can
    /// be sent.
    pub fn poll_request(&mut self, may_join: bool, now: Instant) -> Option<Request> {
        match self {
            Self::Classic(member) => member.poll_request(may_join, now),
            Self::Consumer(member) => member.poll_request(now),
        }
    }

    /// Takes the answer to a request of its own.
    pub fn handle_response(&mut self, response: &Response, now: Instant) {
        match self {
            Self::Classic(member) => member.handle_response(response, now),
            Self::Consumer(member) => member.handle_response(response, now),
        }
    }

    /// The outstanding request of that API will have no answer.
    pub fn handle_request_lost(&mut self, api: ApiKey, now: Instant) {
        match self {
            Self::Classic(member) => member.handle_request_lost(api, now),
            Self::Consumer(member) => member.handle_request_lost(api),
        }
    }

    /// A commit that carried `generation` was answered by that error.
    pub fn handle_commit_error(&mut self, error: ErrorCode, generation: i32, now: Instant) {
        match self {
            Self::Classic(member) => member.handle_commit_error(error, generation, now),
            Self::Consumer(member) => member.handle_commit_error(error, generation, now),
        }
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Classic(member) => member.handle_timeout(now),
            Self::Consumer(member) => member.handle_timeout(now),
        }
    }

    /// Tells a classic leader how many partitions topics have; a coordinator of consumer groups knows.
    pub fn set_partition_counts(&mut self, counts: &BTreeMap<String, i32>, now: Instant) {
        if let Self::Classic(member) = self {
            member.set_partition_counts(counts, now);
        }
    }

    /// Tells a member of a consumer group the topic's id; a classic one goes by its name.
    pub fn set_topic_id(&mut self, topic_id: Uuid) {
        if let Self::Consumer(member) = self {
            member.set_topic_id(topic_id);
        }
    }

    /// Whether what is assigned is of another topic than the brokers show; a classic member cannot tell.
    pub fn holds_another_topic(&self) -> bool {
        match self {
            Self::Classic(_) => false,
            Self::Consumer(member) => member.holds_another_topic(),
        }
    }

    /// The call and the commit of a revoked partition have ended.
    pub fn released(&mut self, partition: i32, now: Instant) {
        match self {
            Self::Classic(member) => member.released(partition, now),
            Self::Consumer(member) => member.released(partition),
        }
    }

    /// Leaves the group.
    pub fn leave(&mut self, now: Instant) {
        match self {
            Self::Classic(member) => member.leave(now),
            Self::Consumer(member) => member.leave(now),
        }
    }

    /// The next thing to know, if any.
    pub fn poll_event(&mut self) -> Option<MembershipEvent> {
        match self {
            Self::Classic(member) => member.poll_event(),
            Self::Consumer(member) => member.poll_event(),
        }
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Classic(member) => member.poll_timeout(),
            Self::Consumer(member) => member.poll_timeout(),
        }
    }

    /// Whether a call for that partition may start now.
    pub fn may_start_call(&self, partition: i32, now: Instant) -> bool {
        match self {
            Self::Classic(member) => member.may_start_call(partition, now),
            Self::Consumer(member) => member.may_start_call(partition, now),
        }
    }

    /// Whether a commit of that partition may be sent now.
    pub fn may_commit(&self, partition: i32) -> bool {
        match self {
            Self::Classic(member) => member.may_commit(partition),
            Self::Consumer(member) => member.may_commit(partition),
        }
    }

    /// The generation, or the member epoch, that a commit carries; -1 outside.
    pub fn generation(&self) -> i32 {
        match self {
            Self::Classic(member) => member.generation(),
            Self::Consumer(member) => member.generation(),
        }
    }

    /// Our id in the group.
    pub fn member_id(&self) -> &str {
        match self {
            Self::Classic(member) => member.member_id(),
            Self::Consumer(member) => member.member_id(),
        }
    }

    /// The topics whose partition counts a classic leader needs.
    pub fn metadata_topics(&self) -> Vec<String> {
        match self {
            Self::Classic(member) => member.metadata_topics(),
            Self::Consumer(_) => Vec::new(),
        }
    }

    /// Whether we have left; nothing follows.
    pub fn is_left(&self) -> bool {
        match self {
            Self::Classic(member) => member.is_left(),
            Self::Consumer(member) => member.is_left(),
        }
    }
}
