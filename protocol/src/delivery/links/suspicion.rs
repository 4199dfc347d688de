//! Brokers that owe an answer for longer than they should, or that cannot be reached.
//!
//! A frozen broker keeps its connections, and so does one behind a network that is cut: only time tells. Long before a
//! request is given up (`request_timeout`), its broker is suspected, and whoever asks for a view of the cluster learns
//! whether that has gone on without it.
//!
//! Invariant: suspicion ends nothing by itself.

use std::time::Duration;

use super::Links;
use super::link::{Role, State};
use crate::delivery::Endpoint;
use crate::limits;
use crate::time::Instant;

impl<T> Links<T> {
    /// Views of the cluster may take that long from now on.
    pub(in crate::delivery) fn set_seed_patience(&mut self, patience: Duration) {
        self.seed_patience = patience.min(self.request_timeout);
    }

    /// How long a broker in that role may take over an answer.
    pub(super) fn patience(&self, role: Role) -> Duration {
        match role {
            // Any broker knows the answer: none is worth waiting long for.
            Role::Seed => self.seed_patience,
            Role::Join | Role::Coordinator | Role::Fetch(_) | Role::Produce(_) => {
                self.request_timeout
            }
        }
    }

    /// How long a connection in that role may take to come about.
    pub(super) fn connecting_patience(&self, role: Role) -> Duration {
        match role {
            Role::Seed => self.seed_patience,
            Role::Join | Role::Coordinator | Role::Fetch(_) | Role::Produce(_) => {
                limits::CONNECTING_MAX
            }
        }
    }

    /// The roles whose brokers owe something for too long, each with since when.
    pub(in crate::delivery) fn late(&self, now: Instant) -> Vec<(Role, Instant)> {
        let links = self.links.iter();
        links
            .filter_map(|(role, link)| Some((*role, link.late_at().filter(|at| now >= *at)?)))
            .collect()
    }

    /// When the next one becomes late.
    pub(super) fn next_late(&self, now: Instant) -> Option<Instant> {
        let links = self.links.values();
        links
            .filter_map(|link| link.late_at())
            .filter(|at| *at > now)
            .min()
    }

    /// Whether a request of that role is in flight.
    pub(in crate::delivery) fn is_waiting(&self, role: Role) -> bool {
        self.links.get(&role).is_some_and(|link| link.is_waiting())
    }

    /// Whether requests of that role can be sent now: its connection stands and is not to be silent.
    pub(in crate::delivery) fn is_open(&self, role: Role, now: Instant) -> bool {
        self.links.get(&role).is_some_and(|link| match &link.state {
            State::Open { connection, .. } => connection.is_ready() && now >= link.not_before,
            State::Down | State::Connecting { .. } => false,
        })
    }

    /// The roles whose brokers could not be used for a while, each with where it is and why.
    pub(in crate::delivery) fn unreachable(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (Role, &Endpoint, &str)> {
        self.links.iter().filter_map(move |(role, link)| {
            let (since, reason) = link.failing.as_ref()?;
            let is_long = now.saturating_since(*since) >= limits::UNREACHABLE_SHOWN_AFTER;
            is_long.then_some((*role, &link.endpoint, reason.as_str()))
        })
    }
}
