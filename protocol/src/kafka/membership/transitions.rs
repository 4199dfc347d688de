//! How a member goes from state to state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{AwaitCounts, State, SyncStep, Syncing, Unjoined};
use super::{Membership, MembershipEvent, MembershipFault, RETRY_BACKOFF_MAX};
use crate::limits::{BACKOFF_MAX, SERVICE_ERROR_BACKOFF};
use crate::time::Instant;

/// How long a first release waits for more.
const RELEASES_GATHERED_FOR: Duration = Duration::from_secs(1);

impl Membership {
    /// Starts over with what we hold: at once when cooperative, after the releases when eager.
    pub(super) fn rejoin(&mut self, reason: &'static str, now: Instant) {
        let drain_by = if self.assignor.is_cooperative() {
            None
        } else {
            let partitions = self.holdings.revoke_all();
            if !partitions.is_empty() {
                self.events
                    .push_back(MembershipEvent::Revoke { partitions });
            }
            let group_waits = self
                .lease
                .map(|lease| lease.join_by(self.config.rebalance_timeout));
            Some(group_waits.unwrap_or(now)).filter(|_| !self.holdings.is_empty())
        };
        self.state = State::Unjoined(Unjoined {
            not_before: None,
            drain_by,
            reason,
        });
    }

    /// The group waits for something that was released. One rebalance serves all releases that come
    /// together, but none waits for long calls.
    pub(super) fn join_without_released(&mut self, now: Instant) {
        let more_to_come = self.holdings.is_giving_up();
        if let State::Stable(stable) = &mut self.state {
            if more_to_come {
                stable.rejoin_at.get_or_insert(now + RELEASES_GATHERED_FOR);
            } else {
                self.rejoin("gave up partitions", now);
            }
        }
    }

    /// Joins again after a back-off that grows with each failure in a row.
    pub(super) fn retry(&mut self, reason: &'static str, now: Instant) {
        self.rejoin(reason, now);
        let delay = self.backoff(RETRY_BACKOFF_MAX);
        self.hold_off(now + delay);
    }

    /// Says that an operator must act, and probes slowly whether one has.
    pub(super) fn halt(&mut self, fault: MembershipFault, now: Instant) {
        self.rejoin("trying again after a refusal", now);
        let delay = self.backoff(BACKOFF_MAX).max(BACKOFF_MAX / 2);
        self.hold_off(now + delay);
        self.report(fault);
    }

    fn hold_off(&mut self, until: Instant) {
        if let State::Unjoined(unjoined) = &mut self.state {
            unjoined.not_before = Some(until);
        }
    }

    pub(super) fn report(&mut self, fault: MembershipFault) {
        if self.fault.as_ref() != Some(&fault) {
            self.fault = Some(fault.clone());
            self.events.push_back(MembershipEvent::Halt(fault));
        }
    }

    /// The membership is void: nothing of it may start a call or commit. An answer to a JoinGroup that
    /// is out is still waited for.
    pub(super) fn lose(&mut self, reason: &'static str, now: Instant) {
        self.forget();
        if !matches!(self.state, State::Joining(_)) {
            self.retry(reason, now);
        }
    }

    /// Owns nothing and is in no generation any more.
    pub(super) fn forget(&mut self) {
        self.lose_holdings();
        self.lease = None;
        self.generation = -1;
        self.join_unanswered = false;
    }

    pub(super) fn lose_holdings(&mut self) {
        let partitions = self.holdings.lose_all();
        if !partitions.is_empty() {
            self.events.push_back(MembershipEvent::Lost { partitions });
        }
    }

    /// Everything outstanding is void, and the coordinator is to be looked for.
    pub(super) fn coordinator_stale(&mut self, now: Instant) {
        self.handle_connection_lost(now);
        let delay = self.backoff(RETRY_BACKOFF_MAX);
        self.heartbeats.hold_off(now + delay);
        self.events.push_back(MembershipEvent::CoordinatorStale);
    }

    fn backoff(&mut self, cap: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 2u32.saturating_pow(self.failures.min(16) - 1);
        let grown = SERVICE_ERROR_BACKOFF.saturating_mul(doubled).min(cap);
        grown / 2 + self.random.jitter(grown / 2)
    }

    /// When an outstanding JoinGroup or SyncGroup is given up.
    pub(super) fn join_deadline(&self) -> Option<Instant> {
        let sent = match &self.state {
            State::Joining(joining) => joining.sent,
            State::Syncing(Syncing {
                step: SyncStep::Sent(sent),
                ..
            }) => *sent,
            _ => return None,
        };
        Some(sent + self.config.rebalance_timeout + self.config.request_timeout)
    }

    /// When an outstanding heartbeat is given up: while the lease still leaves time to look for the
    /// coordinator. Behind a parked JoinGroup or SyncGroup a heartbeat may wait as long as that.
    pub(super) fn heartbeat_deadline(&self) -> Option<Instant> {
        if self.join_deadline().is_some() {
            return None;
        }
        let patience = self
            .config
            .request_timeout
            .min(self.config.session_timeout / 3);
        Some(self.heartbeats.outstanding_since()? + patience)
    }

    pub(super) fn ask_for_counts(&mut self) {
        let topics = self.metadata_topics();
        self.events
            .push_back(MembershipEvent::NeedPartitionCounts { topics });
    }

    /// Shares out, as leader.
    pub(super) fn assign(&mut self, counts: &BTreeMap<String, i32>) {
        let State::Syncing(syncing) = &mut self.state else {
            return;
        };
        let (SyncStep::AwaitCounts(AwaitCounts { members, .. }), Some(lead)) =
            (&syncing.step, &mut syncing.lead)
        else {
            return;
        };
        for topic in &lead.topics {
            let count = counts.get(topic).copied().unwrap_or(0);
            lead.counts.insert(topic.clone(), count);
        }
        let shares = self.assignor.assign(members, &lead.counts);
        syncing.step = SyncStep::Send(shares);
    }
}
