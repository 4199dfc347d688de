//! Any keys, values and headers in an event, against plain base64. The first byte says how much of the
//! input is the key, the second how much are the headers; the rest is the value.
#![no_main]

use base64_simd::STANDARD;
use forebay_protocol::kafka::records::{Headers, Record, TimestampType};
use forebay_protocol::lambda::event::{Buffer, EventShape, Fragment, Push};
use forebay_protocol::limits::BODY_BYTES_LIMIT;
use forebay_protocol::sigv4::PayloadDigest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [key_len, headers_len, rest @ ..] = input else {
        return;
    };
    let (key, rest) = rest.split_at(usize::from(*key_len).min(rest.len()));
    let (headers, value) = rest.split_at(usize::from(*headers_len).min(rest.len()));
    let shape = EventShape::new("k:9092", "t");
    let mut fragment = Fragment::new(&shape, 0, Buffer::default());
    if value.first().is_some_and(|byte| byte & 1 == 1) {
        fragment.hash_along();
    }
    for offset in 0..3 {
        let record = Record {
            offset,
            timestamp: -1,
            timestamp_type: TimestampType::NoTimestamp,
            key: Some(key),
            value: Some(value),
            headers: Headers::read(headers).unwrap_or_default(),
        };
        assert_eq!(fragment.push(&record, BODY_BYTES_LIMIT), Push::Appended);
    }
    let sealed = fragment.seal();
    let body = sealed.body();
    if let Some(digest) = sealed.digest(&(0..3)) {
        assert_eq!(digest, PayloadDigest::of(&body));
    }
    let expected = format!(
        r#","key":"{}","value":"{}","headers":["#,
        STANDARD.encode_to_string(key),
        STANDARD.encode_to_string(value),
    );
    for mark in sealed.records() {
        let record = std::str::from_utf8(&body[mark.range()]).expect("an event is ASCII");
        assert!(record.is_ascii() && record.contains(&expected), "{record}");
    }
});
