//! Any bytes as an answer of any API in any version: the first byte picks the API, the second the version,
//! the rest is what follows the correlation id.
#![no_main]

use bytes::Bytes;
use forebay_protocol::kafka::messages::{ApiKey, Asked, Response};
use forebay_protocol::kafka::versions;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|input: &[u8]| {
    let [api, version, rest @ ..] = input else {
        return;
    };
    let api = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let spoken = versions::spoken(api);
    let version = spoken.min + i16::from(*version) % (spoken.max - spoken.min + 1);
    // As protocol/src/kafka/messages/testing.rs has them, and so the seeds.
    let asked = Asked {
        api,
        version,
        group_id: "gruppe-\u{e4}".to_owned(),
        topic: "topic".to_owned(),
        topic_id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    };
    drop(Response::decode(&asked, Bytes::copy_from_slice(rest)));
});
