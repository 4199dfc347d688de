//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, to see that a log was truncated. KIP-101,
//! KIP-320. Used from v2 on.

use crate::kafka::error::ErrorCode;

/// The question for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderEpochPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch we believe in; -1 when unknown.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// Asks where epochs ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetForLeaderEpochRequest {
    /// The topic.
    pub topic: String,
    /// The partitions.
    pub partitions: Vec<LeaderEpochPartition>,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The partition.
    pub partition: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The largest epoch at or below the one asked for; -1 when unknown.
    pub leader_epoch: i32,
    /// The offset after that epoch's last record; -1 when unknown.
    pub end_offset: i64,
}

/// Where epochs ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetForLeaderEpochResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Each partition of the request.
    pub partitions: Vec<EpochEndOffset>,
}
