//! `kafka-protocol` as the oracle of the messages' tests: it reads what we write, and writes what we read.

use std::ops::RangeInclusive;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::{ApiKey, Asked, Request, Response};
use crate::kafka::error::ErrorCode;
use crate::kafka::versions;

/// The group of every answer.
pub(super) const GROUP: &str = "gruppe-\u{e4}";
/// The topic of every answer.
pub(super) const TOPIC: &str = "topic";
/// Its id.
pub(super) const TOPIC_ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

/// The tag of fields that no schema knows; see [`unknown`].
pub(super) const UNKNOWN_TAG: i32 = 1000;

/// What a tagged field of a newer schema may hold.
pub(super) fn unknown() -> Bytes {
    Bytes::from_static(&[0xff; 5])
}

/// All versions of that API that we speak.
pub(super) fn versions(api: ApiKey) -> RangeInclusive<i16> {
    let spoken = versions::spoken(api);
    spoken.min..=spoken.max
}

/// What a question in that version is.
pub(super) fn asked(api: ApiKey, version: i16) -> Asked {
    Asked {
        api,
        version,
        group_id: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        topic_id: TOPIC_ID,
    }
}

/// The bytes that follow the correlation id of such an answer.
pub(super) fn answer(api: ApiKey, version: i16, body: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    let flexible = api.is_flexible(version) && api != ApiKey::ApiVersions;
    ResponseHeader::default()
        .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        .encode(&mut out, i16::from(flexible))
        .unwrap();
    out.advance(4);
    body.encode(&mut out, version).unwrap();
    out.freeze()
}

/// What we read of such an answer.
pub(super) fn read(api: ApiKey, version: i16, body: &impl Encodable) -> Response {
    let asked = asked(api, version);
    match Response::decode(&asked, answer(api, version, body)) {
        Ok(response) => response,
        Err(error) => panic!("{api} version {version}: {error}"),
    }
}

/// What `kafka-protocol` reads of the request as we write it.
pub(super) fn written<T: Decodable>(request: &Request, version: i16) -> T {
    let mut out = BytesMut::new();
    request.encode(version, &mut out).unwrap();
    let mut body = out.freeze();
    let read = T::decode(&mut body, version).unwrap();
    assert!(
        body.is_empty(),
        "version {version} leaves {} bytes",
        body.len()
    );
    read
}

/// Text as names and messages hold it.
pub(super) fn label() -> impl Strategy<Value = String> {
    "[a-z\u{e9}]{0,8}"
}

/// Few bytes.
pub(super) fn blob() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

/// Any error code, success among them.
pub(super) fn error_code() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![Just(ErrorCode::NONE), any::<i16>().prop_map(ErrorCode)]
}

/// Few of something.
pub(super) fn few<S: Strategy>(element: S) -> impl Strategy<Value = Vec<S::Value>> {
    proptest::collection::vec(element, 0..4)
}

/// Text as `kafka-protocol` has it.
pub(super) fn wire_text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
