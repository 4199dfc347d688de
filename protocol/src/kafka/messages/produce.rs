//! Produce (key 0): records for partitions of one topic, acknowledged by all replicas in sync. KIP-98 (idempotence, from
//! v3 on), KIP-467 (why a record was refused, from v8 on). v2, for brokers before 0.11, carries messages of format v1.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ProduceRequest as WireRequest, TopicName, produce_request as schema,
};

use super::{Asked, EncodeError, Naming, decode_topic, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::records::Codec;
use crate::kafka::records::write::{NewRecord, ProducerStamp, write_batch, write_messages};
use crate::kafka::wire::{DecodeError, Reader};

/// All replicas in sync have it before the broker answers.
const ALL: i16 = -1;

/// The first version whose records are batches.
pub(crate) const BATCHES_SINCE: i16 = 3;

/// The first version that has zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// Writes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The topic.
    pub topic: String,
    /// How long the broker may wait for the replicas, in milliseconds.
    pub timeout_ms: i32,
    /// The partitions, each once.
    pub partitions: Vec<ProducePartition>,
}

/// One partition's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition.
    pub partition: i32,
    /// Who writes them; without effect before v3.
    pub stamp: ProducerStamp,
    /// How they are compressed; gzip stands in for zstd, where the broker is too old for that.
    pub codec: Option<Codec>,
    /// One at least.
    pub records: Vec<NewRecord>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Each partition of the request.
    pub partitions: Vec<ProducedPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedPartition {
    /// The partition.
    pub partition: i32,
    /// Why nothing was written.
    pub error: ErrorCode,
    /// The first record's offset; -1 with an error.
    pub base_offset: i64,
    /// The broker's words, where it has any (from v8 on).
    pub message: Option<String>,
}

impl ProduceRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        if version < BATCHES_SINCE {
            return self.encode_messages(out);
        }
        let partition = |of: &ProducePartition| {
            let mut records = BytesMut::new();
            let codec = spoken(of.codec, version);
            write_batch(&of.records, of.stamp, codec, &mut records);
            schema::PartitionProduceData::default()
                .with_index(of.partition)
                .with_records(Some(records.freeze()))
        };
        let topic = schema::TopicProduceData::default()
            .with_name(TopicName(text(&self.topic)))
            .with_partition_data(self.partitions.iter().map(partition).collect());
        let request = WireRequest::default()
            .with_transactional_id(None)
            .with_acks(ALL)
            .with_timeout_ms(self.timeout_ms)
            .with_topic_data(vec![topic]);
        put(&request, version, out)
    }

    /// v2, which `kafka-protocol` knows no more.
    fn encode_messages(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let too_long = |what: &str| EncodeError(format!("{what} is too long for the wire"));
        out.put_i16(ALL);
        out.put_i32(self.timeout_ms);
        out.put_i32(1);
        out.put_i16(i16::try_from(self.topic.len()).map_err(|_| too_long("the topic"))?);
        out.put_slice(self.topic.as_bytes());
        let count = i32::try_from(self.partitions.len());
        out.put_i32(count.map_err(|_| too_long("the list of partitions"))?);
        for of in &self.partitions {
            let mut records = BytesMut::new();
            write_messages(&of.records, spoken(of.codec, 2), &mut records);
            out.put_i32(of.partition);
            let length = i32::try_from(records.len());
            out.put_i32(length.map_err(|_| too_long("the set of records"))?);
            out.put_slice(&records);
        }
        Ok(())
    }
}

/// The codec, or one that the broker has instead.
fn spoken(codec: Option<Codec>, version: i16) -> Option<Codec> {
    match codec {
        Some(Codec::Zstd) if version < ZSTD_SINCE => Some(Codec::Gzip),
        other => other,
    }
}

impl ProduceResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        let partitions = decode_topic(asked, Naming::Name, reader, 22, |reader| {
            let partition = reader.i32("index")?;
            let error = ErrorCode(reader.i16("error_code")?);
            let base_offset = reader.i64("base_offset")?;
            reader.i64("log_append_time_ms")?;
            if version >= 5 {
                reader.i64("log_start_offset")?;
            }
            let mut message = None;
            if version >= 8 {
                // The first record's words stand in for a batch without any of its own.
                let of_records = reader.array("record_errors", 5, |reader| {
                    reader.i32("batch_index")?;
                    let words = reader.nullable_string("batch_index_error_message")?;
                    reader.skip_tags("record_errors")?;
                    Ok(words)
                })?;
                message = reader.nullable_string("error_message")?;
                message = message.or_else(|| of_records.into_iter().flatten().next());
            }
            reader.skip_tags("partition_responses")?;
            Ok(ProducedPartition {
                partition,
                error,
                base_offset,
                message,
            })
        })?;
        let throttle_ms = reader.i32("throttle_time_ms")?;
        reader.skip_tags("ProduceResponse")?;
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
        ProduceResponse as WireResponse, produce_response as answers_schema,
    };
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::Produce;

    prop_compose! {
        fn any_partition()(
            partition in any::<i32>(),
            error in error_code(),
            base_offset in any::<i64>(),
            message in proptest::option::of(label()),
        ) -> ProducedPartition {
            ProducedPartition { partition, error, base_offset, message }
        }
    }

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            partitions in few(any_partition()),
        ) -> ProduceResponse {
            ProduceResponse { throttle_ms, partitions }
        }
    }

    fn wire(told: &ProduceResponse) -> WireResponse {
        let partition = |told: &ProducedPartition| {
            answers_schema::PartitionProduceResponse::default()
                .with_index(told.partition)
                .with_error_code(told.error.0)
                .with_base_offset(told.base_offset)
                .with_log_append_time_ms(7)
                .with_error_message(told.message.as_deref().map(wire_text))
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let topic = answers_schema::TopicProduceResponse::default()
            .with_name(TopicName(wire_text(TOPIC)))
            .with_partition_responses(told.partitions.iter().map(partition).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_responses(vec![topic])
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    /// The version that `kafka-protocol` writes an answer in that looks like that.
    fn oracle(version: i16) -> i16 {
        version.max(BATCHES_SINCE)
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, oracle(version), &wire(&response)))
            .boxed()
    }

    /// What a broker of that version can tell.
    fn told(response: &ProduceResponse, version: i16) -> ProduceResponse {
        let mut told = response.clone();
        for partition in &mut told.partitions {
            partition.message = partition.message.take().filter(|_| version >= 8);
        }
        told
    }

    #[test]
    fn a_refused_record_speaks_for_a_batch_without_words() {
        let words = answers_schema::BatchIndexAndErrorMessage::default()
            .with_batch_index_error_message(Some(wire_text("no timestamp")));
        let mut response = wire(&ProduceResponse {
            throttle_ms: 0,
            partitions: vec![ProducedPartition {
                partition: 1,
                error: ErrorCode(87),
                base_offset: -1,
                message: None,
            }],
        });
        response.responses[0].partition_responses[0].record_errors = vec![words];
        match read(API, 12, &response) {
            Response::Produce(read) => {
                assert_eq!(read.partitions[0].message.as_deref(), Some("no timestamp"));
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let bytes = answer(API, oracle(version), &wire(&response));
                let read = Response::decode(&asked(API, version), bytes).unwrap();
                let told = told(&response, version);
                prop_assert_eq!(read, Response::Produce(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            partitions in proptest::collection::vec((any::<i32>(), any::<(i64, i16, u16)>()), 1..4),
            value in blob(),
        ) {
            let record = NewRecord { timestamp: 5, value: Some(value.clone()), ..NewRecord::default() };
            let request = ProduceRequest {
                topic: TOPIC.to_owned(),
                timeout_ms: 1234,
                partitions: partitions.iter().map(|(partition, (id, epoch, sequence))| {
                    ProducePartition {
                        partition: *partition,
                        stamp: ProducerStamp {
                            id: *id,
                            epoch: *epoch,
                            base_sequence: i32::from(*sequence),
                        },
                        codec: Some(Codec::Zstd),
                        records: vec![record.clone(), record.clone()],
                    }
                }).collect(),
            };
            for version in versions(API).filter(|version| *version >= BATCHES_SINCE) {
                let read: WireRequest = written(&Request::Produce(request.clone()), version);
                prop_assert_eq!(read.acks, -1);
                prop_assert_eq!(read.timeout_ms, 1234);
                prop_assert_eq!(&read.transactional_id, &None);
                prop_assert_eq!(&*read.topic_data[0].name.0, TOPIC);
                for (of, (partition, (id, ..))) in
                    read.topic_data[0].partition_data.iter().zip(&partitions)
                {
                    prop_assert_eq!(of.index, *partition);
                    let mut records = of.records.clone().unwrap();
                    let set = RecordBatchDecoder::decode(&mut records).unwrap();
                    prop_assert_eq!(set.records.len(), 2);
                    prop_assert_eq!(set.records[1].producer_id, *id);
                    prop_assert_eq!(&set.records[1].value, &Some(value.clone()));
                }
            }
        }
    }

    #[test]
    fn brokers_before_batches_get_messages() {
        let record = NewRecord {
            timestamp: 5,
            value: Some(Bytes::from_static(b"v")),
            ..NewRecord::default()
        };
        let request = ProduceRequest {
            topic: TOPIC.to_owned(),
            timeout_ms: 9,
            partitions: vec![ProducePartition {
                partition: 3,
                stamp: ProducerStamp::NONE,
                codec: None,
                records: vec![record.clone()],
            }],
        };
        let mut expected =
            BytesMut::from(&b"\xff\xff\0\0\0\x09\0\0\0\x01\0\x05topic\0\0\0\x01\0\0\0\x03"[..]);
        let mut set = BytesMut::new();
        write_messages(&[record], None, &mut set);
        expected.put_i32(set.len().try_into().unwrap());
        expected.put_slice(&set);
        let mut written = BytesMut::new();
        Request::Produce(request).encode(2, &mut written).unwrap();
        assert_eq!(written, expected);
    }
}
