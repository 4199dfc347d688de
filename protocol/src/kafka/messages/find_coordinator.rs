//! FindCoordinator (key 10): which broker has the coordinator's role for a group. From v4 the request
//! and answer are lists (KIP-699); we always ask for one group.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::FindCoordinatorRequest as WireRequest;

use super::{EncodeError, port, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks for a group's coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorRequest {
    /// The group.
    pub group_id: String,
}

/// Where the coordinator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The broker's own words on the error.
    pub error_message: Option<String>,
    /// The coordinator's node id; -1 with an error.
    pub node_id: i32,
    /// Its host; empty with an error.
    pub host: String,
    /// Its port; 0 with an error.
    pub port: u16,
}

impl FindCoordinatorRequest {
    /// `key_type` stays 0, which is the group coordinator.
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let request = if version >= 4 {
            WireRequest::default().with_coordinator_keys(vec![text(&self.group_id)])
        } else {
            WireRequest::default().with_key(text(&self.group_id))
        };
        put(&request, version, out)
    }
}

impl FindCoordinatorResponse {
    pub(super) fn decode(
        version: i16,
        group_id: &str,
        reader: &mut Reader,
    ) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 1 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let found = if version >= 4 {
            Self::decode_list(throttle_ms, group_id, reader)?
        } else {
            Self::decode_single(throttle_ms, version, reader)?
        };
        reader.skip_tags("FindCoordinatorResponse")?;
        Ok(found)
    }

    fn decode_single(
        throttle_ms: i32,
        version: i16,
        reader: &mut Reader,
    ) -> Result<Self, DecodeError> {
        let error = ErrorCode(reader.i16("error_code")?);
        let error_message = if version >= 1 {
            reader.nullable_string("error_message")?
        } else {
            None
        };
        Ok(Self {
            throttle_ms,
            error,
            error_message,
            node_id: reader.i32("node_id")?,
            host: reader.string("host")?,
            port: coordinator_port(error, reader.i32("port")?)?,
        })
    }

    fn decode_list(
        throttle_ms: i32,
        group_id: &str,
        reader: &mut Reader,
    ) -> Result<Self, DecodeError> {
        let mut found = None;
        reader.array("coordinators", 14, |reader| {
            let key = reader.string("key")?;
            if key != group_id {
                return Err(DecodeError::NotAsked {
                    field: "key",
                    found: key,
                });
            }
            let (node_id, host) = (reader.i32("node_id")?, reader.string("host")?);
            let port = reader.i32("port")?;
            let error = ErrorCode(reader.i16("error_code")?);
            found = Some(Self {
                throttle_ms,
                error,
                error_message: reader.nullable_string("error_message")?,
                node_id,
                host,
                port: coordinator_port(error, port)?,
            });
            reader.skip_tags("coordinators")
        })?;
        found.ok_or(DecodeError::Missing {
            field: "coordinators",
        })
    }
}

/// With an error brokers send node -1, no host and port -1.
fn coordinator_port(error: ErrorCode, told: i32) -> Result<u16, DecodeError> {
    if error.is_ok() {
        port("port", told)
    } else {
        Ok(u16::try_from(told).unwrap_or(0))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::FindCoordinatorResponse as WireResponse;
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::FindCoordinator;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            error in error_code(),
            error_message in proptest::option::of(label()),
            (node_id, port) in any::<(i32, u16)>(),
            host in label(),
        ) -> FindCoordinatorResponse {
            FindCoordinatorResponse { throttle_ms, error, error_message, node_id, host, port }
        }
    }

    /// What of it that version carries.
    fn told(mut response: FindCoordinatorResponse, version: i16) -> FindCoordinatorResponse {
        if version < 1 {
            response.throttle_ms = 0;
            response.error_message = None;
        }
        response
    }

    fn wire(told: &FindCoordinatorResponse, version: i16) -> WireResponse {
        let message = told.error_message.as_deref().map(wire_text);
        let wire = WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        if version >= 4 {
            return wire.with_coordinators(vec![
                Coordinator::default()
                    .with_key(wire_text(GROUP))
                    .with_node_id(told.node_id.into())
                    .with_host(wire_text(&told.host))
                    .with_port(told.port.into())
                    .with_error_code(told.error.0)
                    .with_error_message(message)
                    .with_unknown_tagged_field(UNKNOWN_TAG, unknown()),
            ]);
        }
        wire.with_node_id(told.node_id.into())
            .with_host(wire_text(&told.host))
            .with_port(told.port.into())
            .with_error_code(told.error.0)
            .with_error_message(message)
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response, version)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let told = told(response.clone(), version);
                let read = read(API, version, &wire(&response, version));
                prop_assert_eq!(read, Response::FindCoordinator(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(group_id in label()) {
            let group = group_id.clone();
            let request = Request::FindCoordinator(FindCoordinatorRequest { group_id });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                prop_assert_eq!(read.key_type, 0);
                if version >= 4 {
                    prop_assert_eq!(&read.coordinator_keys, &vec![wire_text(&group)]);
                } else {
                    prop_assert_eq!(&*read.key, &*group);
                }
            }
        }
    }

    #[test]
    fn missing_coordinator_has_no_port() {
        let wire = WireResponse::default()
            .with_error_code(ErrorCode::COORDINATOR_NOT_AVAILABLE.0)
            .with_node_id((-1).into())
            .with_port(-1);
        let Response::FindCoordinator(read) = read(API, 1, &wire) else {
            panic!("another answer")
        };
        assert_eq!((read.node_id, read.port), (-1, 0));
        let wire = wire.with_error_code(0);
        let error = Response::decode(&asked(API, 1), answer(API, 1, &wire)).unwrap_err();
        assert_eq!(
            error,
            DecodeError::BadValue {
                field: "port",
                value: -1
            }
        );
    }

    #[test]
    fn answer_about_nothing_or_another_group_is_refused() {
        let wire = WireResponse::default();
        let error = Response::decode(&asked(API, 4), answer(API, 4, &wire)).unwrap_err();
        assert_eq!(
            error,
            DecodeError::Missing {
                field: "coordinators"
            }
        );
        let other = Coordinator::default().with_key(wire_text("other"));
        let wire = wire.with_coordinators(vec![other]);
        let error = Response::decode(&asked(API, 4), answer(API, 4, &wire)).unwrap_err();
        let found = "other".to_owned();
        assert_eq!(
            error,
            DecodeError::NotAsked {
                field: "key",
                found
            }
        );
    }
}
