//! The classic group protocol as a machine that owns no connection.
//!
//! ```text
//!                 JoinGroup            answer              SyncGroup's answer
//!   Unjoined ------------------> Joining ---------> Syncing -----------------> Stable
//!    ^  ^  ^                       |                  |                         |  |
//!    |  |  +-- error, lost --------+                  |                         |  |
//!    |  +----- error, lost, the group moved on -------+                         |  |
//!    +-------- REBALANCE_IN_PROGRESS, something released, partitions added -----+  |
//!   Unjoined <-------------- UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION: all is lost ---+
//!
//!   leave() ----> Leaving ----> Left              FENCED_INSTANCE_ID ----> Fenced
//! ```
//!
//! *Cooperative* (`cooperative-sticky`, what we offer, alone): partitions are kept through a rebalance,
//! and JoinGroup never waits. A partition that the new assignment lacks is revoked: it stays claimed
//! until it is [released](Membership::released), then we join once more without it, and the leader
//! hands it out. *Eager* (`range`, once the group has refused us with INCONSISTENT_GROUP_PROTOCOL):
//! everything is revoked when a rebalance begins, and JoinGroup waits for the releases, but not longer
//! than the group waits for us.
//!
//! The caller sends what [`Membership::poll_request`] yields to the coordinator and hands the answers
//! in. A broker works on one request of a connection at a time, and may park JoinGroup and SyncGroup
//! for as long as the rebalance timeout: they go over a connection of their own, so that heartbeats
//! (which keep the lease through a rebalance), commits and LeaveGroup are not stuck behind them.
//!
//! A JoinGroup claims what we hold in the generation that we joined last, also when that one's
//! assignment never reached us: its leader has heard the claim, so nobody else was given any of it.
//! When a generation went by without us, no call starts until the assignment is here.
//!
//! The other protocol, where the coordinator assigns, is `consumer/`; a [`Member`] speaks either.
//!
//! Sources: KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED),
//! KIP-429 (cooperative), KIP-814 (returning static leader); Java's AbstractCoordinator,
//! ConsumerCoordinator and GroupMetadataManager.
//!
//! Invariant: a partition may start a call only within a lease that the coordinator granted.

mod answers;
mod consumer;
mod event;
mod heartbeat;
mod holdings;
mod lease;
mod member;
mod requests;
mod state;
#[cfg(test)]
mod tests;
mod transitions;
mod verdict;

pub use consumer::ConsumerMembership;
pub use event::{MembershipEvent, MembershipFault};
pub use member::Member;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::heartbeat::Heartbeats;
use self::holdings::{Holdings, Release};
use self::lease::Lease;
use self::state::{LeaveStep, Leaving, Stable, State, SyncStep, Syncing, Unjoined};
use super::assignor::Assignor;
use super::error::ErrorCode;
use super::messages::{ApiKey, Request, Response};
use crate::random::Random;
use crate::time::Instant;

/// Longest back-off while the group only has to be tried again.
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A leader that has not heard the partition counts asks again after so long: the group waits for it.
const COUNTS_ASKED_EVERY: Duration = Duration::from_secs(3);

/// How long LeaveGroup may take; the session timeout does the same in the end.
const LEAVE_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// After so many unforeseen answers in a row an operator is told.
const UNFORESEEN_ANSWERS_MAX: u32 = 5;

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
    random: Random,
    assignor: Assignor,
    state: State,
    member_id: String,
    generation: i32,
    holdings: Holdings,
    lease: Option<Lease>,
    heartbeats: Heartbeats,
    /// A JoinGroup was sent in this generation and no answer has come: the coordinator may be in the
    /// next one already, with us.
    join_unanswered: bool,
    /// Failures in a row, for the back-off.
    failures: u32,
    /// Refusals of both assignors in a row.
    inconsistencies: u32,
    /// What was last said with `Halt` and has not healed.
    fault: Option<MembershipFault>,
    events: VecDeque<MembershipEvent>,
}

impl Membership {
    /// A member that has not joined yet.
    pub fn new(config: MembershipConfig, seed: u64) -> Self {
        let state = State::Unjoined(Unjoined {
            not_before: None,
            drain_by: None,
            reason: "joining the group",
        });
        Self {
            config,
            random: Random::new(seed),
            assignor: Assignor::CooperativeSticky,
            state,
            member_id: String::new(),
            generation: -1,
            holdings: Holdings::default(),
            lease: None,
            heartbeats: Heartbeats::default(),
            join_unanswered: false,
            failures: 0,
            inconsistencies: 0,
            fault: None,
            events: VecDeque::new(),
        }
    }

    /// The next request for the coordinator, if any; call it only while it can be sent at once, for
    /// the lease counts from here. `may_join` says whether JoinGroup and SyncGroup can: they may have a
    /// connection of their own. At most one JoinGroup, SyncGroup or LeaveGroup and one Heartbeat are
    /// outstanding.
    pub fn poll_request(&mut self, may_join: bool, now: Instant) -> Option<Request> {
        if let Some(request) = self.membership_request(may_join, now) {
            return Some(request);
        }
        let interval = self.config.heartbeat_interval;
        let known = self.generation >= 0;
        let due = known && self.heartbeats.send(self.generation, interval, now);
        due.then(|| self.heartbeat())
    }

    /// Takes the answer to JoinGroup, SyncGroup, Heartbeat or LeaveGroup; any other is not ours and
    /// is passed over. An answer to a request that is void (see `handle_request_lost`, and
    /// `CoordinatorStale`) must not be handed in.
    pub fn handle_response(&mut self, response: &Response, now: Instant) {
        match response {
            Response::JoinGroup(answer) => self.handle_join_group(answer, now),
            Response::SyncGroup(answer) => self.handle_sync_group(answer, now),
            Response::Heartbeat(answer) => self.handle_heartbeat(answer.error, now),
            Response::LeaveGroup(_) => self.handle_leave_group(),
            Response::ApiVersions(_)
            | Response::Metadata(_)
            | Response::FindCoordinator(_)
            | Response::OffsetFetch(_)
            | Response::OffsetCommit(_)
            | Response::ListOffsets(_)
            | Response::OffsetForLeaderEpoch(_)
            | Response::Fetch(_)
            | Response::ConsumerGroupHeartbeat(_)
            | Response::SaslHandshake(_)
            | Response::SaslAuthenticate(_)
            | Response::Produce(_)
            | Response::InitProducerId(_)
            | Response::DescribeGroups(_)
            | Response::ConsumerGroupDescribe(_) => {}
        }
    }

    /// The outstanding request of that API will have no answer.
    pub fn handle_request_lost(&mut self, api: ApiKey, now: Instant) {
        match (api, &self.state) {
            (ApiKey::Heartbeat, _) => self.heartbeats.lost(),
            (ApiKey::JoinGroup, State::Joining(_))
            | (
                ApiKey::SyncGroup,
                State::Syncing(Syncing {
                    step: SyncStep::Sent(_),
                    ..
                }),
            ) => self.retry("the connection to the coordinator broke", now),
            (
                ApiKey::JoinGroup,
                State::Leaving(Leaving {
                    step: LeaveStep::AwaitMemberId,
                    ..
                }),
            )
            | (
                ApiKey::LeaveGroup,
                State::Leaving(Leaving {
                    step: LeaveStep::Sent,
                    ..
                }),
            ) => self.state = State::Left,
            _ => {}
        }
    }

    /// No outstanding request will have an answer.
    pub fn handle_connection_lost(&mut self, now: Instant) {
        for api in [
            ApiKey::Heartbeat,
            ApiKey::JoinGroup,
            ApiKey::SyncGroup,
            ApiKey::LeaveGroup,
        ] {
            self.handle_request_lost(api, now);
        }
    }

    /// A commit that carried `generation` was answered by that error (ILLEGAL_GENERATION,
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS; others are passed over). If the
    /// partition [may still be committed](Self::may_commit) afterwards, or later, commit again: the
    /// answer may only tell that a rebalance overtook the commit.
    pub fn handle_commit_error(&mut self, error: ErrorCode, generation: i32, now: Instant) {
        if generation == self.generation && generation >= 0 {
            self.handle_standing(error, now);
        }
    }

    /// Does what has come due; then poll requests and events again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        self.heartbeats.wake(now);
        if due(self.heartbeat_deadline()) || due(self.join_deadline()) {
            self.coordinator_stale(now);
        }
        match &mut self.state {
            State::Unjoined(unjoined) => {
                if due(unjoined.not_before) {
                    unjoined.not_before = None;
                }
                if due(unjoined.drain_by) {
                    unjoined.drain_by = None;
                    self.lose_holdings();
                }
            }
            State::Syncing(syncing) => {
                let SyncStep::AwaitCounts(waiting) = &mut syncing.step else {
                    return;
                };
                if now < waiting.ask_again {
                    return;
                }
                waiting.ask_again = now + COUNTS_ASKED_EVERY;
                match waiting.partial.take() {
                    Some(counts) => self.assign(&counts),
                    None => self.ask_for_counts(),
                }
            }
            State::Stable(stable) => {
                if due(stable.rejoin_at) {
                    self.rejoin("gave up partitions", now);
                }
            }
            State::Leaving(leaving) => {
                if now >= leaving.by {
                    self.state = State::Left;
                }
            }
            State::Joining(_) | State::Fenced | State::Left => {}
        }
    }

    /// Answers `NeedPartitionCounts` with a count for each of its topics (zero: there is no such
    /// topic), and is told again whenever metadata came in: if we lead and a count of
    /// [`Self::metadata_topics`] has changed, the group is rebalanced. A topic about which nothing
    /// certain is known is left out; if that does not change for some seconds it has none.
    pub fn set_partition_counts(&mut self, counts: &BTreeMap<String, i32>, now: Instant) {
        match &mut self.state {
            State::Syncing(Syncing {
                step: SyncStep::AwaitCounts(waiting),
                lead: Some(lead),
                ..
            }) => {
                if lead.topics.iter().all(|topic| counts.contains_key(topic)) {
                    self.assign(counts);
                } else {
                    waiting.partial = Some(counts.clone());
                }
            }
            State::Stable(Stable {
                lead: Some(lead), ..
            }) => {
                let differ = lead.counts_differ(counts);
                if differ {
                    self.rejoin("a topic has a new number of partitions", now);
                }
            }
            _ => {}
        }
    }

    /// The call and the commit of a revoked partition have ended, it is no longer claimed. (If it was
    /// assigned to us again in the meantime, `Assigned` follows.) For a partition that is not being
    /// revoked nothing happens.
    pub fn released(&mut self, partition: i32, now: Instant) {
        match self.holdings.release(partition) {
            Release::Nothing => {}
            Release::Regained => {
                let partitions = vec![partition];
                self.events
                    .push_back(MembershipEvent::Assigned { partitions });
            }
            Release::GivenUp => self.join_without_released(now),
        }
    }

    /// Leaves the group: a dynamic member says so to the coordinator, and waits for its answer for a
    /// bounded time; a static one keeps its place. From here on nothing is owned, without an event.
    pub fn leave(&mut self, now: Instant) {
        if matches!(self.state, State::Leaving(_) | State::Left) {
            return;
        }
        let joining = matches!(self.state, State::Joining(_));
        let step = match (&self.state, self.config.group_instance_id.is_some()) {
            (State::Fenced, _) | (_, true) => None,
            _ if !self.member_id.is_empty() => Some(LeaveStep::Send),
            _ if joining => Some(LeaveStep::AwaitMemberId),
            _ => None,
        };
        let by = now + self.config.request_timeout.min(LEAVE_TIMEOUT_MAX);
        self.state = step.map_or(State::Left, |step| State::Leaving(Leaving { by, step }));
        self.holdings = Holdings::default();
        self.lease = None;
        self.generation = -1;
    }

    /// The next thing to know, if any. Drain it after each of the calls above.
    pub fn poll_event(&mut self) -> Option<MembershipEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (one, other) = match &self.state {
            State::Unjoined(unjoined) => (unjoined.not_before, unjoined.drain_by),
            State::Joining(_) => (self.join_deadline(), None),
            State::Syncing(syncing) => match &syncing.step {
                SyncStep::AwaitCounts(waiting) => (Some(waiting.ask_again), None),
                SyncStep::Send(_) | SyncStep::Sent(_) => (self.join_deadline(), None),
            },
            State::Stable(stable) => (stable.rejoin_at, None),
            State::Leaving(leaving) => return Some(leaving.by),
            State::Fenced | State::Left => return None,
        };
        let next_heartbeat = self.heartbeats.next().filter(|_| self.generation >= 0);
        let due = [one, other, next_heartbeat, self.heartbeat_deadline()];
        due.into_iter().flatten().min()
    }

    /// Whether a call for that partition may start now: it is in the current assignment, it is not
    /// being revoked, and the lease has not run out.
    pub fn may_start_call(&self, partition: i32, now: Instant) -> bool {
        let standing = match &self.state {
            State::Unjoined(_) | State::Joining(_) | State::Stable(_) => true,
            State::Syncing(syncing) => syncing.claims_stand,
            State::Leaving(_) | State::Fenced | State::Left => false,
        };
        let leased = self.lease_end().is_some_and(|end| now < end);
        standing && leased && self.holdings.owns(partition)
    }

    /// When calls must stop starting if the coordinator answers nothing more; `None` outside a group.
    pub fn lease_end(&self) -> Option<Instant> {
        let config = &self.config;
        let end = self
            .lease?
            .end(config.session_timeout, config.rebalance_timeout);
        Some(end)
    }

    /// Whether a commit of that partition may be sent now, with [`Self::generation`] and
    /// [`Self::member_id`]: it is owned (perhaps being revoked), and the coordinator does not refuse
    /// every commit because it waits for the leader.
    pub fn may_commit(&self, partition: i32) -> bool {
        let accepting = matches!(
            self.state,
            State::Unjoined(_) | State::Joining(_) | State::Stable(_)
        );
        accepting && self.generation >= 0 && self.holdings.holds(partition)
    }

    /// The generation that a commit carries; -1 outside.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Our id in the group; empty before the coordinator gave one.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The topics whose partition counts we need as leader, ascending; empty otherwise.
    pub fn metadata_topics(&self) -> Vec<String> {
        match &self.state {
            State::Syncing(Syncing {
                lead: Some(lead), ..
            })
            | State::Stable(Stable {
                lead: Some(lead), ..
            }) => lead.topics.clone(),
            _ => Vec::new(),
        }
    }

    /// Whether we have left; nothing follows.
    pub fn is_left(&self) -> bool {
        matches!(self.state, State::Left)
    }
}
