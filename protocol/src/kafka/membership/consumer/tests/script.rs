//! One member, and a coordinator that the test plays by hand.

use super::*;
use crate::kafka::messages::ConsumerGroupHeartbeatResponse;

/// The topic's id, and that of the one that takes its name.
pub(super) const TOPIC: Uuid = Uuid::from_u128(7);
pub(super) const SUCCESSOR: Uuid = Uuid::from_u128(8);

/// What the coordinator tells: three of them are the lease.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// One member, and the time.
pub(super) struct Script {
    pub(super) member: ConsumerMembership,
    pub(super) now: Instant,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::of(config())
    }

    pub(super) fn of(config: MembershipConfig) -> Self {
        let mut member = ConsumerMembership::new(config, "m1".to_owned(), 1);
        member.set_topic_id(TOPIC);
        Self {
            member,
            now: Instant::from_micros(1_000_000_000),
        }
    }

    /// A static member.
    pub(super) fn of_instance() -> Self {
        Self::of(MembershipConfig {
            group_instance_id: Some("node-1".to_owned()),
            ..config()
        })
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
        self.member.poll_request(self.now)
    }

    pub(super) fn expect(&mut self) -> ConsumerGroupHeartbeatRequest {
        match self.request() {
            Some(Request::ConsumerGroupHeartbeat(request)) => request,
            other => panic!("expected ConsumerGroupHeartbeat, not {other:?}"),
        }
    }

    pub(super) fn answer(&mut self, answer: ConsumerGroupHeartbeatResponse) -> &mut Self {
        let answer = Response::ConsumerGroupHeartbeat(answer);
        self.member.handle_response(&answer, self.now);
        self
    }

    pub(super) fn refuse(&mut self, error: ErrorCode) -> &mut Self {
        self.answer(ConsumerGroupHeartbeatResponse {
            error,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            ..accepted(0)
        })
    }

    /// Joins in that epoch with those partitions; says what it owns until the coordinator knows it.
    pub(super) fn join(&mut self, epoch: i32, partitions: &[i32]) -> &mut Self {
        self.expect();
        self.answer(assigned(epoch, partitions));
        if !partitions.is_empty() {
            assert_eq!(owned(&self.expect()), Some(partitions.to_vec()));
            self.answer(accepted(epoch));
        }
        self.events();
        self
    }

    /// One more heartbeat, when it is due, which brings that assignment.
    pub(super) fn assign(&mut self, epoch: i32, partitions: &[i32]) -> &mut Self {
        self.wait(1000).expect();
        self.answer(assigned(epoch, partitions))
    }

    pub(super) fn events(&mut self) -> Vec<MembershipEvent> {
        std::iter::from_fn(|| self.member.poll_event()).collect()
    }

    pub(super) fn may_start(&self, partition: i32) -> bool {
        self.member.may_start_call(partition, self.now)
    }
}

pub(super) fn config() -> MembershipConfig {
    MembershipConfig {
        group_id: "g".to_owned(),
        topic: "t".to_owned(),
        group_instance_id: None,
        rack_id: String::new(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(30),
        heartbeat_interval: Duration::from_secs(2),
        request_timeout: Duration::from_secs(3),
    }
}

/// Nothing new.
pub(super) fn accepted(member_epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        member_id: Some("m1".to_owned()),
        member_epoch,
        heartbeat_interval_ms: i32::try_from(INTERVAL.as_millis()).unwrap(),
        assignment: None,
    }
}

pub(super) fn assigned(epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatResponse {
    assigned_of(TOPIC, epoch, partitions)
}

pub(super) fn assigned_of(
    topic_id: Uuid,
    epoch: i32,
    partitions: &[i32],
) -> ConsumerGroupHeartbeatResponse {
    let partitions = partitions.to_vec();
    let named = ConsumerGroupAssignment {
        topic_id,
        partitions,
    };
    let topics = Some(named).filter(|named| !named.partitions.is_empty());
    ConsumerGroupHeartbeatResponse {
        assignment: Some(topics.into_iter().collect()),
        ..accepted(epoch)
    }
}

/// What a heartbeat says that we own; `None` when it says nothing of it.
pub(super) fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let owned = request.owned.as_ref()?;
    Some(owned.iter().flat_map(|of| of.partitions.clone()).collect())
}

/// Whether it says everything, so that the whole assignment is the answer.
pub(super) fn says_all(request: &ConsumerGroupHeartbeatRequest) -> bool {
    let said = [
        request.rebalance_timeout_ms.is_some(),
        request.topics.is_some(),
        request.owned.is_some(),
    ];
    assert!(
        said[0] == said[1] && (said[2] || !said[0]),
        "all or what has changed: {request:?}"
    );
    said[0]
}

pub(super) fn lost(partitions: &[i32]) -> MembershipEvent {
    let partitions = partitions.to_vec();
    MembershipEvent::Lost { partitions }
}

pub(super) fn assigned_event(partitions: &[i32]) -> MembershipEvent {
    let partitions = partitions.to_vec();
    MembershipEvent::Assigned { partitions }
}

pub(super) fn revoke(partitions: &[i32]) -> MembershipEvent {
    let partitions = partitions.to_vec();
    MembershipEvent::Revoke { partitions }
}

pub(super) fn joined(generation: i32) -> MembershipEvent {
    MembershipEvent::Joined { generation }
}
