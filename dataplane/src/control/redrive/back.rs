//! Records written back to the topic that they came from: to the partition that they had, with key, value, headers and
//! time.
//!
//! Invariant: a record counts as written once all replicas in sync have it.

use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::records::Codec;
use forebay_protocol::kafka::records::write::NewRecord;
use forebay_protocol::lambda::event::{EventRecord, EventText};

use super::brokers::{Brokers, BrokersError};

/// One batch has no more bytes than this, unless a record alone has: half of what brokers take if nobody says otherwise.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// What a record takes beside its key and value, or more.
const RECORD_OVERHEAD: usize = 64;

/// Records of one partition that are written at once.
pub(super) struct Chunk {
    pub(super) partition: i32,
    pub(super) offsets: Vec<i64>,
    records: Vec<NewRecord>,
    codec: Option<Codec>,
}

/// Why a chunk was not written.
pub(super) enum NotWritten {
    /// Of this one: why.
    Chunk(String),
    /// It is too large for one batch: these are its records.
    Split(Vec<Chunk>),
    /// Of any.
    Brokers(String),
}

impl Chunk {
    /// The records of an event, in its order.
    pub(super) fn of(event: &EventText) -> Result<Vec<Self>, String> {
        let mut chunks: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for of in event.records() {
            let record = of.record().map_err(|error| error.to_string())?;
            bytes += size(&record);
            match chunks.last_mut() {
                Some(open) if open.partition == of.partition && bytes <= BATCH_BYTES_MAX => {
                    open.offsets.push(of.offset);
                    open.records.push(record);
                }
                _ => {
                    bytes = size(&record);
                    chunks.push(Self::alone(of, record));
                }
            }
        }
        Ok(chunks)
    }

    fn alone(of: &EventRecord, record: NewRecord) -> Self {
        Self {
            partition: of.partition,
            offsets: vec![of.offset],
            records: vec![record],
            codec: None,
        }
    }

    /// Writes it.
    pub(super) async fn write(self, brokers: &mut Brokers, topic: &str) -> Result<(), NotWritten> {
        let written = brokers
            .produce(topic, self.partition, &self.records, self.codec)
            .await;
        let Err(error) = written else {
            return Ok(());
        };
        Err(match error {
            BrokersError::Refused(
                ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE,
                _,
            ) if self.records.len() > 1 || self.codec.is_none() => NotWritten::Split(self.split()),
            BrokersError::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED, _) => NotWritten::Brokers(
                format!("topic {topic} may not be written to; grant Write on it"),
            ),
            BrokersError::Unreachable(reason) => NotWritten::Brokers(reason),
            error => NotWritten::Chunk(format!("topic {topic} does not take it: {error}")),
        })
    }

    /// Each record alone; one that is alone already as small as it can be: it may have come compressed.
    fn split(self) -> Vec<Self> {
        let codec = (self.records.len() == 1).then_some(Codec::Gzip);
        let records = self.offsets.into_iter().zip(self.records);
        let one = |(offset, record)| Self {
            partition: self.partition,
            offsets: vec![offset],
            records: vec![record],
            codec,
        };
        records.map(one).collect()
    }
}

fn size(record: &NewRecord) -> usize {
    let bytes = |of: &Option<bytes::Bytes>| of.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + bytes(value) + 8)
        .sum();
    RECORD_OVERHEAD + bytes(&record.key) + bytes(&record.value) + headers
}
