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

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::SyncGroupResponse as WireResponse;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::SyncGroup;

    prop_compose! {
        fn any_response()(
            throttle_ms in any::<i32>(),
            error in error_code(),
            assignment in blob(),
        ) -> SyncGroupResponse {
            SyncGroupResponse { throttle_ms, error, assignment }
        }
    }

    fn wire(told: &SyncGroupResponse) -> WireResponse {
        let known = told.error.is_ok();
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_error_code(told.error.0)
            .with_protocol_type(known.then(|| wire_text(PROTOCOL_TYPE)))
            .with_protocol_name(known.then(|| wire_text("range")))
            .with_assignment(told.assignment.clone())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&response)))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(mut response in any_response()) {
            for version in versions(API).rev() {
                if version < 1 {
                    response.throttle_ms = 0;
                }
                let read = read(API, version, &wire(&response));
                prop_assert_eq!(read, Response::SyncGroup(response.clone()), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            generation_id in any::<i32>(),
            (member_id, protocol_name) in (label(), label()),
            group_instance_id in proptest::option::of(label()),
            shares in few((label(), blob())),
        ) {
            let share = |(member_id, assignment): &(String, Bytes)| GroupAssignment {
                member_id: member_id.clone(),
                assignment: assignment.clone(),
            };
            let mut request = SyncGroupRequest {
                group_id: GROUP.to_owned(),
                generation_id,
                member_id,
                group_instance_id,
                protocol_name,
                assignments: shares.iter().map(share).collect(),
            };
            for version in versions(API).rev() {
                if version < 3 {
                    request.group_instance_id = None;
                }
                let read: WireRequest = written(&Request::SyncGroup(request.clone()), version);
                prop_assert_eq!((&*read.group_id.0, read.generation_id), (GROUP, generation_id));
                prop_assert_eq!(&*read.member_id, &*request.member_id);
                prop_assert_eq!(read.group_instance_id.as_deref(), request.group_instance_id.as_deref());
                let named = (version >= 5).then_some(("consumer", &*request.protocol_name));
                prop_assert_eq!(read.protocol_type.as_deref().zip(read.protocol_name.as_deref()), named);
                let read = read.assignments.iter().map(|read| (&*read.member_id, &read.assignment));
                let given = shares.iter().map(|(member, assignment)| (&**member, assignment));
                prop_assert!(read.eq(given), "version {}", version);
            }
        }
    }
}
