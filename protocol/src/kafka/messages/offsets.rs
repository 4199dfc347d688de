//! OffsetFetch and OffsetCommit (keys 9 and 8): the group's committed offsets of one topic.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest as WireCommit, OffsetFetchRequest as WireFetch, TopicName,
    offset_commit_request, offset_fetch_request,
};
use uuid::Uuid;

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

impl OffsetFetchRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let group_id = GroupId(text(&self.group_id));
        let name = TopicName(text(&self.topic));
        let partitions = self.partitions.clone();
        let request = WireFetch::default().with_require_stable(self.require_stable && version >= 7);
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
        let request = WireCommit::default()
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
