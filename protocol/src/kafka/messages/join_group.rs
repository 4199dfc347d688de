//! JoinGroup (key 11): becoming, or staying, a member of a group. KIP-62 (rebalance timeout), KIP-345
//! (static members, v5), KIP-394 (member id required, v4), KIP-800 (reason, v8), KIP-814 (v9).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{GroupId, JoinGroupRequest as WireRequest, join_group_request};
use kafka_protocol::protocol::StrBytes;

use super::{EncodeError, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// The kind of group whose members are consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// One way of assigning that a member offers, with its subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProtocol {
    /// The assignor's name.
    pub name: String,
    /// The encoded subscription (`ConsumerProtocolSubscription`).
    pub metadata: Bytes,
}

/// Asks to become, or to stay, a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupRequest {
    /// The group.
    pub group_id: String,
    /// After how long without a heartbeat the coordinator gives the member up, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the coordinator waits for members to rejoin, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Our id; empty the first time.
    pub member_id: String,
    /// Our static identity, if any (v5).
    pub group_instance_id: Option<String>,
    /// The assignors we offer, the preferred first.
    pub protocols: Vec<GroupProtocol>,
    /// Why we join, for the broker's log (v8).
    pub reason: Option<String>,
}

/// One member, as told to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its static identity, if any.
    pub group_instance_id: Option<String>,
    /// Its subscription, encoded.
    pub metadata: Bytes,
}

/// A membership for one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Why we are not in.
    pub error: ErrorCode,
    /// The generation; -1 with an error.
    pub generation_id: i32,
    /// The assignor that the group chose.
    pub protocol_name: String,
    /// The leader's member id.
    pub leader: String,
    /// Our member id.
    pub member_id: String,
    /// All members, if we lead and have to assign; else empty.
    pub members: Vec<GroupMember>,
    /// We lead, but a static member's return changed nothing and the broker keeps the assignment (v9).
    pub skip_assignment: bool,
}

impl JoinGroupRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let protocol = |offered: &GroupProtocol| {
            join_group_request::JoinGroupRequestProtocol::default()
                .with_name(text(&offered.name))
                .with_metadata(offered.metadata.clone())
        };
        let request = WireRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.group_instance_id.as_deref().map(text))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(self.protocols.iter().map(protocol).collect())
            .with_reason(self.reason.as_deref().map(text));
        put(&request, version, out)
    }
}

impl JoinGroupResponse {
    pub(super) fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {
        let throttle_ms = if version >= 2 {
            reader.i32("throttle_time_ms")?
        } else {
            0
        };
        let error = ErrorCode(reader.i16("error_code")?);
        let generation_id = reader.i32("generation_id")?;
        if version >= 7 {
            reader.nullable_string("protocol_type")?;
        }
        let protocol_name = if version >= 7 {
            reader.nullable_string("protocol_name")?.unwrap_or_default()
        } else {
            reader.string("protocol_name")?
        };
        let leader = reader.string("leader")?;
        let skip_assignment = version >= 9 && reader.bool("skip_assignment")?;
        let member_id = reader.string("member_id")?;
        let members = reader.array("members", 3, |reader| {
            let member = GroupMember {
                member_id: reader.string("member_id")?,
                group_instance_id: if version >= 5 {
                    reader.nullable_string("group_instance_id")?
                } else {
                    None
                },
                metadata: reader.bytes("metadata")?,
            };
            reader.skip_tags("members")?;
            Ok(member)
        })?;
        reader.skip_tags("JoinGroupResponse")?;
        Ok(Self {
            throttle_ms,
            error,
            generation_id,
            protocol_name,
            leader,
            member_id,
            members,
            skip_assignment,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::JoinGroupResponse as WireResponse;
    use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::JoinGroup;

    prop_compose! {
        fn any_member()(
            member_id in label(),
            group_instance_id in proptest::option::of(label()),
            metadata in blob(),
        ) -> GroupMember {
            GroupMember { member_id, group_instance_id, metadata }
        }
    }

    prop_compose! {
        fn any_response()(
            error in error_code(),
            (throttle_ms, generation_id) in any::<(i32, i32)>(),
            (protocol_name, leader, member_id) in (label(), label(), label()),
            members in few(any_member()),
            skip_assignment in any::<bool>(),
        ) -> JoinGroupResponse {
            JoinGroupResponse {
                throttle_ms,
                error,
                generation_id,
                protocol_name,
                leader,
                member_id,
                members,
                skip_assignment,
            }
        }
    }

    /// What of it that version carries.
    fn told(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
        if version < 2 {
            response.throttle_ms = 0;
        }
        response.skip_assignment &= version >= 9;
        for member in &mut response.members {
            if version < 5 {
                member.group_instance_id = None;
            }
        }
        response
    }

    fn wire(told: &JoinGroupResponse, version: i16) -> WireResponse {
        let member = |told: &GroupMember| {
            JoinGroupResponseMember::default()
                .with_member_id(wire_text(&told.member_id))
                .with_group_instance_id(told.group_instance_id.as_deref().map(wire_text))
                .with_metadata(told.metadata.clone())
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        // From 7 on an error comes without a protocol.
        let none = version >= 7 && told.protocol_name.is_empty();
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_error_code(told.error.0)
            .with_generation_id(told.generation_id)
            .with_protocol_type((!none).then(|| wire_text(PROTOCOL_TYPE)))
            .with_protocol_name((!none).then(|| wire_text(&told.protocol_name)))
            .with_leader(wire_text(&told.leader))
            .with_skip_assignment(told.skip_assignment)
            .with_member_id(wire_text(&told.member_id))
            .with_members(told.members.iter().map(member).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| {
                answer(API, version, &wire(&told(response, version), version))
            })
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let told = told(response.clone(), version);
                let read = read(API, version, &wire(&told, version));
                prop_assert_eq!(read, Response::JoinGroup(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(
            (session, rebalance) in any::<(i32, i32)>(),
            (member_id, reason) in (label(), proptest::option::of(label())),
            group_instance_id in proptest::option::of(label()),
            protocols in few((label(), blob())),
        ) {
            let protocol = |(name, metadata): &(String, Bytes)| GroupProtocol {
                name: name.clone(),
                metadata: metadata.clone(),
            };
            let mut request = JoinGroupRequest {
                group_id: GROUP.to_owned(),
                session_timeout_ms: session,
                rebalance_timeout_ms: rebalance,
                member_id,
                group_instance_id,
                protocols: protocols.iter().map(protocol).collect(),
                reason,
            };
            for version in versions(API).rev() {
                if version < 5 {
                    request.group_instance_id = None;
                }
                let read: WireRequest = written(&Request::JoinGroup(request.clone()), version);
                prop_assert_eq!(&*read.group_id.0, GROUP);
                prop_assert_eq!((read.session_timeout_ms, read.rebalance_timeout_ms), (session, rebalance));
                prop_assert_eq!(&*read.member_id, &*request.member_id);
                prop_assert_eq!(read.group_instance_id.as_deref(), request.group_instance_id.as_deref());
                prop_assert_eq!(&*read.protocol_type, "consumer");
                let reason = request.reason.as_deref().filter(|_| version >= 8);
                prop_assert_eq!(read.reason.as_deref(), reason);
                let read = read.protocols.iter().map(|read| (&*read.name, &read.metadata));
                let offered = protocols.iter().map(|(name, metadata)| (&**name, metadata));
                prop_assert!(read.eq(offered), "version {}", version);
            }
        }
    }
}
