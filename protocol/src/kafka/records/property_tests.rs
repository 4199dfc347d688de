//! Records of every kind, compared with what `kafka-protocol` writes; and bytes of no kind.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType as TheirTimestampType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::encode::{TestBatch, TestMessage, TestRecord};
use super::{Decompressor, RecordReader, compress, scan};
use crate::kafka::messages::AbortedTransaction;

/// Bytes short and long, and some that compress.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 100..300),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn record() -> impl Strategy<Value = TestRecord> {
    let headers = vec(("[a-z]{0,5}", option::of(vec(any::<u8>(), 0..90))), 0..4);
    let timestamp = prop_oneof![Just(-1), any::<i64>(), 0..1_700_000_000_000_i64];
    (
        1..100_i64,
        timestamp,
        option::of(bytes()),
        option::of(bytes()),
        headers,
    )
        .prop_map(|(offset, timestamp, key, value, headers)| TestRecord {
            offset,
            timestamp,
            key,
            value,
            headers: headers
                .into_iter()
                .map(|(key, value)| (key.into_bytes(), value))
                .collect(),
        })
}

/// Records whose offsets ascend, with gaps.
fn records() -> impl Strategy<Value = Vec<TestRecord>> {
    vec(record(), 1..8).prop_map(|mut records| {
        let mut offset = -1;
        for record in &mut records {
            offset += record.offset;
            record.offset = offset;
        }
        records
    })
}

fn theirs(record: &TestRecord) -> TheirRecord {
    let headers: IndexMap<StrBytes, Option<Bytes>> = record
        .headers
        .iter()
        .map(|(key, value)| {
            let key = StrBytes::from_string(String::from_utf8(key.clone()).unwrap());
            (key, value.clone().map(Bytes::from))
        })
        .collect();
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TheirTimestampType::Creation,
        offset: record.offset,
        sequence: record.offset.try_into().unwrap(),
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers,
    }
}

fn read(set: Bytes, fetch_offset: i64) -> (Vec<TestRecord>, i64) {
    let mut decompressor = Decompressor::new();
    let mut reader = RecordReader::new(set, fetch_offset, Vec::new(), true);
    let mut records = Vec::new();
    while let Some(record) = reader.next(&mut decompressor).unwrap() {
        records.push(TestRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                .collect(),
        });
    }
    (records, reader.next_offset())
}

/// Reads whatever it is to its end or its first error: neither may be far.
fn exhaust(set: Bytes, aborted: Vec<AbortedTransaction>) {
    let most = set.len() * 2_000 + 10;
    let mut decompressor = Decompressor::with_limit(1 << 16);
    let mut reader = RecordReader::new(set.clone(), 0, aborted, true);
    let mut last = -1;
    let mut given = 0;
    while let Ok(Some(record)) = reader.next(&mut decompressor) {
        assert!(record.offset > last);
        last = record.offset;
        assert_eq!(record.headers.iter().count(), record.headers.len());
        given += 1;
        assert!(given <= most);
        assert!(reader.next_offset() > last);
    }
    if let Ok(scanned) = scan(&set) {
        assert!(scanned.batches <= set.len());
    }
}

proptest! {
    #[test]
    fn what_kafka_protocol_writes_is_read_back(
        mut records in records(),
        compression in prop_oneof![
            Just(Compression::None),
            Just(Compression::Gzip),
            Just(Compression::Snappy),
            Just(Compression::Lz4),
            Just(Compression::Zstd),
        ],
    ) {
        for record in &mut records {
            // What it cannot write: a header's key twice, and times further apart than it adds up.
            record.headers.sort();
            record.headers.dedup_by(|a, b| a.0 == b.0);
            record.timestamp = record.timestamp.clamp(-1, 1 << 50);
        }
        let mut set = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        let encoded: Vec<TheirRecord> = records.iter().map(theirs).collect();
        RecordBatchEncoder::encode(&mut set, &encoded, &options).unwrap();
        let set = set.freeze();
        let next_offset = records.last().unwrap().offset + 1;
        prop_assert_eq!(scan(&set).unwrap().next_offset, Some(next_offset));
        prop_assert_eq!(read(set, 0), (records, next_offset));
    }

    #[test]
    fn what_we_write_is_read_back(records in records(), skipped in 0..200_i64) {
        let set = Bytes::from(TestBatch::new(&records).encode());
        let next_offset = (records.last().unwrap().offset + 1).max(skipped);
        let wanted: Vec<_> = records.into_iter().filter(|r| r.offset >= skipped).collect();
        prop_assert_eq!(read(set, skipped), (wanted, next_offset));
    }

    #[test]
    fn random_bytes_are_an_end_or_an_error(set in vec(any::<u8>(), 0..300)) {
        exhaust(Bytes::from(set), Vec::new());
    }

    #[test]
    fn random_bytes_under_a_right_checksum_are_an_end_or_an_error(
        payload in vec(any::<u8>(), 0..300),
        attributes in any::<i16>(),
        count in any::<i32>(),
        first_offset in -1..3_i64,
    ) {
        let batch = TestBatch {
            attributes,
            count,
            payload: payload.clone(),
            producer_id: 1,
            last_offset: 1_000,
            ..TestBatch::new(&[TestRecord::new(0, b"")])
        };
        let aborted = vec![AbortedTransaction { producer_id: 1, first_offset }];
        exhaust(Bytes::from(batch.encode()), aborted);
        let [_, low] = attributes.to_be_bytes();
        for magic in [0, 1] {
            let message = TestMessage { attributes: low, ..TestMessage::new(magic, 3, &payload) };
            exhaust(Bytes::from(message.encode()), Vec::new());
        }
    }

    #[test]
    fn random_records_under_a_right_checksum_are_an_end_or_an_error(
        mut payload in vec(prop_oneof![0..20_u8, any::<u8>()], 0..100),
        count in 0..10_i32,
        gzip in any::<bool>(),
    ) {
        if gzip {
            payload = compress::gzip(&payload);
        }
        let batch = TestBatch {
            attributes: i16::from(gzip),
            count,
            payload: payload.clone(),
            last_offset: 1_000,
            ..TestBatch::new(&[TestRecord::new(0, b"")])
        };
        exhaust(Bytes::from(batch.encode()), Vec::new());
        let message = TestMessage { attributes: u8::from(gzip), ..TestMessage::new(1, 3, &payload) };
        exhaust(Bytes::from(message.encode()), Vec::new());
    }
}
