//! Metadata (key 3): brokers, and the leader of each partition.
//!
//! A request never lets the broker create a topic: from v4 by its flag, before that the caller asks for
//! the whole list (`topics: None`).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{MetadataRequest as WireRequest, TopicName, metadata_request};
use uuid::Uuid;

use super::{EncodeError, port, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks for brokers and topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The topics to describe; `None` asks for all.
    pub topics: Option<Vec<String>>,
}

/// One broker's advertised address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The node id.
    pub node_id: i32,
    /// Host name or address as advertised.
    pub host: String,
    /// Port as advertised; what does not fit a port is refused by the decoder.
    pub port: u16,
    /// The rack, where told.
    pub rack: Option<String>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's own error.
    pub error: ErrorCode,
    /// The name; empty when the broker left it out.
    pub name: String,
    /// The topic's id; nil before v10.
    pub topic_id: Uuid,
    /// The partitions, in the broker's order.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The partition's own error.
    pub error: ErrorCode,
    /// The partition's number.
    pub partition: i32,
    /// The leader's node id; -1 when there is none.
    pub leader: i32,
    /// The leader's epoch; -1 before v7.
    pub leader_epoch: i32,
    /// Nodes that hold a replica.
    pub replicas: Vec<i32>,
}

/// The cluster as one broker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// The whole answer's error (v13, KIP-1102): begin again from the configured brokers.
    pub error: ErrorCode,
    /// All brokers alive.
    pub brokers: Vec<Broker>,
    /// The cluster's id, from v2.
    pub cluster_id: Option<String>,
    /// The topics asked for.
    pub topics: Vec<TopicMetadata>,
}

impl MetadataRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let topic = |name: &String| {
            metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
        };
        let topics = self.topics.as_ref();
        let request = WireRequest::default()
            .with_topics(topics.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(version < 4);
        put(&request, version, out)
    }
}

impl MetadataResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 3 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let brokers = reader.array("brokers", 10, |reader| {
            let broker = Broker {
                node_id: reader.i32("node_id")?,
                host: reader.string("host")?,
                port: port("port", reader.i32("port")?)?,
                rack: reader.nullable_string("rack")?,
            };
            reader.skip_tags("brokers")?;
            Ok(broker)
        })?;
        let cluster_id = if version >= 2 {
            reader.nullable_string("cluster_id")?
        } else {
            None
        };
        reader.i32("controller_id")?;
        let topics = reader.array("topics", 6, |reader| TopicMetadata::decode(version, reader))?;
        if (8..=10).contains(&version) {
            reader.i32("cluster_authorized_operations")?;
        }
        let error = if version >= 13 {
            reader.i16("error_code")?
        } else {
            0
        };
        reader.skip_tags("MetadataResponse")?;
        Ok(Self {
            throttle_ms,
            error: ErrorCode(error),
            brokers,
            cluster_id,
            topics,
        })
    }
}

impl TopicMetadata {
    fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let error = ErrorCode(reader.i16("topic_error_code")?);
        let name = if version >= 12 {
            reader.nullable_string("name")?.unwrap_or_default()
        } else {
            reader.string("name")?
        };
        let topic_id = if version >= 10 {
            reader.uuid("topic_id")?
        } else {
            Uuid::nil()
        };
        reader.bool("is_internal")?;
        let partitions = reader.array("partitions", 12, |reader| {
            PartitionMetadata::decode(version, reader)
        })?;
        if version >= 8 {
            reader.i32("topic_authorized_operations")?;
        }
        reader.skip_tags("topics")?;
        Ok(Self {
            error,
            name,
            topic_id,
            partitions,
        })
    }
}

impl PartitionMetadata {
    fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let partition = Self {
            error: ErrorCode(reader.i16("partition_error_code")?),
            partition: reader.i32("partition_index")?,
            leader: reader.i32("leader_id")?,
            leader_epoch: if version >= 7 {
                reader.i32("leader_epoch")?
            } else {
                -1
            },
            replicas: reader.array("replica_nodes", 4, |reader| reader.i32("replica_nodes"))?,
        };
        reader.skip_i32_array("isr_nodes")?;
        if version >= 5 {
            reader.skip_i32_array("offline_replicas")?;
        }
        reader.skip_tags("partitions")?;
        Ok(partition)
    }
}
