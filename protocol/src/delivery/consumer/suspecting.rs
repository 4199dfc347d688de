//! Brokers that are slow, silent, not to be reached, or that want to be left alone for a while.
//!
//! A frozen broker keeps its connections, and a request to it is given up only after `request_timeout`. Until then the
//! cluster may long have gone on without it: so it is asked, and what a silent broker leads no more is fetched elsewhere.
//!
//! Invariant: a connection is given up for its silence only once nothing of ours is at its broker any more; else it has
//! its whole time.

use std::time::Duration;

use super::super::links::Role;
use super::super::{Fault, Severity};
use super::Consumer;
use crate::limits;
use crate::time::Instant;

impl Consumer {
    /// Asks the cluster about brokers that owe us an answer, and leaves those that nothing of ours is at.
    pub(super) fn pump_suspects(&mut self) {
        let late = self.links.late(self.now);
        let nodes = late.into_iter().filter_map(|(role, since)| match role {
            Role::Fetch(node) => Some((node, since)),
            // What a destination owes has its whole time: a record may be written twice if it is asked again.
            Role::Seed | Role::Join | Role::Coordinator | Role::Produce(_) => None,
        });
        let nodes: Vec<(i32, Instant)> = nodes.collect();
        if !nodes.is_empty() && self.now >= self.doubt_again {
            self.doubt_again = self.now + limits::ANSWER_EXPECTED;
            self.cluster.invalidate(self.cluster.view(), self.now);
        }
        for (node, since) in nodes {
            if !self.cluster.is_seen_since(since) || self.reads_from(node) {
                continue;
            }
            let reason = "it owes an answer, and leads nothing of ours any more";
            let closed = self
                .links
                .close(Role::Fetch(node), reason, &mut self.effects);
            if let Some(broken) = closed {
                self.handle_closed(broken);
            }
        }
        self.say_unreachable();
    }

    fn reads_from(&self, node: i32) -> bool {
        self.lanes.values().any(|lane| {
            let leads = self.cluster.leader(lane.partition);
            leads.is_some_and(|leader| leader.node == node)
                || lane
                    .read_replica
                    .is_some_and(|(replica, _)| replica == node)
        })
    }

    pub(super) fn suspects_timeout(&self) -> Option<Instant> {
        let fetching = |(role, _): &(Role, Instant)| matches!(role, Role::Fetch(_));
        let is_late = self.links.late(self.now).iter().any(fetching);
        is_late.then_some(self.doubt_again)
    }

    /// The brokers that we need and cannot reach, each with what it is for.
    fn unreachable(&self) -> impl Iterator<Item = (Role, String)> {
        let unreachable = self.links.unreachable(self.now);
        unreachable.filter_map(|(role, endpoint, reason)| {
            let what = match role {
                Role::Fetch(node) if self.reads_from(node) => "the leader of some partitions",
                Role::Join | Role::Coordinator if self.needs_coordinator() => {
                    "the coordinator of the group"
                }
                // What is wrong with the configured ones is a fault of the whole cluster, and the destination has one of its own.
                Role::Fetch(_)
                | Role::Join
                | Role::Coordinator
                | Role::Produce(_)
                | Role::Seed => return None,
            };
            let (host, port) = (&endpoint.host, endpoint.port);
            let text = format!(
                "broker {host}:{port}, as the cluster advertises {what}: {reason}; start it, open the way to it, or correct its advertised.listeners"
            );
            Some((role, text))
        })
    }

    /// Such a broker, or one that the cluster itself lacks, as the status shows it.
    pub(super) fn broker_fault(&self) -> Option<Fault> {
        let unreachable = self.unreachable().next().map(|(_, text)| text);
        let text = unreachable.or_else(|| self.missing())?;
        Some(Fault::BrokerUnreachable(text))
    }

    /// A broker that ought to be there by the cluster's own account.
    fn missing(&self) -> Option<String> {
        let is_long =
            |since: &Instant| self.now.saturating_since(*since) >= limits::UNREACHABLE_SHOWN_AFTER;
        if let Some((since, error)) = self.coordinator.missing()
            && is_long(&since)
            && self.needs_coordinator()
        {
            let group = &self.config.group_id;
            return Some(format!(
                "no broker is the coordinator of group {group}: {error}; look at __consumer_offsets"
            ));
        }
        let mut partitions = self.lanes.keys();
        let leaderless = partitions.find(|partition| {
            let since = self.cluster.leaderless_since(**partition);
            since.is_some_and(|since| is_long(&since))
        });
        match leaderless {
            Some(partition) => Some(format!(
                "partition {partition} has no leader; look at the brokers that hold it"
            )),
            None => self.misassigned(),
        }
    }

    /// What the coordinator assigns and the brokers do not have.
    fn misassigned(&self) -> Option<String> {
        let of_another_topic = self.membership.holds_another_topic();
        let mut lanes = self.lanes.values();
        let lane = lanes.find(|lane| {
            let still = self.now.saturating_since(lane.still_since());
            let is_unknown = || !self.cluster.has(lane.partition) && self.cluster.partitions() > 0;
            still >= limits::UNREACHABLE_SHOWN_AFTER && (of_another_topic || is_unknown())
        })?;
        let (topic, group, partition) = (&self.config.topic, &self.config.group_id, lane.partition);
        let what = match of_another_topic {
            true => format!("of another topic of the name {topic} than the brokers show"),
            false => format!("that topic {topic} does not have"),
        };
        Some(format!(
            "the coordinator of group {group} assigns partition {partition} {what}; look at the brokers' logs"
        ))
    }

    fn say_unreachable(&mut self) {
        let unreachable: Vec<(Role, String)> = self.unreachable().collect();
        let roles = unreachable.iter().map(|(role, _)| *role).collect();
        let said = std::mem::replace(&mut self.unreachable_said, roles);
        for (role, text) in unreachable {
            if !said.contains(&role) {
                self.notice(
                    Severity::Error,
                    "Broker cannot be reached where the cluster says that it is",
                    format!("role={role} error={text:?}"),
                );
            }
        }
    }

    /// A broker's quota: its connection is left alone for so long (KIP-219).
    pub(super) fn note_throttle(&mut self, role: Role, throttle: Duration) {
        if throttle == Duration::ZERO {
            return;
        }
        self.counters.broker_throttles += 1;
        let millis = throttle.min(limits::THROTTLE_MAX).as_millis();
        self.notice(
            Severity::Debug,
            "Broker throttles; its connection is left alone",
            format!("role={role} throttle_ms={millis}"),
        );
    }
}
