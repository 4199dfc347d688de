//! SyncGroup (key 14): the leader hands in everybody's share, each member takes its own. KIP-345, KIP-559.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{GroupId, SyncGroupRequest as WireRequest, sync_group_request};
use kafka_protocol::protocol::StrBytes;

use super::join_group::PROTOCOL_TYPE;
use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// One member's share, as the leader sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAssignment {
    /// The member.
    pub member_id: String,
    /// Its encoded assignment (`ConsumerProtocolAssignment`).
    pub assignment: Bytes,
}

/// Asks for our share, and brings everybody's if we lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupRequest {
    /// The group.
    pub group_id: String,
    /// The generation we joined.
    pub generation_id: i32,
    /// Our id.
    pub member_id: String,
    /// Our static identity, if any.
    pub group_instance_id: Option<String>,
    /// The assignor that the group chose (v5).
    pub protocol_name: String,
    /// Everybody's share, if we lead.
    pub assignments: Vec<GroupAssignment>,
}

/// Our share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The encoded assignment; empty means none.
    pub assignment: Bytes,
}

impl SyncGroupRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let share = |share: &GroupAssignment| {
            sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text(&share.member_id))
                .with_assignment(share.assignment.clone())
        };
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_generation_id(self.generation_id)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.group_instance_id.as_deref().map(text))
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(&self.protocol_name)))
            .with_assignments(self.assignments.iter().map(share).collect());
        put(&request, version, out)
    }
}

impl SyncGroupResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 1 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let error = ErrorCode(reader.i16("error_code")?);
        if version >= 5 {
            reader.nullable_string("protocol_type")?;
            reader.nullable_string("protocol_name")?;
        }
        let assignment = reader.bytes("assignment")?;
        reader.skip_tags("SyncGroupResponse")?;
        Ok(Self {
            throttle_ms,
            error,
            assignment,
        })
    }
}
