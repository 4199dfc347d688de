//! A member whose group is rebalanced.

use super::coordinator::sync_error;
use super::script::*;
use super::*;
use crate::kafka::assignor::{Assignment, Subscription};
use crate::kafka::messages::GroupMember;

#[test]
fn a_rebalance_does_not_wait_for_a_call() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(claims(&s.expect_join()), [0, 1], "both stay claimed");
    assert!(
        s.may_start(0) && s.member.may_commit(0),
        "and are worked on"
    );

    s.answer(joined("m1", 4, "leader", &[]));
    assert!(s.may_start(0), "the leader knows our claim");
    s.expect_sync();
    s.answer(assigned(&[0]));
    assert_eq!(
        s.events(),
        [
            MembershipEvent::Joined { generation: 4 },
            MembershipEvent::Revoke {
                partitions: vec![1]
            }
        ]
    );
    assert!(s.may_start(0) && !s.may_start(1));
    assert!(s.member.may_commit(1), "its call is still to be committed");

    s.wait(900);
    s.member.released(1, s.now);
    assert_eq!(claims(&s.expect_join()), [0], "joins at once without it");
    assert!(!s.member.may_commit(1));
    s.answer(joined("m1", 5, "leader", &[])).expect_sync();
    s.answer(assigned(&[0]));
    assert_eq!(s.events(), [MembershipEvent::Joined { generation: 5 }]);
}

#[test]
fn releases_that_come_together_make_one_rebalance() {
    let mut s = Script::new();
    s.join(3, &[0, 1, 2, 3]).events();
    s.wait(500);
    s.member.set_partition_counts(&BTreeMap::new(), s.now);
    s.wait(500).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)
        .join(4, &[0])
        .events();
    s.member.released(1, s.now);
    assert_eq!(s.request(), None, "waits a little for the others");
    s.wait(300);
    s.member.released(2, s.now);
    assert_eq!(s.request(), None);
    s.wait(700);
    assert_eq!(claims(&s.expect_join()), [0, 3], "but not for a long call");
    s.answer(joined("m1", 5, "leader", &[])).expect_sync();
    s.answer(assigned(&[0])).events();
    s.member.released(3, s.now);
    assert_eq!(claims(&s.expect_join()), [0], "the last one does not wait");
}

#[test]
fn what_was_released_while_the_leader_believed_us_is_given_back_with_another_join() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)
        .join(4, &[0])
        .wait(1000)
        .expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(claims(&s.expect_join()), [0, 1]);
    s.member.released(1, s.now);
    s.answer(joined("m1", 5, "leader", &[])).expect_sync();
    s.answer(assigned(&[0])).wait(0);
    assert_eq!(claims(&s.expect_join()), [0]);
}

#[test]
fn a_partition_that_comes_back_while_given_up_is_released_first() {
    let mut s = Script::new();
    s.join(3, &[0, 1]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)
        .join(4, &[0])
        .wait(1000)
        .expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS)
        .join(5, &[0, 1])
        .events();
    assert!(!s.may_start(1));
    s.member.released(1, s.now);
    assert_eq!(
        s.events(),
        [MembershipEvent::Assigned {
            partitions: vec![1]
        }]
    );
    assert!(s.may_start(1));
    assert_eq!(s.request(), None, "nothing has changed for the group");
}

#[test]
fn a_group_that_uses_range_is_joined_eagerly() {
    let mut s = Script::new();
    s.expect_join();
    s.refuse_join(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let request = s.expect_join();
    assert_eq!(request.protocols.len(), 1, "never both");
    assert_eq!(request.protocols[0].name, "range");
    s.answer(joined("m1", 3, "leader", &[])).expect_sync();
    s.answer(assigned(&[0, 1])).events();

    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(
        s.events(),
        [MembershipEvent::Revoke {
            partitions: vec![0, 1]
        }]
    );
    assert_eq!(s.request(), None, "drains first");
    assert!(!s.may_start(0) && s.member.may_commit(0));
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    s.member.released(0, s.now);
    assert_eq!(s.request(), None);
    s.member.released(1, s.now);
    assert_eq!(claims(&s.expect_join()), Vec::<i32>::new());
    s.answer(joined("m1", 4, "leader", &[])).expect_sync();
    s.answer(assigned(&[1])).events();
    assert!(s.may_start(1) && !s.may_start(0));
}

#[test]
fn an_eager_member_joins_before_the_group_gives_it_up() {
    let mut s = Script::new();
    s.expect_join();
    s.refuse_join(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        .join(3, &[0, 1])
        .events();
    s.wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).events();
    s.member.released(0, s.now);
    for _ in 0..25 {
        s.wait(1000).expect_heartbeat();
        s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    }
    assert_eq!(s.events(), []);
    s.wait(1000);
    assert_eq!(
        s.events(),
        [MembershipEvent::Lost {
            partitions: vec![1]
        }]
    );
    assert_eq!(claims(&s.expect_join()), Vec::<i32>::new());
}

#[test]
fn a_rebalance_during_sync_joins_again_with_the_same_claims() {
    let mut s = Script::new();
    s.join(3, &[0]).wait(1000).expect_heartbeat();
    s.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS).expect_join();
    s.answer(joined("m1", 4, "leader", &[])).expect_sync();
    s.answer(sync_error(ErrorCode::REBALANCE_IN_PROGRESS));
    let request = s.expect_join();
    assert_eq!(claims(&request), [0]);
    let subscription = Subscription::decode(&request.protocols[0].metadata).unwrap();
    assert_eq!(
        subscription.generation,
        Some(4),
        "the generation whose leader heard the claim"
    );
    assert_eq!(
        subscription.user_data,
        Subscription::generation_as_user_data(4)
    );
}

#[test]
fn a_leader_asks_for_counts_and_shares_out() {
    let mut s = Script::new();
    s.expect_join();
    let other = GroupMember {
        metadata: Subscription {
            topics: vec![TOPIC.to_owned(), "u".to_owned()],
            ..Subscription::default()
        }
        .encode(),
        ..ours("m2")
    };
    s.answer(joined("m1", 1, "m1", &[ours("m1"), other]));
    let topics = vec![TOPIC.to_owned(), "u".to_owned()];
    let ask = MembershipEvent::NeedPartitionCounts {
        topics: topics.clone(),
    };
    assert_eq!(s.events(), std::slice::from_ref(&ask));
    assert_eq!(s.member.metadata_topics(), topics);
    assert_eq!(s.request(), None);
    s.wait(3000);
    assert_eq!(s.events(), [ask], "asks again");

    let counts = BTreeMap::from([(TOPIC.to_owned(), 2), ("u".to_owned(), 2)]);
    s.member.set_partition_counts(&counts, s.now);
    let Some(Request::SyncGroup(sync)) = s.request() else {
        panic!("the shares are known");
    };
    let share = |at: usize| Assignment::decode(&sync.assignments[at].assignment).unwrap();
    assert_eq!(sync.assignments[0].member_id, "m1");
    assert_eq!(share(0).of_topic(TOPIC).len(), 2);
    assert_eq!(share(1).of_topic("u").len(), 2);

    s.answer(assigned(&[0, 1])).events();
    s.member.set_partition_counts(&counts, s.now);
    s.member
        .set_partition_counts(&BTreeMap::from([("other".to_owned(), 9)]), s.now);
    assert!(
        !matches!(s.request(), Some(Request::JoinGroup(_))),
        "nothing has changed"
    );
    s.member
        .set_partition_counts(&BTreeMap::from([("u".to_owned(), 3)]), s.now);
    assert_eq!(claims(&s.expect_join()), [0, 1]);
}

#[test]
fn a_leader_that_cannot_learn_a_count_goes_on_without_that_topic() {
    let mut s = Script::new();
    s.expect_join();
    let missing = GroupMember {
        metadata: Subscription {
            topics: vec!["gone".to_owned()],
            ..Subscription::default()
        }
        .encode(),
        ..ours("m2")
    };
    s.answer(joined("m1", 1, "m1", &[ours("m1"), missing]));
    s.member
        .set_partition_counts(&BTreeMap::from([(TOPIC.to_owned(), 2)]), s.now);
    assert_eq!(s.request(), None);
    s.wait(3000).expect_sync();
}

#[test]
fn a_returning_static_leader_does_not_assign() {
    let mut s = Script::of(MembershipConfig {
        group_instance_id: Some("node-1".to_owned()),
        ..config("static")
    });
    assert_eq!(s.expect_join().group_instance_id.as_deref(), Some("node-1"));
    let mut answer = joined("m9", 7, "m9", &[ours("m9")]);
    if let Response::JoinGroup(answer) = &mut answer {
        answer.skip_assignment = true;
    }
    s.answer(answer);
    let Some(Request::SyncGroup(sync)) = s.request() else {
        panic!("there is nothing to ask");
    };
    assert!(sync.assignments.is_empty());
    s.answer(assigned(&[0])).events();

    let count = |n: i32| BTreeMap::from([(TOPIC.to_owned(), n)]);
    s.member.set_partition_counts(&count(4), s.now);
    assert_eq!(
        s.request(),
        None,
        "the first count that it hears is no change"
    );
    s.member.set_partition_counts(&count(5), s.now);
    s.expect_join();
}
