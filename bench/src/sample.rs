//! Record sets as a producer with Java's defaults leaves them, made by somebody else's encoder.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A batch is closed at about this many bytes of values.
const BATCH_BYTES: usize = 64 << 10;

/// `records` records of `value_bytes` incompressible bytes, with a key of eight.
pub(crate) fn record_set(records: usize, value_bytes: usize) -> Result<Bytes, String> {
    let mut noise = Noise::default();
    let per_batch = (BATCH_BYTES / value_bytes.max(1)).max(1);
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
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
                record(offset, noise.bytes(value_bytes))
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
}
