//! Where this consumer was in partitions that it has owned.
//!
//! Where a partition goes on the group's commit says, and it may be gone: an unclean leader of `__consumer_offsets` has
//! never heard of it. The policy would be resolved anew then, and LATEST would pass over what came meanwhile.
//!
//! Invariant: a place says something of the topic with its id alone, and nothing where the group has a commit.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::Severity;
use super::super::lane::{Lane, LaneRef, Stage};
use super::Consumer;

/// Where a lane was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The first offset that was not processed.
    offset: i64,
    /// The leader epoch of what was.
    epoch: i32,
    topic_id: Uuid,
}

/// By partition, of which there are no more than the topic has had.
pub(super) type Places = BTreeMap<i32, Place>;

impl Consumer {
    pub(super) fn remember_place(&mut self, lane: &Lane) {
        let topic_id = lane.topic_id();
        // Without an id nobody can tell that the topic has become another.
        if topic_id.is_nil() || !is_located(lane) {
            return;
        }
        let place = Place {
            offset: lane.processed(),
            epoch: lane.epoch,
            topic_id,
        };
        self.places.insert(lane.partition, place);
    }

    /// Lets a lane for which the group has no commit go on where it was, if it ever was anywhere; whether it was.
    pub(super) fn return_to_place(&mut self, of: LaneRef) -> bool {
        let topic_id = self.cluster.topic_id();
        let place = self.places.get(&of.partition).copied();
        let Some(place) = place.filter(|place| place.topic_id == topic_id) else {
            return false;
        };
        let Some(lane) = self.lane_of(of) else {
            return false;
        };
        let stage = Stage::AwaitingFirstCommit;
        lane.begin_at(place.offset, place.epoch, topic_id, stage);
        self.notice(
            Severity::Warn,
            "Group has lost the commit of a partition; going on where it was",
            format!("partition={} offset={}", of.partition, place.offset),
        );
        true
    }
}

/// Whether it has found where it begins.
pub(super) fn is_located(lane: &Lane) -> bool {
    lane.is_placed() || lane.stage() == Stage::AwaitingFirstCommit || lane.committed >= 0
}
