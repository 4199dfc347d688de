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

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{
        ListOffsetsResponse as WireResponse, list_offsets_response as schema,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::ListOffsets;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            partitions in few((error_code(), any::<(i32, i64, i64, i32)>())),
        ) -> ListOffsetsResponse {
            let partitions = partitions.into_iter().map(|(error, told)| ListedOffset {
                partition: told.0,
                error,
                timestamp: told.1,
                offset: told.2,
                leader_epoch: told.3,
            });
            ListOffsetsResponse { throttle_ms, partitions: partitions.collect() }
        }
    }

    /// What of it that version carries.
    fn told(mut response: ListOffsetsResponse, version: i16) -> ListOffsetsResponse {
        if version < 2 {
            response.throttle_ms = 0;
        }
        for partition in &mut response.partitions {
            if version < 4 {
                partition.leader_epoch = -1;
            }
        }
        response
    }

    fn wire(told: &ListOffsetsResponse) -> WireResponse {
        let partition = |told: &ListedOffset| {
            schema::ListOffsetsPartitionResponse::default()
                .with_partition_index(told.partition)
                .with_error_code(told.error.0)
                .with_timestamp(told.timestamp)
                .with_offset(told.offset)
                .with_leader_epoch(told.leader_epoch)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topic = schema::ListOffsetsTopicResponse::default()
            .with_name(TopicName(wire_text(TOPIC)))
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_topics(vec![topic])
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&told(response, version))))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let told = told(response.clone(), version);
                let read = read(API, version, &wire(&told));
                prop_assert_eq!(read, Response::ListOffsets(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            read_committed in any::<bool>(),
            partitions in few(any::<(i32, i32, i64)>()),
        ) {
            let asked = |partition: &(i32, i32, i64)| ListOffsetsPartition {
                partition: partition.0,
                current_leader_epoch: partition.1,
                timestamp: partition.2,
            };
            let request = Request::ListOffsets(ListOffsetsRequest {
                read_committed,
                topic: TOPIC.to_owned(),
                partitions: partitions.iter().map(asked).collect(),
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                let isolation = i8::from(read_committed && version >= 2);
                prop_assert_eq!((read.replica_id.0, read.isolation_level), (-1, isolation));
                prop_assert_eq!(read.timeout_ms, if version >= 10 { 30_000 } else { 0 });
                prop_assert_eq!(&*read.topics[0].name.0, TOPIC);
                let read = read.topics[0].partitions.iter().map(|partition| {
                    (partition.partition_index, partition.current_leader_epoch, partition.timestamp)
                });
                let asked = partitions.iter().map(|partition| {
                    let epoch = if version >= 4 { partition.1 } else { -1 };
                    (partition.0, epoch, partition.2)
                });
                prop_assert!(read.eq(asked), "version {}", version);
            }
        }
    }
}
