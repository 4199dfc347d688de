//! DescribeGroups (key 15), v0 to v6: who is in a classic group, and what was assigned to whom. From v6 on a group that is
//! none of those is an error (KIP-1043).

use bytes::Bytes;
use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::group::State;
use super::{Call, FakeKafka};

/// Where every client is.
pub(super) const HOST: &str = "/127.0.0.1";

pub(super) fn refuse(request: &DescribeGroupsRequest, _: i16, code: i16) -> DescribeGroupsResponse {
    let refused = |id: &GroupId| {
        DescribedGroup::default()
            .with_group_id(id.clone())
            .with_error_code(code)
    };
    DescribeGroupsResponse::default().with_groups(request.groups.iter().map(refused).collect())
}

impl FakeKafka {
    pub(super) fn describe_groups(&mut self, call: Call, request: DescribeGroupsRequest) {
        let groups = request.groups.iter().map(|id| self.describe(&call, id));
        let response = DescribeGroupsResponse::default().with_groups(groups.collect());
        self.answer(&call, &response);
    }

    fn describe(&self, call: &Call, id: &GroupId) -> DescribedGroup {
        let described = DescribedGroup::default().with_group_id(id.clone());
        let code = self.check_group(call, &id.0);
        if !code.is_ok() {
            return described.with_error_code(code.0);
        }
        let Some(group) = self.groups.get(&id.0) else {
            let unknown = match call.version {
                0..=5 => ErrorCode::NONE,
                _ => ErrorCode::GROUP_ID_NOT_FOUND,
            };
            let dead = StrBytes::from_static_str("Dead");
            return described.with_group_state(dead).with_error_code(unknown.0);
        };
        let (name, is_stable) = match group.state {
            State::Empty => ("Empty", false),
            State::Preparing { .. } => ("PreparingRebalance", false),
            State::Completing { .. } => ("CompletingRebalance", false),
            State::Stable => ("Stable", true),
        };
        let members = group.members.iter().map(|member| {
            // What was assigned before says nothing while the group rebalances.
            let assignment = match is_stable {
                true => member.assignment.clone(),
                false => Bytes::new(),
            };
            let instance = member.instance.clone().filter(|_| call.version >= 4);
            DescribedGroupMember::default()
                .with_member_id(member.id.clone())
                .with_group_instance_id(instance)
                .with_client_id(StrBytes::from_string(member.client_id.clone()))
                .with_client_host(StrBytes::from_static_str(HOST))
                .with_member_assignment(assignment)
        });
        described
            .with_group_state(StrBytes::from_static_str(name))
            .with_protocol_type(group.protocol_type.clone().unwrap_or_default())
            .with_protocol_data(group.protocol.clone().unwrap_or_default())
            .with_members(members.collect())
    }
}
