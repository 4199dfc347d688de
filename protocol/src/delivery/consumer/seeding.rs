//! Seeing the cluster: metadata, and where the group's coordinator is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::cluster::Seen;
use super::super::links::Role;
use super::super::{Endpoint, Fault, Severity};
use super::{Consumer, Ticket};
use crate::kafka::error::ErrorCode;
use crate::kafka::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
    Request,
};
use crate::limits;
use crate::time::Instant;

/// First back-off between two look-ups of the coordinator.
const COORDINATOR_BACKOFF: Duration = Duration::from_millis(100);

/// From this version on, a metadata request can forbid to create the topics that it names.
const METADATA_NO_CREATION: i16 = 4;

/// What we know of the group's coordinator (the broker with that role).
#[derive(Debug)]
pub(super) struct Coordinator {
    endpoint: Option<Endpoint>,
    asked: bool,
    failures: u32,
    not_before: Instant,
    /// When it was last looked up.
    looked_up_at: Instant,
    /// Since when the cluster names none, and why.
    missing: Option<(Instant, ErrorCode)>,
}

impl Coordinator {
    pub(super) fn unknown(now: Instant) -> Self {
        Self {
            endpoint: None,
            asked: false,
            failures: 0,
            not_before: now,
            looked_up_at: now,
            missing: None,
        }
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.clone()
    }

    /// It is not there any more: look it up again.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.endpoint.take().is_some() {
            self.not_before = now + COORDINATOR_BACKOFF;
        }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.asked = false;
        let wait = COORDINATOR_BACKOFF * 2u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait.min(limits::RECONNECT_BACKOFF_MAX);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (self.endpoint.is_none() && !self.asked).then_some(self.not_before)
    }

    fn wants_lookup(&self, now: Instant) -> bool {
        self.endpoint.is_none() && !self.asked && now >= self.not_before
    }

    /// When it is asked for again although it is known.
    fn confirm_at(&self) -> Option<Instant> {
        let at = self.looked_up_at + limits::COORDINATOR_CONFIRMED_EVERY;
        (self.endpoint.is_some() && !self.asked).then(|| at.max(self.not_before))
    }

    fn found(&mut self, endpoint: Endpoint) {
        *self = Self {
            endpoint: Some(endpoint),
            asked: false,
            ..*self
        };
        self.failures = 0;
        self.missing = None;
    }

    /// The cluster says that there is none.
    fn is_missing(&mut self, error: ErrorCode, now: Instant) {
        self.failed(now);
        let since = self.missing.map_or(now, |(since, _)| since);
        self.missing = Some((since, error));
    }

    /// Since when there is none, and why.
    pub(super) fn missing(&self) -> Option<(Instant, ErrorCode)> {
        self.missing
    }
}

impl Consumer {
    pub(super) fn pump_seed(&mut self) {
        let wants_view = self.cluster.wants_refresh(self.now) && self.ending.is_running();
        let is_doubtful = self.confirm_timeout().is_some_and(|at| self.now >= at);
        let wants_coordinator =
            (self.coordinator.wants_lookup(self.now) || is_doubtful) && self.needs_coordinator();
        let wants_counts = !self.counts_wanted.is_empty() && !self.counts_asked;
        if !(wants_view || wants_coordinator || wants_counts) {
            return;
        }
        let seed = self.cluster.seed();
        if !self.is_ready(Role::Seed, &seed) {
            return;
        }
        let by_name = self.may_ask_by_name();
        if wants_view {
            let topics = by_name.then(|| vec![self.config.topic.clone()]);
            let request = Request::Metadata(MetadataRequest { topics });
            if !self.send(Role::Seed, &request, Ticket::Metadata) {
                return;
            }
            self.cluster.asked();
        }
        if wants_coordinator {
            let group_id = self.config.group_id.clone();
            let request = Request::FindCoordinator(FindCoordinatorRequest { group_id });
            if !self.send(Role::Seed, &request, Ticket::Coordinator) {
                return;
            }
            self.coordinator.asked = true;
            self.coordinator.looked_up_at = self.now;
        }
        if wants_counts {
            let topics = by_name.then(|| self.counts_wanted.clone());
            let request = Request::Metadata(MetadataRequest { topics });
            self.counts_asked = self.send(Role::Seed, &request, Ticket::PartitionCounts);
        }
    }

    /// Whether the seed, which is ready, can be asked for topics by name: before that version naming one may create it,
    /// and the whole list is asked for.
    pub(super) fn may_ask_by_name(&self) -> bool {
        let version = self.links.version(Role::Seed, ApiKey::Metadata);
        version.is_some_and(|version| version >= METADATA_NO_CREATION)
    }

    /// While a join waits, or the coordinator owes an answer, it may have become another.
    pub(super) fn confirm_timeout(&self) -> Option<Instant> {
        let at = self.coordinator.confirm_at()?;
        let is_late = || {
            let late = self.links.late(self.now);
            late.iter()
                .any(|(role, _)| matches!(role, Role::Join | Role::Coordinator))
        };
        (self.links.is_waiting(Role::Join) || is_late()).then_some(at)
    }

    /// Whether a connection of that role can be used now; makes it if it does not stand.
    pub(super) fn is_ready(&mut self, role: Role, endpoint: &Endpoint) -> bool {
        match self
            .links
            .ready(role, endpoint, self.now, &mut self.effects)
        {
            Ok(ready) => ready,
            Err(broken) => {
                // The broker has another address: what we know of the cluster stands.
                self.handle_closed(broken);
                let (links, effects) = (&mut self.links, &mut self.effects);
                links
                    .ready(role, endpoint, self.now, effects)
                    .is_ok_and(|ready| ready)
            }
        }
    }

    /// The same of the coordinator's connection; false while it is not known.
    pub(super) fn is_coordinator_ready(&mut self) -> bool {
        let coordinator = self.coordinator.endpoint();
        coordinator.is_some_and(|endpoint| self.is_ready(Role::Coordinator, &endpoint))
    }

    /// Sends on a connection that is ready. False: the broker does not speak what we need.
    pub(super) fn send(&mut self, role: Role, request: &Request, ticket: Ticket) -> bool {
        self.send_for(0, role, request, ticket)
    }

    /// The same of a fetch, for so many bytes that its broker has ready.
    pub(super) fn send_for(
        &mut self,
        brings: usize,
        role: Role,
        request: &Request,
        ticket: Ticket,
    ) -> bool {
        let (now, effects) = (self.now, &mut self.effects);
        match self.links.send(role, request, brings, ticket, now, effects) {
            Ok(()) => true,
            Err((error, ticket)) => {
                self.faults.cluster = Some(Fault::Incompatible(error.to_string()));
                self.notice(
                    Severity::Error,
                    "Broker does not speak a version that is needed",
                    format!("role={role} error={:?}", error.to_string()),
                );
                self.handle_unanswered(ticket);
                if let Some(broken) = self.links.close(role, "unusable", &mut self.effects) {
                    self.handle_broken(broken);
                }
                false
            }
        }
    }

    pub(super) fn handle_metadata(&mut self, response: &MetadataResponse) {
        if !response.error.is_ok() {
            // The broker has nothing to tell (KIP-1102): another one is asked, the configured ones first.
            self.cluster.failed(self.now);
            self.cluster.rotate_seed();
            return;
        }
        self.seed_failures = 0;
        self.be_patient_with_seeds();
        self.faults.cluster = None;
        let topic = self.config.topic.clone();
        match self.cluster.apply(response, &topic, self.now) {
            Seen::Topic {
                partitions,
                grew,
                recreated,
            } => {
                self.faults.topic = None;
                self.membership.set_topic_id(self.cluster.topic_id());
                if recreated {
                    self.handle_recreated();
                }
                if grew {
                    self.notice(
                        Severity::Info,
                        "Number of partitions changed",
                        format!("partitions={partitions}"),
                    );
                }
                self.tell_partition_counts(partitions);
            }
            Seen::Missing => {
                self.topic_fault(Fault::TopicMissing, "Topic does not exist");
            }
            Seen::Denied => {
                let what = format!("topic {topic}");
                self.topic_fault(Fault::NotAuthorized(what), "Topic is not authorized");
            }
            Seen::Failed(code) => self.notice(
                Severity::Warn,
                "Broker could not describe the topic",
                format!("error={code}"),
            ),
        }
    }

    /// As leader the membership rebalances the group when a topic has grown.
    fn tell_partition_counts(&mut self, partitions: i32) {
        let mut topics = self.membership.metadata_topics();
        topics.retain(|topic| *topic != self.config.topic);
        if topics.is_empty() {
            let counts = BTreeMap::from([(self.config.topic.clone(), partitions)]);
            self.membership.set_partition_counts(&counts, self.now);
        } else if self.counts_wanted.is_empty() {
            topics.push(self.config.topic.clone());
            self.counts_wanted = topics;
        }
    }

    fn topic_fault(&mut self, fault: Fault, message: &'static str) {
        if self.faults.topic.as_ref() != Some(&fault) {
            self.notice(
                Severity::Error,
                message,
                format!("topic={}", self.config.topic),
            );
            self.faults.topic = Some(fault);
        }
    }

    pub(super) fn handle_counts(&mut self, response: &MetadataResponse) {
        self.counts_asked = false;
        self.counts_wanted.clear();
        let counts: BTreeMap<String, i32> = response
            .topics
            .iter()
            .filter_map(|topic| match topic.error {
                // A topic that another member subscribes to and that does not exist has no partitions.
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Some((topic.name.clone(), 0)),
                error if error.is_ok() => {
                    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    Some((topic.name.clone(), count))
                }
                _ => None,
            })
            .collect();
        self.membership.set_partition_counts(&counts, self.now);
    }

    pub(super) fn handle_coordinator(&mut self, response: FindCoordinatorResponse) {
        match response.error {
            ErrorCode::NONE => {
                self.coordinator.found(Endpoint {
                    host: response.host,
                    port: response.port,
                });
            }
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                self.coordinator.failed(self.now);
                self.group_denied();
            }
            other => {
                self.coordinator.is_missing(other, self.now);
                self.notice(
                    Severity::Debug,
                    "Coordinator is not to be found yet",
                    format!("error={other}"),
                );
            }
        }
    }

    pub(super) fn group_denied(&mut self) {
        let fault = Fault::NotAuthorized(format!("group {}", self.config.group_id));
        if self.faults.group.as_ref() != Some(&fault) {
            self.notice(
                Severity::Error,
                "Group is not authorized",
                format!("group={}", self.config.group_id),
            );
            self.faults.group = Some(fault);
        }
    }

    /// A broker that takes long is left for the next, unless all do: each round waits for twice as long.
    fn be_patient_with_seeds(&mut self) {
        let rounds = self.seed_failures / self.cluster.seeds();
        let doubled = 2u32.saturating_pow(u32::try_from(rounds).unwrap_or(u32::MAX).min(8));
        let patience = limits::VIEW_PATIENCE * doubled;
        self.links.set_seed_patience(patience);
    }

    /// Whatever a seed answers takes back that none does: a view may be good for minutes yet, and is not asked for until then.
    pub(super) fn handle_seed_answered(&mut self) {
        if matches!(self.faults.cluster, Some(Fault::ClusterUnreachable(_))) {
            self.faults.cluster = None;
        }
    }

    /// `advises`: the reason says what to change.
    pub(super) fn handle_seed_broken(&mut self, endpoint: &Endpoint, reason: &str, advises: bool) {
        self.seed_failures += 1;
        self.be_patient_with_seeds();
        self.cluster.rotate_seed();
        if self.seed_failures >= self.cluster.seeds() {
            let advice = match advises {
                true => "",
                false => {
                    "; start it, open the way to it, or correct KAFKA_BOOTSTRAP_SERVERS and restart"
                }
            };
            self.faults.cluster = Some(Fault::ClusterUnreachable(format!(
                "broker {}:{}: {reason}{advice}",
                endpoint.host, endpoint.port
            )));
        }
    }
}
