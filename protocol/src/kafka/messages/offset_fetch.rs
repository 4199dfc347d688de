//! OffsetFetch (key 9): the group's committed offsets of one topic. From v8 the request and answer are
//! lists of groups (KIP-709); we always ask for one. KIP-447 (stable offsets, v7).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    GroupId, OffsetFetchRequest as WireRequest, TopicName, offset_fetch_request,
};

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks for committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    /// The group.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
    /// Refuse offsets that an open transaction may still change (v7, KIP-447).
    pub require_stable: bool,
}

/// One partition's committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 when nothing was committed.
    pub committed_offset: i64,
    /// The leader epoch kept beside it; -1 when unknown (v5).
    pub leader_epoch: i32,
    /// The text kept beside it; a foreign one is ignored.
    pub metadata: String,
    /// Why there is none.
    pub error: ErrorCode,
}

/// Committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// The group's error (v2; from v8 the group entry's).
    pub error: ErrorCode,
    /// The partitions of the topic asked for.
    pub partitions: Vec<CommittedOffset>,
}

impl OffsetFetchRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let group_id = GroupId(text(&self.group_id));
        let name = TopicName(text(&self.topic));
        let partitions = self.partitions.clone();
        let request =
            WireRequest::default().with_require_stable(self.require_stable && version >= 7);
        let request = if version >= 8 {
            let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_name(name)
                .with_partition_indexes(partitions);
            let group = offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(group_id)
                .with_topics(Some(vec![topic]));
            request.with_groups(vec![group])
        } else {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(name)
                .with_partition_indexes(partitions);
            request
                .with_group_id(group_id)
                .with_topics(Some(vec![topic]))
        };
        put(&request, version, out)
    }
}

impl OffsetFetchResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        let throttle_ms = if version >= 3 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let (error, partitions) = if version >= 8 {
            decode_group(asked, reader)?
        } else {
            let partitions = decode_committed(asked, reader)?;
            let error = if version >= 2 {
                reader.i16("error_code")?
            } else {
                0
            };
            (ErrorCode(error), partitions)
        };
        reader.skip_tags("OffsetFetchResponse")?;
        Ok(Self {
            throttle_ms,
            error,
            partitions,
        })
    }
}

/// The one group of a version 8 answer.
fn decode_group(
    asked: &Asked,
    reader: &mut Reader,
) -> Result<(ErrorCode, Vec<CommittedOffset>), DecodeError> {
    let mut found = None;
    reader.array("groups", 5, |reader| {
        let group_id = reader.string("group_id")?;
        if group_id != asked.group_id {
            return Err(DecodeError::NotAsked {
                field: "group_id",
                found: group_id,
            });
        }
        let partitions = decode_committed(asked, reader)?;
        found = Some((ErrorCode(reader.i16("error_code")?), partitions));
        reader.skip_tags("groups")
    })?;
    found.ok_or(DecodeError::Missing { field: "groups" })
}

fn decode_committed(
    asked: &Asked,
    reader: &mut Reader,
) -> Result<Vec<CommittedOffset>, DecodeError> {
    decode_topic(asked, Naming::Name, reader, 15, |reader| {
        let committed = CommittedOffset {
            partition: reader.i32("partition_index")?,
            committed_offset: reader.i64("committed_offset")?,
            leader_epoch: if asked.version >= 5 {
                reader.i32("committed_leader_epoch")?
            } else {
                -1
            },
            metadata: reader.nullable_string("metadata")?.unwrap_or_default(),
            error: ErrorCode(reader.i16("partition_error_code")?),
        };
        reader.skip_tags("partitions")?;
        Ok(committed)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{
        OffsetFetchResponse as WireResponse, offset_fetch_response as schema,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::OffsetFetch;

    prop_compose! {
        fn any_partition()(
            error in error_code(),
            (partition, committed_offset, leader_epoch) in any::<(i32, i64, i32)>(),
            metadata in label(),
        ) -> CommittedOffset {
            CommittedOffset { partition, committed_offset, leader_epoch, metadata, error }
        }
    }

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            error in error_code(),
            partitions in few(any_partition()),
        ) -> OffsetFetchResponse {
            OffsetFetchResponse { throttle_ms, error, partitions }
        }
    }

    /// What of it that version carries.
    fn told(mut response: OffsetFetchResponse, version: i16) -> OffsetFetchResponse {
        if version < 3 {
            response.throttle_ms = 0;
        }
        if version < 2 {
            response.error = ErrorCode::NONE;
        }
        for partition in &mut response.partitions {
            if version < 5 {
                partition.leader_epoch = -1;
            }
        }
        response
    }

    /// Null where there is none, as brokers may have it.
    fn metadata(told: &CommittedOffset) -> Option<kafka_protocol::protocol::StrBytes> {
        (!told.metadata.is_empty()).then(|| wire_text(&told.metadata))
    }

    fn wire_topic(told: &OffsetFetchResponse) -> schema::OffsetFetchResponseTopic {
        let partition = |told: &CommittedOffset| {
            schema::OffsetFetchResponsePartition::default()
                .with_partition_index(told.partition)
                .with_committed_offset(told.committed_offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(metadata(told))
                .with_error_code(told.error.0)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        schema::OffsetFetchResponseTopic::default()
            .with_name(TopicName(wire_text(TOPIC)))
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    /// The group of version 8 and on.
    fn wire_group(told: &OffsetFetchResponse) -> schema::OffsetFetchResponseGroup {
        let partition = |told: &CommittedOffset| {
            schema::OffsetFetchResponsePartitions::default()
                .with_partition_index(told.partition)
                .with_committed_offset(told.committed_offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(metadata(told))
                .with_error_code(told.error.0)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topic = schema::OffsetFetchResponseTopics::default()
            .with_name(TopicName(wire_text(TOPIC)))
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        schema::OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(wire_text(GROUP)))
            .with_topics(vec![topic])
            .with_error_code(told.error.0)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    fn wire(told: &OffsetFetchResponse, version: i16) -> WireResponse {
        let wire = WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        if version >= 8 {
            return wire.with_groups(vec![wire_group(told)]);
        }
        wire.with_topics(vec![wire_topic(told)])
            .with_error_code(told.error.0)
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
                prop_assert_eq!(read, Response::OffsetFetch(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            partitions in few(any::<i32>()),
            require_stable in any::<bool>(),
        ) {
            let request = Request::OffsetFetch(OffsetFetchRequest {
                group_id: GROUP.to_owned(),
                topic: TOPIC.to_owned(),
                partitions: partitions.clone(),
                require_stable,
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                prop_assert_eq!(read.require_stable, require_stable && version >= 7);
                if version >= 8 {
                    let group = &read.groups[0];
                    let topic = &group.topics.as_ref().unwrap()[0];
                    prop_assert_eq!((read.groups.len(), &*group.group_id.0), (1, GROUP));
                    prop_assert_eq!((group.member_id.as_deref(), group.member_epoch), (None, -1));
                    prop_assert_eq!((&*topic.name.0, &topic.partition_indexes), (TOPIC, &partitions));
                } else {
                    let topic = &read.topics.as_ref().unwrap()[0];
                    prop_assert_eq!(&*read.group_id.0, GROUP);
                    prop_assert_eq!((&*topic.name.0, &topic.partition_indexes), (TOPIC, &partitions));
                }
            }
        }
    }

    #[test]
    fn answer_about_nothing_or_another_group_is_refused() {
        let wire = WireResponse::default();
        let error = Response::decode(&asked(API, 8), answer(API, 8, &wire)).unwrap_err();
        assert_eq!(error, DecodeError::Missing { field: "groups" });
        let other = schema::OffsetFetchResponseGroup::default();
        let wire = wire.with_groups(vec![other]);
        let error = Response::decode(&asked(API, 8), answer(API, 8, &wire)).unwrap_err();
        let found = String::new();
        assert_eq!(
            error,
            DecodeError::NotAsked {
                field: "group_id",
                found
            }
        );
    }
}
