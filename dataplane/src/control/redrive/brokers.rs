//! A cluster asked by partition: where a topic begins and ends, its records, and records for it.
//!
//! It asks one thing at a time, over a connection to each leader, and looks for the leader anew where that has moved.
//!
//! Invariant: no group is joined and nothing is committed; every loop has a number of tries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::Endpoint;
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::messages::{
    FetchPartition, FetchRequest, FetchedPartition, ListOffsetsPartition, ListOffsetsRequest,
    MetadataResponse, PartitionMetadata, ProducePartition, ProduceRequest, Request, Response,
    TopicMetadata,
};
use forebay_protocol::kafka::records::Codec;
use forebay_protocol::kafka::records::write::{NewRecord, ProducerStamp};
use forebay_protocol::limits::{FETCH_PARTITION_BYTES_MAX, FRAME_BYTES_MAX, THROTTLE_MAX};
use uuid::Uuid;

use crate::contract::Access;
use crate::control::probe::Probe;
use crate::mapping::Mapping;

/// How often a partition is asked for, a second apart, where its leader is not found or not ready.
const TRIES: u32 = 15;
const TRY_WAIT: Duration = Duration::from_secs(1);

/// How long a broker may wait for records that it does not have.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// Answers without a record where there must be some, until it is given up.
const EMPTY_ANSWERS_MAX: u32 = 20;

/// In ListOffsets: the first offset, and the one behind the last.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// What passes by itself, or with another leader.
const PASSING: [ErrorCode; 14] = [
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::REQUEST_TIMED_OUT,
    ErrorCode::BROKER_NOT_AVAILABLE,
    ErrorCode::REPLICA_NOT_AVAILABLE,
    ErrorCode::NETWORK_EXCEPTION,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::FENCED_LEADER_EPOCH,
    ErrorCode::UNKNOWN_LEADER_EPOCH,
    ErrorCode::OFFSET_NOT_AVAILABLE,
    ErrorCode::UNKNOWN_TOPIC_ID,
    ErrorCode::INCONSISTENT_TOPIC_ID,
    ErrorCode::NOT_ENOUGH_REPLICAS,
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
];

/// Why a partition does not give or take records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokersError {
    /// What the broker says of it for good.
    #[error("the broker says {}{}", .0, .1.as_ref().map(|words| format!(" ({words})")).unwrap_or_default())]
    Refused(ErrorCode, Option<String>),
    /// The topic has no such partition, or there is no such topic.
    #[error("{0}")]
    Missing(String),
    /// The cluster cannot be asked.
    #[error("{0}")]
    Unreachable(String),
}

/// The cluster of a mapping.
pub(super) struct Brokers {
    mapping: Arc<Mapping>,
    access: Access,
    views: BTreeMap<String, View>,
    /// By node.
    open: BTreeMap<i32, Probe>,
}

/// A topic, as the cluster told it last.
struct View {
    id: Uuid,
    partitions: BTreeMap<i32, PartitionMetadata>,
    brokers: BTreeMap<i32, Endpoint>,
}

/// Whom a question goes to.
#[derive(Clone, Copy)]
struct Leader {
    topic_id: Uuid,
    partition: i32,
    epoch: i32,
}

/// How a partition is asked for records that it must have.
pub(super) struct Asking {
    /// For how many bytes.
    pub(super) bytes: usize,
    empty: u32,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self {
            bytes: FETCH_PARTITION_BYTES_MAX,
            empty: 0,
        }
    }

    /// An answer had no record to read, though it may have had a part of some. False once it has been asked often enough.
    pub(super) fn goes_on(&mut self, has_part: bool) -> bool {
        // Before Fetch v3 a batch that is larger than what is asked for comes in part.
        if has_part {
            self.bytes = (self.bytes * 2).min(FRAME_BYTES_MAX / 2);
        }
        self.empty += 1;
        self.empty <= EMPTY_ANSWERS_MAX
    }
}

/// An answer as far as all have it alike.
struct Told<T> {
    throttle_ms: i32,
    error: ErrorCode,
    message: Option<String>,
    what: T,
}

impl Brokers {
    pub(super) fn new(mapping: Arc<Mapping>, access: Access) -> Self {
        Self {
            mapping,
            access,
            views: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// The partitions of a topic, and its id (nil where the brokers know none).
    pub(super) async fn topic(&mut self, topic: &str) -> Result<(Uuid, Vec<i32>), BrokersError> {
        let view = self.view(topic).await?;
        Ok((view.id, view.partitions.keys().copied().collect()))
    }

    /// The first offset of a partition.
    pub(super) async fn start(&mut self, topic: &str, partition: i32) -> Result<i64, BrokersError> {
        self.listed(topic, partition, EARLIEST).await
    }

    /// The offset behind its last record that may be read.
    pub(super) async fn end(&mut self, topic: &str, partition: i32) -> Result<i64, BrokersError> {
        self.listed(topic, partition, LATEST).await
    }

    async fn listed(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<i64, BrokersError> {
        let read_committed = self.mapping.kafka.read_committed;
        let request = |leader: Leader| {
            Request::ListOffsets(ListOffsetsRequest {
                read_committed,
                topic: topic.to_owned(),
                partitions: vec![ListOffsetsPartition {
                    partition: leader.partition,
                    current_leader_epoch: leader.epoch,
                    timestamp,
                }],
            })
        };
        let told = |response| match response {
            Response::ListOffsets(mut listed) => listed.partitions.pop().map(|it| Told {
                throttle_ms: listed.throttle_ms,
                error: it.error,
                message: None,
                what: it.offset,
            }),
            _ => None,
        };
        self.ask(topic, partition, request, told).await
    }

    /// Records from that offset on, up to so many bytes.
    pub(super) async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes: usize,
    ) -> Result<FetchedPartition, BrokersError> {
        let read_committed = self.mapping.kafka.read_committed;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let request = |leader: Leader| {
            Request::Fetch(FetchRequest {
                max_wait_ms: i32::try_from(FETCH_WAIT.as_millis()).unwrap_or(i32::MAX),
                min_bytes: 1,
                max_bytes: bytes,
                read_committed,
                topic: topic.to_owned(),
                topic_id: leader.topic_id,
                partitions: vec![FetchPartition {
                    partition: leader.partition,
                    current_leader_epoch: leader.epoch,
                    fetch_offset: offset,
                    last_fetched_epoch: -1,
                    max_bytes: bytes,
                }],
                rack_id: String::new(),
            })
        };
        let told = |response| match response {
            Response::Fetch(mut fetched) => {
                let partition = fetched.partitions.pop()?;
                let error = match fetched.error.is_ok() {
                    true => partition.error,
                    false => fetched.error,
                };
                Some(Told {
                    throttle_ms: fetched.throttle_ms,
                    error,
                    message: None,
                    what: partition,
                })
            }
            _ => None,
        };
        self.ask(topic, partition, request, told).await
    }

    /// Writes records, and waits until all replicas in sync have them.
    pub(super) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: &[NewRecord],
        codec: Option<Codec>,
    ) -> Result<(), BrokersError> {
        let timeout = self.mapping.kafka.request_timeout.as_millis();
        let request = |leader: Leader| {
            Request::Produce(ProduceRequest {
                topic: topic.to_owned(),
                timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
                partitions: vec![ProducePartition {
                    partition: leader.partition,
                    stamp: ProducerStamp::NONE,
                    codec,
                    records: records.to_vec(),
                }],
            })
        };
        let told = |response| match response {
            Response::Produce(mut produced) => produced.partitions.pop().map(|it| Told {
                throttle_ms: produced.throttle_ms,
                error: it.error,
                message: it.message,
                what: (),
            }),
            _ => None,
        };
        self.ask(topic, partition, request, told).await
    }

    /// Asks the partition's leader, and asks again where it has moved or is not ready.
    async fn ask<T>(
        &mut self,
        topic: &str,
        partition: i32,
        request: impl Fn(Leader) -> Request,
        told: impl Fn(Response) -> Option<Told<T>>,
    ) -> Result<T, BrokersError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = match self.ask_once(topic, partition, &request).await {
                Ok(response) => {
                    let other =
                        || BrokersError::Unreachable("a broker answers something else".to_owned());
                    let told = told(response).ok_or_else(other)?;
                    let silence =
                        Duration::from_millis(u64::try_from(told.throttle_ms).unwrap_or(0));
                    tokio::time::sleep(silence.min(THROTTLE_MAX)).await;
                    match told.error {
                        ErrorCode::NONE => return Ok(told.what),
                        error => BrokersError::Refused(error, told.message),
                    }
                }
                Err(error) => error,
            };
            let passes = match &failed {
                BrokersError::Refused(error, _) => PASSING.contains(error),
                BrokersError::Unreachable(_) => true,
                BrokersError::Missing(_) => false,
            };
            if !passes || tries == TRIES {
                return Err(failed);
            }
            self.views.remove(topic);
            tokio::time::sleep(TRY_WAIT).await;
        }
    }

    async fn ask_once(
        &mut self,
        topic: &str,
        partition: i32,
        request: &impl Fn(Leader) -> Request,
    ) -> Result<Response, BrokersError> {
        let view = self.view(topic).await?;
        let missing =
            || BrokersError::Missing(format!("topic {topic} has no partition {partition}"));
        let known = view.partitions.get(&partition).ok_or_else(missing)?;
        let leader = Leader {
            topic_id: view.id,
            partition,
            epoch: known.leader_epoch,
        };
        let node = known.leader;
        let endpoint = view.brokers.get(&node).cloned().ok_or_else(|| {
            BrokersError::Unreachable(format!("{topic}-{partition} has no leader now"))
        })?;
        let timeout = self.mapping.kafka.request_timeout;
        let mut probe = match self.open.remove(&node) {
            Some(probe) => probe,
            None => Probe::open(&endpoint, &self.access, timeout)
                .await
                .map_err(|error| unreachable(&endpoint, &error.to_string()))?,
        };
        // A connection whose answer did not come is of no more use.
        let response = probe.ask(&request(leader)).await;
        let response = response.map_err(|error| unreachable(&endpoint, &error))?;
        self.open.insert(node, probe);
        Ok(response)
    }

    async fn view(&mut self, topic: &str) -> Result<&View, BrokersError> {
        if !self.views.contains_key(topic) {
            let view = self.look(topic).await?;
            self.views.insert(topic.to_owned(), view);
        }
        Ok(&self.views[topic])
    }

    /// Asks the configured brokers, one after another.
    async fn look(&self, topic: &str) -> Result<View, BrokersError> {
        let mut last = BrokersError::Unreachable("no broker is configured".to_owned());
        for endpoint in &self.mapping.bootstrap {
            let timeout = self.mapping.kafka.request_timeout;
            let told = match Probe::open(endpoint, &self.access, timeout).await {
                Ok(mut probe) => probe.metadata(topic).await,
                Err(error) => Err(error.to_string()),
            };
            match told {
                Ok(metadata) => return View::of(topic, metadata),
                Err(error) => last = unreachable(endpoint, &error),
            }
        }
        Err(last)
    }
}

impl View {
    fn of(topic: &str, metadata: MetadataResponse) -> Result<Self, BrokersError> {
        let mut topics = metadata.topics.into_iter();
        let found = topics.find(|it: &TopicMetadata| it.name == topic);
        let found = match found {
            Some(found) if found.error.is_ok() => found,
            Some(found) if PASSING.contains(&found.error) => {
                return Err(BrokersError::Unreachable(format!(
                    "topic {topic}: {}",
                    found.error
                )));
            }
            Some(TopicMetadata {
                error: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                ..
            }) => {
                let message =
                    format!("topic {topic} is not allowed; grant Describe and Read on it");
                return Err(BrokersError::Missing(message));
            }
            _ => return Err(BrokersError::Missing(format!("there is no topic {topic}"))),
        };
        let brokers = metadata.brokers.into_iter();
        let partitions = found.partitions.into_iter();
        Ok(Self {
            id: found.topic_id,
            partitions: partitions.map(|it| (it.partition, it)).collect(),
            brokers: brokers
                .map(|it| {
                    let endpoint = Endpoint {
                        host: it.host,
                        port: it.port,
                    };
                    (it.node_id, endpoint)
                })
                .collect(),
        })
    }
}

fn unreachable(endpoint: &Endpoint, reason: &str) -> BrokersError {
    let Endpoint { host, port } = endpoint;
    BrokersError::Unreachable(format!(
        "broker {host}:{port} is of no use ({reason}); forebay check says what is in the way"
    ))
}
