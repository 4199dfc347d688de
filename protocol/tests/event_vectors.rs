//! Golden events, written by hand from the contract, against what the encoder writes.
#![expect(clippy::unwrap_used, reason = "tests only")]

use std::ops::Range;

use forebay_protocol::kafka::records::{Headers, Record, TimestampType};
use forebay_protocol::lambda::event::{Buffer, EventShape, Fragment, Push, Sealed, frame_event};
use forebay_protocol::limits::BODY_BYTES_LIMIT;
use serde_json::{Value, json};

const NO_HEADERS: &[u8] = b"\x00";

fn golden(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/events");
    std::fs::read(format!("{folder}/{name}.json")).unwrap()
}

fn record<'a>(
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    (key, value): (Option<&'a [u8]>, Option<&'a [u8]>),
    headers: &'a [u8],
) -> Record<'a> {
    Record {
        offset,
        timestamp,
        timestamp_type,
        key,
        value,
        headers: Headers::read(headers).unwrap(),
    }
}

fn seal(shape: &EventShape, partition: i32, records: &[Record<'_>]) -> Sealed {
    let mut fragment = Fragment::new(shape, partition, Buffer::default());
    for record in records {
        assert_eq!(fragment.push(record, BODY_BYTES_LIMIT), Push::Appended);
    }
    fragment.seal()
}

#[track_caller]
fn check(name: &str, shape: &EventShape, parts: &[(&Sealed, Range<usize>)]) -> Value {
    let expected = golden(name);
    let body = frame_event(shape, parts).concat();
    assert_eq!(
        String::from_utf8(body.clone()).unwrap(),
        String::from_utf8(expected).unwrap()
    );
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["eventSource"], "SelfManagedKafka");
    event
}

#[test]
fn the_canonical_event_is_met_to_the_byte() {
    let shape = EventShape::new("k1.example.net:9094,k2.example.net:9094", "orders");
    let create = TimestampType::CreateTime;
    let headers = b"\x04\x0atrace\x06\x01\xff\x80\x0atrace\x01";
    let zero = seal(
        &shape,
        0,
        &[
            record(
                41,
                1_700_000_000_123,
                create,
                (Some(b"k1"), Some(br#"{"a":1}"#)),
                headers,
            ),
            record(
                42,
                1_700_000_000_124,
                create,
                (Some(b"k2"), None),
                NO_HEADERS,
            ),
        ],
    );
    let append = TimestampType::LogAppendTime;
    let plain = record(
        7,
        1_700_000_000_200,
        append,
        (None, Some(b"plain")),
        NO_HEADERS,
    );
    let three = seal(&shape, 3, &[plain]);
    let event = check("canonical", &shape, &[(&zero, 0..2), (&three, 0..1)]);
    let lanes: Vec<_> = event["records"].as_object().unwrap().keys().collect();
    assert_eq!(lanes, ["orders-0", "orders-3"]);
}

#[test]
fn the_edges_are_met_to_the_byte() {
    let shape = EventShape::new("[::1]:9092", "my-topic.v_2");
    let create = TimestampType::CreateTime;
    let headers = [
        b"\x04\x14h\xc3\xa9\xf0\x9f\x98\x80\"\\\n\x10".as_slice(),
        &[127, 128, 0, 255, 10, 246, 100, 156],
        b"\x0abad\xff\xfe\x00",
    ];
    let headers = headers.concat();
    let sealed = seal(
        &shape,
        10,
        &[
            record(9, -1, TimestampType::NoTimestamp, (None, None), NO_HEADERS),
            record(10, 0, create, (Some(b""), Some(b"")), b"\x02\x00\x00"),
            record(
                i64::MAX - 1,
                1_700_000_000_999,
                create,
                (Some(b"\x00\xff"), Some(b"\xfb\xff")),
                &headers,
            ),
        ],
    );
    assert_eq!(sealed.replaced_bytes(), 2);
    let event = check("edges", &shape, &[(&sealed, 0..3)]);
    let records = &event["records"]["my-topic.v_2-10"];
    assert_eq!(records[2]["offset"], json!(i64::MAX - 1));
    let ints = json!([127, -128, 0, -1, 10, -10, 100, -100]);
    assert_eq!(records[2]["headers"][0]["hé😀\"\\\n"], ints);
}
