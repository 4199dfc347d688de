//! Fetch (key 1): record batches of one topic's partitions. KIP-74 (whole-response limit), KIP-98
//! (transactions), KIP-227 (sessions: every request of ours is a full one, id 0 epoch -1), KIP-320
//! (leader epochs), KIP-392 (nearest replica), KIP-516 (topic ids, v13).
//!
//! `kafka-protocol` begins at v4; v2 and v3 (brokers 0.10.1 and 0.10.2) are ours.

use bytes::Bytes;
use uuid::Uuid;

use crate::kafka::error::ErrorCode;

/// The question for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch we believe in; -1 when unknown (v9).
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the last record read; -1 when unknown (v12).
    pub last_fetched_epoch: i32,
    /// Bytes to bring of this partition, but for one batch that may be larger (KIP-74).
    pub max_bytes: i32,
}

/// Asks for record batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// Bytes to bring in all (v3).
    pub max_bytes: i32,
    /// Leave out what open and aborted transactions hold (v4).
    pub read_committed: bool,
    /// The topic (up to v12).
    pub topic: String,
    /// The topic's id (from v13); nil when unknown, and then v12 is the highest version that may be used.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
    /// Our rack, for the nearest replica (v11).
    pub rack_id: String,
}

/// A transaction that was aborted: records of that producer from `first_offset` on, up to its abort
/// marker, are void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Its first record in the transaction.
    pub first_offset: i64,
}

/// What came of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// Why there is nothing.
    pub error: ErrorCode,
    /// The offset after the last record that all replicas have; -1 when unknown.
    pub high_watermark: i64,
    /// The offset below which no transaction is open; -1 when unknown (v4).
    pub last_stable_offset: i64,
    /// The log's start; -1 when unknown (v5).
    pub log_start_offset: i64,
    /// Transactions aborted within the records, for read_committed.
    pub aborted_transactions: Vec<AbortedTransaction>,
    /// The replica to read from; -1 means the leader (v11).
    pub preferred_read_replica: i32,
    /// The log diverged from what we read (v12): the epoch and its end, where the broker told.
    pub diverging_epoch: Option<(i32, i64)>,
    /// The leader by now (v12 and on, with a leadership error): node id and epoch, where told.
    pub current_leader: Option<(i32, i32)>,
    /// Record batches or message sets, a slice of the frame; the tail may be cut.
    pub records: Bytes,
}

/// Record batches.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// The whole request's error (v7).
    pub error: ErrorCode,
    /// The partitions of the topic asked for.
    pub partitions: Vec<FetchedPartition>,
}
