//! LeaveGroup (key 13), v0 to v5. v3 several members at once, by id or by instance (KIP-345).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, FakeKafka};

pub(super) fn refuse(_: &LeaveGroupRequest, _: i16, code: i16) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn leave_group(&mut self, call: Call, request: LeaveGroupRequest) {
        let code = self.check_group(&call, &request.group_id.0);
        if !code.is_ok() {
            return self.answer(
                &call,
                &LeaveGroupResponse::default().with_error_code(code.0),
            );
        }
        let group_id = request.group_id.0.clone();
        let response = if call.version < 3 {
            let identity = MemberIdentity::default().with_member_id(request.member_id);
            let code = self.leave(&group_id, &identity);
            LeaveGroupResponse::default().with_error_code(code.0)
        } else {
            let members = request.members.into_iter().map(|identity| {
                let code = self.leave(&group_id, &identity);
                MemberResponse::default()
                    .with_member_id(identity.member_id)
                    .with_group_instance_id(identity.group_instance_id)
                    .with_error_code(code.0)
            });
            LeaveGroupResponse::default().with_members(members.collect())
        };
        self.answer(&call, &response);
        self.flush_group(&group_id);
    }

    fn leave(&mut self, group_id: &StrBytes, identity: &MemberIdentity) -> ErrorCode {
        let now = self.now;
        let group = self.group(group_id);
        if group.pending.remove(&identity.member_id).is_some() {
            group.try_complete_join(now);
            return ErrorCode::NONE;
        }
        let mut id = identity.member_id.clone();
        if let Some(instance) = &identity.group_instance_id {
            let Some(member) = group.instance(instance) else {
                return ErrorCode::UNKNOWN_MEMBER_ID;
            };
            if !id.is_empty() && member.id != id {
                return ErrorCode::FENCED_INSTANCE_ID;
            }
            id = member.id.clone();
        }
        if group.member(&id).is_none() {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        group.remove(&id, "left", now);
        ErrorCode::NONE
    }
}
