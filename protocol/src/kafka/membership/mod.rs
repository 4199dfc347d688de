//! The classic group protocol as a machine that owns no connection.
//!
//! The caller sends what [`Membership::poll_request`] yields to the coordinator and hands the answers
//! in. JoinGroup and SyncGroup may be parked by the broker for as long as the rebalance timeout, and a
//! broker works on one request of a connection at a time: send those two over a connection of their
//! own, so that heartbeats and commits are not stuck behind them.
//!
//! Invariant: a partition may start a call only within a lease that the coordinator granted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::ErrorCode;
use super::messages::{ApiKey, Request, Response};
use crate::time::Instant;

/// What a membership is told once.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// The consumer group.
    pub group_id: String,
    /// The one topic.
    pub topic: String,
    /// `group.instance.id`, for static membership.
    pub group_instance_id: Option<String>,
    /// `client.rack`; empty for none.
    pub rack_id: String,
    /// After how long without a heartbeat the coordinator gives us up.
    pub session_timeout: Duration,
    /// How long the coordinator waits for members to join again.
    pub rebalance_timeout: Duration,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a broker may take over an answer; JoinGroup and SyncGroup get the rebalance timeout
    /// on top of it.
    pub request_timeout: Duration,
}

/// One group member.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
}

impl Membership {
    /// A member that has not joined yet.
    pub fn new(config: MembershipConfig, seed: u64) -> Self {
        let _ = seed;
        Self { config }
    }

    /// The next request for the coordinator, if any; call it only while it can be sent at once, for
    /// the lease counts from here. At most one JoinGroup, SyncGroup or LeaveGroup and one Heartbeat
    /// are outstanding.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        let _ = (now, &self.config);
        None
    }

    /// Takes the answer to JoinGroup, SyncGroup, Heartbeat or LeaveGroup; any other is not ours and
    /// is passed over. An answer to a request that was void (see `handle_request_lost`, and
    /// `CoordinatorStale`) must not be handed in.
    pub fn handle_response(&mut self, response: &Response, now: Instant) {
        let _ = (response, now);
    }

    /// The outstanding request of that API will have no answer.
    pub fn handle_request_lost(&mut self, api: ApiKey, now: Instant) {
        let _ = (api, now);
    }

    /// No outstanding request will have an answer.
    pub fn handle_connection_lost(&mut self, now: Instant) {
        let _ = now;
    }

    /// A commit that carried `generation` was answered by that error (ILLEGAL_GENERATION,
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS; others are passed over).
    pub fn handle_commit_error(&mut self, error: ErrorCode, generation: i32, now: Instant) {
        let _ = (error, generation, now);
    }

    /// Does what has come due; then poll requests and events again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Answers `NeedPartitionCounts` (a topic that does not exist is left out), and is told again
    /// whenever metadata came in: if we lead and a count of [`Self::metadata_topics`] has changed,
    /// the group is rebalanced.
    pub fn set_partition_counts(&mut self, counts: &BTreeMap<String, i32>, now: Instant) {
        let _ = (counts, now);
    }

    /// The call and the commit of a revoked partition have ended, it is no longer claimed. For a
    /// partition that is not being revoked nothing happens.
    pub fn released(&mut self, partition: i32, now: Instant) {
        let _ = (partition, now);
    }

    /// Leaves the group: dynamic members say so to the coordinator, and wait for its answer for a
    /// bounded time. What is still owned counts as lost, so release first.
    pub fn leave(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next thing to know, if any. Drain it after each of the calls above.
    pub fn poll_event(&mut self) -> Option<MembershipEvent> {
        None
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether a call for that partition may start now: it is in the current assignment, it is not
    /// being revoked, and the lease has not run out.
    pub fn may_start_call(&self, partition: i32, now: Instant) -> bool {
        let _ = (partition, now);
        false
    }

    /// When calls must stop starting if the coordinator answers nothing more; `None` outside a group.
    pub fn lease_end(&self) -> Option<Instant> {
        None
    }

    /// Whether a commit of that partition may be sent now, with [`Self::generation`] and
    /// [`Self::member_id`]: it is owned (perhaps being revoked), and the generation is not about to
    /// be refused.
    pub fn may_commit(&self, partition: i32) -> bool {
        let _ = partition;
        false
    }

    /// The generation that a commit carries; -1 outside.
    pub fn generation(&self) -> i32 {
        -1
    }

    /// Our id in the group; empty before the coordinator gave one.
    pub fn member_id(&self) -> &str {
        ""
    }

    /// The topics whose partition counts we need as leader; empty otherwise.
    pub fn metadata_topics(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether we have left; nothing follows.
    pub fn is_left(&self) -> bool {
        false
    }
}

/// What a membership has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipEvent {
    /// A rebalance is over: we are a member of that generation. Heals any `Halt`. `Revoke` and
    /// `Assigned` follow where something changed.
    Joined {
        /// The generation.
        generation: i32,
    },
    /// These partitions are ours from now on, in addition.
    Assigned {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// Start no call of these any more, end the one in flight, commit, then call `released` for
    /// each. Under an eager assignor these are all that we own. If it takes longer than the group
    /// can wait, `Lost` follows.
    Revoke {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// These are no longer ours: nothing of them may start a call or commit. Do not release them.
    Lost {
        /// Ascending.
        partitions: Vec<i32>,
    },
    /// Whoever we took for the coordinator is not, or does not answer: look for it anew. All that
    /// was outstanding is void, and answers that still come must not be handed in.
    CoordinatorStale,
    /// We lead: answer with `set_partition_counts`.
    NeedPartitionCounts {
        /// Ascending; at least our own.
        topics: Vec<String>,
    },
    /// An operator must act; `Joined` heals it.
    Halt(MembershipFault),
}

/// Why we are not let into the group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipFault {
    /// The group is denied to us.
    #[error("not authorized to access group {0}")]
    NotAuthorized(String),
    /// The members share no assignor with us.
    #[error("the members of group {0} offer neither cooperative-sticky nor range")]
    NoCommonAssignor(String),
    /// Another process has taken our static identity; we stay out until we are started anew.
    #[error("another member of group {group} has taken the instance id {instance}")]
    Fenced {
        /// The group.
        group: String,
        /// The static identity.
        instance: String,
    },
    /// The group has `group.max.size` members.
    #[error("group {0} has reached its maximum size")]
    GroupFull(String),
    /// The broker does not allow our session timeout.
    #[error("the broker refuses a session timeout of {0} ms")]
    SessionTimeout(u128),
    /// The coordinator refuses for another reason that does not pass.
    #[error("the coordinator of group {group} answers {error}")]
    Refused {
        /// The group.
        group: String,
        /// Its answer.
        error: ErrorCode,
    },
}
