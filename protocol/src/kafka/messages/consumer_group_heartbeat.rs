//! ConsumerGroupHeartbeat (key 68): joins, keeps and leaves a membership, and carries what is owned one
//! way and what is assigned the other. KIP-848; KIP-1082 (the member makes its id, v1).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest as WireRequest, GroupId, TopicName,
    consumer_group_heartbeat_request as schema,
};
use uuid::Uuid;

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// A member's word to its coordinator. What is `None` has not changed since it was last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// Our id, of our own making; in version 0 the coordinator may give us another.
    pub member_id: String,
    /// Our epoch; 0 joins, -1 leaves, -2 leaves as a static member that comes back.
    pub member_epoch: i32,
    /// Our static identity, if any.
    pub group_instance_id: Option<String>,
    /// Where we stand, if that is known.
    pub rack_id: Option<String>,
    /// How long the coordinator waits for us to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: Option<i32>,
    /// What we subscribe to.
    pub topics: Option<Vec<String>>,
    /// What we own; an empty list when that is nothing.
    pub owned: Option<Vec<ConsumerGroupAssignment>>,
}

/// Partitions of one topic, owned or assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupAssignment {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The coordinator's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Whether and why not.
    pub error: ErrorCode,
    /// Our id, where the coordinator tells it.
    pub member_id: Option<String>,
    /// Our epoch from now on.
    pub member_epoch: i32,
    /// When the next heartbeat is due, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What we may own at once; `None` when that has not changed.
    pub assignment: Option<Vec<ConsumerGroupAssignment>>,
}

impl ConsumerGroupHeartbeatRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let owned = |owned: &ConsumerGroupAssignment| {
            schema::TopicPartitions::default()
                .with_topic_id(owned.topic_id)
                .with_partitions(owned.partitions.clone())
        };
        let name = |topic: &String| TopicName(text(topic));
        let (topics, partitions) = (self.topics.as_ref(), self.owned.as_ref());
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_member_id(text(&self.member_id))
            .with_member_epoch(self.member_epoch)
            .with_instance_id(self.group_instance_id.as_deref().map(text))
            .with_rack_id(self.rack_id.as_deref().map(text))
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms.unwrap_or(-1))
            .with_subscribed_topic_names(topics.map(|topics| topics.iter().map(name).collect()))
            .with_topic_partitions(partitions.map(|all| all.iter().map(owned).collect()));
        put(&request, version, out)
    }
}

impl ConsumerGroupHeartbeatResponse {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = reader.i32("throttle_time_ms")?;
        let error = ErrorCode(reader.i16("error_code")?);
        reader.nullable_string("error_message")?;
        let answer = Self {
            throttle_ms,
            error,
            member_id: reader.nullable_string("member_id")?,
            member_epoch: reader.i32("member_epoch")?,
            heartbeat_interval_ms: reader.i32("heartbeat_interval_ms")?,
            assignment: assignment(reader)?,
        };
        reader.skip_tags("ConsumerGroupHeartbeatResponse")?;
        Ok(answer)
    }
}

/// Reads a nullable struct: a byte that is negative for null goes before it.
fn assignment(reader: &mut Reader) -> Result<Option<Vec<ConsumerGroupAssignment>>, DecodeError> {
    if reader.i8("assignment")? < 0 {
        return Ok(None);
    }
    let topics = reader.array("topic_partitions", 18, |reader| {
        let topic = ConsumerGroupAssignment {
            topic_id: reader.uuid("topic_id")?,
            partitions: reader.array("partitions", 4, |reader| reader.i32("partitions"))?,
        };
        reader.skip_tags("topic_partitions")?;
        Ok(topic)
    })?;
    reader.skip_tags("assignment")?;
    Ok(Some(topics))
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{
        ConsumerGroupHeartbeatResponse as WireResponse, consumer_group_heartbeat_response as told,
    };
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::ConsumerGroupHeartbeat;

    prop_compose! {
        fn any_topic()(id in any::<u128>(), partitions in few(any::<i32>())) -> ConsumerGroupAssignment {
            ConsumerGroupAssignment { topic_id: Uuid::from_u128(id), partitions }
        }
    }

    prop_compose! {
        fn any_response()(
            (throttle_ms, member_epoch, heartbeat_interval_ms) in any::<(i32, i32, i32)>(),
            error in error_code(),
            member_id in option::of(label()),
            assignment in option::of(few(any_topic())),
        ) -> ConsumerGroupHeartbeatResponse {
            ConsumerGroupHeartbeatResponse {
                throttle_ms, error, member_id, member_epoch, heartbeat_interval_ms, assignment,
            }
        }
    }

    fn wire(read: &ConsumerGroupHeartbeatResponse) -> WireResponse {
        let topic = |read: &ConsumerGroupAssignment| {
            told::TopicPartitions::default()
                .with_topic_id(read.topic_id)
                .with_partitions(read.partitions.clone())
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let assignment = read.assignment.as_ref().map(|topics| {
            told::Assignment::default()
                .with_topic_partitions(topics.iter().map(topic).collect())
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        });
        WireResponse::default()
            .with_throttle_time_ms(read.throttle_ms)
            .with_error_code(read.error.0)
            .with_error_message(Some(wire_text("why")))
            .with_member_id(read.member_id.as_deref().map(wire_text))
            .with_member_epoch(read.member_epoch)
            .with_heartbeat_interval_ms(read.heartbeat_interval_ms)
            .with_assignment(assignment)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let read = read(API, version, &wire(&response));
                let told = Response::ConsumerGroupHeartbeat(response.clone());
                prop_assert_eq!(read, told, "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            (member_id, member_epoch) in (label(), any::<i32>()),
            (group_instance_id, rack_id) in (option::of(label()), option::of(label())),
            rebalance_timeout_ms in option::of(0..i32::MAX),
            topics in option::of(few(label())),
            owned in option::of(few(any_topic())),
        ) {
            let group_id = GROUP.to_owned();
            let request = ConsumerGroupHeartbeatRequest {
                group_id, member_id, member_epoch, group_instance_id, rack_id, rebalance_timeout_ms, topics, owned,
            };
            for version in versions(API) {
                let sent = Request::ConsumerGroupHeartbeat(request.clone());
                let read: WireRequest = written(&sent, version);
                prop_assert_eq!(&*read.group_id.0, GROUP);
                prop_assert_eq!(&*read.member_id, &*request.member_id);
                prop_assert_eq!(read.member_epoch, request.member_epoch);
                prop_assert_eq!(read.instance_id.as_deref(), request.group_instance_id.as_deref());
                prop_assert_eq!(read.rack_id.as_deref(), request.rack_id.as_deref());
                prop_assert_eq!(read.rebalance_timeout_ms, request.rebalance_timeout_ms.unwrap_or(-1));
                prop_assert_eq!(read.subscribed_topic_regex, None);
                prop_assert_eq!(read.server_assignor, None);
                let topics = read.subscribed_topic_names.map(|names| {
                    names.iter().map(|name| name.0.to_string()).collect::<Vec<_>>()
                });
                prop_assert_eq!(&topics, &request.topics);
                let owned = read.topic_partitions.map(|all| {
                    let owned = all.into_iter().map(|topic| ConsumerGroupAssignment {
                        topic_id: topic.topic_id,
                        partitions: topic.partitions,
                    });
                    owned.collect::<Vec<_>>()
                });
                prop_assert_eq!(&owned, &request.owned, "version {}", version);
            }
        }
    }
}
