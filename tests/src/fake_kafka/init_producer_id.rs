//! InitProducerId (key 22), v0 to v5: a fresh id for an idempotent producer (KIP-98). Transactions over
//! the wire are refused: tests write them with `append_with` and `append_marker`.

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Call, FakeKafka};

pub(super) fn refuse(_: &InitProducerIdRequest, _: i16, code: i16) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

impl FakeKafka {
    pub(super) fn init_producer_id(&mut self, call: Call, request: InitProducerIdRequest) {
        if request.transactional_id.is_some() {
            let code = ErrorCode::INVALID_REQUEST.0;
            return self.answer(&call, &refuse(&request, call.version, code));
        }
        self.producer_sequence += 1;
        let response = InitProducerIdResponse::default()
            .with_producer_id(ProducerId(self.producer_sequence))
            .with_producer_epoch(0);
        self.answer(&call, &response);
    }
}
