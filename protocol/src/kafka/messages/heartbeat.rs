//! Heartbeat (key 12): keeps a membership alive, and tells of a rebalance. KIP-345.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{GroupId, HeartbeatRequest as WireRequest};

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Keeps the membership alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The generation we joined.
    pub generation_id: i32,
    /// Our id.
    pub member_id: String,
    /// Our static identity, if any.
    pub group_instance_id: Option<String>,
}

impl HeartbeatRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_generation_id(self.generation_id)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.group_instance_id.as_deref().map(text));
        put(&request, version, out)
    }
}

/// Reads the answer: its error code is all there is.
pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<ErrorCode, DecodeError> {
    if version >= 1 {
        reader.i32("throttle_time_ms")?;
    }
    let error = ErrorCode(reader.i16("error_code")?);
    reader.skip_tags("HeartbeatResponse")?;
    Ok(error)
}
