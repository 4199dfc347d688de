//! A member whose coordinator refuses, moves, is silent or forgets it.

use super::script::*;
use super::*;

/// What was halted for; nothing else was said.
fn halt(s: &mut Script) -> String {
    let events = s.events();
    let [MembershipEvent::Halt(fault)] = &events[..] else {
        panic!("{events:?}");
    };
    fault.to_string()
}

#[test]
fn a_lost_answer_makes_the_next_heartbeat_say_everything() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).wait(1000).expect();
    s.member.handle_request_lost(ApiKey::ConsumerGroupHeartbeat);
    let request = s.expect();
    assert_eq!((request.member_epoch, says_all(&request)), (3, true));
    assert_eq!(owned(&request), Some(vec![0, 1]));
    s.answer(assigned(4, &[0, 1, 2]));
    assert_eq!(s.events(), [joined(4), assigned_event(&[2])]);
    assert!(!says_all(&s.expect()));
}

#[test]
fn a_silent_coordinator_is_looked_for_while_the_lease_lasts() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.wait(999);
    assert_eq!(s.events(), []);
    s.wait(1);
    assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
    assert!(s.may_start(0), "two intervals are left, less the margin");
    let request = s.wait(100).expect();
    assert!(says_all(&request) && owned(&request) == Some(vec![0]));
}

#[test]
fn a_coordinator_that_moved_is_looked_for_and_told_everything() {
    for error in [
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ] {
        let mut s = Script::new();
        s.join(3, &[0]).wait(1000).expect();
        s.refuse(error);
        assert_eq!(s.events(), [MembershipEvent::CoordinatorStale]);
        let request = s.wait(100).expect();
        assert_eq!((request.member_epoch, says_all(&request)), (3, true));
        assert!(s.may_start(0));
    }
}

#[test]
fn a_coordinator_that_loads_is_asked_again_ever_less_often() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = s.now;
        while s.request().is_none() {
            s.wait(10);
        }
        waits.push(s.now.saturating_since(before).as_millis());
        s.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    }
    assert_eq!(s.events(), [], "nothing is lost by it");
    assert!(waits[0] <= 110 && waits[7] >= 2500, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 5010), "{waits:?}");
    assert!(!s.may_start(0), "but no refusal renews the lease");
}

#[test]
fn a_coordinator_that_fences_us_takes_everything_and_is_joined_anew() {
    for error in [
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ] {
        let mut s = Script::new();
        s.join(3, &[0, 1]).assign(3, &[0]).events();
        s.wait(1000).expect();
        s.refuse(error);
        assert_eq!(s.events(), [lost(&[0, 1])], "{error}");
        assert!(!s.may_start(0) && !s.member.may_commit(1));
        assert_eq!((s.member.generation(), s.member.lease_end()), (-1, None));
        let request = s.wait(100).expect();
        assert_eq!((request.member_epoch, says_all(&request)), (0, true));
        assert_eq!((&*request.member_id, owned(&request)), ("m1", Some(vec![])));
        s.answer(assigned(7, &[1]));
        assert_eq!(s.events(), [joined(7), assigned_event(&[1])]);
    }
}

#[test]
fn an_answer_that_is_late_says_nothing_of_the_next_membership() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.member
        .handle_commit_error(ErrorCode::UNKNOWN_MEMBER_ID, 3, s.now);
    assert_eq!(s.events(), [lost(&[0])]);
    s.wait(500);
    assert_eq!(s.request(), None, "the old heartbeat is out");
    s.answer(assigned(4, &[0, 1]));
    assert_eq!(s.events(), []);
    assert!(!s.may_start(0) && s.member.generation() == -1);
    assert_eq!(s.expect().member_epoch, 0);
}

#[test]
fn an_epoch_that_is_none_is_not_believed() {
    for epoch in [0, -1, i32::MIN] {
        let mut s = Script::new();
        s.join(3, &[0]).wait(1000).expect();
        s.answer(assigned(epoch, &[0, 1]));
        assert_eq!(s.events(), [lost(&[0])]);
        assert_eq!(s.wait(100).expect().member_epoch, 0);
    }
}

#[test]
fn commit_errors_tell_of_our_standing() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(100);
    s.member
        .handle_commit_error(ErrorCode::STALE_MEMBER_EPOCH, 2, s.now);
    assert_eq!(s.request(), None, "that was said of an older epoch");
    s.member
        .handle_commit_error(ErrorCode::STALE_MEMBER_EPOCH, 3, s.now);
    assert!(s.member.may_commit(0), "the coordinator is an epoch ahead");
    assert!(says_all(&s.expect()), "and is asked at once for it");
    s.answer(assigned(4, &[0]));
    assert_eq!(s.events(), [joined(4)]);

    s.member
        .handle_commit_error(ErrorCode::OFFSET_METADATA_TOO_LARGE, 4, s.now);
    assert_eq!(s.events(), []);
    s.member
        .handle_commit_error(ErrorCode::UNKNOWN_MEMBER_ID, 4, s.now);
    assert_eq!(s.events(), [lost(&[0])]);
    s.member
        .handle_commit_error(ErrorCode::UNKNOWN_MEMBER_ID, -1, s.now);
    assert_eq!(s.events(), []);
}

#[test]
fn a_static_member_waits_until_its_place_is_free() {
    let mut s = Script::of_instance();
    assert_eq!(s.expect().group_instance_id.as_deref(), Some("node-1"));
    s.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
    let said = "group g still holds the instance id node-1 for another member";
    assert_eq!(halt(&mut s), said);
    for _ in 0..10 {
        s.wait(5000).expect();
        s.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
    }
    assert_eq!(s.events(), [], "it is said once");
    s.wait(5000).expect();
    s.answer(assigned(3, &[0]));
    assert_eq!(s.events(), [joined(3), assigned_event(&[0])]);
}

#[test]
fn a_fenced_instance_halts_for_good() {
    for by_commit in [false, true] {
        let mut s = Script::of_instance();
        s.join(3, &[0]);
        if by_commit {
            s.member
                .handle_commit_error(ErrorCode::FENCED_INSTANCE_ID, 3, s.now);
        } else {
            s.wait(1000).expect();
            s.refuse(ErrorCode::FENCED_INSTANCE_ID);
        }
        assert_eq!(s.member.poll_event(), Some(lost(&[0])));
        assert_eq!(
            halt(&mut s),
            "another member of group g has taken the instance id node-1: two nodes have one node_id, or one state_dir; give each its own, and restart this one"
        );
        assert_eq!(s.wait(600_000).request(), None);
        assert_eq!(s.member.poll_timeout(), None);
        s.member.leave(s.now);
        assert!(s.member.is_left());
    }
}

#[test]
fn a_broker_without_the_protocol_ends_the_member() {
    let mut s = Script::new();
    s.expect();
    s.refuse(ErrorCode::UNSUPPORTED_VERSION);
    let unsupported = MembershipEvent::ConsumerProtocolUnsupported;
    assert_eq!(s.events(), std::slice::from_ref(&unsupported));
    assert!(s.member.is_left() && s.request().is_none());

    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.refuse(ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(s.events(), [lost(&[0]), unsupported]);
}

#[test]
fn a_refusal_that_lasts_is_said_once_and_probed_slowly() {
    let not_authorized = "not authorized to access group g";
    let full = "group g has reached its maximum size";
    let classic = "group g has classic members, and the broker does not migrate it";
    let other = "the coordinator of group g answers ";
    for (error, said) in [
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, not_authorized),
        (ErrorCode::GROUP_MAX_SIZE_REACHED, full),
        (ErrorCode::GROUP_ID_NOT_FOUND, classic),
        (ErrorCode::INVALID_REQUEST, other),
        (ErrorCode::UNSUPPORTED_ASSIGNOR, other),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, other),
        (ErrorCode::INVALID_GROUP_ID, other),
    ] {
        let mut s = Script::new();
        s.expect();
        s.refuse(error);
        let heard = halt(&mut s);
        assert!(heard.starts_with(said), "{heard}");
        assert_eq!(s.wait(29_000).request(), None, "{error}");
        s.wait(31_000).expect();
        s.refuse(error);
        assert_eq!(s.events(), []);
        s.wait(60_000).expect();
        s.answer(assigned(3, &[0]));
        assert_eq!(s.events(), [joined(3), assigned_event(&[0])], "it heals");
        assert!(s.may_start(0));
    }
}

#[test]
fn an_unforeseen_answer_is_said_once_it_stays() {
    for error in [
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::INVALID_REGULAR_EXPRESSION,
        ErrorCode(12_345),
    ] {
        let mut s = Script::new();
        s.expect();
        for _ in 0..4 {
            s.refuse(error);
            assert_eq!(s.events(), [], "{error}");
            s.wait(5000).expect();
        }
        s.refuse(error);
        let said = format!("the coordinator of group g answers {error}");
        assert_eq!(halt(&mut s), said);
    }
}

#[test]
fn a_refused_member_keeps_what_it_owns_but_not_its_lease() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.refuse(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert!(s.may_start(0), "the coordinator keeps us as long as that");
    s.wait(2000);
    assert!(!s.may_start(0) && s.member.may_commit(0));
    s.wait(60_000).expect();
    s.refuse(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(s.member.generation(), -1);
}
