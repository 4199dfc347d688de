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
