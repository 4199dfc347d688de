//! Metadata (key 3), v0 to v13. v1 null for all topics, v4 the flag for automatic creation, v7 leader
//! epochs, v10 topic ids (KIP-516), v12 topics asked by id.
//!
//! Never creates a topic, and counts who asked for one to be created.

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::topic::Topic;
use super::{Call, FakeKafka};

pub(super) fn refuse(request: &MetadataRequest, version: i16, code: i16) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(code)
            .with_name(
                topic
                    .name
                    .clone()
                    .or((version < 12).then(TopicName::default)),
            )
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default().with_topics(topics.collect())
}

impl FakeKafka {
    pub(super) fn metadata(&mut self, call: Call, request: MetadataRequest) {
        let asked = request
            .topics
            .filter(|topics| call.version > 0 || !topics.is_empty());
        let mut topics = Vec::new();
        match asked {
            None => {
                let all = self.topics.iter();
                topics.extend(all.map(|(name, topic)| describe(name, topic, &call)));
            }
            Some(asked) => {
                for topic in asked {
                    let found = match &topic.name {
                        Some(name) => self.topics.get_key_value(name.as_str()),
                        None => self.topic_by_id(topic.topic_id),
                    };
                    let Some((name, known)) = found else {
                        if call.version < 4 || request.allow_auto_topic_creation {
                            self.auto_creations_asked += 1;
                        }
                        let code = match topic.name {
                            Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                            None => ErrorCode::UNKNOWN_TOPIC_ID,
                        };
                        topics.push(
                            MetadataResponseTopic::default()
                                .with_error_code(code.0)
                                .with_name(topic.name)
                                .with_topic_id(topic.topic_id),
                        );
                        continue;
                    };
                    topics.push(describe(name, known, &call));
                }
            }
        }
        let brokers = self
            .config
            .brokers
            .iter()
            .filter(|broker| broker.is_up)
            .map(|broker| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(broker.id))
                    .with_host(StrBytes::from_string(broker.host.clone()))
                    .with_port(i32::from(broker.port))
                    .with_rack(broker.rack.clone().map(StrBytes::from_string))
            });
        let controller = self.config.brokers.iter().find(|broker| broker.is_up);
        let response = MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(StrBytes::from_static_str("fake-kafka")))
            .with_controller_id(BrokerId(controller.map_or(-1, |broker| broker.id)))
            .with_topics(topics);
        self.answer(&call, &response);
    }
}

fn describe(name: &str, topic: &Topic, call: &Call) -> MetadataResponseTopic {
    let partitions = (0i32..).zip(&topic.partitions).map(|(index, partition)| {
        let replicas: Vec<_> = partition
            .replicas
            .iter()
            .map(|node| BrokerId(*node))
            .collect();
        let code = match partition.leader {
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::LEADER_NOT_AVAILABLE,
        };
        MetadataResponsePartition::default()
            .with_error_code(code.0)
            .with_partition_index(index)
            .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
            .with_leader_epoch(if call.version >= 7 {
                partition.epoch
            } else {
                -1
            })
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}
