//! Partitions that come and go while their lanes are at work.

use super::script::*;
use super::*;

#[test]
fn a_revoked_partition_is_claimed_until_it_is_released() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).assign(3, &[0]);
    assert_eq!(s.events(), [revoke(&[1])]);
    assert!(s.may_start(0) && !s.may_start(1));
    assert!(s.member.may_commit(1), "its call may have ended meanwhile");
    assert_eq!(s.request(), None, "there is nothing new to say");
    assert_eq!(owned(&s.wait(1000).expect()), None);
    s.answer(accepted(3)).wait(300).member.released(1);
    assert!(!s.member.may_commit(1));
    assert_eq!(owned(&s.expect()), Some(vec![0]), "said at once");
    s.answer(accepted(4));
    assert_eq!(s.events(), [joined(4)]);
    assert_eq!(owned(&s.wait(1000).expect()), None);
}

#[test]
fn what_still_drains_is_claimed_while_the_rest_is_given_up() {
    let mut s = Script::new();
    s.join(3, &[0, 1, 2]).assign(3, &[0]);
    assert_eq!(s.events(), [revoke(&[1, 2])]);
    s.member.released(1);
    assert_eq!(s.request(), None, "the group waits for the last of them");
    assert_eq!(owned(&s.wait(1000).expect()), Some(vec![0, 2]));
    s.answer(accepted(3));
    assert!(!s.member.may_commit(1) && s.member.may_commit(2));
    s.member.released(2);
    assert_eq!(owned(&s.expect()), Some(vec![0]));
}

#[test]
fn a_release_while_a_heartbeat_is_out_is_said_by_the_next() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).assign(3, &[0]);
    assert_eq!(owned(&s.wait(1000).expect()), None);
    s.member.released(1);
    assert_eq!(s.request(), None, "one heartbeat at a time");
    s.answer(accepted(3));
    assert_eq!(owned(&s.expect()), Some(vec![0]));
}

#[test]
fn the_release_of_what_is_not_revoked_changes_nothing() {
    let mut s = Script::new();
    s.join(3, &[0]);
    s.member.released(0);
    s.member.released(5);
    assert!(s.may_start(0));
    assert_eq!(s.events(), []);
}

#[test]
fn what_is_given_back_while_it_drains_is_assigned_after_its_release() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).assign(3, &[0]).events();
    s.assign(4, &[0, 1]);
    assert_eq!(s.events(), [joined(4)]);
    assert!(!s.may_start(1), "the old ownership ends first");
    s.member.released(1);
    assert_eq!(s.events(), [assigned_event(&[1])]);
    assert!(s.may_start(1));
}

/// The coordinator counts the rebalance timeout from its answer that took something away.
#[test]
fn heartbeats_do_not_outlast_the_time_for_a_revocation() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).wait(1000).expect();
    s.answer(accepted(3));
    let settled = s.now;
    s.assign(3, &[0]);
    for _ in 0..25 {
        assert!(s.may_start(0));
        s.wait(1000).expect();
        s.answer(accepted(3));
    }
    let end = settled + Duration::from_secs(27);
    assert_eq!(s.member.lease_end(), Some(end), "30 s less a tenth");
    s.member.released(1);
    s.expect();
    s.answer(accepted(4));
    assert!(s.member.lease_end() > Some(end));
}

#[test]
fn no_call_starts_for_a_topic_that_the_cluster_does_not_show() {
    let mut s = Script::new();
    s.expect();
    s.answer(assigned_of(SUCCESSOR, 3, &[0]));
    assert!(!s.may_start(0), "our metadata show another topic");
    s.member.set_topic_id(SUCCESSOR);
    assert!(s.may_start(0));
    s.member.set_topic_id(Uuid::nil());
    assert!(!s.may_start(0));
}

#[test]
fn a_topic_created_anew_is_begun_once_the_old_one_is_given_up() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).wait(1000).expect();
    s.answer(assigned_of(SUCCESSOR, 4, &[0]));
    assert_eq!(s.events(), [joined(4), revoke(&[0, 1])]);
    s.member.set_topic_id(SUCCESSOR);
    assert!(!s.may_start(0), "it is the old topic's partition");
    s.member.released(0);
    s.member.released(1);
    let request = s.expect();
    assert!(says_all(&request), "what was passed over is asked for");
    assert_eq!(owned(&request), Some(vec![]));
    s.answer(assigned_of(SUCCESSOR, 4, &[0]));
    assert_eq!(s.events(), [assigned_event(&[0])]);
    assert!(s.may_start(0));
    let claimed = s.expect().owned.unwrap();
    assert_eq!(claimed[0].topic_id, SUCCESSOR);
}
