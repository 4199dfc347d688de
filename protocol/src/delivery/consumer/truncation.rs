//! Logs that end before what was read of them (KIP-320): whoever has a new leader asks it how far its log goes, and goes
//! back to where both are the same.
//!
//! Invariant: nothing is read of a leader that has not said that it has what was read before, where brokers know epochs.

use super::super::Severity;
use super::super::lane::{LaneRef, Search, Stage};
use super::super::links::Role;
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    ApiKey, EpochEndOffset, LeaderEpochPartition, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, Request,
};

impl Consumer {
    /// A lane that has another leader asks it how far its log goes, before it reads on.
    pub(super) fn check_new_leaders(&mut self) {
        for lane in self.lanes.values_mut() {
            if let Some(leader) = self.cluster.leader(lane.partition)
                && lane.must_check(leader.epoch)
            {
                let leader_epoch = leader.epoch;
                lane.enter(Stage::Checking { leader_epoch });
            }
        }
    }

    pub(super) fn ask_epochs(&mut self, node: i32, epochs: &[(LaneRef, i32)]) {
        let lanes: Vec<LaneRef> = epochs.iter().map(|(lane, _)| *lane).collect();
        let version = self
            .links
            .version(Role::Fetch(node), ApiKey::OffsetForLeaderEpoch);
        if version.is_none() {
            for lane in lanes {
                self.no_end_of_epoch(lane);
            }
            return;
        }
        let request = Request::OffsetForLeaderEpoch(OffsetForLeaderEpochRequest {
            topic: self.config.topic.clone(),
            partitions: epochs
                .iter()
                .map(|(lane, leader_epoch)| LeaderEpochPartition {
                    partition: lane.partition,
                    current_leader_epoch: self.leader_epoch(lane.partition),
                    leader_epoch: *leader_epoch,
                })
                .collect(),
        });
        self.mark_asked(&lanes);
        let view = self.cluster.view();
        self.send(
            Role::Fetch(node),
            &request,
            Ticket::EpochEnds { view, lanes },
        );
    }

    pub(super) fn handle_epoch_ends(
        &mut self,
        view: u64,
        lanes: &[LaneRef],
        response: &OffsetForLeaderEpochResponse,
    ) {
        for of in lanes {
            match response
                .partitions
                .iter()
                .find(|p| p.partition == of.partition)
            {
                Some(found) if found.error.is_ok() => self.end_of_epoch(*of, found),
                // Before v3 it takes a right on the cluster, which no consumer has.
                Some(found) if is_denied(found.error) => self.no_end_of_epoch(*of),
                _ => {
                    self.cluster.invalidate(view, self.now);
                    self.ask_again(*of);
                }
            }
        }
    }

    /// How far a leader has what was read.
    fn end_of_epoch(&mut self, of: LaneRef, found: &EpochEndOffset) {
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        let (wanted, log_start) = (lane.fetched(), lane.log_start.max(0));
        match lane.stage() {
            Stage::Checking { leader_epoch } if found.end_offset >= wanted => {
                lane.checked(leader_epoch);
            }
            // A leader knows its own epoch at least. One that knows neither it nor ours keeps no epochs; one that is
            // older than ours is of another log.
            Stage::Checking { leader_epoch }
                if found.end_offset < 0 && lane.fetched_epoch() < leader_epoch =>
            {
                lane.checked(leader_epoch);
            }
            Stage::Checking { .. } => {
                // What was fetched before is of the log as it was, and is delivered first. A lane that is to go elsewhere
                // already, since its topic was created anew, goes there.
                let search = Search::Truncated { wanted, log_start };
                lane.reposition.get_or_insert(search);
                lane.enter(Stage::Active);
            }
            Stage::Locating(Search::Truncated { wanted, log_start }) if found.end_offset >= 0 => {
                let offset = found.end_offset.clamp(log_start, wanted.max(log_start));
                self.truncated(of, offset, found.leader_epoch, wanted);
            }
            _ => self.no_end_of_epoch(of),
        }
    }

    /// The broker knows no epochs, or does not tell: a log that ends early is read from its start, and any other
    /// is believed.
    fn no_end_of_epoch(&mut self, of: LaneRef) {
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        match lane.stage() {
            Stage::Checking { leader_epoch } => lane.checked(leader_epoch),
            Stage::Locating(Search::Truncated { wanted, log_start }) => {
                self.truncated(of, log_start, -1, wanted);
            }
            _ => {}
        }
    }

    /// The log was truncated below what was read: go back to where it is the same.
    fn truncated(&mut self, of: LaneRef, offset: i64, epoch: i32, wanted: i64) {
        let topic_id = self.cluster.topic_id();
        let Some(lane) = self.lane_of(of) else {
            return;
        };
        lane.begin_at(offset, epoch, topic_id, Stage::Active);
        self.notice(
            Severity::Error,
            "Log was truncated below what was read",
            format!(
                "partition={} read_to={wanted} going_on_at={offset}",
                of.partition
            ),
        );
    }
}

fn is_denied(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
    )
}
