//! Documents of failed records, read again: those of Forebay, and those of AWS, which have the same shapes (contract 5.3,
//! 5.4).
//!
//! Invariant: a member that is not known is passed over, one that is not understood makes the text no document, and
//! nothing is taken from a text that is none.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::document::PROBE;

/// A document of failed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDocument {
    /// The function's ARN; in topics with a qualifier.
    pub function_arn: String,
    /// Why: also words that Forebay does not have.
    pub condition: String,
    /// The brokers, joined by `,`; `None` in documents of other event sources.
    pub bootstrap_servers: Option<String>,
    /// Records that failed.
    pub batch_size: u64,
    /// The bytes of their event.
    pub payload_size: u64,
    /// The partitions; none in the document of one record that topics have.
    pub lanes: Vec<LaneRange>,
    /// The event, where it is there.
    pub payload: Option<String>,
}

/// Offsets of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first record that failed,
    pub first_offset: i64,
    /// and the last, not before it.
    pub last_offset: i64,
    /// The first one's time, as [`iso_utc`](super::iso_utc) writes it; empty where it is not told.
    pub first_time: String,
    /// The last one's time.
    pub last_time: String,
}

/// Why a text is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDocument {
    /// It is something else, or is not understood.
    #[error("it is no document of failed Kafka records (line {line}, column {column})")]
    Unlike {
        /// Where that shows,
        line: usize,
        /// and in which column.
        column: usize,
    },
    /// It is the record of an event source that is not Kafka.
    #[error("it is the record of another kind of event source than Kafka")]
    OtherSource,
}

impl FailureDocument {
    /// Reads what a bucket, a queue or a topic holds. A queue that hears a topic of SNS has each document in an
    /// envelope, unless it is delivered raw: both are read.
    pub fn read(text: &str) -> Result<Self, NoDocument> {
        let envelope: Option<Envelope> = serde_json::from_str(text).ok();
        match envelope {
            Some(envelope) if envelope.kind == "Notification" => Self::read_bare(&envelope.message),
            _ => Self::read_bare(text),
        }
    }

    fn read_bare(text: &str) -> Result<Self, NoDocument> {
        // Positions alone: what serde says may quote a record.
        let wire: Wire<'_> = serde_json::from_str(text).map_err(|error| NoDocument::Unlike {
            line: error.line(),
            column: error.column(),
        })?;
        let info = wire.batch_info.ok_or(NoDocument::OtherSource)?;
        Ok(Self {
            function_arn: wire.request_context.function_arn,
            condition: wire.request_context.condition,
            bootstrap_servers: info.bootstrap_servers,
            batch_size: info.batch_size,
            payload_size: info.payload_size,
            lanes: info.records_info.0,
            payload: wire.payload.and_then(payload),
        })
    }

    /// Whether it only tries the destination, and tells of no record.
    pub fn is_probe(&self) -> bool {
        self.condition == PROBE
    }
}

/// In buckets the event is a string, in topics an object.
fn payload(value: &RawValue) -> Option<String> {
    match serde_json::from_str::<Option<String>>(value.get()) {
        Ok(text) => text,
        Err(_) => Some(value.get().to_owned()),
    }
}

/// What SNS puts a message into.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    request_context: WireContext,
    #[serde(rename = "KafkaBatchInfo")]
    batch_info: Option<WireInfo>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContext {
    function_arn: String,
    condition: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireInfo {
    #[serde(default)]
    batch_size: u64,
    bootstrap_servers: Option<String>,
    #[serde(default)]
    payload_size: u64,
    #[serde(default)]
    records_info: Lanes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLane {
    first_record_offset: Offset,
    last_record_offset: Offset,
    #[serde(default)]
    first_record_timestamp: String,
    #[serde(default)]
    last_record_timestamp: String,
}

#[derive(Default)]
struct Lanes(Vec<LaneRange>);

impl<'de> Deserialize<'de> for Lanes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LanesVisitor)
    }
}

struct LanesVisitor;

impl<'de> Visitor<'de> for LanesVisitor {
    type Value = Lanes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("offsets by topic-partition")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut lanes: Vec<LaneRange> = Vec::new();
        while let Some((name, told)) = members.next_entry::<String, WireLane>()? {
            let (first, last) = (told.first_record_offset.0, told.last_record_offset.0);
            let named = name.rsplit_once('-').and_then(|(topic, partition)| {
                let is_number = partition.bytes().all(|byte| byte.is_ascii_digit());
                let partition = partition.parse().ok().filter(|_| is_number)?;
                Some((topic.to_owned(), partition))
            });
            let (topic, partition) = named.ok_or_else(|| A::Error::custom("no topic-partition"))?;
            let is_told = |it: &LaneRange| it.topic == topic && it.partition == partition;
            if first > last || lanes.iter().any(is_told) {
                return Err(A::Error::custom("offsets that cannot be"));
            }
            lanes.push(LaneRange {
                topic,
                partition,
                first_offset: first,
                last_offset: last,
                first_time: told.first_record_timestamp,
                last_time: told.last_record_timestamp,
            });
        }
        Ok(Lanes(lanes))
    }
}

/// Text, as AWS has it, or a number.
struct Offset(i64);

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelt {
            Number(i64),
            Text(String),
        }
        let offset = match Spelt::deserialize(deserializer)? {
            Spelt::Number(offset) => Some(offset),
            Spelt::Text(digits) => {
                let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse().ok().filter(|_| is_decimal)
            }
        };
        let offset = offset.filter(|offset| (0..i64::MAX).contains(offset));
        Ok(Self(offset.ok_or_else(|| D::Error::custom("no offset"))?))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::document::tests::failure;
    use super::super::{Condition, Origin, iso_utc, probe};
    use super::*;

    const ORIGIN: Origin<'static> = Origin {
        function_arn: "arn:aws:lambda:eu-west-1:111122223333:function:f",
        bootstrap_servers: "k1.example.net:9094",
    };

    const EVENT: &str = r#"{"records":{"orders-0":["\u00e9\""]}}"#;

    fn expected() -> FailureDocument {
        let failure = failure();
        let lane = |lane: &super::super::FailedLane| LaneRange {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            first_offset: lane.first.offset,
            last_offset: lane.last.offset,
            first_time: iso_utc(lane.first.timestamp),
            last_time: iso_utc(lane.last.timestamp),
        };
        FailureDocument {
            function_arn: ORIGIN.function_arn.to_owned(),
            condition: "RetryAttemptsExhausted".to_owned(),
            bootstrap_servers: Some(ORIGIN.bootstrap_servers.to_owned()),
            batch_size: failure.records() as u64,
            payload_size: failure.event_bytes as u64,
            lanes: failure.lanes.iter().map(lane).collect(),
            payload: None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &FailureDocument) {
        assert_eq!(FailureDocument::read(text).as_ref(), Ok(expected), "{text}");
    }

    #[test]
    fn what_is_written_is_read() {
        check(&failure().invocation_record(ORIGIN), &expected());
        let pieces = [Bytes::from_static(EVENT.as_bytes())];
        let in_bucket = FailureDocument {
            payload: Some(EVENT.to_owned()),
            ..expected()
        };
        check(
            &failure().invocation_record_with(ORIGIN, &pieces),
            &in_bucket,
        );
        let lane = &failure().lanes[0];
        let in_topic = FailureDocument {
            function_arn: format!("{}:$LATEST", ORIGIN.function_arn),
            condition: "RetriesExhausted".to_owned(),
            batch_size: 1,
            payload_size: EVENT.len() as u64,
            lanes: Vec::new(),
            ..in_bucket
        };
        check(
            &failure().record_document(ORIGIN, lane, EVENT.len(), &pieces),
            &in_topic,
        );
    }

    #[test]
    fn a_topics_document_without_its_event_has_offsets() {
        let lane = &failure().lanes[0];
        let text = failure().record_document(ORIGIN, lane, 512, &[]);
        let document = FailureDocument::read(&text).unwrap();
        assert_eq!((document.payload, document.lanes), (None, expected().lanes));
    }

    #[test]
    fn a_probe_is_known_and_so_is_what_an_operator_passed_over() {
        let text = probe(ORIGIN, "id", 0);
        let document = FailureDocument::read(&text).unwrap();
        assert!(document.is_probe() && document.lanes.is_empty());
        let mut skipped = failure();
        skipped.condition = Condition::SkippedByOperator;
        let document = FailureDocument::read(&skipped.invocation_record(ORIGIN)).unwrap();
        assert_eq!(
            (document.condition.as_str(), document.is_probe()),
            ("SkippedByOperator", false)
        );
    }

    #[test]
    fn an_envelope_of_sns_is_opened() {
        let message = failure().invocation_record(ORIGIN);
        let envelope = serde_json::json!({
            "Type": "Notification", "MessageId": "0b1", "TopicArn": "arn:aws:sns:eu-west-1:1:t",
            "Message": message, "Timestamp": "2024-03-01T10:00:00.123Z", "Signature": "x",
        });
        check(&envelope.to_string(), &expected());
        // Nobody sends envelopes in envelopes.
        let twice = serde_json::json!({ "Type": "Notification", "Message": envelope.to_string() });
        FailureDocument::read(&twice.to_string()).unwrap_err();
    }

    #[test]
    fn documents_of_aws_may_have_more_members_and_numbers_for_offsets() {
        let text = r#"{"requestContext":{"requestId":"1","functionArn":"arn:aws:lambda:eu-west-1:111122223333:function:f",
            "condition":"RetryAttemptsExhausted","approximateInvokeCount":1,"more":{}},"responseContext":null,"version":"2.0",
            "timestamp":"x","KafkaBatchInfo":{"batchSize":1,"eventSourceArn":"arn:aws:kafka:x","bootstrapServers":"k",
            "recordsInfo":{"a-b-7":{"firstRecordOffset":41,"lastRecordOffset":"41","more":[]}}},"payload":null,"more":[[]]}"#;
        let document = FailureDocument::read(text).unwrap();
        let lane = &document.lanes[0];
        assert_eq!(
            (lane.topic.as_str(), lane.partition, lane.first_offset),
            ("a-b", 7, 41)
        );
        assert_eq!((document.payload, document.payload_size), (None, 0));
    }

    #[test]
    fn what_is_not_understood_is_no_document() {
        let whole = failure().invocation_record(ORIGIN);
        let lanes = |lanes: &str| {
            format!(
                r#"{{"requestContext":{{"functionArn":"f","condition":"c"}},"KafkaBatchInfo":{{"recordsInfo":{lanes}}}}}"#
            )
        };
        let lane = |name: &str, first: &str, last: &str| {
            lanes(&format!(
                r#"{{"{name}":{{"firstRecordOffset":{first},"lastRecordOffset":{last}}}}}"#
            ))
        };
        FailureDocument::read(&lane("t-0", "\"1\"", "\"1\"")).unwrap();
        for text in [
            String::new(),
            "hello".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            format!("{whole} more"),
            whole.trim_end_matches('}').to_owned(),
            lanes("[]"),
            lane("t", "1", "1"),
            lane("t-", "1", "1"),
            lane("t-x", "1", "1"),
            lane("t-+1", "1", "1"),
            lane("t-99999999999", "1", "1"),
            lane("t-0", "2", "1"),
            lane("t-0", "-1", "1"),
            lane("t-0", "\"-1\"", "1"),
            lane("t-0", "\"\"", "1"),
            lane("t-0", "1", "1.5"),
            lane("t-0", "1", "9223372036854775807"),
            lane("t-0", "1", "99999999999999999999"),
            lane("t-0", "null", "1"),
            r#"{"Type":"Notification","Message":"hello"}"#.to_owned(),
            "[".repeat(1_000_000),
        ] {
            let error = FailureDocument::read(&text)
                .expect_err(&text.chars().take(200).collect::<String>());
            assert!(matches!(error, NoDocument::Unlike { .. }), "{error}");
        }
        let kinesis =
            r#"{"requestContext":{"functionArn":"f","condition":"c"},"KinesisBatchInfo":{}}"#;
        assert_eq!(FailureDocument::read(kinesis), Err(NoDocument::OtherSource));
    }

    proptest! {
        /// A document that was changed anywhere is read or refused, and never read by half.
        #[test]
        fn any_bytes_give_an_answer(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = failure().invocation_record(ORIGIN).into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(text) = std::str::from_utf8(&text)
                && let Ok(document) = FailureDocument::read(text)
            {
                prop_assert!(document.lanes.iter().all(|it| it.first_offset <= it.last_offset));
            }
        }
    }
}
