//! OffsetFetch and OffsetCommit (keys 9 and 8): the group's committed offsets of one topic.

use crate::kafka::error::ErrorCode;
use uuid::Uuid;

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
