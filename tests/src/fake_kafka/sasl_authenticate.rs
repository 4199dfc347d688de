//! SaslAuthenticate (key 36), v0 to v2: a mechanism's messages (KIP-152), and how long the session lasts (v1,
//! KIP-368). Whoever is refused is told, and cut off.

use bytes::Bytes;
use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use super::sasl::Said;
use super::{Call, FakeKafka};

pub(super) fn refuse(_: &SaslAuthenticateRequest, _: i16, code: i16) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn sasl_authenticate(&mut self, call: Call, request: SaslAuthenticateRequest) {
        let response = SaslAuthenticateResponse::default();
        match self.hear(call.connection, &request.auth_bytes) {
            Said::More(said) => self.answer(&call, &response.with_auth_bytes(Bytes::from(said))),
            Said::Welcome(said) => {
                let lifetime = self.session_lifetime().filter(|_| call.version >= 1);
                let millis = lifetime.map_or(0, |lifetime| lifetime.as_millis());
                let response = response
                    .with_auth_bytes(Bytes::from(said))
                    .with_session_lifetime_ms(i64::try_from(millis).unwrap_or(i64::MAX));
                self.answer(&call, &response);
            }
            Said::Refused(words) => {
                let response = response
                    .with_error_code(ErrorCode::SASL_AUTHENTICATION_FAILED.0)
                    .with_error_message(Some(StrBytes::from_string(words)));
                self.answer(&call, &response);
                self.close(call.connection);
            }
        }
    }
}
