//! One member, and a coordinator that the test plays by hand.

use super::coordinator::{heartbeat_answer, join_error, synced};
use super::*;
use crate::kafka::assignor::{Assignment, Subscription};
use crate::kafka::messages::{GroupMember, JoinGroupRequest, JoinGroupResponse};

/// One member, and the time.
pub(super) struct Script {
    pub(super) member: Membership,
    pub(super) now: Instant,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::of(config("alone"))
    }

    pub(super) fn of(config: MembershipConfig) -> Self {
        Self {
            member: Membership::new(config, 1),
            now: Instant::from_micros(1_000_000_000),
        }
    }

    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        let until = self.now + Duration::from_millis(millis);
        while let Some(due) = self.member.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.member.handle_timeout(self.now);
        }
        self.now = until;
        self.member.handle_timeout(self.now);
        self
    }

    pub(super) fn request(&mut self) -> Option<Request> {
        self.member.poll_request(true, self.now)
    }

    pub(super) fn expect_join(&mut self) -> JoinGroupRequest {
        match self.request() {
            Some(Request::JoinGroup(request)) => request,
            other => panic!("expected JoinGroup, not {other:?}"),
        }
    }

    pub(super) fn expect_sync(&mut self) {
        let request = self.request();
        assert!(
            matches!(request, Some(Request::SyncGroup(_))),
            "{request:?}"
        );
    }

    pub(super) fn expect_heartbeat(&mut self) {
        let request = self.request();
        assert!(
            matches!(request, Some(Request::Heartbeat(_))),
            "{request:?}"
        );
    }

    pub(super) fn answer(&mut self, response: Response) -> &mut Self {
        self.member.handle_response(&response, self.now);
        self
    }

    pub(super) fn refuse_join(&mut self, error: ErrorCode) -> &mut Self {
        self.answer(join_error("", error))
    }

    pub(super) fn heartbeat(&mut self, error: ErrorCode) -> &mut Self {
        self.answer(heartbeat_answer(error))
    }

    /// A follower's way from JoinGroup to its assignment.
    pub(super) fn join(&mut self, generation: i32, partitions: &[i32]) -> &mut Self {
        self.expect_join();
        self.answer(joined("m1", generation, "leader", &[]));
        self.expect_sync();
        self.answer(assigned(partitions))
    }

    /// Both are due; the heartbeat hears that its generation is over.
    pub(super) fn expect_heartbeat_then_join(&mut self) {
        self.expect_join();
        self.expect_heartbeat();
        self.heartbeat(ErrorCode::ILLEGAL_GENERATION);
    }

    pub(super) fn events(&mut self) -> Vec<MembershipEvent> {
        std::iter::from_fn(|| self.member.poll_event()).collect()
    }

    pub(super) fn may_start(&self, partition: i32) -> bool {
        self.member.may_start_call(partition, self.now)
    }
}

pub(super) fn joined(id: &str, generation: i32, leader: &str, members: &[GroupMember]) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        generation_id: generation,
        protocol_name: String::new(),
        leader: leader.to_owned(),
        member_id: id.to_owned(),
        members: members.to_vec(),
        skip_assignment: false,
    })
}

pub(super) fn assigned(partitions: &[i32]) -> Response {
    let share = BTreeMap::from([(TOPIC.to_owned(), partitions.iter().copied().collect())]);
    synced(&Assignment::of(share).encode())
}

pub(super) fn claims(request: &JoinGroupRequest) -> Vec<i32> {
    let subscription = Subscription::decode(&request.protocols[0].metadata).unwrap();
    let owned = subscription.owned.into_iter();
    owned.flat_map(|owned| owned.partitions).collect()
}

pub(super) fn ours(id: &str) -> GroupMember {
    let topics = vec![TOPIC.to_owned()];
    GroupMember {
        member_id: id.to_owned(),
        group_instance_id: None,
        metadata: Subscription {
            topics,
            ..Subscription::default()
        }
        .encode(),
    }
}
