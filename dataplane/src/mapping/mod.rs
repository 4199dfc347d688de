//! An event source mapping, validated: what the data plane is told to serve.
//!
//! [`read`] takes the files of a directory, [`conflicts`] says what is wrong between them.
//!
//! Invariant: every [`Mapping`] is within AWS's bounds and asks for nothing that is not carried out.

mod access;
mod constraint;
mod declared;
mod destination;
mod file;
mod filters;
mod function;
#[cfg(test)]
mod reference;
mod retry;
mod set;
mod timestamp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{
    Endpoint, GroupProtocol, OnOversized, RetryPolicy, StartingPosition,
};
use forebay_protocol::filter::FilterSet;
use uuid::Uuid;

pub use access::{Access, Authentication, ManagedSecret, SecretSource};
pub use declared::initial_call_deadline;
pub(crate) use destination::named as destination_named;
pub use destination::{Bucket, Destination, Notifications, Queue};
pub use filters::is_foreign;
pub use forebay_protocol::lambda::function::InvokeTarget;
pub use function::{ACCOUNT_UNKNOWN, unused as unused_functions};
pub use set::{Declared, MAPPINGS_MAX, Reading, conflict, conflicts, read};

/// One mapping. All of its values are within AWS's bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// Its identity, and the default group id.
    pub uuid: Uuid,
    /// What to call.
    pub function: Function,
    /// The brokers to begin with, in the configured order.
    pub bootstrap: Vec<Endpoint>,
    /// How they are reached.
    pub access: Access,
    /// The configured endpoints joined by `,`, as the event shows them.
    pub bootstrap_servers: String,
    /// The one topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Where a partition without a commit starts.
    pub starting_position: StartingPosition,
    /// `BatchSize`.
    pub batch_size: u32,
    /// `MaximumBatchingWindowInSeconds`; `None` is unset (500 ms).
    pub window_seconds: Option<u16>,
    /// `FilterCriteria`: the records that are sent.
    pub filters: Arc<FilterSet>,
    /// Whether it runs.
    pub enabled: bool,
    /// `ProvisionedPollerConfig`: minimum and maximum; `None` is on demand.
    pub pollers: Option<(u32, u32)>,
    /// How often, and how long, records are tried.
    pub retry: RetryPolicy,
    /// Where records go that are given up; without it they are discarded.
    pub destination: Option<Destination>,
    /// Whether records that the destination does not take are dropped, instead of kept until it does.
    pub drop_undelivered: bool,
    /// What becomes of a record that no body can hold.
    pub on_oversized: OnOversized,
    /// A body stays strictly below this many bytes.
    pub body_limit: usize,
    /// The consumer's own settings, from the node configuration.
    pub kafka: KafkaSettings,
}

impl Mapping {
    /// Whether a consumer of it runs.
    pub fn runs(&self) -> bool {
        self.enabled || self.keeps_place()
    }

    /// Whether a service of AWS is written to as soon as it runs.
    pub(crate) fn writes_to_service(&self) -> bool {
        let destination = self.destination.as_ref();
        self.enabled && destination.is_some_and(|it| it.service().is_some())
    }

    /// Whether it is not enabled and starts at an offset that must be found out now: records that come until it
    /// is enabled are not to be missed (decision 25).
    pub fn keeps_place(&self) -> bool {
        !self.enabled && self.starting_position != StartingPosition::TrimHorizon
    }
}

impl Mapping {
    /// Whether its consumers can serve the other one as well, as they run: only how records are delivered differs.
    pub fn can_become(&self, other: &Self) -> bool {
        let Self {
            batch_size,
            window_seconds,
            filters,
            retry,
            destination,
            drop_undelivered,
            on_oversized,
            ..
        } = other.clone();
        // One that goes away leaves records that were on their way to it; a topic is written to by the consumers
        // themselves.
        let may_change = match (&self.destination, &destination) {
            (one, other) if one == other => true,
            (_, None) => false,
            (one, Some(other)) => {
                let is_service = |it: &Destination| it.service().is_some();
                is_service(other) && one.as_ref().is_none_or(is_service)
            }
        };
        let as_other = Self {
            batch_size,
            window_seconds,
            filters,
            retry,
            destination,
            drop_undelivered,
            on_oversized,
            ..self.clone()
        };
        may_change && as_other == *other
    }
}

/// Settings of the Kafka client, with Kafka's own names.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSettings {
    /// `client.rack`; empty for none.
    pub client_rack: String,
    /// `isolation.level`.
    pub read_committed: bool,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// `session.timeout.ms`.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms` in Java; the rebalance timeout on the wire.
    pub rebalance_timeout: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `group.instance.id` is `<node_id>-<uuid>-<ordinal>` where a node id is given.
    pub node_id: Option<String>,
}

/// A function and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The name or ARN as given.
    pub name: String,
    /// Its ARN (account 000000000000 where it is not in AWS), qualified as given.
    pub arn: String,
    /// Whether the endpoint is reached under TLS.
    pub tls: bool,
    /// Its roots then; the system's, if there is none.
    pub ca_bundle: Option<PathBuf>,
    /// The endpoint's host, no brackets.
    pub host: String,
    /// The endpoint's port.
    pub port: u16,
    /// The `Host` header.
    pub host_header: String,
    /// The request target, already encoded for the wire: path and query.
    pub target: InvokeTarget,
    /// How requests are signed.
    pub signing: Signing,
    /// The role that reads its mappings' secrets and writes to their destinations; the node itself does, if there is none.
    pub role_arn: Option<String>,
    /// Its timeout, where the node's configuration gives it.
    pub timeout: Option<Duration>,
    /// Calls in flight at once over all shards; `None` is no limit but the node's.
    pub max_in_flight: Option<u32>,
    /// Whose calls count together for it.
    pub key: FunctionKey,
}

/// What one function is, however it was named: all of its names, versions and aliases share its
/// concurrency, so they share one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionKey {
    /// The endpoint's host.
    pub host: String,
    /// The endpoint's port.
    pub port: u16,
    /// Its region; `None` where nobody knows the region of a bare name, which may be any.
    pub region: Option<String>,
    /// Its account; `None` likewise.
    pub account: Option<String>,
    /// Its name there, without a qualifier.
    pub name: String,
}

/// How Invoke requests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// SigV4 for service `lambda` in that region.
    SigV4 {
        /// The region.
        region: String,
    },
    /// Not at all: the endpoint checks nothing. Never for AWS's own hosts.
    None,
}
