//! SaslHandshake (key 17), v0 and v1: after v0 the mechanism's messages come raw (KIP-43), after v1 in
//! SaslAuthenticate (KIP-152).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, FakeKafka};

pub(super) fn refuse(_: &SaslHandshakeRequest, _: i16, code: i16) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn sasl_handshake(&mut self, call: Call, request: SaslHandshakeRequest) {
        let offered = match &self.config.sasl {
            Some(sasl) => sasl.mechanisms.clone(),
            None => Vec::new(),
        };
        let wanted = offered.iter().find(|name| **name == &*request.mechanism);
        let error = match wanted {
            _ if self.config.sasl.is_none() => ErrorCode::ILLEGAL_SASL_STATE,
            None => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
            Some(mechanism) if self.begin_login(call.connection, mechanism, call.version == 0) => {
                ErrorCode::NONE
            }
            Some(_) => ErrorCode::ILLEGAL_SASL_STATE,
        };
        let offered = offered.into_iter().map(StrBytes::from_static_str).collect();
        let response = SaslHandshakeResponse::default()
            .with_error_code(error.0)
            .with_mechanisms(offered);
        self.answer(&call, &response);
    }
}
