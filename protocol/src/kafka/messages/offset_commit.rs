//! OffsetCommit (key 8): keeps the group's offsets of one topic. KIP-320 (leader epochs, v6), KIP-345
//! (static members, v7).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest as WireRequest, TopicName, offset_commit_request,
};
use uuid::Uuid;

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// One partition's offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 when unknown (v6).
    pub leader_epoch: i32,
    /// A text to keep beside it, at most 4,096 bytes.
    pub metadata: String,
}

/// Commits offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: String,
    /// The generation we act in; -1 outside of a group.
    pub generation_id: i32,
    /// Our id; empty outside of a group.
    pub member_id: String,
    /// Our static identity, if any (v7).
    pub group_instance_id: Option<String>,
    /// The topic.
    pub topic: String,
    /// The topic's id, for versions that name topics by id (v10); nil when unknown.
    pub topic_id: Uuid,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// What became of one partition's commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedPartition {
    /// The partition.
    pub partition: i32,
    /// Whether and why not.
    pub error: ErrorCode,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Each partition of the request.
    pub partitions: Vec<CommittedPartition>,
}

impl OffsetCommitRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let partition = |commit: &CommitPartition| {
            offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(commit.partition)
                .with_committed_offset(commit.offset)
                .with_committed_leader_epoch(commit.leader_epoch)
                .with_committed_metadata(Some(text(&commit.metadata)))
        };
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&self.topic)))
            .with_partitions(self.partitions.iter().map(partition).collect());
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_generation_id_or_member_epoch(self.generation_id)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.group_instance_id.as_deref().map(text))
            // The broker's own retention, where the version would let us choose.
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        put(&request, version, out)
    }
}

impl OffsetCommitResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if asked.version >= 3 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let partitions = decode_topic(asked, Naming::Name, reader, 6, |reader| {
            let committed = CommittedPartition {
                partition: reader.i32("partition_index")?,
                error: ErrorCode(reader.i16("error_code")?),
            };
            reader.skip_tags("partitions")?;
            Ok(committed)
        })?;
        reader.skip_tags("OffsetCommitResponse")?;
        Ok(Self {
            throttle_ms,
            partitions,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{
        OffsetCommitResponse as WireResponse, offset_commit_response as schema,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::OffsetCommit;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            partitions in few((any::<i32>(), error_code())),
        ) -> OffsetCommitResponse {
            let partitions = partitions
                .into_iter()
                .map(|(partition, error)| CommittedPartition { partition, error });
            OffsetCommitResponse { throttle_ms, partitions: partitions.collect() }
        }
    }

    fn wire(told: &OffsetCommitResponse) -> WireResponse {
        let partition = |told: &CommittedPartition| {
            schema::OffsetCommitResponsePartition::default()
                .with_partition_index(told.partition)
                .with_error_code(told.error.0)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topic = schema::OffsetCommitResponseTopic::default()
            .with_name(TopicName(wire_text(TOPIC)))
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_topics(vec![topic])
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response)))
            .boxed()
    }

    prop_compose! {
        fn any_commit()(
            (partition, offset, leader_epoch) in any::<(i32, i64, i32)>(),
            metadata in label(),
        ) -> CommitPartition {
            CommitPartition { partition, offset, leader_epoch, metadata }
        }
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(mut response in any_response()) {
            for version in versions(API).rev() {
                if version < 3 {
                    response.throttle_ms = 0;
                }
                let read = read(API, version, &wire(&response));
                prop_assert_eq!(read, Response::OffsetCommit(response.clone()), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            generation_id in any::<i32>(),
            member_id in label(),
            group_instance_id in proptest::option::of(label()),
            partitions in few(any_commit()),
        ) {
            let mut request = OffsetCommitRequest {
                group_id: GROUP.to_owned(),
                generation_id,
                member_id,
                group_instance_id,
                topic: TOPIC.to_owned(),
                topic_id: TOPIC_ID,
                partitions,
            };
            for version in versions(API).rev() {
                if version < 7 {
                    request.group_instance_id = None;
                }
                let read: WireRequest = written(&Request::OffsetCommit(request.clone()), version);
                prop_assert_eq!(&*read.group_id.0, GROUP);
                prop_assert_eq!(read.generation_id_or_member_epoch, generation_id);
                prop_assert_eq!(&*read.member_id, &*request.member_id);
                prop_assert_eq!(read.group_instance_id.as_deref(), request.group_instance_id.as_deref());
                prop_assert_eq!(read.retention_time_ms, -1);
                prop_assert_eq!(&*read.topics[0].name.0, TOPIC);
                let read = read.topics[0].partitions.iter().map(|read| CommitPartition {
                    partition: read.partition_index,
                    offset: read.committed_offset,
                    leader_epoch: read.committed_leader_epoch,
                    metadata: read.committed_metadata.as_deref().unwrap().to_owned(),
                });
                let asked = request.partitions.iter().map(|asked| CommitPartition {
                    leader_epoch: if version >= 6 { asked.leader_epoch } else { -1 },
                    ..asked.clone()
                });
                prop_assert!(read.eq(asked), "version {}", version);
            }
        }
    }
}
