//! A record's key, read back from its event: a topic of failed records has them under their own keys.
//!
//! Invariant: it is the key that was encoded, byte for byte.

use bytes::Bytes;
use serde::Deserialize;

use super::Sealed;

#[derive(Deserialize)]
struct Encoded<'a> {
    /// Base64 has nothing that JSON would escape.
    #[serde(borrow, default)]
    key: Option<&'a str>,
}

impl Sealed {
    /// The key of the record of that number; `None` is null.
    pub fn key(&self, at: usize) -> Option<Bytes> {
        let json = &self.buffer[self.marks[at].range()];
        let encoded: Encoded<'_> = serde_json::from_slice(json).expect("what we encode is JSON");
        let key = base64_simd::STANDARD.decode_to_vec(encoded.key?);
        Some(key.expect("what we encode is base64").into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::kafka::records::{Headers, Record, TimestampType};
    use crate::lambda::event::{Buffer, EventShape, Fragment, Push};

    proptest! {
        #[test]
        fn a_key_is_read_back_as_it_was(
            keys in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)), 1..5),
            topic in "[a-z\"\\\\]{1,5}",
        ) {
            let shape = EventShape::new("k:9092", &topic);
            let mut fragment = Fragment::new(&shape, 0, Buffer::default());
            for (offset, key) in (0..).zip(&keys) {
                let value: &[u8] = br#"{"key":"no"}"#;
                let record = Record {
                    offset,
                    timestamp: 0,
                    timestamp_type: TimestampType::CreateTime,
                    key: key.as_deref(),
                    value: Some(value),
                    headers: Headers::default(),
                };
                prop_assert_eq!(fragment.push(&record, 6_000_000), Push::Appended);
            }
            let sealed = fragment.seal();
            for (at, key) in keys.iter().enumerate() {
                let read = sealed.key(at);
                prop_assert_eq!(read.as_deref(), key.as_deref());
            }
        }
    }
}
