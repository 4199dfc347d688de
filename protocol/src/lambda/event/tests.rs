//! Against a second encoder that is slow and plain, and against the contract's own words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kafka::records::{Headers, Record, TimestampType};
use crate::limits::BODY_BYTES_LIMIT;
use crate::sigv4::PayloadHash;

/// A record that owns its bytes.
#[derive(Clone, Debug)]
struct Owned {
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn plain(offset: i64, value: &[u8]) -> Self {
        Self {
            offset,
            timestamp: 1_700_000_000_123,
            timestamp_type: TimestampType::CreateTime,
            key: None,
            value: Some(value.to_vec()),
            headers: Vec::new(),
        }
    }

    fn push(&self, fragment: &mut Fragment, limit: usize) -> Push {
        let encoded = encode_headers(&self.headers);
        fragment.push(
            &Record {
                offset: self.offset,
                timestamp: self.timestamp,
                timestamp_type: self.timestamp_type,
                key: self.key.as_deref(),
                value: self.value.as_deref(),
                headers: Headers::read(&encoded).unwrap(),
            },
            limit,
        )
    }

    /// The same record by way of `serde_json`, member by member.
    fn expected(&self, topic: &str, partition: i32) -> String {
        let base64 = |bytes: &Vec<u8>| base64_simd::STANDARD.encode_to_string(bytes);
        let mut members = vec![
            format!("\"topic\":{}", json_string(topic)),
            format!("\"partition\":{partition}"),
            format!("\"offset\":{}", self.offset),
            format!("\"timestamp\":{}", self.timestamp),
            format!(
                "\"timestampType\":\"{}\"",
                match self.timestamp_type {
                    TimestampType::NoTimestamp => "NO_TIMESTAMP_TYPE",
                    TimestampType::CreateTime => "CREATE_TIME",
                    TimestampType::LogAppendTime => "LOG_APPEND_TIME",
                }
            ),
        ];
        members.extend(
            self.key
                .iter()
                .map(|key| format!("\"key\":\"{}\"", base64(key))),
        );
        members.extend(
            self.value
                .iter()
                .map(|v| format!("\"value\":\"{}\"", base64(v))),
        );
        let headers = self.headers.iter().map(|(key, value)| {
            let ints: Vec<i8> = value
                .iter()
                .flatten()
                .map(|byte| byte.cast_signed())
                .collect();
            let key = String::from_utf8(key.clone()).unwrap();
            format!("{{{}:{}}}", json_string(&key), json!(ints))
        });
        let headers = headers.collect::<Vec<_>>().join(",");
        members.push(format!("\"headers\":[{headers}]"));
        format!("{{{}}}", members.join(","))
    }
}

/// A JSON string in ASCII, as Python's `json.dumps` writes it.
fn json_string(text: &str) -> String {
    let mut out = String::new();
    for char in serde_json::to_string(text).unwrap().chars() {
        if (' '..='~').contains(&char) {
            out.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

fn encode_headers(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    /// A length in zigzag form; `None` is -1.
    fn length(out: &mut Vec<u8>, length: Option<usize>) {
        let mut rest = length.map_or(1, |length| length * 2);
        while rest >= 0x80 {
            out.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        out.push(rest.to_le_bytes()[0]);
    }
    let mut out = Vec::new();
    length(&mut out, Some(headers.len()));
    for (key, value) in headers {
        length(&mut out, Some(key.len()));
        out.extend(key);
        length(&mut out, value.as_ref().map(Vec::len));
        out.extend(value.iter().flatten());
    }
    out
}

fn expected_event(servers: &str, topic: &str, lanes: &[(i32, &[Owned])]) -> String {
    let lanes: Vec<_> = lanes
        .iter()
        .map(|(partition, records)| {
            let records: Vec<_> = records
                .iter()
                .map(|r| r.expected(topic, *partition))
                .collect();
            let name = json_string(&format!("{topic}-{partition}"));
            format!("{name}:[{}]", records.join(","))
        })
        .collect();
    format!(
        "{{\"eventSource\":\"SelfManagedKafka\",\"bootstrapServers\":{},\"records\":{{{}}}}}",
        json_string(servers),
        lanes.join(",")
    )
}

fn sealed(shape: &EventShape, partition: i32, records: &[Owned]) -> Sealed {
    let mut fragment = Fragment::new(shape, partition, Buffer::default());
    for record in records {
        assert_eq!(record.push(&mut fragment, BODY_BYTES_LIMIT), Push::Appended);
    }
    let (body, lane) = (fragment.body_bytes(), fragment.lane_bytes());
    let sealed = fragment.seal();
    assert_eq!(hashed_along(shape, partition, records), sealed.body());
    assert_eq!(sealed.body().len(), body);
    assert_eq!(sealed.lane_bytes(0..records.len()), lane);
    assert_eq!(shape.envelope_bytes() + lane, body);
    sealed
}

/// The same event, hashed while it is written.
fn hashed_along(shape: &EventShape, partition: i32, records: &[Owned]) -> Bytes {
    let mut fragment = Fragment::new(shape, partition, Buffer::default());
    fragment.hash_along();
    for record in records {
        assert_eq!(record.push(&mut fragment, BODY_BYTES_LIMIT), Push::Appended);
    }
    let sealed = fragment.seal();
    let body = sealed.body();
    let digest = sealed.digest(&(0..records.len()));
    let can = PayloadHash::new(Vec::new()).has_company_for_free();
    assert_eq!(digest, can.then(|| PayloadDigest::of(&body)));
    assert_eq!(sealed.digest(&(1..records.len())), None);
    body
}

fn joined(shape: &EventShape, parts: &[(&Sealed, Range<usize>)]) -> String {
    let body = frame_event(shape, parts).concat();
    assert_eq!(body.len(), framed_bytes(shape, parts));
    String::from_utf8(body).unwrap()
}

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = |max| prop::option::of(prop::collection::vec(any::<u8>(), 0..max));
    let key = prop_oneof![4 => "[a-z]{0,8}", 1 => any::<String>()].prop_map(String::into_bytes);
    let headers = prop::collection::vec((key, bytes(20)), 0..4);
    let kind = prop_oneof![
        Just(TimestampType::CreateTime),
        Just(TimestampType::LogAppendTime),
        Just(TimestampType::NoTimestamp),
    ];
    let timestamp = prop_oneof![3 => 1_700_000_000_000..1_700_000_100_000_i64, 1 => any::<i64>()];
    (1..3_i64, timestamp, kind, bytes(30), bytes(300), headers).prop_map(
        |(offset, timestamp, timestamp_type, key, value, headers)| Owned {
            offset,
            timestamp,
            timestamp_type,
            key,
            value,
            headers,
        },
    )
}

/// Records whose offsets ascend, some with gaps.
fn any_records(max: usize) -> impl Strategy<Value = Vec<Owned>> {
    let first = prop_oneof![Just(0), Just(9_990), 0..i64::MAX / 2];
    (first, prop::collection::vec(any_record(), 1..max)).prop_map(|(first, mut records)| {
        let mut offset = first;
        for record in &mut records {
            offset += record.offset;
            record.offset = offset;
        }
        records
    })
}

proptest! {
    #[test]
    fn any_records_are_encoded_as_the_plain_encoder_does(
        topic in prop_oneof!["[a-zA-Z0-9._-]{1,20}", any::<String>()],
        partition in 0..i32::MAX,
        records in any_records(20),
    ) {
        let shape = EventShape::new("k1:9092,k2:9092", &topic);
        let sealed = sealed(&shape, partition, &records);
        let expected = expected_event("k1:9092,k2:9092", &topic, &[(partition, &records)]);
        prop_assert_eq!(&sealed.body()[..], expected.as_bytes());
        prop_assert!(expected.is_ascii());
        for (mark, record) in sealed.records().iter().zip(&records) {
            prop_assert_eq!(mark.offset, record.offset);
            prop_assert_eq!(mark.timestamp, record.timestamp);
            let json = record.expected(&topic, partition);
            prop_assert_eq!(&sealed.body()[mark.range()], json.as_bytes());
        }
    }

    #[test]
    fn any_subset_is_framed_as_if_encoded_alone(
        first in any_records(12),
        second in any_records(12),
        cuts in prop::array::uniform4(0..100_usize),
        large in any::<bool>(),
    ) {
        let mut first = first;
        if large {
            // Pieces that are not copied take another way.
            first[0].value = Some(vec![b'x'; 2 * PIECE_BYTES_MIN]);
        }
        let shape = EventShape::new("k1:9092", "t");
        let (a, b) = (sealed(&shape, 0, &first), sealed(&shape, 11, &second));
        let cut = |n: usize, len: usize| n * len / 100;
        let [w, x, y, z] = cuts;
        let (w, x) = (cut(w.min(x), first.len()), cut(w.max(x), first.len()));
        let (y, z) = (cut(y, second.len()), cut(z, second.len()));
        // Two ranges of one lane, then the head or the tail of another.
        let parts = [(&a, 0..w), (&a, x..first.len()), (&b, y.min(z)..y.max(z))];
        let kept: Vec<_> = first[..w].iter().chain(&first[x..]).cloned().collect();
        let lanes = [(0, &kept[..]), (11, &second[y.min(z)..y.max(z)])];
        let lanes: Vec<_> = lanes.into_iter().filter(|(_, records)| !records.is_empty()).collect();
        prop_assume!(!lanes.is_empty());
        prop_assert_eq!(joined(&shape, &parts), expected_event("k1:9092", "t", &lanes));
        prop_assert_eq!(frame_event(&shape, &parts), frame_event(&shape, &parts));
    }
}

#[test]
fn the_contracts_example_comes_out_to_the_byte() {
    let shape = EventShape::new("k1.example.net:9094,k2.example.net:9094", "orders");
    let mut first = Owned::plain(41, br#"{"a":1}"#);
    first.key = Some(b"k1".to_vec());
    first.headers = vec![
        (b"trace".to_vec(), Some(vec![1, 0xff, 0x80])),
        (b"trace".to_vec(), None),
    ];
    let mut tombstone = Owned::plain(42, b"");
    tombstone.timestamp += 1;
    tombstone.key = Some(b"k2".to_vec());
    tombstone.value = None;
    let mut third = Owned::plain(7, b"plain");
    third.timestamp = 1_700_000_000_200;
    third.timestamp_type = TimestampType::LogAppendTime;
    let zero = sealed(&shape, 0, &[first, tombstone]);
    let three = sealed(&shape, 3, &[third]);
    let expected = concat!(
        r#"{"eventSource":"SelfManagedKafka","bootstrapServers":"k1.example.net:9094,k2.example.net:9094","#,
        r#""records":{"orders-0":[{"topic":"orders","partition":0,"offset":41,"timestamp":1700000000123,"#,
        r#""timestampType":"CREATE_TIME","key":"azE=","value":"eyJhIjoxfQ==","headers":[{"trace":[1,-1,-128]},"#,
        r#"{"trace":[]}]},{"topic":"orders","partition":0,"offset":42,"timestamp":1700000000124,"#,
        r#""timestampType":"CREATE_TIME","key":"azI=","headers":[]}],"orders-3":[{"topic":"orders","partition":3,"#,
        r#""offset":7,"timestamp":1700000000200,"timestampType":"LOG_APPEND_TIME","value":"cGxhaW4=","headers":[]}]}}"#,
    );
    assert_eq!(joined(&shape, &[(&zero, 0..2), (&three, 0..1)]), expected);
}

#[test]
fn a_null_is_left_out_and_an_empty_one_stays() {
    let shape = EventShape::new("k:9092", "t");
    let mut null = Owned::plain(0, b"");
    null.value = None;
    let mut empty = Owned::plain(1, b"");
    empty.key = Some(Vec::new());
    let body = sealed(&shape, 0, &[null, empty]).body();
    let event: Value = serde_json::from_slice(&body).unwrap();
    let records = &event["records"]["t-0"];
    assert_eq!(records[0].get("key"), None);
    assert_eq!(records[0].get("value"), None);
    assert_eq!(records[1]["key"], "");
    assert_eq!(records[1]["value"], "");
}

#[test]
fn a_header_key_that_is_not_utf8_is_replaced_and_counted() {
    let shape = EventShape::new("k:9092", "t");
    let mut record = Owned::plain(0, b"");
    record.headers = vec![(b"a\xff\xfe".to_vec(), None), (b"b".to_vec(), None)];
    let sealed = sealed(&shape, 0, &[record]);
    assert_eq!(sealed.replaced_bytes(), 2);
    let event: Value = serde_json::from_slice(&sealed.body()).unwrap();
    let headers = json!([{"a\u{fffd}\u{fffd}": []}, {"b": []}]);
    assert_eq!(event["records"]["t-0"][0]["headers"], headers);
}

#[test]
fn a_body_stays_strictly_below_the_limit() {
    let shape = EventShape::new("k:9092", "t");
    let one = sealed(&shape, 0, &[Owned::plain(0, b"abc")]).body().len();
    let two = sealed(
        &shape,
        0,
        &[Owned::plain(0, b"abc"), Owned::plain(1, b"abc")],
    );
    let two = two.body().len();

    let mut fragment = Fragment::new(&shape, 0, Buffer::default());
    let oversized = Push::Oversized { body_bytes: one };
    assert_eq!(Owned::plain(0, b"abc").push(&mut fragment, one), oversized);
    assert_eq!(fragment.records(), 0);
    assert_eq!(
        Owned::plain(0, b"abc").push(&mut fragment, one + 1),
        Push::Appended
    );
    assert_eq!(Owned::plain(1, b"abc").push(&mut fragment, two), Push::Full);
    assert_eq!(fragment.body_bytes(), one);
    let large = Owned::plain(1, &vec![0; two]).push(&mut fragment, two);
    assert!(matches!(large, Push::Oversized { body_bytes } if body_bytes > two));
    assert_eq!(
        Owned::plain(1, b"abc").push(&mut fragment, two + 1),
        Push::Appended
    );
    assert_eq!(fragment.seal().body().len(), two);
}

#[test]
fn the_largest_value_of_one_record_is_where_the_arithmetic_says() {
    let shape = EventShape::new("broker1.net:9092", "mytopic");
    let empty = sealed(&shape, 0, &[Owned::plain(0, b"")]).body().len();
    // Contract 1.5: 4,718,415 bytes with an envelope of 233 bytes; ours has no key and one digit less.
    assert_eq!(empty, 233 - r#","key":"""#.len() - 1);
    let largest = (BODY_BYTES_LIMIT - 1 - empty) / 4 * 3;
    assert_eq!(largest, 4_718_415 + 9);
    for (value_bytes, fits) in [(largest, true), (largest + 1, false)] {
        let mut fragment = Fragment::new(&shape, 0, Buffer::default());
        let pushed = Owned::plain(0, &vec![7; value_bytes]).push(&mut fragment, BODY_BYTES_LIMIT);
        assert_eq!(pushed == Push::Appended, fits);
    }
}

#[test]
fn pieces_are_few_whatever_the_number_of_records() {
    let shape = EventShape::new("k:9092", "t");
    let small: Vec<_> = (0..1000).map(|n| Owned::plain(n, b"tiny")).collect();
    let large: Vec<_> = (0..100).map(|n| Owned::plain(n, &[7; 1000])).collect();
    let (small, large) = (sealed(&shape, 0, &small), sealed(&shape, 1, &large));

    let whole = frame_event(&shape, &[(&large, 0..100)]);
    assert_eq!(whole, [large.body()]);
    assert_eq!(
        whole[0].as_ptr(),
        large.body().as_ptr(),
        "a whole fragment is not copied"
    );
    assert_eq!(frame_event(&shape, &[(&small, 3..4)]).len(), 1);
    assert_eq!(frame_event(&shape, &[(&large, 50..100)]).len(), 2);
    assert!(frame_event(&shape, &[(&small, 0..1000), (&large, 0..100)]).len() <= 3);

    let lanes: Vec<_> = (0..1000)
        .map(|partition| sealed(&shape, partition, &[Owned::plain(0, b"tiny")]))
        .collect();
    let parts: Vec<_> = lanes.iter().map(|lane| (lane, 0..1)).collect();
    assert_eq!(
        frame_event(&shape, &parts).len(),
        1,
        "short pieces travel together"
    );
}

#[test]
fn a_buffer_is_used_again_once_nobody_holds_a_piece_of_it() {
    let shape = EventShape::new("k:9092", "t");
    let record = Owned::plain(0, &[7; 3000]);
    let seal = |buffer: Buffer| {
        let mut fragment = Fragment::new(&shape, 0, buffer);
        assert_eq!(record.push(&mut fragment, BODY_BYTES_LIMIT), Push::Appended);
        fragment.seal()
    };
    let first = seal(Buffer::with_capacity(1 << 20));
    let (bytes, place) = (first.body().to_vec(), first.body().as_ptr());
    let buffer = first.into_buffer().unwrap();
    let held = buffer.capacity_bytes();
    let second = seal(buffer);
    assert_eq!(second.body().as_ptr(), place);
    assert_eq!(second.body(), bytes);
    assert_eq!(second.capacity_bytes(), held);

    let piece = second.body();
    assert!(second.into_buffer().is_none());
    assert_eq!(piece, bytes);
}

#[test]
fn a_buffer_of_any_origin_is_taken() {
    let shape = EventShape::new("k:9092", "t");
    let expected = sealed(&shape, 0, &[Owned::plain(0, b"abc")]).body();
    for capacity in [0, 10, 5000] {
        let mut fragment = Fragment::new(&shape, 0, bytes::BytesMut::with_capacity(capacity));
        Owned::plain(0, b"abc").push(&mut fragment, BODY_BYTES_LIMIT);
        assert_eq!(fragment.seal().body(), expected);
    }
}
