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

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{MetadataResponse as WireResponse, metadata_response as schema};
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::Metadata;

    prop_compose! {
        fn any_partition()(
            error in error_code(),
            (partition, leader, leader_epoch) in any::<(i32, i32, i32)>(),
            replicas in few(any::<i32>()),
        ) -> PartitionMetadata {
            PartitionMetadata { error, partition, leader, leader_epoch, replicas }
        }
    }

    prop_compose! {
        fn any_topic()(
            error in error_code(),
            name in label(),
            topic_id in any::<u128>(),
            partitions in few(any_partition()),
        ) -> TopicMetadata {
            TopicMetadata { error, name, topic_id: Uuid::from_u128(topic_id), partitions }
        }
    }

    prop_compose! {
        fn any_broker()(
            (node_id, port) in any::<(i32, u16)>(),
            host in label(),
            rack in proptest::option::of(label()),
        ) -> Broker {
            Broker { node_id, host, port, rack }
        }
    }

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            error in error_code(),
            brokers in few(any_broker()),
            cluster_id in proptest::option::of(label()),
            topics in few(any_topic()),
        ) -> MetadataResponse {
            MetadataResponse { throttle_ms, error, brokers, cluster_id, topics }
        }
    }

    /// What of it that version carries.
    fn told(mut response: MetadataResponse, version: i16) -> MetadataResponse {
        if version < 13 {
            response.error = ErrorCode::NONE;
        }
        if version < 3 {
            response.throttle_ms = 0;
        }
        if version < 2 {
            response.cluster_id = None;
        }
        for topic in &mut response.topics {
            if version < 10 {
                topic.topic_id = Uuid::nil();
            }
            for partition in &mut topic.partitions {
                if version < 7 {
                    partition.leader_epoch = -1;
                }
            }
        }
        response
    }

    fn wire_topic(told: &TopicMetadata, version: i16) -> schema::MetadataResponseTopic {
        let partition = |told: &PartitionMetadata| {
            let replicas: Vec<_> = told.replicas.iter().map(|node| (*node).into()).collect();
            schema::MetadataResponsePartition::default()
                .with_error_code(told.error.0)
                .with_partition_index(told.partition)
                .with_leader_id(told.leader.into())
                .with_leader_epoch(told.leader_epoch)
                .with_replica_nodes(replicas.clone())
                .with_isr_nodes(replicas.clone())
                .with_offline_replicas(replicas)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        // From 12 on a topic that is asked for by its id may have no name.
        let nameless = version >= 12 && told.name.is_empty();
        schema::MetadataResponseTopic::default()
            .with_error_code(told.error.0)
            .with_name((!nameless).then(|| TopicName(wire_text(&told.name))))
            .with_topic_id(told.topic_id)
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    fn wire(told: &MetadataResponse, version: i16) -> WireResponse {
        let broker = |told: &Broker| {
            schema::MetadataResponseBroker::default()
                .with_node_id(told.node_id.into())
                .with_host(wire_text(&told.host))
                .with_port(told.port.into())
                .with_rack(told.rack.as_deref().map(wire_text))
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topics = told.topics.iter().map(|topic| wire_topic(topic, version));
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_brokers(told.brokers.iter().map(broker).collect())
            .with_cluster_id(told.cluster_id.as_deref().map(wire_text))
            .with_controller_id(1.into())
            .with_topics(topics.collect())
            .with_error_code(told.error.0)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response, version)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let told = told(response.clone(), version);
                let read = read(API, version, &wire(&response, version));
                prop_assert_eq!(read, Response::Metadata(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(topics in proptest::option::of(few(label()))) {
            let request = Request::Metadata(MetadataRequest { topics: topics.clone() });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                let name = |topic: &metadata_request::MetadataRequestTopic| {
                    topic.name.as_ref().map(|name| name.0.to_string())
                };
                let names = read.topics.as_ref().map(|topics| {
                    topics.iter().filter_map(name).collect::<Vec<_>>()
                });
                prop_assert_eq!(&names, &topics, "version {}", version);
                prop_assert_eq!(read.allow_auto_topic_creation, version < 4);
            }
        }
    }

    #[test]
    fn impossible_port_is_refused() {
        for port in [-1, 65_536, i32::MIN] {
            let broker = schema::MetadataResponseBroker::default().with_port(port);
            let wire = WireResponse::default().with_brokers(vec![broker]);
            let error = Response::decode(&asked(API, 5), answer(API, 5, &wire)).unwrap_err();
            let value = i64::from(port);
            assert_eq!(
                error,
                DecodeError::BadValue {
                    field: "port",
                    value
                }
            );
        }
    }
}
