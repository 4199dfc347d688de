//! Heartbeat (key 12), v0 to v4. v3 static members (KIP-345).

use forebay_protocol::kafka::error::ErrorCode;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::group::State;
use super::{Call, FakeKafka};

pub(super) fn refuse(_: &HeartbeatRequest, _: i16, code: i16) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(code)
}

impl FakeKafka {
    pub(super) fn heartbeat(&mut self, call: Call, request: HeartbeatRequest) {
        let mut code = self.check_group(&call, &request.group_id.0);
        if code.is_ok() {
            code = self.beat(&request);
        }
        self.answer(&call, &HeartbeatResponse::default().with_error_code(code.0));
    }

    fn beat(&mut self, request: &HeartbeatRequest) -> ErrorCode {
        let now = self.now;
        let group = self.group(&request.group_id.0);
        let code = group.validate(&request.member_id, request.group_instance_id.as_ref());
        if !code.is_ok() {
            return code;
        }
        if request.generation_id != group.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        group.touch(&request.member_id, now);
        match group.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::Preparing { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            // Between the answers to its join and its sync a member may already beat.
            State::Completing { .. } | State::Stable => ErrorCode::NONE,
        }
    }
}
