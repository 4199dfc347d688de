//! The documents that a failure becomes: AWS's invocation record (contract 5.3), and the message of a topic (5.4).
//!
//! Source: the AWS Lambda Developer Guide, "Capturing discarded batches for a self-managed Apache Kafka event source" and
//! "Using a Kafka topic as an on-failure destination".
//!
//! Invariant: strict JSON, the members in the documented order, offsets as strings. AWS's samples are no JSON (they have
//! remarks and alternatives in them); what it sends is.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::time::UtcTime;
use super::{Condition, FailedLane, Failure, FunctionResponse, object_key};

/// What a document says of the mapping, whatever failed.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The function's ARN as the mapping has it.
    pub function_arn: &'a str,
    /// The configured brokers, as the event shows them.
    pub bootstrap_servers: &'a str,
}

/// How documents spell the version of their format.
const VERSION: &str = "1.0";

/// What stands where a condition does in the document that only tries a destination.
pub(super) const PROBE: &str = "Probe";

/// Between the last member of a document and an event that is put behind it.
const PAYLOAD: &str = ",\"payload\":";

impl Failure {
    /// The invocation record, as queues and topics of AWS take it: without the event.
    pub fn invocation_record(&self, origin: Origin<'_>) -> String {
        self.document(origin).text()
    }

    /// The invocation record as buckets take it: with the event, whose pieces these are.
    pub fn invocation_record_with(&self, origin: Origin<'_>, event: &[Bytes]) -> String {
        let document = Document {
            payload: Some(Text(event)),
            ..self.document(origin)
        };
        document.text()
    }

    /// The message of a topic of the same cluster: of one record alone, whose own event has that size. `event` is its
    /// pieces; none where it is too large for the topic, or to be held: its place is told as queues are told it then.
    pub fn record_document(
        &self,
        origin: Origin<'_>,
        record: &FailedLane,
        event_bytes: usize,
        event: &[Bytes],
    ) -> String {
        let qualified = qualified(origin.function_arn);
        let origin = Origin {
            function_arn: &qualified,
            ..origin
        };
        let mut document = self.document(origin);
        // Why: AWS spells it so in topics.
        if self.condition == Condition::RetryAttemptsExhausted {
            document.request_context.condition = "RetriesExhausted";
        }
        document.batch_info = BatchInfo {
            batch_size: 1,
            payload_size: event_bytes,
            // Why: of the partition and the topic AWS's message tells in its event alone.
            records_info: event
                .is_empty()
                .then(|| RecordsInfo(std::slice::from_ref(record))),
            record_info: Some(RecordInfo {
                offset: record.first.offset.to_string(),
                timestamp: UtcTime::of_unix_ms(record.first.timestamp),
            }),
            ..document.batch_info
        };
        let mut text = document.text();
        if event.is_empty() {
            return text;
        }
        text.reserve(event_bytes + PAYLOAD.len() + 1);
        // The event is JSON already: it goes before the brace that closes the document.
        text.pop();
        text.push_str(PAYLOAD);
        text.extend(event.iter().map(as_text));
        text.push('}');
        text
    }

    fn document<'a>(&'a self, origin: Origin<'a>) -> Document<'a> {
        Document {
            request_context: RequestContext {
                request_id: &self.request_id,
                function_arn: origin.function_arn,
                condition: self.condition.as_str(),
                approximate_invoke_count: self.invoke_count,
            },
            response_context: self.response_context(),
            version: VERSION,
            timestamp: UtcTime::of_unix_ms(self.at_unix_ms),
            batch_info: BatchInfo {
                batch_size: self.records(),
                bootstrap_servers: origin.bootstrap_servers,
                payload_size: self.event_bytes,
                records_info: Some(RecordsInfo(&self.lanes)),
                record_info: None,
            },
            payload: None,
        }
    }

    /// `None` is without the member, `Some(None)` is null.
    fn response_context(&self) -> Option<Option<ResponseContext<'_>>> {
        let answered = self.response.as_ref().map(ResponseContext::of);
        match self.condition {
            Condition::MaximumPayloadSizeExceeded => Some(None),
            // Whatever was answered before: it is age that ended them.
            Condition::RecordAgeExceeded => None,
            Condition::RetryAttemptsExhausted | Condition::SkippedByOperator => answered.map(Some),
        }
    }
}

/// A document of the same shape that tells of no record: it shows whether a destination can be written to. Its
/// condition is `Probe`, and whoever goes through `recordsInfo` finds nothing to do.
pub fn probe(origin: Origin<'_>, request_id: &str, at_unix_ms: i64) -> String {
    let document = Document {
        request_context: RequestContext {
            request_id,
            function_arn: origin.function_arn,
            condition: PROBE,
            approximate_invoke_count: 0,
        },
        response_context: None,
        version: VERSION,
        timestamp: UtcTime::of_unix_ms(at_unix_ms),
        batch_info: BatchInfo {
            batch_size: 0,
            bootstrap_servers: origin.bootstrap_servers,
            payload_size: 0,
            records_info: Some(RecordsInfo(&[])),
            record_info: None,
        },
        payload: None,
    };
    document.text()
}

/// Where that lies in a bucket: beside the folders of the partitions.
pub fn probe_key(mapping: Uuid, at_unix_ms: i64, unique: Uuid) -> String {
    object_key(mapping, "probe", UtcTime::of_unix_ms(at_unix_ms), unique)
}

/// What an event takes as the text of a JSON string.
pub fn text_bytes(event: &[Bytes]) -> usize {
    let is_escaped = |byte: &&u8| matches!(byte, b'"' | b'\\');
    let of = |piece: &Bytes| piece.len() + piece.iter().filter(is_escaped).count();
    event.iter().map(of).sum()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<Option<ResponseContext<'a>>>,
    version: &'static str,
    timestamp: UtcTime,
    #[serde(rename = "KafkaBatchInfo")]
    batch_info: BatchInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    function_error: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo<'a> {
    batch_size: usize,
    bootstrap_servers: &'a str,
    payload_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_info: Option<RecordsInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_info: Option<RecordInfo>,
}

/// Each partition by `topic-partition`.
struct RecordsInfo<'a>(&'a [FailedLane]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LaneInfo {
    first_record_offset: String,
    last_record_offset: String,
    first_record_timestamp: UtcTime,
    last_record_timestamp: UtcTime,
}

#[derive(Serialize)]
struct RecordInfo {
    offset: String,
    timestamp: UtcTime,
}

/// An event as one JSON string.
#[derive(Clone, Copy)]
struct Text<'a>(&'a [Bytes]);

impl Document<'_> {
    fn text(&self) -> String {
        let payload = self.payload.map_or(0, |Text(event)| text_bytes(event));
        let mut text = Vec::with_capacity(payload + 1024);
        serde_json::to_writer(&mut text, self).expect("all of its values have a form in JSON");
        String::from_utf8(text).expect("serde_json writes UTF-8")
    }
}

impl<'a> ResponseContext<'a> {
    fn of(response: &'a FunctionResponse) -> Self {
        Self {
            status_code: response.status,
            executed_version: &response.executed_version,
            function_error: response.function_error.as_deref(),
        }
    }
}

impl Serialize for RecordsInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|lane| {
            let FailedLane { first, last, .. } = lane;
            let info = LaneInfo {
                first_record_offset: first.offset.to_string(),
                last_record_offset: last.offset.to_string(),
                first_record_timestamp: UtcTime::of_unix_ms(first.timestamp),
                last_record_timestamp: UtcTime::of_unix_ms(last.timestamp),
            };
            (format!("{}-{}", lane.topic, lane.partition), info)
        }))
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|piece| f.write_str(as_text(piece)))
    }
}

fn as_text(piece: &Bytes) -> &str {
    std::str::from_utf8(piece).expect("an event is ASCII (decision 3), however it is cut")
}

/// The ARN with a qualifier: `$LATEST`, where it has none.
pub fn qualified(function_arn: &str) -> String {
    /// `arn:aws:lambda:region:account:function:name`.
    const PARTS_UNQUALIFIED: usize = 7;
    match function_arn.split(':').count() {
        ..=PARTS_UNQUALIFIED => format!("{function_arn}:$LATEST"),
        _ => function_arn.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests;
