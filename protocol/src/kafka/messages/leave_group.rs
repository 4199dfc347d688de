//! LeaveGroup (key 13): ends a membership. From v3 the request and answer are lists (KIP-345); we always
//! name ourselves alone. KIP-800 (reason, v5).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;
use kafka_protocol::messages::{GroupId, LeaveGroupRequest as WireRequest, leave_group_request};

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Ends the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group_id: String,
    /// Our id.
    pub member_id: String,
    /// Why we leave, for the broker's log (v5).
    pub reason: Option<String>,
}

impl LeaveGroupRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let request = WireRequest::default().with_group_id(GroupId(text(&self.group_id)));
        let request = if version >= 3 {
            let member = leave_group_request::MemberIdentity::default()
                .with_member_id(text(&self.member_id))
                .with_reason(self.reason.as_deref().map(text));
            request.with_members(vec![member])
        } else {
            request.with_member_id(text(&self.member_id))
        };
        put(&request, version, out)
    }
}

/// Reads the answer: the whole request's error code, or else the first that a member has.
pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<ErrorCode, DecodeError> {
    if version >= 1 {
        reader.i32("throttle_time_ms")?;
    }
    let mut error = ErrorCode(reader.i16("error_code")?);
    if version >= 3 {
        reader.array("members", 5, |reader| {
            reader.string("member_id")?;
            reader.nullable_string("group_instance_id")?;
            let member_error = ErrorCode(reader.i16("member_error_code")?);
            if error.is_ok() {
                error = member_error;
            }
            reader.skip_tags("members")
        })?;
    }
    reader.skip_tags("LeaveGroupResponse")?;
    Ok(error)
}
