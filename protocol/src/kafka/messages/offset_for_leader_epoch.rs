//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, to see that a log was truncated. KIP-101,
//! KIP-320. Used from v2 on.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest as WireRequest, TopicName,
    offset_for_leader_epoch_request as schema,
};

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

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

impl OffsetForLeaderEpochRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let partition = |asked: &LeaderEpochPartition| {
            schema::OffsetForLeaderPartition::default()
                .with_partition(asked.partition)
                .with_current_leader_epoch(asked.current_leader_epoch)
                .with_leader_epoch(asked.leader_epoch)
        };
        let topic = schema::OffsetForLeaderTopic::default()
            .with_topic(TopicName(text(&self.topic)))
            .with_partitions(self.partitions.iter().map(partition).collect());
        let request = WireRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        put(&request, version, out)
    }
}

impl OffsetForLeaderEpochResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = reader.i32("throttle_time_ms")?;
        let partitions = decode_topic(asked, Naming::Name, reader, 18, |reader| {
            let end = EpochEndOffset {
                error: ErrorCode(reader.i16("error_code")?),
                partition: reader.i32("partition")?,
                leader_epoch: reader.i32("leader_epoch")?,
                end_offset: reader.i64("end_offset")?,
            };
            reader.skip_tags("partitions")?;
            Ok(end)
        })?;
        reader.skip_tags("OffsetForLeaderEpochResponse")?;
        Ok(Self {
            throttle_ms,
            partitions,
        })
    }
}
