//! SyncGroup (key 14), v0 to v5. v3 static members (KIP-345), v5 protocol type and name (KIP-559).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::events::GroupChange;
use super::group::{Group, GroupAnswer, State};
use super::{Call, FakeKafka};

pub(super) fn refuse(_: &SyncGroupRequest, _: i16, code: i16) -> SyncGroupResponse {
    refusal(code)
}

pub(super) fn refusal(code: i16) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn sync_group(&mut self, call: Call, request: SyncGroupRequest) {
        let code = self.check_group(&call, &request.group_id.0);
        if !code.is_ok() {
            return self.answer(&call, &refusal(code.0));
        }
        let now = self.now;
        let group_id = request.group_id.0.clone();
        let group = self.group(&group_id);
        let code = group.check_sync(&request);
        if code.is_ok() {
            group.touch(&request.member_id, now);
            group.sync(call, request);
        } else {
            group.answers.push(GroupAnswer::Sync(call, refusal(code.0)));
        }
        self.flush_group(&group_id);
    }
}

impl Group {
    fn check_sync(&mut self, request: &SyncGroupRequest) -> ErrorCode {
        let code = self.validate(&request.member_id, request.group_instance_id.as_ref());
        let differs = |asked: &Option<_>, ours: &Option<_>| asked.is_some() && asked != ours;
        if !code.is_ok() {
            code
        } else if request.generation_id != self.generation {
            ErrorCode::ILLEGAL_GENERATION
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL
        } else {
            match self.state {
                State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
                State::Preparing { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
                State::Completing { .. } | State::Stable => ErrorCode::NONE,
            }
        }
    }

    fn sync(&mut self, call: Call, request: SyncGroupRequest) {
        if self.state == State::Stable {
            let response = self.sync_response(&request.member_id);
            self.answers.push(GroupAnswer::Sync(call, response));
            return;
        }
        let member = self.member(&request.member_id).expect("validated");
        member.syncing = Some(call);
        if !self.is_leader(&request.member_id) {
            return;
        }
        for member in &mut self.members {
            member.assignment = request
                .assignments
                .iter()
                .find(|assignment| assignment.member_id == member.id)
                .map(|assignment| assignment.assignment.clone())
                .unwrap_or_default();
        }
        self.state = State::Stable;
        self.changes.push(GroupChange::Assigned {
            generation: self.generation,
        });
        for at in 0..self.members.len() {
            let id = self.members[at].id.clone();
            if let Some(call) = self.members[at].syncing.take() {
                let response = self.sync_response(&id);
                self.answers.push(GroupAnswer::Sync(call, response));
            }
        }
    }

    fn sync_response(&mut self, id: &kafka_protocol::protocol::StrBytes) -> SyncGroupResponse {
        let assignment = self.member(id).map(|member| member.assignment.clone());
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_assignment(assignment.unwrap_or_default())
    }
}
