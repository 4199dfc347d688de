//! The watchdog: lanes that stand still without a reason, and calls that never end.
//!
//! `pump` is level-triggered, so a lost answer leaves nothing undone: what can stand still all the same is a lane whose
//! broker answers and yet gives nothing (an error that a new view does not heal, or no records where there are some), one
//! that waits for what is marked as under way and is not, and one whose call's end nobody tells. Each looks the same from
//! here: there is work, no mark of progress moves, and no reason that we know of explains it.
//!
//! Such a lane is started again as if it had just been assigned: what was asked of its brokers is void, their connections
//! are made anew, and it goes on at the group's commit. What it had processed and not committed comes again.
//!
//! Invariant: a call that is open is never taken for none before it is closed; the lease, the order of a partition and
//! its one open call are kept by the same code as ever.

use super::super::batch::BatchState;
use super::super::lane::{Lane, Stage};
use super::super::links::Role;
use super::super::{CallId, Effect, Severity};
use super::Consumer;
use crate::lambda::invoke::Outcome;
use crate::limits;
use crate::time::Instant;

impl Consumer {
    /// Looks for what stands still, now and then.
    pub(super) fn pump_watch(&mut self) {
        if self.now < self.watch_at {
            return;
        }
        self.watch_at = self.now + limits::STANDSTILL_LOOKED_AT_EVERY;
        self.end_overdue_calls();
        self.end_overdue_diversions();
        if self.ending.is_running() {
            self.restart_what_stands_still();
        }
    }

    fn restart_what_stands_still(&mut self) {
        let now = self.now;
        for lane in self.lanes.values_mut() {
            lane.note_progress(now);
        }
        let stuck: Vec<i32> = self
            .lanes
            .values()
            .filter(|lane| now >= lane.still_since() + limits::STANDSTILL_MAX)
            .filter(|lane| self.has_work(lane) && !self.is_explained(lane))
            .map(|lane| lane.partition)
            .collect();
        for partition in stuck {
            self.restart_lane(partition);
        }
    }

    pub(super) fn watch_timeout(&self) -> Option<Instant> {
        let watches = self.ending.is_running() && !self.lanes.is_empty();
        (watches || !self.calls.is_empty() || !self.diversions.is_empty()).then_some(self.watch_at)
    }

    /// The shell ends each call at its deadline. One of which nothing was heard long after that is closed once more,
    /// and counts as broken.
    fn end_overdue_calls(&mut self) {
        let overdue = |id: &u64| {
            let batch = self.batches.get(id);
            let deadline = batch.and_then(|batch| batch.deadline());
            deadline.is_some_and(|at| self.now >= at + limits::CALL_OVERDUE)
        };
        let calls = self.calls.iter().filter(|(_, id)| overdue(id));
        let calls: Vec<CallId> = calls.map(|(call, _)| *call).collect();
        for call in calls {
            self.counters.partitions_restarted += 1;
            self.notice(
                Severity::Error,
                "Call has not ended long after its deadline; it counts as broken",
                format!("call={}", call.0),
            );
            self.effects.push_back(Effect::CancelCall(call));
            let reason = "its end was never told".to_owned();
            self.handle_call_ended(call, Outcome::Broken { reason });
        }
    }

    /// Whether there is anything that a lane could do.
    fn has_work(&self, lane: &Lane) -> bool {
        lane.stage() != Stage::Active
            || !lane.is_drained()
            || lane.fetch_failures > 0
            || self.is_behind(lane)
            || self.owes_commit(lane)
    }

    /// Whether something that is known, shown or about to end holds a lane.
    fn is_explained(&self, lane: &Lane) -> bool {
        let partition = lane.partition;
        let Some(leader) = self.cluster.leader(partition) else {
            return true;
        };
        let waits_for_a_call =
            self.called_partitions.contains(&partition) || !self.may_start_calls();
        let waits_for_its_turn = self.batches.values().any(|batch| {
            let holds = batch.parts().iter().any(|part| part.partition == partition);
            let waits = match batch.state {
                BatchState::Waiting(until) => until > self.now,
                BatchState::Leaving(writing) => {
                    writing.open.is_some()
                        || writing.next_try > self.now
                        || self.diversions.len() >= limits::DIVERSIONS_MAX
                }
                BatchState::Ready | BatchState::InFlight(_) => false,
            };
            holds && waits
        });
        let waits_for_company = lane
            .open_since()
            .is_some_and(|since| self.now < since + self.config.delivery.window);
        lane.halted.is_some()
            || lane.revoking
            || self.is_cluster_at_fault()
            || !self.membership.may_start_call(partition, self.now)
            || waits_for_a_call
            || waits_for_its_turn
            || waits_for_company
            || !self.bodies.fits(limits::ENCODE_STEP_BYTES)
            || self.fetched.room() < limits::FETCH_BYTES_MIN
            || !self.links.is_open(Role::Fetch(leader.node), self.now)
            || (self.owes_commit(lane) && !self.links.is_open(Role::Coordinator, self.now))
    }

    /// Begins a lane anew, at the group's commit.
    fn restart_lane(&mut self, partition: i32) {
        let Some(lane) = self.lanes.get(&partition) else {
            return;
        };
        let detail = format!(
            "partition={partition} stage={:?} fetched_offset={} processed_offset={} committed_offset={} high_watermark={} \
             fetch_failures={} busy={} asked={} still_for={:?}",
            lane.stage(),
            lane.fetched(),
            lane.processed(),
            lane.committed,
            lane.high_watermark,
            lane.fetch_failures,
            lane.busy,
            lane.asked,
            self.now.saturating_since(lane.still_since()),
        );
        let owes_commit = self.owes_commit(lane);
        let leader = self.cluster.leader(partition).map(|leader| leader.node);
        let replica = lane.read_replica.map(|(node, _)| node);
        self.counters.partitions_restarted += 1;
        self.notice(
            Severity::Error,
            "Partition stood still without a reason; it is started again",
            detail,
        );
        for node in leader.into_iter().chain(replica) {
            self.make_anew(Role::Fetch(node));
            self.fetching.remove(&node);
        }
        if owes_commit {
            self.make_anew(Role::Coordinator);
            self.commits.failed(self.now, &mut self.counters);
        }
        self.cluster.invalidate(self.cluster.view(), self.now);
        self.end_lane(partition);
        self.release_waiting_parts();
        self.begin_lane(partition);
    }

    /// Gives up a connection that stands: what was asked on it is asked again on another.
    fn make_anew(&mut self, role: Role) {
        let reason = "a partition stood still";
        if let Some(broken) = self.links.close(role, reason, &mut self.effects) {
            self.handle_closed(broken);
        }
    }
}
