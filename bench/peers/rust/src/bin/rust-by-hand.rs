//! With the JSON written by hand into a buffer of the last event's size, base64 by AVX2, and an allocator that
//! librdkafka uses as well.

use std::error::Error;

use base64_simd::STANDARD;
use forebay_peers::Encoder;
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct ByHand {
    /// The event up to the records, with the brokers' names as JSON.
    head: Vec<u8>,
    /// A record's text up to its offset, the same for all of a partition.
    prefix: Vec<u8>,
    /// Bytes of the largest event so far.
    capacity: usize,
}

impl Encoder for ByHand {
    fn new(bootstrap: &str) -> Self {
        let bootstrap = serde_json::Value::from(bootstrap);
        let head = format!(
            r#"{{"eventSource":"SelfManagedKafka","bootstrapServers":{bootstrap},"records":{{""#
        );
        Self {
            head: head.into_bytes(),
            prefix: Vec::new(),
            capacity: 0,
        }
    }

    fn encode(&mut self, records: &[BorrowedMessage<'_>]) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(self.capacity);
        body.extend_from_slice(&self.head);
        if let Some(first) = records.first() {
            let (topic, partition) = (first.topic(), first.partition());
            body.extend_from_slice(format!("{topic}-{partition}\":[").as_bytes());
            if self.prefix.is_empty() {
                let prefix = format!(r#",{{"topic":"{topic}","partition":{partition},"offset":"#);
                self.prefix = prefix.into_bytes();
            }
        }
        let mut skipped = 1; // The comma.
        for record in records {
            body.extend_from_slice(&self.prefix[skipped..]);
            skipped = 0;
            append_record(&mut body, record)?;
        }
        body.extend_from_slice(b"]}}");
        self.capacity = self.capacity.max(body.len());
        Ok(body)
    }
}

/// What follows the prefix.
fn append_record(
    body: &mut Vec<u8>,
    record: &BorrowedMessage<'_>,
) -> Result<(), serde_json::Error> {
    append_number(body, record.offset());
    body.extend_from_slice(br#","timestamp":"#);
    match record.timestamp() {
        Timestamp::LogAppendTime(millis) => {
            append_number(body, millis);
            body.extend_from_slice(br#","timestampType":"LOG_APPEND_TIME""#);
        }
        created => {
            append_number(body, created.to_millis().unwrap_or(-1));
            body.extend_from_slice(br#","timestampType":"CREATE_TIME""#);
        }
    }
    if let Some(key) = record.key() {
        body.extend_from_slice(br#","key":""#);
        STANDARD.encode_append(key, body);
        body.push(b'"');
    }
    if let Some(value) = record.payload() {
        body.extend_from_slice(br#","value":""#);
        STANDARD.encode_append(value, body);
        body.push(b'"');
    }
    body.extend_from_slice(br#","headers":["#);
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    for (at, header) in headers.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        append_header(body, header.key, header.value.unwrap_or_default())?;
    }
    body.extend_from_slice(b"]}");
    Ok(())
}

fn append_header(body: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), serde_json::Error> {
    body.push(b'{');
    serde_json::to_writer(&mut *body, name)?;
    body.extend_from_slice(b":[");
    for (at, byte) in value.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        append_number(body, i64::from(byte.cast_signed()));
    }
    body.extend_from_slice(b"]}");
    Ok(())
}

fn append_number(body: &mut Vec<u8>, number: i64) {
    body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn main() -> Result<(), Box<dyn Error>> {
    forebay_peers::main::<ByHand>()
}
