//! SaslAuthenticate (key 36): carries a mechanism's messages. KIP-152; KIP-368 (session lifetime, v1).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::SaslAuthenticateRequest as WireRequest;
use zeroize::Zeroizing;

use super::{EncodeError, put};
use crate::kafka::error::ErrorCode;
use crate::kafka::sasl::Token;
use crate::kafka::wire::{DecodeError, Reader};

/// Says what the mechanism says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslAuthenticateRequest {
    /// The mechanism's message.
    pub token: Token,
}

/// What the broker says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslAuthenticateResponse {
    /// `SASL_AUTHENTICATION_FAILED` when it does not take the credentials.
    pub error: ErrorCode,
    /// The broker's own words on the error.
    pub error_message: Option<String>,
    /// The mechanism's answer.
    pub challenge: Bytes,
    /// From now on for that long other requests are served (v1); `None` is for ever.
    pub session_lifetime: Option<Duration>,
}

impl SaslAuthenticateRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let token = Zeroizing::new(self.token.bytes().to_vec());
        let request = WireRequest::default().with_auth_bytes(Bytes::from_owner(token));
        put(&request, version, out)
    }
}

impl SaslAuthenticateResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let error = ErrorCode(reader.i16("error_code")?);
        let error_message = reader.nullable_string("error_message")?;
        let challenge = reader.bytes("auth_bytes")?;
        let lifetime_ms = if version >= 1 {
            reader.i64("session_lifetime_ms")?
        } else {
            0
        };
        reader.skip_tags("SaslAuthenticateResponse")?;
        Ok(Self {
            error,
            error_message,
            challenge,
            session_lifetime: u64::try_from(lifetime_ms)
                .ok()
                .filter(|millis| *millis > 0)
                .map(Duration::from_millis),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::SaslAuthenticateResponse as WireResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::SaslAuthenticate;

    prop_compose! {
        fn any_response()(
            error in error_code(),
            error_message in proptest::option::of(label()),
            challenge in blob(),
            millis in proptest::option::of(1..u64::MAX / 2),
        ) -> SaslAuthenticateResponse {
            let session_lifetime = millis.map(Duration::from_millis);
            SaslAuthenticateResponse { error, error_message, challenge, session_lifetime }
        }
    }

    fn wire(told: &SaslAuthenticateResponse, version: i16) -> WireResponse {
        let millis = told
            .session_lifetime
            .map_or(0, |lifetime| lifetime.as_millis());
        let wire = WireResponse::default()
            .with_error_code(told.error.0)
            .with_error_message(told.error_message.as_deref().map(wire_text))
            .with_auth_bytes(told.challenge.clone())
            .with_session_lifetime_ms(if version >= 1 {
                i64::try_from(millis).unwrap()
            } else {
                0
            });
        if version < 2 {
            return wire;
        }
        wire.with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |told| answer(API, version, &wire(&told, version)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(mut told in any_response()) {
            for version in versions(API).rev() {
                if version < 1 {
                    told.session_lifetime = None;
                }
                let read = read(API, version, &wire(&told, version));
                prop_assert_eq!(read, Response::SaslAuthenticate(told.clone()), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(token in any::<Vec<u8>>()) {
            let request = SaslAuthenticateRequest { token: Token::new(token.clone()) };
            for version in versions(API) {
                let read: WireRequest = written(&Request::SaslAuthenticate(request.clone()), version);
                prop_assert_eq!(&read.auth_bytes[..], &token[..]);
            }
        }
    }

    #[test]
    fn a_lifetime_of_nothing_is_for_ever() {
        for millis in [0, -1, i64::MIN] {
            let body = WireResponse::default().with_session_lifetime_ms(millis);
            let Response::SaslAuthenticate(told) = read(API, 2, &body) else {
                panic!("another answer");
            };
            assert_eq!(told.session_lifetime, None);
        }
    }
}
