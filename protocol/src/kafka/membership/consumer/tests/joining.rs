//! A member alone: joining, what its heartbeats say, its lease, leaving.

use super::script::*;
use super::*;
use crate::kafka::messages::ConsumerGroupHeartbeatResponse;

#[test]
fn it_joins_with_epoch_zero_and_acknowledges_what_it_is_given() {
    let mut s = Script::of(MembershipConfig {
        rack_id: "r1".to_owned(),
        ..config()
    });
    let request = s.expect();
    let everything = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "m1".to_owned(),
        member_epoch: 0,
        group_instance_id: None,
        rack_id: Some("r1".to_owned()),
        rebalance_timeout_ms: Some(30_000),
        topics: Some(vec!["t".to_owned()]),
        owned: Some(Vec::new()),
    };
    assert_eq!(request, everything);
    assert_eq!(s.request(), None, "one heartbeat at a time");
    assert_eq!(s.member.generation(), -1);

    s.answer(assigned(3, &[0, 2]));
    assert_eq!(s.events(), [joined(3), assigned_event(&[0, 2])]);
    assert!(s.may_start(0) && !s.may_start(1) && s.may_start(2));
    assert!(s.member.may_commit(2) && !s.member.may_commit(1));
    assert_eq!((s.member.generation(), s.member.member_id()), (3, "m1"));

    let acknowledgement = s.expect();
    assert_eq!(acknowledgement.member_epoch, 3);
    assert_eq!(owned(&acknowledgement), Some(vec![0, 2]));
    s.answer(accepted(3));
    assert_eq!(s.request(), None, "the next one is due after the interval");
}

#[test]
fn heartbeats_say_only_what_has_changed() {
    let mut s = Script::new();
    s.join(3, &[0, 1]);
    let bare = s.wait(1000).expect();
    assert_eq!((bare.member_epoch, bare.rack_id.clone()), (3, None));
    assert!(!says_all(&bare) && owned(&bare).is_none());
    s.answer(accepted(3)).wait(999);
    assert_eq!(s.request(), None);
    s.wait(1).expect();
    assert_eq!(s.events(), []);
}

#[test]
fn an_epoch_that_only_the_group_moved_is_taken_over() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.answer(accepted(4));
    assert_eq!(s.events(), [joined(4)]);
    assert_eq!(s.member.generation(), 4);
    assert_eq!(s.wait(1000).expect().member_epoch, 4);
}

#[test]
fn a_member_without_a_share_waits_in_the_group() {
    let mut s = Script::new();
    s.expect();
    s.answer(assigned(3, &[]));
    assert_eq!(s.events(), [joined(3)]);
    assert_eq!(s.request(), None, "nothing is owned, as it was said");
    s.assign(4, &[5]);
    assert_eq!(s.events(), [joined(4), assigned_event(&[5])]);
}

/// Version 0 lets the coordinator name us; since version 1 our own name holds.
#[test]
fn a_coordinator_that_gives_us_another_name_is_followed() {
    let mut s = Script::new();
    s.expect();
    let member_id = Some("given".to_owned());
    s.answer(ConsumerGroupHeartbeatResponse {
        member_id,
        ..assigned(3, &[0])
    });
    assert_eq!(s.member.member_id(), "given");
    assert_eq!(s.expect().member_id, "given");
    s.answer(ConsumerGroupHeartbeatResponse {
        member_id: None,
        ..accepted(3)
    });
    assert_eq!(s.member.member_id(), "given", "only the one that joins");
}

#[test]
fn the_lease_is_three_intervals_of_the_coordinators_from_when_the_heartbeat_was_sent() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    let sent = s.now;
    // The answer takes 800 of the 3000 ms; a tenth of them is margin.
    s.now += Duration::from_millis(800);
    s.answer(accepted(3));
    assert_eq!(
        s.member.lease_end(),
        Some(sent + Duration::from_millis(2700))
    );
    s.now = sent + Duration::from_millis(2699);
    assert!(s.may_start(0));
    s.now += Duration::from_millis(1);
    assert!(!s.may_start(0));
    assert!(s.member.may_commit(0), "the coordinator decides on that");
}

#[test]
fn the_configured_session_bounds_the_lease_and_the_interval() {
    let mut s = Script::new();
    s.expect();
    let sent = s.now;
    s.answer(ConsumerGroupHeartbeatResponse {
        heartbeat_interval_ms: 60_000,
        ..assigned(3, &[])
    });
    let end = sent + Duration::from_millis(5400);
    assert_eq!(s.member.lease_end(), Some(end));
    assert_eq!(s.wait(1999).request(), None);
    s.wait(1).expect();
}

#[test]
fn an_interval_of_nothing_does_not_make_us_storm() {
    for told in [0, -1, i32::MIN] {
        let mut s = Script::new();
        s.expect();
        s.answer(ConsumerGroupHeartbeatResponse {
            heartbeat_interval_ms: told,
            ..assigned(3, &[])
        });
        assert_eq!(s.wait(99).request(), None);
        s.wait(1).expect();
    }
}

#[test]
fn a_sleeper_waits_for_a_fresh_answer() {
    let mut s = Script::new();
    s.join(3, &[0]);
    assert!(s.may_start(0));
    s.now += Duration::from_secs(20);
    assert!(!s.may_start(0), "the lease ran out while we slept");
    s.member.handle_timeout(s.now);
    s.expect();
    assert!(!s.may_start(0));
    s.answer(accepted(3));
    assert!(s.may_start(0));
}

#[test]
fn a_dynamic_member_leaves_for_good_and_a_static_one_for_now() {
    for (mut s, epoch) in [(Script::new(), -1), (Script::of_instance(), -2)] {
        s.join(3, &[0]);
        s.member.leave(s.now);
        assert!(!s.may_start(0) && !s.member.may_commit(0));
        let goodbye = s.expect();
        assert_eq!(goodbye.member_epoch, epoch);
        assert!(!says_all(&goodbye) && goodbye.owned.is_none());
        let instance = (epoch == -2).then_some("node-1");
        assert_eq!(goodbye.group_instance_id.as_deref(), instance);
        assert!(!s.member.is_left());
        s.answer(accepted(epoch));
        assert!(s.member.is_left() && s.events().is_empty());
    }
}

#[test]
fn leaving_does_not_wait_for_a_heartbeat_that_is_out() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.member.leave(s.now);
    assert_eq!(s.expect().member_epoch, -1);
    s.answer(assigned(4, &[0, 1]));
    assert!(!s.member.is_left(), "that was the heartbeat's answer");
    assert_eq!(s.events(), []);
    s.answer(accepted(-1));
    assert!(s.member.is_left());
}

#[test]
fn leaving_ends_without_an_answer() {
    let mut s = Script::new();
    s.join(3, &[0]);
    s.member.leave(s.now);
    s.expect();
    s.wait(2999);
    assert!(!s.member.is_left());
    s.wait(1);
    assert!(s.member.is_left());
    assert_eq!(s.member.poll_timeout(), None);

    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect();
    s.member.leave(s.now);
    s.expect();
    let api = ApiKey::ConsumerGroupHeartbeat;
    s.member.handle_request_lost(api);
    assert!(!s.member.is_left(), "the heartbeat is lost");
    s.member.handle_request_lost(api);
    assert!(s.member.is_left(), "and so is the goodbye");
}

#[test]
fn a_member_that_has_asked_nobody_has_nobody_to_say_goodbye_to() {
    let mut s = Script::new();
    s.member.leave(s.now);
    assert!(s.member.is_left());
    assert_eq!(s.request(), None);

    let mut s = Script::new();
    s.expect();
    s.member.leave(s.now);
    assert_eq!(s.expect().member_epoch, -1, "the join may be on its way");
}
