//! ListOffsets (key 2): a partition's start, its end, or the first offset at or after a time.
//! KIP-79 (by time, v1: brokers from 0.10.1), KIP-98 (isolation level), KIP-320 (leader epochs).

use crate::kafka::error::ErrorCode;

/// The question for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch we believe in; -1 when unknown.
    pub current_leader_epoch: i32,
    /// [`ListOffsetsRequest::LATEST`], [`ListOffsetsRequest::EARLIEST`], or Unix milliseconds.
    pub timestamp: i64,
}

/// Asks for offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsetsRequest {
    /// Whether the end is the last stable offset (v2) instead of the high watermark.
    pub read_committed: bool,
    /// The topic.
    pub topic: String,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartition>,
}

impl ListOffsetsRequest {
    /// The `timestamp` that asks for the end.
    pub const LATEST: i64 = -1;
    /// The `timestamp` that asks for the start.
    pub const EARLIEST: i64 = -2;
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The partition.
    pub partition: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The timestamp of the record found; -1 when there is none.
    pub timestamp: i64,
    /// The offset; -1 when no record is that young.
    pub offset: i64,
    /// The leader epoch of that offset; -1 when unknown.
    pub leader_epoch: i32,
}

/// Offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Each partition of the request.
    pub partitions: Vec<ListedOffset>,
}
