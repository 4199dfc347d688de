//! The shortest way from a producer to the function: one connection and nothing between them.
//!
//! The event is that which the appliance would send; it is not signed.
//!
//! Invariant: what is written goes to the function as it is, without a buffer of our own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64_simd::STANDARD;
use forebay_tests::fake_kafka::batch::NewRecord;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which calls are sent without waiting for the answers before.
#[derive(Debug)]
pub(crate) struct Hop {
    stream: TcpStream,
    /// The offset that comes next, by partition.
    next: BTreeMap<i32, i64>,
    /// What was read and belongs to a later answer.
    read: Vec<u8>,
}

impl Hop {
    /// Connects to a function's endpoint.
    pub(crate) fn connect(url: &str) -> Result<Self, String> {
        let connect = || {
            let stream = TcpStream::connect(url.trim_start_matches("http://"))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| format!("{url}: {error}"))?;
        Ok(Self::over(stream))
    }

    fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            next: BTreeMap::new(),
            read: Vec::new(),
        }
    }

    /// Calls with those records.
    pub(crate) fn send(
        &mut self,
        topic: &str,
        partition: i32,
        records: &[NewRecord],
    ) -> Result<(), String> {
        let next = self.next.entry(partition).or_default();
        let body = event(topic, partition, *next, records);
        *next += records.len() as i64;
        let call = format!(
            "POST /2015-03-31/functions/{topic}/invocations HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream
            .write_all(call.as_bytes())
            .map_err(|error| format!("the function cannot be reached: {error}"))
    }

    /// One answer.
    pub(crate) fn hear(&mut self) -> Result<(), String> {
        loop {
            if let Some((is_success, bytes)) = answer(&self.read)? {
                self.read.drain(..bytes);
                return is_success
                    .then_some(())
                    .ok_or_else(|| "the function refuses records".to_owned());
            }
            let mut more = [0; 4096];
            let count = self
                .stream
                .read(&mut more)
                .map_err(|error| format!("the function does not answer: {error}"))?;
            if count == 0 {
                return Err("the function hung up".to_owned());
            }
            self.read.extend_from_slice(&more[..count]);
        }
    }

    /// The same connection for another thread: one sends, the other hears.
    pub(crate) fn try_clone(&self) -> Result<Self, String> {
        let stream = self.stream.try_clone().map_err(|error| error.to_string())?;
        Ok(Self::over(stream))
    }
}

/// Whether the answer at the front is a success, and how long it is; `None` before it is whole.
fn answer(read: &[u8]) -> Result<Option<(bool, usize)>, String> {
    let text = String::from_utf8_lossy(read);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse::<usize>().ok())
        .ok_or_else(|| format!("an answer without a length: {head}"))?;
    let whole = head.len() + 4 + length;
    Ok((read.len() >= whole).then(|| (head.starts_with("HTTP/1.1 200"), whole)))
}

fn event(topic: &str, partition: i32, first: i64, records: &[NewRecord]) -> String {
    let mut text = format!(
        r#"{{"eventSource":"SelfManagedKafka","bootstrapServers":"b:1","records":{{"{topic}-{partition}":["#
    );
    for (offset, record) in (first..).zip(records) {
        let encoded = |it: &Option<bytes::Bytes>| {
            STANDARD.encode_to_string(it.as_deref().unwrap_or_default())
        };
        let comma = if offset > first { "," } else { "" };
        // Writing to a text cannot fail.
        write!(
            text,
            r#"{comma}{{"topic":"{topic}","partition":{partition},"offset":{offset},"timestamp":{},"timestampType":"CREATE_TIME","key":"{}","value":"{}","headers":[]}}"#,
            record.timestamp,
            encoded(&record.key),
            encoded(&record.value),
        )
        .ok();
    }
    text.push_str("]}}");
    text
}

#[cfg(test)]
mod tests {
    use forebay_tests::fake_lambda::lean::Lean;

    use super::*;
    use crate::producer::Values;

    #[test]
    fn event_is_the_appliances() {
        let values = Values::new(100);
        let records = [values.record(0, 1_000), values.record(1, 1_100)];
        let mut lean = Lean::new();
        lean.take(event("t", 3, 0, &records).as_bytes(), 1_300);
        lean.take(event("t", 3, 2, &records).as_bytes(), 1_300);
        assert_eq!((lean.records, lean.is_clean()), (4, true));
        assert_eq!(lean.latency.max(), 300);
    }

    #[test]
    fn answer_is_taken_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnullHTTP/1.1 500 No";
        let end = whole.len() - b"HTTP/1.1 500 No".len();
        assert_eq!(answer(whole), Ok(Some((true, end))));
        assert_eq!(answer(&whole[..end - 1]), Ok(None));
        assert_eq!(answer(b"HTTP/1.1 500 No\r\n"), Ok(None));
    }
}
