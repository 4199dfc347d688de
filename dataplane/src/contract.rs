//! The five wires between the control thread and the shards; nothing else crosses.
//!
//! Control publishes snapshots, shards reconcile to the newest; a lost command cannot exist.
//!
//! Invariant: no lock, no shared map, no call from one shard to another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{
    ConsumerStatus, Diversion, PartitionStatus, Skip, Taken, Undelivered,
};
use forebay_protocol::kafka::sasl::{Derivation, DerivedKey, SaslCredentials};
use rustls::ClientConfig;
use uuid::Uuid;

pub use tokio::sync::{mpsc, oneshot, watch};

use crate::mapping::Mapping;
use crate::metrics::{ShardMetrics, Totals};

/// Requests of all shards that may wait for control at once; a full channel is back-pressure.
pub const REQUESTS_MAX: usize = 64;

/// The whole desired state of one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Grows with each change.
    pub generation: u64,
    /// The consumers that shall run here; none means drain.
    pub consumers: Vec<ConsumerPlan>,
    /// Calls in flight are given up now: commit what has ended, leave, stop.
    pub give_up: bool,
}

/// One consumer that shall run. That of a mapping that is not enabled keeps the mapping's place.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerPlan {
    /// What it serves.
    pub mapping: Arc<Mapping>,
    /// Which of the mapping's consumers it is, from 0.
    pub ordinal: u32,
    /// Calls to the function in flight at once, out of the function's `max_in_flight`. A shard reports
    /// the generation as applied only once no more calls than that are in flight. One that keeps a place
    /// has none.
    pub permits: u32,
    /// How long a call may take: the function's timeout and a margin, once it is known. A change of it
    /// holds for the next calls and restarts nothing.
    pub call_deadline: Duration,
    /// How its connections are made. A change of it holds for the next ones and restarts nothing.
    pub access: Arc<Access>,
    /// What operators want passed over, as long as they wait for it. Each consumer of the mapping has all, and its
    /// status says which were its own, and what has become of them.
    pub skips: Arc<[Skip]>,
}

/// How brokers and functions are reached; `None` is without TLS.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// To brokers.
    pub brokers: Option<Arc<ClientConfig>>,
    /// Who we are, where brokers ask for it by SASL.
    pub sasl: Option<Arc<SaslCredentials>>,
    /// To the function's endpoint.
    pub function: Option<Arc<ClientConfig>>,
}

impl Access {
    /// Whether connections to brokers are made in the same way.
    pub fn reaches_brokers_as(&self, other: &Self) -> bool {
        is_same(&self.brokers, &other.brokers)
    }
}

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        self.reaches_brokers_as(other)
            && self.sasl == other.sasl
            && is_same(&self.function, &other.function)
    }
}

/// A configuration of TLS is the same only if it is the very same.
fn is_same(one: &Option<Arc<ClientConfig>>, other: &Option<Arc<ClientConfig>>) -> bool {
    one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
}

/// Keys for signing, newest wins.
#[derive(Clone)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: zeroize::Zeroizing<String>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<zeroize::Zeroizing<String>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"***")
            .finish_non_exhaustive()
    }
}

/// What a shard says of itself, on transition or once a second.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    /// The plan it has applied: every consumer that the plan left out has ended.
    pub generation: u64,
    /// Its consumers.
    pub consumers: Vec<RunningConsumer>,
    /// What the consumers that have ended counted, by mapping. An entry is never taken out: it is small,
    /// and a mapping that comes back goes on from it.
    pub ended: Arc<BTreeMap<Uuid, Totals>>,
    /// Where each mapping's ended consumers left its partitions: the committed offsets. It is kept as long.
    pub ended_at: Arc<BTreeMap<Uuid, BTreeMap<i32, i64>>>,
    /// What the consumers left unfinished that have ended since a plan had any.
    pub unfinished: Vec<Unfinished>,
}

impl ShardStatus {
    /// Bytes of the memory budget that its consumers hold.
    pub fn memory_bytes(&self) -> usize {
        self.consumers.iter().map(|it| it.status.memory_bytes).sum()
    }
}

/// A partition whose records will be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The mapping.
    pub mapping: Uuid,
    /// Its function, as it is named there.
    pub function: String,
    /// Its topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The group's committed offset, from which they come again; `None` is the starting position.
    pub committed_offset: Option<i64>,
}

impl Unfinished {
    /// That partition of a mapping's topic, as its consumer's status has it.
    pub(crate) fn of(mapping: &Mapping, partition: &PartitionStatus) -> Self {
        let committed = partition.committed_offset;
        Self {
            mapping: mapping.uuid,
            function: mapping.function.name.clone(),
            topic: mapping.topic.clone(),
            partition: partition.partition,
            committed_offset: (committed >= 0).then_some(committed),
        }
    }
}

/// One consumer of a shard.
#[derive(Clone, Debug)]
pub struct RunningConsumer {
    /// The mapping.
    pub uuid: Uuid,
    /// Which of the mapping's consumers.
    pub ordinal: u32,
    /// Its own words.
    pub status: ConsumerStatus,
}

/// What a shard asks of control; each answer comes through its own `oneshot`.
#[derive(Debug)]
pub enum Request {
    /// The addresses behind a name, all of them, in the resolver's order.
    Resolve {
        /// The name.
        host: String,
        /// The port to put into the addresses.
        port: u16,
        /// The addresses, or why there are none.
        answer: oneshot::Sender<Result<Vec<SocketAddr>, String>>,
    },
    /// A key from a password.
    Derive {
        /// Which key.
        derivation: Derivation,
        /// The key.
        answer: oneshot::Sender<DerivedKey>,
    },
    /// Failed records to be written to a mapping's destination.
    Divert {
        /// The mapping.
        mapping: Arc<Mapping>,
        /// What failed.
        diversion: Diversion,
        /// Whether the destination has acknowledged it, and how.
        answer: oneshot::Sender<Result<Taken, Undelivered>>,
    },
    /// Credentials were refused: fetch new ones if the chain has any.
    RefreshCredentials,
}

/// A shard's ends of the wires.
pub struct ShardWires {
    /// The shard's number.
    pub shard: usize,
    /// The desired state; closed means exit.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// Keys; `None` until the chain has answered.
    pub credentials: watch::Receiver<Option<Arc<Credentials>>>,
    /// What the shard says of itself.
    pub status: watch::Sender<Arc<ShardStatus>>,
    /// Questions to control.
    pub requests: mpsc::Sender<Request>,
    /// Counters that control reads.
    pub metrics: Arc<ShardMetrics>,
    /// What the shard may hold in all, in bytes.
    pub consumer_bytes: usize,
    /// Receive buffers that wait to be used again stay within it.
    pub receive_bytes: usize,
    /// How often the status is published when nothing changes.
    pub status_interval: Duration,
}

#[cfg(test)]
pub(crate) mod tests {
    use forebay_protocol::lambda::failure::{Condition, FailedLane, Failure, RecordPosition};

    use super::*;

    /// One record that is too old.
    pub(crate) fn diversion() -> Diversion {
        let position = RecordPosition {
            offset: 7,
            timestamp: -1,
        };
        Diversion {
            failure: Failure {
                condition: Condition::RecordAgeExceeded,
                request_id: String::new(),
                invoke_count: 1,
                response: None,
                at_unix_ms: 0,
                event_bytes: 2,
                lanes: vec![FailedLane {
                    topic: "orders".into(),
                    partition: 0,
                    records: 1,
                    first: position,
                    last: position,
                }],
            },
            event: vec!["{}".into()],
        }
    }
}
