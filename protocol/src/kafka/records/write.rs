//! Records on their way to a broker: a batch of format v2 (KIP-98), or messages of format v1 (KIP-32) for brokers before
//! 0.11.
//!
//! They are few and written once, so they are written plainly: whole, and their checksum last.
//!
//! Invariant: what is written here reads as what was given, by our own reader and by Kafka's.

mod compression;

use bytes::{BufMut, Bytes, BytesMut};

use super::Codec;
use compression::compress;

/// A record to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers, each with its name and its value (`None` is null). Format v1 has none.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Who writes a batch, so that the broker knows one that comes again (idempotence).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// As InitProducerId gave it; -1 without idempotence.
    pub id: i64,
    /// Likewise.
    pub epoch: i16,
    /// The first record's number among those that this producer wrote to the partition; -1 without idempotence.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// Without idempotence.
    pub const NONE: Self = Self {
        id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// Appends one batch of format v2.
///
/// # Panics
/// If there is no record, or the batch exceeds 2 GiB: whoever writes keeps far below that.
pub fn write_batch(
    records: &[NewRecord],
    stamp: ProducerStamp,
    codec: Option<Codec>,
    out: &mut BytesMut,
) {
    let times = || records.iter().map(|record| record.timestamp);
    let (first, max) = (times().next(), times().max());
    let (first, max) = first.zip(max).expect("a batch has a record");
    let start = out.len();
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    let checked = out.len();
    out.put_i16(codec.map_or(0, Codec::number).into());
    out.put_i32(narrow(records.len() - 1));
    out.put_i64(first);
    out.put_i64(max);
    out.put_i64(stamp.id);
    out.put_i16(stamp.epoch);
    out.put_i32(stamp.base_sequence);
    out.put_i32(narrow(records.len()));
    let mut plain = BytesMut::new();
    let mut body = BytesMut::new();
    for (delta, record) in (0_i64..).zip(records) {
        body.clear();
        body.put_i8(0);
        put_varint(&mut body, record.timestamp.wrapping_sub(first));
        put_varint(&mut body, delta);
        put_nullable(&mut body, record.key.as_ref());
        put_nullable(&mut body, record.value.as_ref());
        put_varint(&mut body, i64::from(narrow(record.headers.len())));
        for (name, value) in &record.headers {
            put_nullable(&mut body, Some(name));
            put_nullable(&mut body, value.as_ref());
        }
        put_varint(&mut plain, i64::from(narrow(body.len())));
        plain.put_slice(&body);
    }
    match codec {
        Some(codec) => out.put_slice(&compress(codec, &plain)),
        None => out.put_slice(&plain),
    }
    let (length, sum) = (
        narrow(out.len() - start - 12),
        crc32c::crc32c(&out[checked..]),
    );
    out[start + 8..start + 12].copy_from_slice(&length.to_be_bytes());
    out[checked - 4..checked].copy_from_slice(&sum.to_be_bytes());
}

/// Appends one message of format v1 for each record, without its headers; or one that wraps them all, compressed.
///
/// # Panics
/// If a message exceeds 2 GiB, or the codec is zstd, which this format does not have.
pub fn write_messages(records: &[NewRecord], codec: Option<Codec>, out: &mut BytesMut) {
    let Some(codec) = codec else {
        for (offset, record) in (0_i64..).zip(records) {
            put_message(offset, record, 0, out);
        }
        return;
    };
    assert!(codec != Codec::Zstd, "messages are not compressed by zstd");
    let mut plain = BytesMut::new();
    write_messages(records, None, &mut plain);
    // KIP-31, KIP-32: the wrapper has the offset and the time of the last of them.
    let wrapper = NewRecord {
        timestamp: records.iter().map(|it| it.timestamp).max().unwrap_or(-1),
        key: None,
        value: Some(compress(codec, &plain).into()),
        headers: Vec::new(),
    };
    let last = i64::from(narrow(records.len())) - 1;
    put_message(last, &wrapper, codec.number(), out);
}

fn put_message(offset: i64, record: &NewRecord, attributes: u8, out: &mut BytesMut) {
    let mut checked = BytesMut::new();
    checked.put_i8(1);
    checked.put_u8(attributes);
    checked.put_i64(record.timestamp);
    for bytes in [&record.key, &record.value] {
        match bytes {
            Some(bytes) => {
                checked.put_i32(narrow(bytes.len()));
                checked.put_slice(bytes);
            }
            None => checked.put_i32(-1),
        }
    }
    out.put_i64(offset);
    out.put_i32(narrow(checked.len() + 4));
    out.put_u32(crc32fast::hash(&checked));
    out.put_slice(&checked);
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, i64::from(narrow(bytes.len())));
            out.put_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// Zigzag, seven bits a byte, the lowest first.
fn put_varint(out: &mut BytesMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.put_u8(low_bits(raw) | 0x80);
        raw >>= 7;
    }
    out.put_u8(low_bits(raw));
}

fn low_bits(raw: u64) -> u8 {
    raw.to_le_bytes()[0] & 0x7f
}

fn narrow(length: usize) -> i32 {
    i32::try_from(length).expect("a batch stays far below 2 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::records::{Decompressor, RecordReader, scan};

    const CODECS: [Option<Codec>; 5] = [
        None,
        Some(Codec::Gzip),
        Some(Codec::Snappy),
        Some(Codec::Lz4),
        Some(Codec::Zstd),
    ];

    prop_compose! {
        fn any_record()(
            timestamp in prop_oneof![0_i64..2_000_000_000_000, Just(-1)],
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            headers in proptest::collection::vec((any::<u8>(), proptest::option::of(any::<u64>())), 0..4),
        ) -> NewRecord {
            let header = |(name, value): (u8, Option<u64>)| {
                let value = value.map(|value| Bytes::copy_from_slice(&value.to_be_bytes()));
                (Bytes::copy_from_slice(&[name]), value)
            };
            NewRecord {
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.into_iter().map(header).collect(),
            }
        }
    }

    /// What our reader reads of it.
    fn read(set: BytesMut) -> Vec<(i64, NewRecord)> {
        let mut reader = RecordReader::new(set.freeze(), 0, Vec::new(), false);
        let mut decompressor = Decompressor::new();
        let mut records = Vec::new();
        while let Some(record) = reader.next(&mut decompressor).unwrap() {
            let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
            let headers = record.headers.iter();
            let headers = headers.map(|(name, value)| (Bytes::copy_from_slice(name), copy(value)));
            records.push((
                record.offset,
                NewRecord {
                    timestamp: record.timestamp,
                    key: copy(record.key),
                    value: copy(record.value),
                    headers: headers.collect(),
                },
            ));
        }
        records
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_was_given(
            records in proptest::collection::vec(any_record(), 1..20),
        ) {
            let expected: Vec<_> = (0_i64..).zip(records.iter().cloned()).collect();
            let mut without_headers = expected.clone();
            without_headers.iter_mut().for_each(|(_, record)| record.headers.clear());
            for codec in CODECS {
                let mut batch = BytesMut::new();
                write_batch(&records, ProducerStamp::NONE, codec, &mut batch);
                prop_assert_eq!(read(batch), expected.clone(), "{:?}", codec);
                if codec != Some(Codec::Zstd) {
                    let mut messages = BytesMut::new();
                    write_messages(&records, codec, &mut messages);
                    prop_assert_eq!(read(messages), without_headers.clone(), "{:?}", codec);
                }
            }
        }
    }

    #[test]
    fn large_records_are_compressed_in_many_blocks_that_kafka_protocol_reads() {
        use kafka_protocol::records::RecordBatchDecoder;
        // Half of it has a pattern, half of it has none.
        let pattern = (0..100_000_u32).map(|at| (at % 7) as u8);
        let noise = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8);
        let value = Bytes::from(pattern.chain(noise).collect::<Vec<u8>>());
        let record = NewRecord {
            timestamp: 7,
            key: Some(Bytes::from_static(b"k")),
            value: Some(value.clone()),
            headers: Vec::new(),
        };
        for codec in CODECS {
            let mut batch = BytesMut::new();
            let records = [record.clone(), record.clone()];
            write_batch(&records, ProducerStamp::NONE, codec, &mut batch);
            let set = RecordBatchDecoder::decode(&mut batch.clone().freeze()).unwrap();
            assert_eq!(set.records.len(), 2, "{codec:?}");
            assert!(set.records.iter().all(|it| it.value == Some(value.clone())));
            assert_eq!(scan(&batch.freeze()).unwrap().codec, codec);
        }
    }

    #[test]
    fn kafka_protocol_reads_who_has_written_a_batch() {
        use kafka_protocol::records::RecordBatchDecoder;
        let stamp = ProducerStamp {
            id: 4711,
            epoch: 3,
            base_sequence: 90,
        };
        let record = |value: &'static [u8]| NewRecord {
            timestamp: 7,
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: Vec::new(),
        };
        let mut batch = BytesMut::new();
        write_batch(&[record(b"a"), record(b"b")], stamp, None, &mut batch);
        let set = RecordBatchDecoder::decode(&mut batch.freeze()).unwrap();
        let told: Vec<_> = set
            .records
            .iter()
            .map(|it| {
                (
                    it.producer_id,
                    it.producer_epoch,
                    it.sequence,
                    it.value.clone(),
                )
            })
            .collect();
        let value = |value: &'static [u8]| Some(Bytes::from_static(value));
        assert_eq!(
            told,
            [(4711, 3, 90, value(b"a")), (4711, 3, 91, value(b"b"))]
        );
    }
}
