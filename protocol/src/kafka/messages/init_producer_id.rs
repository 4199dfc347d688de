//! InitProducerId (key 22): who an idempotent producer is. KIP-98. Without a transaction it is asked of any broker.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::InitProducerIdRequest as WireRequest;

use super::{EncodeError, put};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// No transaction ever begins, so none times out; Kafka's own client says so.
const NO_TIMEOUT_MS: i32 = i32::MAX;

/// Who we are from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is no id.
    pub error: ErrorCode,
    /// The id; -1 with an error.
    pub producer_id: i64,
    /// Its epoch; -1 with an error.
    pub producer_epoch: i16,
}

/// Asks for an id of our own.
pub(super) fn encode(version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
    let request = WireRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(NO_TIMEOUT_MS)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    put(&request, version, out)
}

impl InitProducerIdResponse {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let response = Self {
            throttle_ms: reader.i32("throttle_time_ms")?,
            error: ErrorCode(reader.i16("error_code")?),
            producer_id: reader.i64("producer_id")?,
            producer_epoch: reader.i16("producer_epoch")?,
        };
        reader.skip_tags("InitProducerIdResponse")?;
        Ok(response)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::InitProducerIdResponse as WireResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::InitProducerId;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            error in error_code(),
            producer_id in any::<i64>(),
            producer_epoch in any::<i16>(),
        ) -> InitProducerIdResponse {
            InitProducerIdResponse { throttle_ms, error, producer_id, producer_epoch }
        }
    }

    fn wire(told: &InitProducerIdResponse) -> WireResponse {
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_error_code(told.error.0)
            .with_producer_id(told.producer_id.into())
            .with_producer_epoch(told.producer_epoch)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response)))
            .boxed()
    }

    #[test]
    fn request_is_written_in_every_version() {
        for version in versions(API) {
            let read: WireRequest = written(&Request::InitProducerId, version);
            assert_eq!(read.transactional_id, None, "version {version}");
            assert_eq!((read.producer_id.0, read.producer_epoch), (-1, -1));
        }
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let read = read(API, version, &wire(&response));
                let told = response.clone();
                prop_assert_eq!(read, Response::InitProducerId(told), "version {}", version);
            }
        }
    }
}
