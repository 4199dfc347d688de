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

/// Whether the membership has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// The whole request's error code, or else the first that a member has.
    pub error: ErrorCode,
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

impl LeaveGroupResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 1 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
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
        Ok(Self { throttle_ms, error })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::LeaveGroupResponse as WireResponse;
    use kafka_protocol::messages::leave_group_response::MemberResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::LeaveGroup;

    fn wire(throttle_ms: i32, error: ErrorCode, member: ErrorCode, version: i16) -> WireResponse {
        let members = MemberResponse::default()
            .with_member_id(wire_text("m"))
            .with_error_code(member.0)
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(throttle_ms)
            .with_error_code(error.0)
            .with_members(if version >= 3 {
                vec![members]
            } else {
                Vec::new()
            })
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        (error_code(), error_code())
            .prop_map(move |(error, member)| answer(API, version, &wire(5, error, member, version)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(
            throttle_ms in any::<i32>(),
            error in error_code(),
            member in error_code(),
        ) {
            for version in versions(API) {
                let read = read(API, version, &wire(throttle_ms, error, member, version));
                let told = LeaveGroupResponse {
                    throttle_ms: if version >= 1 { throttle_ms } else { 0 },
                    error: if version >= 3 && error.is_ok() { member } else { error },
                };
                prop_assert_eq!(read, Response::LeaveGroup(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(member in label(), reason in proptest::option::of(label())) {
            let request = Request::LeaveGroup(LeaveGroupRequest {
                group_id: GROUP.to_owned(),
                member_id: member.clone(),
                reason: reason.clone(),
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                prop_assert_eq!(&*read.group_id.0, GROUP);
                if version < 3 {
                    prop_assert_eq!(&*read.member_id, &*member);
                    continue;
                }
                prop_assert_eq!(read.members.len(), 1);
                prop_assert_eq!(&*read.members[0].member_id, &*member);
                prop_assert_eq!(&read.members[0].group_instance_id, &None);
                let told = reason.as_deref().filter(|_| version >= 5);
                prop_assert_eq!(read.members[0].reason.as_deref(), told);
            }
        }
    }
}
