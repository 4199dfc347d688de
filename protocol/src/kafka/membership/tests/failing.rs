//! A member whose coordinator refuses, moves, is silent or forgets it.

use bytes::Bytes;

use super::coordinator::{sync_error, synced};
use super::script::*;
use super::*;

#[test]
fn a_coordinator_that_does_not_know_us_takes_everything() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        s.events(),
        [MembershipEvent::Lost {
            partitions: vec![0, 1]
        }]
    );
    assert!(!s.may_start(0) && !s.member.may_commit(0));
    assert_eq!(s.member.generation(), -1);
    let request = s.wait(5000).expect_join();
    assert_eq!((request.member_id.as_str(), claims(&request)), ("", vec![]));
}

#[test]
fn an_illegal_generation_keeps_the_member_id() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(
        s.events(),
        [MembershipEvent::Lost {
            partitions: vec![0]
        }]
    );
    let request = s.wait(5000).expect_join();
    assert_eq!(
        (request.member_id.as_str(), claims(&request)),
        ("m1", vec![])
    );
}

#[test]
fn answers_to_what_an_older_generation_sent_are_passed_over() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    s.member
        .handle_commit_error(ErrorCode::REBALANCE_IN_PROGRESS, 3, s.now);
    s.join(4, &[0]).events();
    s.heartbeat(ErrorCode::ILLEGAL_GENERATION);
    s.member
        .handle_commit_error(ErrorCode::ILLEGAL_GENERATION, 3, s.now);
    assert_eq!(s.events(), []);
    assert!(s.may_start(0));
}

#[test]
fn commit_errors_tell_of_our_standing() {
    let lost = [MembershipEvent::Lost {
        partitions: vec![0],
    }];
    for error in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut s = Script::new();
        s.join(3, &[0]).events();
        s.member.handle_commit_error(error, 3, s.now);
        assert_eq!(s.events(), lost, "{error}");
    }
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.member
        .handle_commit_error(ErrorCode::OFFSET_METADATA_TOO_LARGE, 3, s.now);
    assert_eq!(s.events(), []);
    assert_eq!(s.request(), None);
    s.member
        .handle_commit_error(ErrorCode::REBALANCE_IN_PROGRESS, 3, s.now);
    assert_eq!(claims(&s.expect_join()), [0]);
}

#[test]
fn a_fenced_member_halts_for_good() {
    let mut s = Script::of(MembershipConfig {
        group_instance_id: Some("node-1".to_owned()),
        ..config("static")
    });
    s.join(3, &[0]).events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::FENCED_INSTANCE_ID);
    let events = s.events();
    assert_eq!(
        events[0],
        MembershipEvent::Lost {
            partitions: vec![0]
        }
    );
    let MembershipEvent::Halt(fault) = &events[1] else {
        panic!("{events:?}");
    };
    assert_eq!(
        fault.to_string(),
        "another member of group g has taken the instance id node-1: two nodes have one node_id, or one state_dir; give each its own, and restart this one"
    );
    assert_eq!(s.wait(600_000).request(), None);
    assert_eq!(s.member.poll_timeout(), None);
    s.member.leave(s.now);
    assert!(s.member.is_left());
}

#[test]
fn a_group_that_shares_no_assignor_halts_and_heals() {
    let mut s = Script::new();
    s.expect_join();
    s.refuse_join(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        .expect_join();
    s.refuse_join(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let fault = MembershipFault::NoCommonAssignor("g".to_owned());
    assert_eq!(s.events(), [MembershipEvent::Halt(fault)]);
    assert_eq!(s.wait(29_000).request(), None, "probes slowly");
    assert_eq!(
        s.wait(32_000).expect_join().protocols[0].name,
        "cooperative-sticky"
    );
    s.refuse_join(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(s.events(), [], "said once");
    assert_eq!(s.wait(61_000).expect_join().protocols[0].name, "range");
    s.answer(joined("m1", 3, "leader", &[])).expect_sync();
    s.answer(assigned(&[0]));
    assert_eq!(s.events()[0], MembershipEvent::Joined { generation: 3 });
}

#[test]
fn refusals_halt_and_are_probed_slowly() {
    let group = "g".to_owned();
    let cases = [
        (
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
            MembershipFault::NotAuthorized(group.clone()),
        ),
        (
            ErrorCode::INVALID_SESSION_TIMEOUT,
            MembershipFault::SessionTimeout(6000),
        ),
        (
            ErrorCode::GROUP_MAX_SIZE_REACHED,
            MembershipFault::GroupFull(group.clone()),
        ),
        (
            ErrorCode::INVALID_GROUP_ID,
            MembershipFault::Refused {
                group,
                error: ErrorCode::INVALID_GROUP_ID,
            },
        ),
    ];
    for (error, fault) in cases {
        let mut s = Script::new();
        s.expect_join();
        s.refuse_join(error);
        assert_eq!(s.events(), [MembershipEvent::Halt(fault)]);
        assert_eq!(s.wait(29_000).request(), None);
        s.wait(32_000).join(1, &[0]);
        assert_eq!(s.events()[0], MembershipEvent::Joined { generation: 1 });
    }
}

#[test]
fn an_unknown_error_is_tried_again_and_said_when_it_stays() {
    let mut s = Script::new();
    let error = ErrorCode(1234);
    for _ in 0..4 {
        s.wait(5000).expect_join();
        s.refuse_join(error);
        assert_eq!(s.request(), None, "backs off");
        assert_eq!(s.events(), []);
    }
    s.wait(5000).expect_join();
    s.refuse_join(error);
    let fault = MembershipFault::Refused {
        group: "g".to_owned(),
        error,
    };
    assert_eq!(s.events(), [MembershipEvent::Halt(fault)]);
    s.wait(5000).join(1, &[0]);
}

#[test]
fn a_coordinator_that_moved_is_looked_for() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::NOT_COORDINATOR);
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
    assert_eq!(s.request(), None, "backs off");
    assert!(s.may_start(0), "within the lease");
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::NONE);
    assert!(s.may_start(0));

    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    s.refuse_join(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
    let request = loop {
        match s.wait(200).request() {
            Some(Request::JoinGroup(request)) => break request,
            Some(Request::Heartbeat(_)) => s.heartbeat(ErrorCode::NONE),
            _ => &mut s,
        };
    };
    assert_eq!(
        (request.member_id.as_str(), claims(&request)),
        ("m1", vec![0])
    );
    s.answer(joined("m1", 4, "leader", &[])).expect_sync();
    s.answer(sync_error(ErrorCode::NOT_COORDINATOR));
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
}

#[test]
fn a_coordinator_that_loads_the_group_is_waited_for() {
    let mut s = Script::new();
    s.expect_join();
    s.refuse_join(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!((s.request(), s.events()), (None, vec![]));
    s.wait(1000).join(1, &[0]);
}

#[test]
fn a_silent_coordinator_is_looked_for_before_the_lease_ends() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.wait(1000).expect_heartbeat();
    s.wait(1999);
    assert_eq!(s.events(), []);
    s.wait(1);
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
    assert!(s.may_start(0));
    s.wait(1000).expect_heartbeat();
}

#[test]
fn a_join_group_without_an_answer_is_given_up_after_the_rebalance_timeout() {
    let mut s = Script::new();
    s.expect_join();
    s.wait(32_999);
    assert_eq!(s.events(), []);
    s.wait(1);
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
    s.wait(1000).expect_join();
}

#[test]
fn a_lost_connection_makes_the_outstanding_void() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.wait(1000).expect_heartbeat();
    s.member.handle_connection_lost(s.now);
    s.expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    s.member.handle_connection_lost(s.now);
    assert!(s.may_start(0));
    // The coordinator had our JoinGroup, and has begun the next generation with us.
    s.wait(1000).expect_heartbeat_then_join();
    s.answer(joined("m1", 5, "leader", &[]));
    assert!(!s.may_start(0), "a generation went by without us");
    s.expect_sync();
    s.answer(assigned(&[0]));
    assert!(s.may_start(0));
    assert_eq!(s.events(), [MembershipEvent::Joined { generation: 5 }]);
}

#[test]
fn an_unreadable_assignment_owns_nothing() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    s.answer(joined("m1", 4, "leader", &[])).expect_sync();
    s.events();
    s.answer(synced(&Bytes::from_static(&[0, 0, 9])));
    assert_eq!(
        s.events(),
        [MembershipEvent::Lost {
            partitions: vec![0]
        }]
    );
    assert_eq!(claims(&s.wait(1000).expect_join()), Vec::<i32>::new());
}
