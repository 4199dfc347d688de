//! The protocol of consumer groups as a machine that owns no connection.
//!
//! ```text
//!             epoch 0, answered                    leave()
//!   Joining ---------------------> Joined ----------------------> Leaving ----> Left
//!      ^                            |  |                             ^
//!      +-- fenced, unknown: all is lost |        FENCED_INSTANCE_ID   |
//!      |                               +-------------------------> Fenced
//!      +---- leave() -------------------------------------------------+
//! ```
//!
//! One request does it all, ConsumerGroupHeartbeat, and no broker ever parks it. The coordinator
//! assigns; it gives a partition to a member only once its owner has said, in a heartbeat, that it owns
//! it no more. So a partition that the assignment lacks is revoked here, and stays among what we say
//! that we own until it is [released](ConsumerMembership::released); the heartbeat that follows the last
//! release goes out at once, and its answer, or a later one, brings what the group had waited for.
//!
//! What was said in a heartbeat whose answer is lost may have been heard or not, and the coordinator may
//! be one epoch ahead: the next heartbeat says everything once more, and is answered with the whole
//! assignment (GroupMetadataManager, `throwIfConsumerGroupMemberEpochIsInvalid`).
//!
//! The coordinator does not tell its session timeout. The lease is the smaller of the session timeout
//! that we are configured with and three of the coordinator's heartbeat intervals: by its defaults that
//! is a third of the session (15 s of 45 s), and by Kafka's bounds (an interval of 15 s at most, a session
//! of 45 s at least) never more than one.
//!
//! An assignment names the topic by its id. While that differs from what the cluster says of the topic,
//! it has been deleted and created anew, and no call starts.
//!
//! Sources: KIP-848, KIP-1082 (ids of the member's making); Java's ConsumerMembershipManager,
//! AbstractHeartbeatRequestManager, CurrentAssignmentBuilder and GroupMetadataManager.
//!
//! Invariant: a partition may start a call only within a lease that the coordinator granted.

mod answers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::holdings::{Holdings, Release};
use super::lease::Lease;
use super::{
    LEAVE_TIMEOUT_MAX, MembershipConfig, MembershipEvent, MembershipFault, RETRY_BACKOFF_MAX,
};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    ApiKey, ConsumerGroupAssignment, ConsumerGroupHeartbeatRequest, Request, Response,
};
use crate::limits::SERVICE_ERROR_BACKOFF;
use crate::random::Random;
use crate::time::Instant;

/// The epoch that joins.
const JOIN_EPOCH: i32 = 0;

/// The epoch that leaves.
const LEAVE_EPOCH: i32 = -1;

/// The epoch that leaves as a static member, whose place is kept.
const LEAVE_STATIC_EPOCH: i32 = -2;

/// Heartbeats that may be lost before the lease is.
const LEASE_INTERVALS: u32 = 3;

/// One group member.
#[derive(Debug)]
pub struct ConsumerMembership {
    config: MembershipConfig,
    random: Random,
    member_id: String,
    state: State,
    /// As the coordinator told it last; [`JOIN_EPOCH`] outside.
    epoch: i32,
    holdings: Holdings,
    /// The topic that `holdings` are partitions of.
    held_topic: Uuid,
    /// The topic as the cluster shows it; nil when unknown.
    seen_topic: Uuid,
    lease: Option<Lease>,
    heartbeat_interval: Duration,
    /// When the next heartbeat is due; `None` at once.
    next: Option<Instant>,
    outstanding: Option<Outstanding>,
    /// What we own as the coordinator has certainly heard it.
    heard: Option<BTreeSet<i32>>,
    /// A heartbeat has gone out: the coordinator may know us.
    asked: bool,
    /// Failures in a row, for the back-off.
    failures: u32,
    /// What was last said with `Halt` and has not healed.
    fault: Option<MembershipFault>,
    events: VecDeque<MembershipEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in the group, or not that we know of.
    Joining,
    /// A member.
    Joined,
    /// Saying goodbye until then.
    Leaving { by: Instant, sent: bool },
    /// Another process is this static member now. Only a restart ends it.
    Fenced,
    /// Gone.
    Left,
}

/// The heartbeat that is out.
#[derive(Debug)]
struct Outstanding {
    sent: Instant,
    /// What we owned then.
    owned: BTreeSet<i32>,
    /// Something of that was being given up.
    giving_up: bool,
    /// The membership that it spoke for is over: its answer says nothing any more.
    void: bool,
}

impl ConsumerMembership {
    /// A member that has not joined yet. `member_id` must be of this member alone, for good.
    pub fn new(config: MembershipConfig, member_id: String, seed: u64) -> Self {
        let heartbeat_interval = config.heartbeat_interval;
        Self {
            config,
            random: Random::new(seed),
            member_id,
            state: State::Joining,
            epoch: JOIN_EPOCH,
            holdings: Holdings::default(),
            held_topic: Uuid::nil(),
            seen_topic: Uuid::nil(),
            lease: None,
            heartbeat_interval,
            next: None,
            outstanding: None,
            heard: None,
            asked: false,
            failures: 0,
            fault: None,
            events: VecDeque::new(),
        }
    }

    /// The next request for the coordinator, if any; call it only while it can be sent at once, for
    /// the lease counts from here. At most one is outstanding.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        match self.state {
            State::Joining | State::Joined => {
                let due = self.next.is_none_or(|next| now >= next);
                (due && self.outstanding.is_none()).then(|| self.heartbeat(now))
            }
            State::Leaving { by, sent: false } => {
                self.state = State::Leaving { by, sent: true };
                Some(self.goodbye())
            }
            State::Leaving { .. } | State::Fenced | State::Left => None,
        }
    }

    /// Takes the answer to a ConsumerGroupHeartbeat; any other is not ours and is passed over. An
    /// answer to a request that is void (see `handle_request_lost`, and `CoordinatorStale`) must not be
    /// handed in.
    pub fn handle_response(&mut self, response: &Response, now: Instant) {
        if let Response::ConsumerGroupHeartbeat(answer) = response {
            self.handle_answer(answer, now);
        }
    }

    /// The outstanding request of that API will have no answer.
    pub fn handle_request_lost(&mut self, api: ApiKey) {
        if api != ApiKey::ConsumerGroupHeartbeat {
            return;
        }
        if self.outstanding.take().is_some() {
            self.heard = None;
            self.next = None;
        } else if matches!(self.state, State::Leaving { sent: true, .. }) {
            self.state = State::Left;
        }
    }

    /// A commit that carried `epoch` was answered by that error (STALE_MEMBER_EPOCH,
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID; others are passed over). If the partition [may still be
    /// committed](Self::may_commit) afterwards, or later, commit again: the answer may only tell that
    /// the coordinator was an epoch ahead.
    pub fn handle_commit_error(&mut self, error: ErrorCode, epoch: i32, now: Instant) {
        if self.state != State::Joined || epoch != self.epoch {
            return;
        }
        match error {
            ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::ILLEGAL_GENERATION => self.speak_at_once(),
            ErrorCode::UNKNOWN_MEMBER_ID => self.lose(now),
            ErrorCode::FENCED_INSTANCE_ID => self.fence(),
            _ => {}
        }
    }

    /// Does what has come due; then poll requests and events again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.heartbeat_deadline().is_some_and(|at| now >= at) {
            self.coordinator_stale(now);
        }
        if self.next.is_some_and(|next| now >= next) {
            self.next = None;
        }
        if let State::Leaving { by, .. } = self.state
            && now >= by
        {
            self.state = State::Left;
        }
    }

    /// The cluster shows the topic under that id.
    pub fn set_topic_id(&mut self, topic_id: Uuid) {
        self.seen_topic = topic_id;
    }

    /// The call and the commit of a revoked partition have ended, it is no longer owned. For a
    /// partition that is not being revoked nothing happens.
    pub fn released(&mut self, partition: i32) {
        if self.holdings.release(partition) == Release::Regained {
            let partitions = vec![partition];
            self.events
                .push_back(MembershipEvent::Assigned { partitions });
        }
        // What the coordinator assigned of a topic's successor was passed over: it is to say it again.
        if self.holdings.is_empty() {
            self.heard = None;
        }
        if !self.holdings.is_giving_up() && self.failures == 0 {
            self.next = None;
        }
    }

    /// Leaves the group: says so to the coordinator and waits for its answer for a bounded time. From
    /// here on nothing is owned, without an event.
    pub fn leave(&mut self, now: Instant) {
        if matches!(self.state, State::Leaving { .. } | State::Left) {
            return;
        }
        let by = now + self.config.request_timeout.min(LEAVE_TIMEOUT_MAX);
        self.state = match self.state {
            State::Joining | State::Joined if self.asked => State::Leaving { by, sent: false },
            _ => State::Left,
        };
        self.holdings = Holdings::default();
        self.lease = None;
        self.void_outstanding();
    }

    /// Gives the membership up without a word, for another to take its place.
    pub fn abandon(&mut self) {
        self.forget();
        self.state = State::Left;
    }

    /// The next thing to know, if any. Drain it after each of the calls above.
    pub fn poll_event(&mut self) -> Option<MembershipEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Joining | State::Joined if self.outstanding.is_some() => {
                self.heartbeat_deadline()
            }
            State::Joining | State::Joined => self.next,
            State::Leaving { by, .. } => Some(by),
            State::Fenced | State::Left => None,
        }
    }

    /// Whether a call for that partition may start now: it is in the current assignment, it is not
    /// being revoked, and the lease has not run out.
    pub fn may_start_call(&self, partition: i32, now: Instant) -> bool {
        let leased = self.lease_end().is_some_and(|end| now < end);
        leased && !self.holds_another_topic() && self.holdings.owns(partition)
    }

    /// Whether what the coordinator assigns is of another topic than the brokers show under its name: it was created
    /// anew, and one of them has not heard of it.
    pub fn holds_another_topic(&self) -> bool {
        self.seen_topic != self.held_topic
    }

    /// When calls must stop starting if the coordinator answers nothing more; `None` outside a group.
    pub fn lease_end(&self) -> Option<Instant> {
        let end = self
            .lease?
            .end(self.session(), self.config.rebalance_timeout);
        Some(end)
    }

    /// Whether a commit of that partition may be sent now, with [`Self::generation`] and
    /// [`Self::member_id`]: it is owned, perhaps being revoked.
    pub fn may_commit(&self, partition: i32) -> bool {
        self.state == State::Joined && self.holdings.holds(partition)
    }

    /// The epoch that a commit carries; -1 outside.
    pub fn generation(&self) -> i32 {
        match self.state {
            State::Joined => self.epoch,
            State::Joining | State::Leaving { .. } | State::Fenced | State::Left => -1,
        }
    }

    /// Our id in the group.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// Whether we have left; nothing follows.
    pub fn is_left(&self) -> bool {
        self.state == State::Left
    }

    /// For how long after a heartbeat the coordinator keeps us, as far as we may rely on it.
    fn session(&self) -> Duration {
        let told = self.heartbeat_interval * LEASE_INTERVALS;
        self.config.session_timeout.min(told)
    }

    fn heartbeat(&mut self, now: Instant) -> Request {
        let owned = self.holdings.claims();
        let joins = self.state == State::Joining;
        let says_all = joins || self.heard.is_none();
        let says_owned = says_all || self.heard.as_ref() != Some(&owned);
        let assignment = ConsumerGroupAssignment {
            topic_id: self.held_topic,
            partitions: owned.iter().copied().collect(),
        };
        let assignment = Some(assignment).filter(|held| !held.partitions.is_empty());
        self.outstanding = Some(Outstanding {
            sent: now,
            owned,
            giving_up: self.holdings.is_giving_up(),
            void: false,
        });
        self.asked = true;
        let rebalance_timeout = self.config.rebalance_timeout.as_millis();
        let rebalance_timeout = i32::try_from(rebalance_timeout).unwrap_or(i32::MAX);
        let rack_id = Some(self.config.rack_id.clone()).filter(|rack| !rack.is_empty());
        Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
            rack_id: rack_id.filter(|_| says_all),
            rebalance_timeout_ms: says_all.then_some(rebalance_timeout),
            topics: says_all.then(|| vec![self.config.topic.clone()]),
            owned: says_owned.then(|| assignment.into_iter().collect()),
            ..self.bare_request(self.epoch)
        })
    }

    fn goodbye(&self) -> Request {
        let epoch = if self.config.group_instance_id.is_some() {
            LEAVE_STATIC_EPOCH
        } else {
            LEAVE_EPOCH
        };
        Request::ConsumerGroupHeartbeat(self.bare_request(epoch))
    }

    fn bare_request(&self, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch,
            group_instance_id: self.config.group_instance_id.clone(),
            rack_id: None,
            rebalance_timeout_ms: None,
            topics: None,
            owned: None,
        }
    }

    /// When an outstanding heartbeat is given up: while the lease still leaves time to look for the
    /// coordinator.
    fn heartbeat_deadline(&self) -> Option<Instant> {
        let patience = match self.state {
            State::Joining => self.config.request_timeout,
            State::Joined => self.config.request_timeout.min(self.session() / 3),
            State::Leaving { .. } | State::Fenced | State::Left => return None,
        };
        Some(self.outstanding.as_ref()?.sent + patience)
    }

    /// The next heartbeat goes out as soon as it can, and says everything.
    fn speak_at_once(&mut self) {
        self.heard = None;
        self.next = None;
    }

    /// The membership is void: nothing of it may start a call or commit. Joins again.
    fn lose(&mut self, now: Instant) {
        self.forget();
        self.state = State::Joining;
        self.retry(RETRY_BACKOFF_MAX, now);
    }

    /// Owns nothing and is in no epoch any more.
    fn forget(&mut self) {
        let partitions = self.holdings.lose_all();
        if !partitions.is_empty() {
            self.events.push_back(MembershipEvent::Lost { partitions });
        }
        self.lease = None;
        self.epoch = JOIN_EPOCH;
        self.void_outstanding();
        self.heard = None;
    }

    /// The answer to what is out still comes, before that to anything sent from now on.
    fn void_outstanding(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.void = true;
        }
    }

    /// Says everything again after a back-off that grows with each failure in a row.
    fn retry(&mut self, cap: Duration, now: Instant) {
        self.heard = None;
        self.failures = self.failures.saturating_add(1);
        let doubled = 2u32.saturating_pow(self.failures.min(16) - 1);
        let grown = SERVICE_ERROR_BACKOFF.saturating_mul(doubled).min(cap);
        self.next = Some(now + grown / 2 + self.random.jitter(grown / 2));
    }

    /// What is outstanding is void, and the coordinator is to be looked for.
    fn coordinator_stale(&mut self, now: Instant) {
        self.handle_request_lost(ApiKey::ConsumerGroupHeartbeat);
        self.retry(RETRY_BACKOFF_MAX, now);
        self.events.push_back(MembershipEvent::CoordinatorStale);
    }

    fn fence(&mut self) {
        self.forget();
        self.state = State::Fenced;
        self.report(MembershipFault::Fenced {
            group: self.config.group_id.clone(),
            instance: self.config.group_instance_id.clone().unwrap_or_default(),
        });
    }

    fn report(&mut self, fault: MembershipFault) {
        if self.fault.as_ref() != Some(&fault) {
            self.fault = Some(fault.clone());
            self.events.push_back(MembershipEvent::Halt(fault));
        }
    }
}
