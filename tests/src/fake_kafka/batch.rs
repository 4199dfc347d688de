//! Record batches as a producer writes them: format v2 only, every codec, control batches too.
//!
//! Source: Kafka documentation, "Message Format"; KIP-98 (producer ids, control records).
//!
//! Invariant: what is built here is what a broker would accept from a real producer, crc included.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{self, Compressor};

/// Bytes of a batch before its records.
pub const HEAD_BYTES: usize = 61;

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const LOG_APPEND_TIME: i16 = 0x08;

/// One record to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Unix milliseconds.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers, in order, duplicates allowed.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl NewRecord {
    /// A record with a value alone.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// The same with a key.
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same at that Unix time in milliseconds.
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// The same with one more header.
    pub fn with_header(mut self, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        self.headers.push((key.into(), value));
        self
    }
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// snappy, in Java's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Who wrote a batch, for idempotence and transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub sequence: i32,
}

/// What else a batch says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOptions {
    /// The codec.
    pub codec: Codec,
    /// The producer.
    pub producer: Option<Producer>,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// The broker's time, which then stands for every record's.
    pub log_append_time: Option<i64>,
}

/// A batch of those records, base offset 0.
pub fn encode(records: &[NewRecord], options: BatchOptions) -> Bytes {
    assert!(!records.is_empty(), "a producer writes no empty batch");
    let base = records[0].timestamp;
    let max = options.log_append_time.unwrap_or_else(|| {
        records
            .iter()
            .map(|record| record.timestamp)
            .max()
            .unwrap_or(base)
    });
    let mut attributes = options.codec as i16;
    if options.transactional {
        attributes |= TRANSACTIONAL;
    }
    if options.log_append_time.is_some() {
        attributes |= LOG_APPEND_TIME;
    }
    let size: usize = records.iter().map(record_bound).sum();
    let mut body = BytesMut::with_capacity(HEAD_BYTES + size);
    put_head(
        &mut body,
        attributes,
        records.len(),
        (base, max),
        options.producer,
    );
    if options.codec == Codec::None {
        put_records(&mut body, records, base);
    } else {
        let mut plain = BytesMut::with_capacity(size);
        put_records(&mut plain, records, base);
        compress(options.codec, &plain, &mut body);
    }
    seal(body)
}

/// The batch that ends a transaction.
pub fn marker(producer_id: i64, producer_epoch: i16, committed: bool, timestamp: i64) -> Bytes {
    let key = Bytes::from(vec![0, 0, 0, u8::from(committed)]);
    let record = NewRecord {
        timestamp,
        key: Some(key),
        value: Some(Bytes::from_static(&[0; 6])),
        headers: Vec::new(),
    };
    let producer = Producer {
        id: producer_id,
        epoch: producer_epoch,
        sequence: -1,
    };
    let mut body = BytesMut::new();
    let span = (timestamp, timestamp);
    put_head(&mut body, TRANSACTIONAL | CONTROL, 1, span, Some(producer));
    put_records(&mut body, &[record], timestamp);
    seal(body)
}

/// What a batch's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// The first offset.
    pub base_offset: i64,
    /// Bytes in all, the 12 before the length's count included.
    pub total_bytes: usize,
    /// 2, or 0 and 1 for a legacy message.
    pub magic: i8,
    /// The attributes' bits.
    pub attributes: i16,
    /// The last offset less the first.
    pub last_offset_delta: i32,
    /// The newest timestamp.
    pub max_timestamp: i64,
    /// The producer; id -1 for none.
    pub producer: Producer,
    /// Records in it.
    pub records: i32,
}

impl BatchHead {
    /// The head of the first batch in `bytes`, or `None` where no whole batch begins.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let length = usize::try_from(i32_at(bytes, 8)?).ok()?;
        let total_bytes = length.checked_add(12)?;
        if bytes.len() < total_bytes {
            return None;
        }
        let magic = i8::from_be_bytes([*bytes.get(16)?]);
        let base_offset = i64_at(bytes, 0)?;
        if magic < 2 {
            return Some(Self {
                base_offset,
                total_bytes,
                magic,
                attributes: i16::from(*bytes.get(17)?),
                last_offset_delta: 0,
                max_timestamp: if magic == 1 { i64_at(bytes, 18)? } else { -1 },
                producer: Producer {
                    id: -1,
                    epoch: -1,
                    sequence: -1,
                },
                records: 1,
            });
        }
        Some(Self {
            base_offset,
            total_bytes,
            magic,
            attributes: i16_at(bytes, 21)?,
            last_offset_delta: i32_at(bytes, 23)?,
            max_timestamp: i64_at(bytes, 35)?,
            producer: Producer {
                id: i64_at(bytes, 43)?,
                epoch: i16_at(bytes, 51)?,
                sequence: i32_at(bytes, 53)?,
            },
            records: i32_at(bytes, 57)?,
        })
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.magic == 2 && self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it is a marker, not data.
    pub fn is_control(&self) -> bool {
        self.magic == 2 && self.attributes & CONTROL != 0
    }
}

/// Whether the marker in `batch` commits; `None` when it is no marker.
pub fn marker_commits(batch: &[u8]) -> Option<bool> {
    // One record: length, attributes, timestamp delta, offset delta and key length, one byte each as
    // this and Kafka's own writer have it, then the key: version (2 bytes), type (2 bytes).
    let key = batch.get(HEAD_BYTES + 5..HEAD_BYTES + 9)?;
    Some(key[3] == 1)
}

fn put_head(
    to: &mut BytesMut,
    attributes: i16,
    records: usize,
    (base, max): (i64, i64),
    producer: Option<Producer>,
) {
    let count = i32::try_from(records).expect("a batch's count fits");
    let producer = producer.unwrap_or(Producer {
        id: -1,
        epoch: -1,
        sequence: -1,
    });
    to.put_i64(0);
    to.put_i32(0); // length, by seal()
    to.put_i32(-1);
    to.put_i8(2);
    to.put_u32(0); // crc, by seal()
    to.put_i16(attributes);
    to.put_i32(count - 1);
    to.put_i64(base);
    to.put_i64(max);
    to.put_i64(producer.id);
    to.put_i16(producer.epoch);
    to.put_i32(producer.sequence);
    to.put_i32(count);
}

fn seal(mut body: BytesMut) -> Bytes {
    let length = i32::try_from(body.len() - 12).expect("a batch is below 2 GiB");
    body[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&body[21..]);
    body[17..21].copy_from_slice(&crc.to_be_bytes());
    body.freeze()
}

fn record_bound(record: &NewRecord) -> usize {
    let optional = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record
        .headers
        .iter()
        .map(|(key, value)| 10 + key.len() + optional(value))
        .sum();
    40 + optional(&record.key) + optional(&record.value) + headers
}

fn put_records(to: &mut BytesMut, records: &[NewRecord], base: i64) {
    let mut scratch = Vec::new();
    for (delta, record) in (0i64..).zip(records) {
        scratch.clear();
        scratch.put_i8(0);
        put_varint(&mut scratch, record.timestamp - base);
        put_varint(&mut scratch, delta);
        put_optional(&mut scratch, record.key.as_ref());
        // The value goes straight to its place: it is the bulk of a record.
        let value = record.value.as_deref();
        let mut head = Vec::with_capacity(16);
        put_varint(
            &mut head,
            value.map_or(-1, |v| i64::try_from(v.len()).expect("fits")),
        );
        let mut tail = Vec::new();
        put_varint(
            &mut tail,
            i64::try_from(record.headers.len()).expect("fits"),
        );
        for (key, value) in &record.headers {
            put_optional(&mut tail, Some(key));
            put_optional(&mut tail, value.as_ref());
        }
        let length = scratch.len() + head.len() + value.map_or(0, <[u8]>::len) + tail.len();
        let mut prefix = Vec::with_capacity(10);
        put_varint(&mut prefix, i64::try_from(length).expect("fits"));
        to.put_slice(&prefix);
        to.put_slice(&scratch);
        to.put_slice(&head);
        to.put_slice(value.unwrap_or_default());
        to.put_slice(&tail);
    }
}

fn put_optional(to: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_varint(to, i64::try_from(bytes.len()).expect("fits"));
            to.put_slice(bytes);
        }
        None => put_varint(to, -1),
    }
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.put_u8((zigzag as u8) | 0x80);
        zigzag >>= 7;
    }
    to.put_u8(zigzag as u8);
}

fn compress(codec: Codec, plain: &[u8], to: &mut BytesMut) {
    let fill = "the codec takes what fits in memory";
    match codec {
        Codec::None => to.put_slice(plain),
        Codec::Gzip => compression::Gzip::compress(to, |inner| {
            inner.put_slice(plain);
            Ok(())
        })
        .expect(fill),
        Codec::Snappy => compression::Snappy::compress(to, |inner| {
            inner.put_slice(plain);
            Ok(())
        })
        .expect(fill),
        Codec::Lz4 => compression::Lz4::compress(to, |inner| {
            inner.put_slice(plain);
            Ok(())
        })
        .expect(fill),
        Codec::Zstd => compression::Zstd::compress(to, |inner| {
            inner.put_slice(plain);
            Ok(())
        })
        .expect(fill),
    }
}

fn i16_at(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;

    fn check(codec: Codec) {
        let records = [
            NewRecord::value("a").at(5).with_key("k"),
            NewRecord {
                timestamp: 3,
                ..NewRecord::default()
            }
            .with_header("h", Some(Bytes::from_static(b"v"))),
        ];
        let options = BatchOptions {
            codec,
            ..BatchOptions::default()
        };
        let mut bytes = encode(&records, options);
        let head = BatchHead::parse(&bytes).unwrap();
        assert_eq!((head.last_offset_delta, head.max_timestamp), (1, 5));
        let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
        assert_eq!(set.records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(set.records[0].value.as_deref(), Some(&b"a"[..]));
        assert_eq!(set.records[1].timestamp, 3);
        assert_eq!(set.records[1].value, None);
        assert_eq!(set.records[1].headers.len(), 1);
    }

    #[test]
    fn every_codec_is_read_by_the_oracle() {
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            check(codec);
        }
    }

    #[test]
    fn marker_says_whether_it_commits() {
        assert_eq!(marker_commits(&marker(7, 0, true, 1)), Some(true));
        assert_eq!(marker_commits(&marker(7, 0, false, 1)), Some(false));
        assert!(
            BatchHead::parse(&marker(7, 0, false, 1))
                .unwrap()
                .is_control()
        );
    }
}
