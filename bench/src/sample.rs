//! Record sets as a producer with Java's defaults leaves them, made by somebody else's encoder.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use serde::{Deserialize, Serialize};

/// A batch is closed at about this many bytes of values.
const BATCH_BYTES: usize = 64 << 10;

/// The codec of source batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// Not compressed; the values are noise.
    None,
    /// gzip, as all that follow with values that can be compressed.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// `records` records of `value_bytes` bytes, with a key of eight.
pub(crate) fn record_set(
    records: usize,
    value_bytes: usize,
    source: Source,
) -> Result<Bytes, String> {
    let mut noise = Noise::default();
    encode(records, value_bytes, source, || match source {
        Source::None => noise.bytes(value_bytes),
        _ => noise.text(value_bytes),
    })
}

/// As many whose values are JSON.
pub(crate) fn order_set(records: usize, value_bytes: usize) -> Result<Bytes, String> {
    let order = order(value_bytes);
    encode(records, value_bytes, Source::None, || order.clone())
}

fn encode(
    records: usize,
    value_bytes: usize,
    source: Source,
    mut value: impl FnMut() -> Bytes,
) -> Result<Bytes, String> {
    let per_batch = (BATCH_BYTES / value_bytes.max(1)).max(1);
    let options = RecordEncodeOptions {
        version: 2,
        compression: match source {
            Source::None => Compression::None,
            Source::Gzip => Compression::Gzip,
            Source::Snappy => Compression::Snappy,
            Source::Lz4 => Compression::Lz4,
            Source::Zstd => Compression::Zstd,
        },
    };
    let mut set = BytesMut::new();
    let mut offset = 1_000_000_i64;
    let mut left = records;
    while left > 0 {
        let count = left.min(per_batch);
        left -= count;
        let batch: Vec<Record> = (0..count)
            .map(|_| {
                offset += 1;
                record(offset, value())
            })
            .collect();
        RecordBatchEncoder::encode(&mut set, &batch, &options)
            .map_err(|error| format!("a sample does not encode: {error}"))?;
    }
    Ok(set.freeze())
}

fn record(offset: i64, value: Bytes) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: i32::try_from(offset).unwrap_or_default(),
        // Three records a millisecond.
        timestamp: 1_700_000_000_000 + offset / 3,
        key: Some(Bytes::from(format!("{:08}", offset % 100_000_000))),
        value: Some(value),
        headers: Default::default(),
    }
}

/// xorshift64: the same bytes in each run.
pub(crate) struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    pub(crate) fn bytes(&mut self, count: usize) -> Bytes {
        let words = std::iter::repeat_with(|| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()
        });
        words.flatten().take(count).collect()
    }

    /// A text of common words, of which about a third is left when it is compressed.
    fn text(&mut self, count: usize) -> Bytes {
        const WORDS: [&str; 16] = [
            "order", "customer", "amount", "currency", "created", "shipped", "address", "status",
            "item", "price", "total", "country", "postcode", "true", "false", "null",
        ];
        let numbers = self.bytes(count);
        let words = numbers.iter().flat_map(|number| {
            let word = WORDS[usize::from(number % 16)].bytes();
            word.chain([b' ', b'0' + number / 26, b','])
        });
        words.take(count).collect()
    }
}

/// An order as JSON of so many bytes, or of as few as one can have; it ends with what is longest in coming.
pub(crate) fn order(bytes: usize) -> Bytes {
    const HEAD: &str = r#"{"orderId":"8d3f2c1e-6b1a-4c9e-9d53-0a4be7c1f2d3","createdAt":"2026-11-27T06:41:13.512Z","status":"CONFIRMED","amount":149.95,"currency":"EUR","customer":{"id":48213377,"name":"Alexandra Mustermann","email":"alexandra.mustermann@example.org","tier":"gold","address":{"street":"Hauptstrasse 12","zip":"10115","city":"Berlin","country":"DE"}},"items":["#;
    const NOTE: &str = r#"],"note":""#;
    const TAIL: &str = r#"","tags":["web","express","gift"],"source":{"system":"shop-frontend","version":"4.12.0","host":"10.20.30.40"},"flags":{"fraudChecked":true,"vip":false}}"#;
    let mut text = HEAD.to_owned();
    let mut number = 0;
    loop {
        let sku = number * 7919 % 1_000_000;
        let item = format!(
            r#"{{"sku":"SKU-{sku:06}","quantity":{},"price":{}.99,"title":"Article number {number} of the catalogue"}}"#,
            number % 9 + 1,
            number % 90 + 10,
        );
        if number > 0 {
            if text.len() + 1 + item.len() + NOTE.len() + TAIL.len() > bytes {
                break;
            }
            text.push(',');
        }
        text.push_str(&item);
        number += 1;
    }
    text.push_str(NOTE);
    let left = bytes.saturating_sub(text.len() + TAIL.len());
    text.extend(std::iter::repeat_n('.', left));
    text.push_str(TAIL);
    text.into()
}
