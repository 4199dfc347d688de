//! Keeping the place of a mapping that is not enabled (decision 25): [`Duty::KeepPlace`](super::super::Duty).
//!
//! Such a consumer declares where the mapping starts, as every other, and rests instead of joining the group:
//! without a connection, until it looks again. A place that has not moved for an hour is committed once more,
//! as it stands, because a coordinator forgets the commits of an empty group (`offsets.retention.minutes`).
//!
//! ```text
//!  declaring --all there--> Resting --an hour since the place moved, or was committed--> declaring
//!      \--the group has members--> Resting --the same; a minute if a start was found--> declaring
//! ```
//!
//! Members keep the commits of their group themselves, and resolve what has none. If they leave without having
//! done so, what was found at first is committed.
//!
//! Invariant: a commit that moved within the last hour is not made again: whoever moves it may be at it still.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Consumer;
use super::declaring::Step;
use crate::kafka::messages::CommittedOffset;
use crate::limits;
use crate::time::Instant;

/// How long members of the group have to resolve what has no commit, before it is looked after.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(60);

/// The group's commits as they were last seen.
#[derive(Debug)]
pub(super) struct Place {
    offsets: BTreeMap<i32, i64>,
    /// When they were first seen like that, or were last made.
    pub(super) since: Instant,
}

impl Place {
    pub(super) fn unknown(now: Instant) -> Self {
        Self {
            offsets: BTreeMap::new(),
            since: now,
        }
    }

    /// Remembers the commits, and says whether they are to be made again: they have not moved for so long.
    pub(super) fn note(&mut self, commits: &[&CommittedOffset], now: Instant) -> bool {
        let commits = commits.iter();
        let offsets: BTreeMap<i32, i64> = commits
            .map(|commit| (commit.partition, commit.committed_offset))
            .collect();
        if offsets != self.offsets {
            self.offsets = offsets;
            self.since = now;
        }
        now >= self.since + limits::RECOMMIT_INTERVAL
    }
}

impl Consumer {
    /// Whether there is nothing to do but to end. A rest that is over ends, and everything is looked at anew.
    pub(super) fn is_resting(&mut self) -> bool {
        let Some(until) = self.resting_until() else {
            return false;
        };
        if self.now < until {
            return true;
        }
        let view = self.cluster.view();
        self.cluster.invalidate(view, self.now);
        self.declaring.from_view = view + 1;
        self.declaring.deadline = None;
        self.declaring.step = Step::Commits { asked: false };
        false
    }

    /// Until when there is nothing to do but to end.
    pub(super) fn resting_until(&self) -> Option<Instant> {
        match self.declaring.step {
            Step::Resting(until) if self.ending.is_running() => Some(until),
            _ => None,
        }
    }

    pub(super) fn rest(&mut self) {
        let until = match self.declaring.found.is_empty() {
            true => self.declaring.place.since + limits::RECOMMIT_INTERVAL,
            false => self.now + MEMBERS_INTERVAL,
        };
        self.declaring.overdue = false;
        self.declaring.step = Step::Resting(until);
        self.faults.group = None;
        for role in self.links.roles() {
            let closed = self.links.close(role, "resting", &mut self.effects);
            for ticket in closed.into_iter().flat_map(|closed| closed.tickets) {
                self.handle_unanswered(ticket);
            }
        }
        self.links.forget_refusals();
        self.coordinator.forget(self.now);
    }
}
