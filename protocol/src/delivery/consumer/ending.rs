//! Ending: drain, commit, leave, stop.
//!
//! ```text
//!  No --Stop--> Draining --nothing open--> WrappingUp --committed--> Leaving --left--> Ended
//!   \              |                           ^
//!    +---Abort-----+--(calls are cancelled)----+          WrappingUp and Leaving end at their deadline, which
//!                                                         an abort brings near
//! ```
//!
//! Invariant: after `Stop` no call starts; what has ended is committed if the coordinator can be reached in
//! time; `Stopped` is said once and nothing follows.

use super::super::links::Role;
use super::super::{Effect, Phase, Severity};
use super::Consumer;
use crate::limits;
use crate::time::Instant;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It runs.
    No,
    /// Open calls and writings to the destination may end.
    Draining,
    /// None is open: the last commits, until then.
    WrappingUp(Instant),
    /// The group is being left, until then.
    Leaving(Instant),
    /// `Stopped` was said.
    Ended,
}

impl Ending {
    pub(super) fn is_running(self) -> bool {
        self == Self::No
    }

    pub(super) fn has_ended(self) -> bool {
        self == Self::Ended
    }

    pub(super) fn is_leaving(self) -> bool {
        matches!(self, Self::Leaving(_))
    }

    pub(super) fn phase(self) -> Option<Phase> {
        match self {
            Self::No => None,
            Self::Draining | Self::WrappingUp(_) | Self::Leaving(_) => Some(Phase::Draining),
            Self::Ended => Some(Phase::Stopped),
        }
    }

    pub(super) fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::WrappingUp(until) | Self::Leaving(until) => Some(until),
            Self::No | Self::Draining | Self::Ended => None,
        }
    }
}

impl Consumer {
    pub(super) fn begin_drain(&mut self) {
        if !self.ending.is_running() {
            return;
        }
        self.ending = Ending::Draining;
        self.notice(
            Severity::Info,
            "Draining",
            format!("open_calls={}", self.calls.len()),
        );
        self.release_waiting_parts();
        let partitions: Vec<i32> = self.lanes.keys().copied().collect();
        for partition in partitions {
            self.drop_unsent(partition);
        }
        for role in self.links.roles() {
            if let Role::Fetch(_) = role
                && let Some(broken) = self.links.close(role, "draining", &mut self.effects)
            {
                for ticket in broken.tickets {
                    self.handle_unanswered(ticket);
                }
            }
        }
    }

    pub(super) fn begin_abort(&mut self) {
        self.begin_drain();
        self.aborted = true;
        let soon = self.now + limits::ABORT_GRACE;
        if let Ending::WrappingUp(until) | Ending::Leaving(until) = &mut self.ending {
            *until = soon.min(*until);
        }
        let again: Vec<String> = self
            .lanes
            .values()
            .filter(|lane| lane.busy)
            .map(|lane| format!("{}@{}", lane.partition, lane.processed()))
            .collect();
        if !again.is_empty() {
            self.notice(
                Severity::Warn,
                "Calls are given up; from these offsets on records will come again",
                format!("offsets={again:?}"),
            );
        }
        let open: Vec<_> = self.calls.keys().copied().collect();
        self.effects
            .extend(open.into_iter().map(Effect::CancelCall));
        self.forget_diversions();
    }

    pub(super) fn pump_ending(&mut self) {
        if self.ending == Ending::Draining && self.calls.is_empty() && self.diversions.is_empty() {
            let patience = if self.aborted {
                limits::ABORT_GRACE
            } else {
                limits::DRAIN_GRACE
            };
            self.ending = Ending::WrappingUp(self.now + patience);
        }
        if let Ending::WrappingUp(until) = self.ending {
            // That a commit may not be sent at this moment is no reason: a rebalance ends.
            let owing = self.membership.generation() >= 0
                && self.lanes.values().any(|lane| self.awaits_commit(lane));
            // A start that arrived after we have ended could undo a later commit.
            let owing = owing || self.declaring.awaits_commit();
            if !owing || self.now >= until {
                self.say_uncommitted();
                self.membership.leave(self.now);
                self.ending = Ending::Leaving(self.now + limits::ABORT_GRACE);
                self.pump_group();
            }
        }
        if let Ending::Leaving(until) = self.ending
            && (self.membership.is_left()
                || self.coordinator.endpoint().is_none()
                || self.now >= until)
        {
            for role in self.links.roles() {
                self.links.close(role, "stopped", &mut self.effects);
            }
            self.effects.push_back(Effect::Stopped);
            self.ending = Ending::Ended;
        }
    }

    fn say_uncommitted(&mut self) {
        let again: Vec<String> = self
            .lanes
            .values()
            .filter(|lane| self.owes_commit(lane))
            .map(|lane| format!("{}@{}", lane.partition, lane.committed))
            .collect();
        if !again.is_empty() {
            self.notice(
                Severity::Warn,
                "Not everything could be committed; from these offsets on records will come again",
                format!("offsets={again:?}"),
            );
        }
    }
}
