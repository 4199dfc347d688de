//! The Kafka messages that Forebay speaks, one file per API, each with its request and its answer.
//!
//! A request is a plain value that encodes itself in a negotiated version; an answer is decoded by the
//! bounded readers of [`wire`](super::wire) into a plain value that no longer shows its version.
//! A mapping reads one topic, so requests about partitions name one topic.

mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod describe_groups;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testing;

pub use api_versions::{ApiRange, ApiVersionsResponse};
pub use consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedConsumer,
};
pub use consumer_group_heartbeat::{
    ConsumerGroupAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
pub use describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedMember};
pub use fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchedPartition,
};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use heartbeat::{HeartbeatRequest, HeartbeatResponse};
pub use init_producer_id::InitProducerIdResponse;
pub use join_group::{GroupMember, GroupProtocol, JoinGroupRequest, JoinGroupResponse};
pub use leave_group::{LeaveGroupRequest, LeaveGroupResponse};
pub use list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListedOffset,
};
pub use metadata::{Broker, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata};
pub use offset_commit::{
    CommitPartition, CommittedPartition, OffsetCommitRequest, OffsetCommitResponse,
};
pub use offset_fetch::{CommittedOffset, OffsetFetchRequest, OffsetFetchResponse};
pub use offset_for_leader_epoch::{
    EpochEndOffset, LeaderEpochPartition, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
pub(crate) use produce::BATCHES_SINCE;
pub use produce::{ProducePartition, ProduceRequest, ProduceResponse, ProducedPartition};
pub use sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
pub use sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
pub use sync_group::{GroupAssignment, SyncGroupRequest, SyncGroupResponse};

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use super::frame;
use super::wire::{DecodeError, Reader};

pub use super::api::ApiKey;
pub use super::wire::EncodeError;

/// Any request that Forebay sends.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its struct")]
pub enum Request {
    ApiVersions,
    Metadata(MetadataRequest),
    FindCoordinator(FindCoordinatorRequest),
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    OffsetFetch(OffsetFetchRequest),
    OffsetCommit(OffsetCommitRequest),
    ListOffsets(ListOffsetsRequest),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    Fetch(FetchRequest),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    SaslHandshake(SaslHandshakeRequest),
    SaslAuthenticate(SaslAuthenticateRequest),
    Produce(ProduceRequest),
    /// Idempotence, without a transaction.
    InitProducerId,
    DescribeGroups(DescribeGroupsRequest),
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest),
}

/// Any answer that Forebay reads.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its struct")]
pub enum Response {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    FindCoordinator(FindCoordinatorResponse),
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetFetch(OffsetFetchResponse),
    OffsetCommit(OffsetCommitResponse),
    ListOffsets(ListOffsetsResponse),
    OffsetForLeaderEpoch(OffsetForLeaderEpochResponse),
    Fetch(FetchResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    SaslHandshake(SaslHandshakeResponse),
    SaslAuthenticate(SaslAuthenticateResponse),
    Produce(ProduceResponse),
    InitProducerId(InitProducerIdResponse),
    DescribeGroups(DescribeGroupsResponse),
    ConsumerGroupDescribe(ConsumerGroupDescribeResponse),
}

impl Request {
    /// The API this request belongs to.
    pub const fn api(&self) -> ApiKey {
        match self {
            Self::ApiVersions => ApiKey::ApiVersions,
            Self::Metadata(_) => ApiKey::Metadata,
            Self::FindCoordinator(_) => ApiKey::FindCoordinator,
            Self::JoinGroup(_) => ApiKey::JoinGroup,
            Self::SyncGroup(_) => ApiKey::SyncGroup,
            Self::Heartbeat(_) => ApiKey::Heartbeat,
            Self::LeaveGroup(_) => ApiKey::LeaveGroup,
            Self::OffsetFetch(_) => ApiKey::OffsetFetch,
            Self::OffsetCommit(_) => ApiKey::OffsetCommit,
            Self::ListOffsets(_) => ApiKey::ListOffsets,
            Self::OffsetForLeaderEpoch(_) => ApiKey::OffsetForLeaderEpoch,
            Self::Fetch(_) => ApiKey::Fetch,
            Self::ConsumerGroupHeartbeat(_) => ApiKey::ConsumerGroupHeartbeat,
            Self::SaslHandshake(_) => ApiKey::SaslHandshake,
            Self::SaslAuthenticate(_) => ApiKey::SaslAuthenticate,
            Self::Produce(_) => ApiKey::Produce,
            Self::InitProducerId => ApiKey::InitProducerId,
            Self::DescribeGroups(_) => ApiKey::DescribeGroups,
            Self::ConsumerGroupDescribe(_) => ApiKey::ConsumerGroupDescribe,
        }
    }

    /// Writes the request's body in that version.
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::ApiVersions => api_versions::encode(version, out),
            Self::Metadata(request) => request.encode(version, out),
            Self::FindCoordinator(request) => request.encode(version, out),
            Self::JoinGroup(request) => request.encode(version, out),
            Self::SyncGroup(request) => request.encode(version, out),
            Self::Heartbeat(request) => request.encode(version, out),
            Self::LeaveGroup(request) => request.encode(version, out),
            Self::OffsetFetch(request) => request.encode(version, out),
            Self::OffsetCommit(request) => request.encode(version, out),
            Self::ListOffsets(request) => request.encode(version, out),
            Self::OffsetForLeaderEpoch(request) => request.encode(version, out),
            Self::Fetch(request) => request.encode(version, out),
            Self::ConsumerGroupHeartbeat(request) => request.encode(version, out),
            Self::SaslHandshake(request) => request.encode(version, out),
            Self::SaslAuthenticate(request) => request.encode(version, out),
            Self::Produce(request) => request.encode(version, out),
            Self::InitProducerId => init_producer_id::encode(version, out),
            Self::DescribeGroups(request) => request.encode(version, out),
            Self::ConsumerGroupDescribe(request) => request.encode(version, out),
        }
    }

    /// What the answer to this request in that version will be read by.
    pub fn asked(&self, version: i16) -> Asked {
        let (group_id, topic, topic_id) = match self {
            Self::FindCoordinator(request) => (request.group_id.as_str(), "", Uuid::nil()),
            Self::DescribeGroups(request) => (&*request.group_id, "", Uuid::nil()),
            Self::ConsumerGroupDescribe(request) => (&*request.group_id, "", Uuid::nil()),
            Self::OffsetFetch(request) => (&*request.group_id, &*request.topic, Uuid::nil()),
            Self::OffsetCommit(request) => ("", &*request.topic, request.topic_id),
            Self::ListOffsets(request) => ("", &*request.topic, Uuid::nil()),
            Self::OffsetForLeaderEpoch(request) => ("", &*request.topic, Uuid::nil()),
            Self::Fetch(request) => ("", &*request.topic, request.topic_id),
            Self::Produce(request) => ("", &*request.topic, Uuid::nil()),
            Self::ApiVersions
            | Self::Metadata(_)
            | Self::JoinGroup(_)
            | Self::SyncGroup(_)
            | Self::Heartbeat(_)
            | Self::LeaveGroup(_)
            | Self::ConsumerGroupHeartbeat(_)
            | Self::SaslHandshake(_)
            | Self::SaslAuthenticate(_)
            | Self::InitProducerId => ("", "", Uuid::nil()),
        };
        Asked {
            api: self.api(),
            version,
            group_id: group_id.to_owned(),
            topic: topic.to_owned(),
            topic_id,
        }
    }
}

/// What was asked, as far as the answer is read, and checked, by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The API.
    pub api: ApiKey,
    /// The version of the request, and so of the answer.
    pub version: i16,
    /// The group, where the answer repeats it.
    pub group_id: String,
    /// The topic, where the answer repeats it.
    pub topic: String,
    /// Its id, where the answer repeats that instead.
    pub topic_id: Uuid,
}

impl Response {
    /// Reads an answer: what follows the correlation id, to its last byte.
    pub fn decode(asked: &Asked, rest: Bytes) -> Result<Self, DecodeError> {
        let mut reader = if asked.api == ApiKey::ApiVersions {
            api_versions::body_reader(asked.version, rest)?
        } else {
            frame::body_reader(asked.api, asked.version, rest)?
        };
        let response = Self::decode_body(asked, &mut reader)?;
        reader.finish("answer")?;
        Ok(response)
    }

    fn decode_body(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        Ok(match asked.api {
            ApiKey::ApiVersions => Self::ApiVersions(ApiVersionsResponse::decode(version, reader)?),
            ApiKey::Metadata => Self::Metadata(MetadataResponse::decode(version, reader)?),
            ApiKey::FindCoordinator => Self::FindCoordinator(FindCoordinatorResponse::decode(
                version,
                &asked.group_id,
                reader,
            )?),
            ApiKey::JoinGroup => Self::JoinGroup(JoinGroupResponse::decode(version, reader)?),
            ApiKey::SyncGroup => Self::SyncGroup(SyncGroupResponse::decode(version, reader)?),
            ApiKey::Heartbeat => Self::Heartbeat(HeartbeatResponse::decode(version, reader)?),
            ApiKey::LeaveGroup => Self::LeaveGroup(LeaveGroupResponse::decode(version, reader)?),
            ApiKey::OffsetFetch => Self::OffsetFetch(OffsetFetchResponse::decode(asked, reader)?),
            ApiKey::OffsetCommit => {
                Self::OffsetCommit(OffsetCommitResponse::decode(asked, reader)?)
            }
            ApiKey::ListOffsets => Self::ListOffsets(ListOffsetsResponse::decode(asked, reader)?),
            ApiKey::OffsetForLeaderEpoch => {
                Self::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse::decode(asked, reader)?)
            }
            ApiKey::Fetch => Self::Fetch(FetchResponse::decode(asked, reader)?),
            ApiKey::ConsumerGroupHeartbeat => {
                Self::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse::decode(reader)?)
            }
            ApiKey::SaslHandshake => Self::SaslHandshake(SaslHandshakeResponse::decode(reader)?),
            ApiKey::SaslAuthenticate => {
                Self::SaslAuthenticate(SaslAuthenticateResponse::decode(version, reader)?)
            }
            ApiKey::Produce => Self::Produce(ProduceResponse::decode(asked, reader)?),
            ApiKey::InitProducerId => Self::InitProducerId(InitProducerIdResponse::decode(reader)?),
            ApiKey::DescribeGroups => {
                Self::DescribeGroups(DescribeGroupsResponse::decode(asked, reader)?)
            }
            ApiKey::ConsumerGroupDescribe => {
                Self::ConsumerGroupDescribe(ConsumerGroupDescribeResponse::decode(asked, reader)?)
            }
        })
    }
}

/// How an answer names its topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    Name,
    Id,
}

fn put(request: &impl Encodable, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
    request
        .encode(out, version)
        .map_err(|error| EncodeError(error.to_string()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn port(field: &'static str, value: i32) -> Result<u16, DecodeError> {
    u16::try_from(value).map_err(|_| DecodeError::BadValue {
        field,
        value: i64::from(value),
    })
}

/// Reads a group's id, which must be the one that was asked for.
fn group(asked: &Asked, reader: &mut Reader) -> Result<(), DecodeError> {
    let found = reader.string("group_id")?;
    match found == asked.group_id {
        true => Ok(()),
        false => Err(DecodeError::NotAsked {
            field: "group_id",
            found,
        }),
    }
}

/// Reads an array of topics, each of which must be the one that was asked for, and returns their
/// partitions. `partition_bytes` is the least that one takes on the wire.
fn decode_topic<T>(
    asked: &Asked,
    naming: Naming,
    reader: &mut Reader,
    partition_bytes: usize,
    mut partition: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut partitions = Vec::new();
    // A topic takes at least its name's length, its partitions' count and its tags' count.
    reader.array("topics", 3, |reader| {
        match naming {
            Naming::Name => {
                let found = reader.string("topic")?;
                if found != asked.topic {
                    return Err(DecodeError::NotAsked {
                        field: "topic",
                        found,
                    });
                }
            }
            Naming::Id => {
                let found = reader.uuid("topic_id")?;
                if found != asked.topic_id {
                    let found = found.to_string();
                    return Err(DecodeError::NotAsked {
                        field: "topic_id",
                        found,
                    });
                }
            }
        }
        let mut more = reader.array("partitions", partition_bytes, &mut partition)?;
        if partitions.is_empty() {
            partitions = more;
        } else {
            partitions.append(&mut more);
        }
        reader.skip_tags("topics")
    })?;
    Ok(partitions)
}
