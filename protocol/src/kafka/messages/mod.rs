//! The Kafka messages that Forebay speaks, one file per API, each with its request and its answer.
//!
//! A request is a plain value that encodes itself in a negotiated version; an answer is decoded by the
//! bounded readers of [`wire`](super::wire) into a plain value that no longer shows its version.
//! A mapping reads one topic, so requests about partitions name one topic.

mod api_versions;
mod fetch;
mod find_coordinator;
mod group;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod offsets;

pub use api_versions::{ApiRange, ApiVersionsResponse};
pub use fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchedPartition,
};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use group::{
    GroupAssignment, GroupMember, GroupProtocol, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse,
};
pub use list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListedOffset,
};
pub use metadata::{Broker, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata};
pub use offset_for_leader_epoch::{
    EpochEndOffset, LeaderEpochPartition, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
pub use offsets::{
    CommitPartition, CommittedOffset, CommittedPartition, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::error::ErrorCode;

/// The APIs that Forebay calls, by their wire key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "the names are Kafka's own")]
pub enum ApiKey {
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    ApiVersions = 18,
    OffsetForLeaderEpoch = 23,
}

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
    /// The answer's error code is all there is.
    Heartbeat(ErrorCode),
    /// The answer's error code (the member's, where the version has one).
    LeaveGroup(ErrorCode),
    OffsetFetch(OffsetFetchResponse),
    OffsetCommit(OffsetCommitResponse),
    ListOffsets(ListOffsetsResponse),
    OffsetForLeaderEpoch(OffsetForLeaderEpochResponse),
    Fetch(FetchResponse),
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
        }
    }
}
