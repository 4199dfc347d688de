//! SaslHandshake (key 17): which mechanism is to follow. After version 0 the mechanism's messages follow as they
//! are, each behind its length; after version 1 in SaslAuthenticate. KIP-43, KIP-152.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::SaslHandshakeRequest as WireRequest;

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks for a mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslHandshakeRequest {
    /// Its registered name.
    pub mechanism: String,
}

/// What the broker says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslHandshakeResponse {
    /// `UNSUPPORTED_SASL_MECHANISM`, or `ILLEGAL_SASL_STATE` where no SASL is expected.
    pub error: ErrorCode,
    /// The mechanisms that the broker offers.
    pub mechanisms: Vec<String>,
}

impl SaslHandshakeRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let request = WireRequest::default().with_mechanism(text(&self.mechanism));
        put(&request, version, out)
    }
}

impl SaslHandshakeResponse {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            error: ErrorCode(reader.i16("error_code")?),
            mechanisms: reader.array("mechanisms", 2, |reader| reader.string("mechanism"))?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::SaslHandshakeResponse as WireResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::SaslHandshake;

    prop_compose! {
        fn any_response()(error in error_code(), mechanisms in few(label())) -> SaslHandshakeResponse {
            SaslHandshakeResponse { error, mechanisms }
        }
    }

    fn wire(told: &SaslHandshakeResponse) -> WireResponse {
        let mechanisms = told.mechanisms.iter().map(|name| wire_text(name));
        WireResponse::default()
            .with_error_code(told.error.0)
            .with_mechanisms(mechanisms.collect())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |told| answer(API, version, &wire(&told)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(told in any_response()) {
            for version in versions(API) {
                let read = read(API, version, &wire(&told));
                prop_assert_eq!(read, Response::SaslHandshake(told.clone()), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(mechanism in label()) {
            let request = Request::SaslHandshake(SaslHandshakeRequest { mechanism: mechanism.clone() });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                prop_assert_eq!(&*read.mechanism, &*mechanism);
            }
        }
    }
}
