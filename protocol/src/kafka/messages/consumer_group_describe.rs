//! ConsumerGroupDescribe (key 69): who is in a group whose coordinator assigns, and what to whom. KIP-848.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest as WireRequest, GroupId};

use super::{Asked, EncodeError, group, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescribeRequest {
    /// The group.
    pub group_id: String,
}

/// A group, as its coordinator has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescribeResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Whether and why not.
    pub error: ErrorCode,
    /// Its members.
    pub members: Vec<DescribedConsumer>,
}

/// A member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its static identity, if any.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub client_host: String,
    /// What it owns: partitions by their topic's name.
    pub assignment: Vec<(String, Vec<i32>)>,
}

impl ConsumerGroupDescribeRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let groups = vec![GroupId(text(&self.group_id))];
        put(&WireRequest::default().with_group_ids(groups), version, out)
    }
}

impl ConsumerGroupDescribeResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut answer = Self {
            throttle_ms: reader.i32("throttle_time_ms")?,
            error: ErrorCode::NONE,
            members: Vec::new(),
        };
        reader.array("groups", 20, |reader| {
            answer.error = ErrorCode(reader.i16("error_code")?);
            reader.nullable_string("error_message")?;
            group(asked, reader)?;
            reader.string("group_state")?;
            reader.i32("group_epoch")?;
            reader.i32("assignment_epoch")?;
            reader.string("assignor_name")?;
            let version = asked.version;
            answer.members = reader.array("members", 16, |reader| member(version, reader))?;
            reader.i32("authorized_operations")?;
            reader.skip_tags("groups")
        })?;
        reader.skip_tags("ConsumerGroupDescribeResponse")?;
        Ok(answer)
    }
}

fn member(version: i16, reader: &mut Reader) -> Result<DescribedConsumer, DecodeError> {
    reader.string("member_id")?;
    let instance_id = reader.nullable_string("instance_id")?;
    reader.nullable_string("rack_id")?;
    reader.i32("member_epoch")?;
    let client_id = reader.string("client_id")?;
    let client_host = reader.string("client_host")?;
    reader.array("subscribed_topic_names", 1, |reader| {
        reader.string("subscribed_topic_names").map(drop)
    })?;
    reader.nullable_string("subscribed_topic_regex")?;
    let described = DescribedConsumer {
        instance_id,
        client_id,
        client_host,
        assignment: assignment(reader)?,
    };
    // What it is to own once others have let go of it.
    assignment(reader)?;
    if version >= 1 {
        reader.i8("member_type")?;
    }
    reader.skip_tags("members")?;
    Ok(described)
}

fn assignment(reader: &mut Reader) -> Result<Vec<(String, Vec<i32>)>, DecodeError> {
    let topics = reader.array("topic_partitions", 19, |reader| {
        reader.uuid("topic_id")?;
        let name = reader.string("topic_name")?;
        let partitions = reader.array("partitions", 4, |reader| reader.i32("partitions"))?;
        reader.skip_tags("topic_partitions")?;
        Ok((name, partitions))
    })?;
    reader.skip_tags("assignment")?;
    Ok(topics)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::consumer_group_describe_response::{
        Assignment, DescribedGroup, Member, TopicPartitions,
    };
    use kafka_protocol::messages::{ConsumerGroupDescribeResponse as WireResponse, TopicName};
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::ConsumerGroupDescribe;

    prop_compose! {
        fn any_member()(
            instance_id in proptest::option::of(label()),
            (client_id, client_host) in (label(), label()),
            assignment in few((label(), few(any::<i32>()))),
        ) -> DescribedConsumer {
            DescribedConsumer { instance_id, client_id, client_host, assignment }
        }
    }

    prop_compose! {
        fn any_response()(
            error in error_code(),
            throttle_ms in any::<i32>(),
            members in few(any_member()),
        ) -> ConsumerGroupDescribeResponse {
            ConsumerGroupDescribeResponse { throttle_ms, error, members }
        }
    }

    fn wire_assignment(told: &[(String, Vec<i32>)]) -> Assignment {
        let topics = told.iter().map(|(name, partitions)| {
            TopicPartitions::default()
                .with_topic_id(TOPIC_ID)
                .with_topic_name(TopicName(wire_text(name)))
                .with_partitions(partitions.clone())
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        });
        Assignment::default()
            .with_topic_partitions(topics.collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    fn wire(told: &ConsumerGroupDescribeResponse) -> WireResponse {
        let member = |told: &DescribedConsumer| {
            Member::default()
                .with_member_id(wire_text("m"))
                .with_instance_id(told.instance_id.as_deref().map(wire_text))
                .with_rack_id(Some(wire_text("rack")))
                .with_client_id(wire_text(&told.client_id))
                .with_client_host(wire_text(&told.client_host))
                .with_subscribed_topic_names(vec![TopicName(wire_text(TOPIC))])
                .with_assignment(wire_assignment(&told.assignment))
                .with_target_assignment(wire_assignment(&[(TOPIC.to_owned(), vec![7])]))
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let group = DescribedGroup::default()
            .with_error_code(told.error.0)
            .with_error_message(Some(wire_text("why")))
            .with_group_id(GroupId(wire_text(GROUP)))
            .with_group_state(wire_text("Stable"))
            .with_assignor_name(wire_text("uniform"))
            .with_members(told.members.iter().map(member).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_groups(vec![group])
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
                let told = Response::ConsumerGroupDescribe(response.clone());
                prop_assert_eq!(read, told, "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(group_id in label()) {
            let request = Request::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
                group_id: group_id.clone(),
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                let groups: Vec<&str> = read.group_ids.iter().map(|it| it.0.as_str()).collect();
                prop_assert_eq!(groups, [&*group_id]);
            }
        }
    }
}
