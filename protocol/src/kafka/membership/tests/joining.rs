//! A member alone: joining, its lease, leaving.

use super::coordinator::{join_error, leave_answer};
use super::script::*;
use super::*;

#[test]
fn it_joins_syncs_and_keeps_its_heart_beating() {
    let mut s = Script::new();
    let request = s.expect_join();
    assert_eq!(request.member_id, "");
    assert_eq!(request.protocols.len(), 1);
    assert_eq!(request.protocols[0].name, "cooperative-sticky");
    assert_eq!(s.request(), None, "one request at a time");

    s.answer(join_error("m1", ErrorCode::MEMBER_ID_REQUIRED));
    assert_eq!(s.expect_join().member_id, "m1");
    s.answer(joined("m1", 3, "leader", &[]));
    assert!(
        !s.member.may_commit(0),
        "the coordinator waits for the leader"
    );
    s.expect_sync();
    s.answer(assigned(&[0, 2]));
    assert_eq!(
        s.events(),
        [
            MembershipEvent::Joined { generation: 3 },
            MembershipEvent::Assigned {
                partitions: vec![0, 2]
            }
        ]
    );
    assert!(s.may_start(0) && !s.may_start(1) && s.may_start(2));
    assert!(s.member.may_commit(2) && !s.member.may_commit(1));
    assert_eq!((s.member.generation(), s.member.member_id()), (3, "m1"));

    assert_eq!(s.request(), None);
    s.wait(1000).expect_heartbeat();
    assert_eq!(s.request(), None, "one heartbeat at a time");
    s.heartbeat(ErrorCode::NONE);
    assert_eq!(s.request(), None);
    s.wait(1000).expect_heartbeat();
}

#[test]
fn a_sleeper_waits_for_a_fresh_answer() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    assert!(s.may_start(0));
    s.now += Duration::from_secs(20);
    assert!(!s.may_start(0), "the lease ran out while we slept");
    s.member.handle_timeout(s.now);
    s.expect_heartbeat();
    assert!(!s.may_start(0));
    s.heartbeat(ErrorCode::NONE);
    assert!(s.may_start(0));
}

#[test]
fn the_lease_counts_from_when_the_heartbeat_was_sent() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    // The answer takes three of the six seconds; a tenth of them is margin.
    s.now += Duration::from_secs(3);
    s.heartbeat(ErrorCode::NONE);
    s.now += Duration::from_millis(2399);
    assert!(s.may_start(0));
    s.now += Duration::from_millis(1);
    assert!(!s.may_start(0));
}

#[test]
fn the_lease_ends_before_a_rebalance_that_we_do_not_join() {
    let mut s = Script::new();
    s.join(3, &[0]);
    let joined_at = s.now;
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    // The coordinator answers heartbeats, but the JoinGroup does not come through.
    while s.now.saturating_since(joined_at) < Duration::from_secs(25) {
        s.wait(500);
        if let Some(Request::Heartbeat(_)) = s.request() {
            s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        }
    }
    assert!(s.may_start(0));
    assert_eq!(
        s.member.lease_end(),
        Some(joined_at + Duration::from_secs(27))
    );
}

#[test]
fn a_join_group_that_is_answered_very_late_grants_no_lease() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    s.wait(20_000);
    assert!(!s.may_start(0));
    s.answer(joined("m1", 4, "leader", &[]));
    assert!(!s.may_start(0), "it was sent twenty seconds ago");
    s.expect_sync();
    s.answer(assigned(&[0]));
    assert!(s.may_start(0));
}

#[test]
fn heartbeats_keep_the_lease_while_join_group_is_parked() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    for _ in 0..15 {
        s.wait(1000).expect_heartbeat();
        s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(s.may_start(0) && s.member.may_commit(0));
    }
    // The next generation has begun, and the answer to JoinGroup is on its way.
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::ILLEGAL_GENERATION);
    assert!(s.may_start(0));
    s.member
        .handle_commit_error(ErrorCode::ILLEGAL_GENERATION, 3, s.now);
    assert!(s.may_start(0));
    s.answer(joined("m1", 4, "leader", &[])).expect_sync();
    s.answer(assigned(&[0]));
    assert!(s.may_start(0) && s.member.may_commit(0));
}

#[test]
fn a_dynamic_member_says_goodbye() {
    let mut s = Script::new();
    s.join(3, &[0]).events();
    s.member.leave(s.now);
    assert!(!s.may_start(0) && !s.member.is_left());
    let Some(Request::LeaveGroup(request)) = s.request() else {
        panic!("a dynamic member leaves");
    };
    assert_eq!(request.member_id, "m1");
    assert_eq!(s.request(), None);
    s.answer(leave_answer(ErrorCode::NONE));
    assert!(s.member.is_left());
    assert_eq!((s.request(), s.member.poll_timeout()), (None, None));
}

#[test]
fn leaving_takes_a_bounded_time() {
    let mut s = Script::new();
    s.join(3, &[0]);
    s.member.leave(s.now);
    assert!(s.request().is_some());
    assert!(!s.wait(2999).member.is_left());
    assert!(s.wait(1).member.is_left());

    let mut s = Script::new();
    s.join(3, &[0]);
    s.member.leave(s.now);
    assert!(s.request().is_some());
    s.member.handle_connection_lost(s.now);
    assert!(s.member.is_left());
}

#[test]
fn a_static_member_keeps_its_place_when_it_stops() {
    let mut s = Script::of(MembershipConfig {
        group_instance_id: Some("node-1".to_owned()),
        ..config("static")
    });
    s.join(3, &[0]);
    s.member.leave(s.now);
    assert_eq!(s.request(), None);
    assert!(s.member.is_left());
}

#[test]
fn a_member_that_leaves_while_it_joins_waits_for_its_id() {
    let mut s = Script::new();
    s.member.leave(s.now);
    assert!(s.member.is_left(), "nobody knows us");

    let mut s = Script::new();
    s.expect_join();
    s.member.leave(s.now);
    assert_eq!(s.request(), None);
    s.answer(join_error("m1", ErrorCode::MEMBER_ID_REQUIRED));
    assert!(matches!(s.request(), Some(Request::LeaveGroup(_))));
    s.answer(leave_answer(ErrorCode::NONE));
    assert!(s.member.is_left());
}
