//! Metadata (key 3): brokers, and the leader of each partition.
//!
//! A request never lets the broker create a topic: from v4 by its flag, before that the caller asks for
//! the whole list (`topics: None`).

use uuid::Uuid;

use crate::kafka::error::ErrorCode;

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
    /// All brokers alive.
    pub brokers: Vec<Broker>,
    /// The cluster's id, from v2.
    pub cluster_id: Option<String>,
    /// The topics asked for.
    pub topics: Vec<TopicMetadata>,
}
