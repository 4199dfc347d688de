//! Fetch (key 1): record batches of one topic's partitions. KIP-74 (whole-response limit), KIP-98
//! (transactions), KIP-227 (sessions: every request of ours is a full one, id 0 epoch -1), KIP-320
//! (leader epochs), KIP-392 (nearest replica), KIP-516 (topic ids, v13).
//!
//! `kafka-protocol` begins at v4; v2 and v3 (brokers 0.10.1 and 0.10.2) are ours.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{FetchRequest as WireRequest, TopicName, fetch_request};
use uuid::Uuid;

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

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

impl FetchRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        if version < 4 {
            return self.encode_old(version, out);
        }
        let partition = |asked: &FetchPartition| {
            fetch_request::FetchPartition::default()
                .with_partition(asked.partition)
                .with_current_leader_epoch(asked.current_leader_epoch)
                .with_fetch_offset(asked.fetch_offset)
                .with_last_fetched_epoch(if version >= 12 {
                    asked.last_fetched_epoch
                } else {
                    -1
                })
                .with_partition_max_bytes(asked.max_bytes)
        };
        let topic = fetch_request::FetchTopic::default()
            .with_topic(TopicName(text(&self.topic)))
            .with_topic_id(self.topic_id)
            .with_partitions(self.partitions.iter().map(partition).collect());
        let request = WireRequest::default()
            .with_max_wait_ms(self.max_wait_ms)
            .with_min_bytes(self.min_bytes)
            .with_max_bytes(self.max_bytes)
            .with_isolation_level(i8::from(self.read_committed))
            .with_topics(vec![topic])
            .with_rack_id(text(&self.rack_id));
        put(&request, version, out)
    }

    /// Versions 2 and 3, which `kafka-protocol` lacks.
    fn encode_old(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let too_large = |what: &str| EncodeError(format!("{what} does not fit its length"));
        let name_bytes = i16::try_from(self.topic.len()).map_err(|_| too_large("topic"))?;
        let count = i32::try_from(self.partitions.len()).map_err(|_| too_large("partitions"))?;
        out.put_i32(-1); // replica_id: a consumer
        out.put_i32(self.max_wait_ms);
        out.put_i32(self.min_bytes);
        if version >= 3 {
            out.put_i32(self.max_bytes);
        }
        out.put_i32(1); // topics
        out.put_i16(name_bytes);
        out.put_slice(self.topic.as_bytes());
        out.put_i32(count);
        for partition in &self.partitions {
            out.put_i32(partition.partition);
            out.put_i64(partition.fetch_offset);
            out.put_i32(partition.max_bytes);
        }
        Ok(())
    }
}

impl FetchResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        let throttle_ms = reader.i32("throttle_time_ms")?;
        let error = if version >= 7 {
            reader.i16("error_code")?
        } else {
            0
        };
        if version >= 7 {
            reader.i32("session_id")?;
        }
        let naming = if version >= 13 {
            Naming::Id
        } else {
            Naming::Name
        };
        let partitions = decode_topic(asked, naming, reader, 18, |reader| {
            FetchedPartition::decode(version, reader)
        })?;
        reader.skip_tags("FetchResponse")?;
        Ok(Self {
            throttle_ms,
            error: ErrorCode(error),
            partitions,
        })
    }
}

impl FetchedPartition {
    fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut fetched = Self {
            partition: reader.i32("partition_index")?,
            error: ErrorCode(reader.i16("partition_error_code")?),
            high_watermark: reader.i64("high_watermark")?,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: Vec::new(),
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            records: Bytes::new(),
        };
        if version >= 4 {
            fetched.last_stable_offset = reader.i64("last_stable_offset")?;
        }
        if version >= 5 {
            fetched.log_start_offset = reader.i64("log_start_offset")?;
        }
        if version >= 4 {
            let aborted = reader.nullable_array("aborted_transactions", 16, |reader| {
                let aborted = AbortedTransaction {
                    producer_id: reader.i64("producer_id")?,
                    first_offset: reader.i64("first_offset")?,
                };
                reader.skip_tags("aborted_transactions")?;
                Ok(aborted)
            })?;
            fetched.aborted_transactions = aborted.unwrap_or_default();
        }
        if version >= 11 {
            fetched.preferred_read_replica = reader.i32("preferred_read_replica")?;
        }
        fetched.records = reader.nullable_bytes("records")?.unwrap_or_default();
        fetched.decode_tags(reader)?;
        Ok(fetched)
    }

    /// What a partition of version 12 and on may carry besides: tag 0 the diverging epoch, tag 1 the current
    /// leader. -1 in either means that the broker does not know. Tag 2 is for followers.
    fn decode_tags(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        reader.tags("partitions", |tag, mut reader| {
            match tag {
                0 => {
                    let (epoch, end) = (reader.i32("epoch")?, reader.i64("end_offset")?);
                    self.diverging_epoch = (epoch >= 0).then_some((epoch, end));
                }
                1 => {
                    let (leader, epoch) = (reader.i32("leader_id")?, reader.i32("leader_epoch")?);
                    self.current_leader = (leader >= 0 && epoch >= 0).then_some((leader, epoch));
                }
                _ => return Ok(()),
            }
            reader.skip_tags("partitions")?;
            reader.finish("partitions")
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
