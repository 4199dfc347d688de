//! DescribeGroups (key 15): who is in a classic group, and what was assigned to whom. KIP-345 (static members, v4);
//! KIP-1043 (a group that is none of the classic ones is an error, v6).
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{DescribeGroupsRequest as WireRequest, GroupId};

use super::{Asked, EncodeError, group, put, text};
use crate::kafka::error::ErrorCode;
use crate::kafka::wire::{DecodeError, Reader};

/// Asks about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroupsRequest {
    /// The group.
    pub group_id: String,
}

/// A classic group, as its coordinator has it. One that it does not know has no member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroupsResponse {
    /// For how long the broker asks us to be silent, in milliseconds.
    pub throttle_ms: i32,
    /// Whether and why not.
    pub error: ErrorCode,
    /// `Stable`, `Empty`, `Dead` and so on.
    pub state: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its static identity, if any (v4).
    pub group_instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is, as the coordinator sees it.
    pub client_host: String,
    /// What its leader assigned to it, as members encode that among themselves; empty while the group rebalances.
    pub assignment: Bytes,
}

impl DescribeGroupsRequest {
    pub(super) fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let groups = vec![GroupId(text(&self.group_id))];
        put(&WireRequest::default().with_groups(groups), version, out)
    }
}

impl DescribeGroupsResponse {
    pub(super) fn decode(asked: &Asked, reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = asked.version;
        let mut answer = Self {
            throttle_ms: 0,
            error: ErrorCode::NONE,
            state: String::new(),
            members: Vec::new(),
        };
        if version >= 1 {
            answer.throttle_ms = reader.i32("throttle_time_ms")?;
        }
        reader.array("groups", 12, |reader| {
            answer.error = ErrorCode(reader.i16("error_code")?);
            if version >= 6 {
                reader.nullable_string("error_message")?;
            }
            group(asked, reader)?;
            answer.state = reader.string("group_state")?;
            reader.string("protocol_type")?;
            reader.string("protocol_data")?;
            answer.members = reader.array("members", 7, |reader| member(version, reader))?;
            if version >= 3 {
                reader.i32("authorized_operations")?;
            }
            reader.skip_tags("groups")
        })?;
        reader.skip_tags("DescribeGroupsResponse")?;
        Ok(answer)
    }
}

fn member(version: i16, reader: &mut Reader) -> Result<DescribedMember, DecodeError> {
    reader.string("member_id")?;
    let group_instance_id = match version >= 4 {
        true => reader.nullable_string("group_instance_id")?,
        false => None,
    };
    let client_id = reader.string("client_id")?;
    let client_host = reader.string("client_host")?;
    reader.bytes("member_metadata")?;
    let assignment = reader.bytes("member_assignment")?;
    reader.skip_tags("members")?;
    Ok(DescribedMember {
        group_instance_id,
        client_id,
        client_host,
        assignment,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::DescribeGroupsResponse as WireResponse;
    use kafka_protocol::messages::describe_groups_response::{
        DescribedGroup, DescribedGroupMember,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::kafka::messages::testing::*;
    use crate::kafka::messages::{ApiKey, Request, Response};

    const API: ApiKey = ApiKey::DescribeGroups;

    prop_compose! {
        fn any_member()(
            group_instance_id in proptest::option::of(label()),
            (client_id, client_host) in (label(), label()),
            assignment in blob(),
        ) -> DescribedMember {
            DescribedMember { group_instance_id, client_id, client_host, assignment }
        }
    }

    prop_compose! {
        fn any_response()(
            error in error_code(),
            throttle_ms in any::<i32>(),
            state in label(),
            members in few(any_member()),
        ) -> DescribeGroupsResponse {
            DescribeGroupsResponse { throttle_ms, error, state, members }
        }
    }

    /// What of it that version carries.
    fn told(mut response: DescribeGroupsResponse, version: i16) -> DescribeGroupsResponse {
        if version < 1 {
            response.throttle_ms = 0;
        }
        for member in &mut response.members {
            member.group_instance_id.take_if(|_| version < 4);
        }
        response
    }

    fn wire(told: &DescribeGroupsResponse) -> WireResponse {
        let member = |told: &DescribedMember| {
            DescribedGroupMember::default()
                .with_member_id(wire_text("m"))
                .with_group_instance_id(told.group_instance_id.as_deref().map(wire_text))
                .with_client_id(wire_text(&told.client_id))
                .with_client_host(wire_text(&told.client_host))
                .with_member_metadata(Bytes::from_static(b"metadata"))
                .with_member_assignment(told.assignment.clone())
                .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
        };
        let group = DescribedGroup::default()
            .with_error_code(told.error.0)
            .with_group_id(GroupId(wire_text(GROUP)))
            .with_group_state(wire_text(&told.state))
            .with_protocol_type(wire_text("consumer"))
            .with_protocol_data(wire_text("range"))
            .with_members(told.members.iter().map(member).collect())
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown());
        WireResponse::default()
            .with_throttle_time_ms(told.throttle_ms)
            .with_groups(vec![group])
            .with_unknown_tagged_field(UNKNOWN_TAG, unknown())
    }

    pub(in crate::kafka::messages) fn answers(version: i16) -> BoxedStrategy<Bytes> {
        any_response()
            .prop_map(move |response| answer(API, version, &wire(&told(response, version))))
            .boxed()
    }

    proptest! {
        #[test]
        fn answer_is_read_in_every_version(response in any_response()) {
            for version in versions(API) {
                let told = told(response.clone(), version);
                let read = read(API, version, &wire(&told));
                prop_assert_eq!(read, Response::DescribeGroups(told), "version {}", version);
            }
        }

        #[test]
        fn request_is_written_in_every_version(group_id in label()) {
            let request = Request::DescribeGroups(DescribeGroupsRequest {
                group_id: group_id.clone(),
            });
            for version in versions(API) {
                let read: WireRequest = written(&request, version);
                let groups: Vec<&str> = read.groups.iter().map(|it| it.0.as_str()).collect();
                prop_assert_eq!(groups, [&*group_id]);
            }
        }
    }
}
