//! ListOffsets (key 2): a partition's start, its end, or the first offset at or after a time.
//! KIP-79 (by time, v1: brokers from 0.10.1), KIP-98 (isolation level), KIP-320 (leader epochs).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    ListOffsetsRequest as WireRequest, TopicName, list_offsets_request,
};

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};
use crate::limits::LIST_OFFSETS_WAIT;

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

impl ListOffsetsRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let partition = |asked: &ListOffsetsPartition| {
            list_offsets_request::ListOffsetsPartition::default()
                .with_partition_index(asked.partition)
                .with_current_leader_epoch(asked.current_leader_epoch)
                .with_timestamp(asked.timestamp)
        };
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(TopicName(text(&self.topic)))
            .with_partitions(self.partitions.iter().map(partition).collect());
        let wait_ms = i32::try_from(LIST_OFFSETS_WAIT.as_millis()).unwrap_or(i32::MAX);
        let request = WireRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(i8::from(self.read_committed && version >= 2))
            .with_topics(vec![topic])
            .with_timeout_ms(wait_ms);
        put(&request, version, out)
    }
}

impl ListOffsetsResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        let throttle_ms = if version >= 2 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let partitions = decode_topic(asked, Naming::Name, reader, 22, |reader| {
            let listed = ListedOffset {
                partition: reader.i32("partition_index")?,
                error: ErrorCode(reader.i16("error_code")?),
                timestamp: reader.i64("timestamp")?,
                offset: reader.i64("offset")?,
                leader_epoch: if version >= 4 {
                    reader.i32("leader_epoch")?
                } else {
                    -1
                },
            };
            reader.skip_tags("partitions")?;
            Ok(listed)
        })?;
        reader.skip_tags("ListOffsetsResponse")?;
        Ok(Self {
            throttle_ms,
            partitions,
        })
    }
}
