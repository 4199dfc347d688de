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

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{
        OffsetForLeaderEpochResponse as WireResponse, offset_for_leader_epoch_response as answers,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::OffsetForLeaderEpoch;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            partitions in few((error_code(), any::<(i32, i32, i64)>())),
        ) -> OffsetForLeaderEpochResponse {
            let partitions = partitions.into_iter().map(|(error, told)| EpochEndOffset {
                partition: told.0,
                error,
                leader_epoch: told.1,
                end_offset: told.2,
            });
            OffsetForLeaderEpochResponse { throttle_ms, partitions: partitions.collect() }
        }
    }

    fn wire(told: &OffsetForLeaderEpochResponse) -> WireResponse {
        let partition = |told: &EpochEndOffset| {
            answers::EpochEndOffset::default()
                .with_partition(told.partition)
                .with_error_code(told.error.0)
                .with_leader_epoch(told.leader_epoch)
                .with_end_offset(told.end_offset)
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topic = answers::OffsetForLeaderTopicResult::default()
            .with_topic(TopicName(wire_text(TOPIC)))
            .with_partitions(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_topics(vec![topic])
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let read = read(API, version, &wire(&response));
                let told = response.clone();
                prop_assert_eq!(read, Response::OffsetForLeaderEpoch(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(partitions in few(any::<(i32, i32, i32)>())) {
            let asked = |partition: &(i32, i32, i32)| LeaderEpochPartition {
                partition: partition.0,
                current_leader_epoch: partition.1,
                leader_epoch: partition.2,
            };
            let request = Request::OffsetForLeaderEpoch(OffsetForLeaderEpochRequest {
                topic: TOPIC.to_owned(),
                partitions: partitions.iter().map(asked).collect(),
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                // -2, the schema's default, would be a debugging replica.
                prop_assert_eq!(read.replica_id.0, if version >= 3 { -1 } else { -2 });
                prop_assert_eq!(&*read.topics[0].topic.0, TOPIC);
                let read = read.topics[0].partitions.iter().map(|partition| {
                    (partition.partition, partition.current_leader_epoch, partition.leader_epoch)
                });
                prop_assert!(read.eq(partitions.iter().copied()), "version {}", version);
            }
        }
    }
}
