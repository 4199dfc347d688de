//! Record sets written by hand, for the tests: whatever the real producers' encoders refuse to write.
//!
//! Invariant: exists in tests only.

/// A record to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TestRecord {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl TestRecord {
    pub(super) fn new(offset: i64, value: &[u8]) -> Self {
        Self {
            offset,
            timestamp: 1_700_000_000_000 + offset,
            value: Some(value.to_vec()),
            ..Self::default()
        }
    }
}

/// A v2 batch to write; what is not set follows from the records.
#[derive(Clone, Debug)]
pub(super) struct TestBatch {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) attributes: i16,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) count: i32,
    /// The records as encoded; to be compressed by whoever sets a codec.
    pub(super) payload: Vec<u8>,
}

impl TestBatch {
    pub(super) fn new(records: &[TestRecord]) -> Self {
        let base_offset = records.first().map_or(0, |record| record.offset);
        let base_timestamp = records.first().map_or(-1, |record| record.timestamp);
        let mut payload = Vec::new();
        for record in records {
            put_record(&mut payload, record, base_offset, base_timestamp);
        }
        Self {
            base_offset,
            last_offset: records.last().map_or(0, |record| record.offset),
            leader_epoch: 3,
            attributes: 0,
            base_timestamp,
            max_timestamp: records.iter().map(|r| r.timestamp).max().unwrap_or(-1),
            producer_id: -1,
            count: records.len().try_into().unwrap(),
            payload,
        }
    }

    /// A transaction's end.
    pub(super) fn marker(offset: i64, producer_id: i64, abort: bool) -> Self {
        let marker = TestRecord {
            key: Some(vec![0, 0, 0, u8::from(!abort)]),
            ..TestRecord::new(offset, &[0, 0, 0, 0, 0, 7])
        };
        Self {
            attributes: 0x30,
            producer_id,
            ..Self::new(&[marker])
        }
    }

    /// A batch of a transaction.
    pub(super) fn transactional(producer_id: i64, records: &[TestRecord]) -> Self {
        Self {
            attributes: 0x10,
            producer_id,
            ..Self::new(records)
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut checked = Vec::new();
        checked.extend(self.attributes.to_be_bytes());
        let delta = self.last_offset.wrapping_sub(self.base_offset);
        checked.extend(i32::try_from(delta).unwrap().to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend(0_i16.to_be_bytes());
        checked.extend((-1_i32).to_be_bytes());
        checked.extend(self.count.to_be_bytes());
        checked.extend(&self.payload);

        let mut batch = Vec::new();
        batch.extend(self.base_offset.to_be_bytes());
        batch.extend(u32::try_from(checked.len() + 9).unwrap().to_be_bytes());
        batch.extend(self.leader_epoch.to_be_bytes());
        batch.push(2);
        batch.extend(crc32c::crc32c(&checked).to_be_bytes());
        batch.extend(checked);
        batch
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(super) fn put_unsigned(out: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(u8::try_from(raw).unwrap());
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len().try_into().unwrap());
            out.extend(bytes);
        }
        None => put_varint(out, -1),
    }
}

pub(super) fn put_record(out: &mut Vec<u8>, record: &TestRecord, offset: i64, timestamp: i64) {
    let mut body = vec![0];
    put_varint(&mut body, record.timestamp.wrapping_sub(timestamp));
    put_varint(&mut body, record.offset - offset);
    put_nullable(&mut body, record.key.as_deref());
    put_nullable(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len().try_into().unwrap());
    for (key, value) in &record.headers {
        put_nullable(&mut body, Some(key));
        put_nullable(&mut body, value.as_deref());
    }
    put_varint(out, body.len().try_into().unwrap());
    out.extend(body);
}

/// A message of format v0 or v1 to write.
#[derive(Clone, Debug)]
pub(super) struct TestMessage {
    pub(super) offset: i64,
    pub(super) magic: u8,
    pub(super) attributes: u8,
    /// Written in format v1 only.
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

impl TestMessage {
    pub(super) fn new(magic: u8, offset: i64, value: &[u8]) -> Self {
        Self {
            offset,
            magic,
            attributes: 0,
            timestamp: 1_500_000_000_000_i64.wrapping_add(offset),
            key: None,
            value: Some(value.to_vec()),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut checked = vec![self.magic, self.attributes];
        if self.magic > 0 {
            checked.extend(self.timestamp.to_be_bytes());
        }
        for bytes in [&self.key, &self.value] {
            let length = bytes
                .as_ref()
                .map_or(-1, |b| i32::try_from(b.len()).unwrap());
            checked.extend(length.to_be_bytes());
            checked.extend(bytes.iter().flatten());
        }
        let mut message = Vec::new();
        message.extend(self.offset.to_be_bytes());
        message.extend(u32::try_from(checked.len() + 4).unwrap().to_be_bytes());
        message.extend(crc32fast::hash(&checked).to_be_bytes());
        message.extend(checked);
        message
    }
}
