//! Members of a group whose coordinator assigns (KIP-848): epochs that pass, partitions that are handed on, a
//! goodbye, and brokers that do not serve it.

use std::sync::mpsc;
use std::time::Duration;

use forebay_protocol::delivery::{Budget, ConsumerConfig, GroupProtocol, Input};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_tests::fake_kafka::{self, Fault, GroupChange};
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config, succeeded};
use kafka_protocol::messages::ApiKey;

const HEARTBEAT: ApiKey = ApiKey::ConsumerGroupHeartbeat;

const NOT_SERVED: &str = "Coordinator does not serve consumer groups; the classic protocol is used";

/// Each has a seed of its own: its id in the group is made of it.
fn named(name: &str) -> ConsumerConfig {
    ConsumerConfig {
        client_id: name.to_owned(),
        group_protocol: GroupProtocol::Consumer,
        session_timeout: Duration::from_secs(45),
        seed: name
            .bytes()
            .fold(1, |seed, byte| seed * 257 + u64::from(byte)),
        ..consumer_config()
    }
}

/// A static member; `life` tells its processes apart.
fn instance(life: &str) -> ConsumerConfig {
    ConsumerConfig {
        group_instance_id: Some("node-1".to_owned()),
        ..named(life)
    }
}

fn budget() -> Budget {
    Budget::new(64 << 20)
}

/// One member that owns all the partitions.
fn alone(partitions: i32, config: ConsumerConfig) -> Story {
    let mut story = Story::of_cluster(partitions, 1);
    story.join(config, budget());
    story.until("it owns everything", |story| {
        story.owned(0) == (0..partitions).collect::<Vec<_>>()
    });
    story
}

/// As `alone`, with an open call of "a" from partition 0.
fn calling(partitions: i32, config: ConsumerConfig) -> Story {
    let mut story = alone(partitions, config);
    story.hold_calls();
    story.produce(0, "a");
    story.until("a call is open", |story| story.open_calls.len() == 1);
    story
}

/// The next heartbeat of that client meets that fault.
fn once_to(story: &mut Story, client: &'static str, fault: Fault) {
    let mut fault = Some(fault);
    story.kafka.set_hook(Some(Box::new(move |seen| {
        let is_it = seen.api == HEARTBEAT && seen.client_id == client;
        let fault = if is_it { fault.take() } else { None };
        fault.unwrap_or(Fault::Serve)
    })));
}

fn await_heartbeat(story: &mut Story) {
    let before = story.kafka.requests(HEARTBEAT);
    story.until("one more heartbeat", |story| {
        story.kafka.requests(HEARTBEAT) > before
    });
}

fn member_id(story: &Story, client: &str) -> String {
    let members = story.kafka.members(GROUP).into_iter();
    let mut found = members.filter(|(_, of)| of == client);
    found.next().expect("it is a member").0
}

/// How often somebody left for that reason.
fn left(story: &Story, reason: &str) -> usize {
    let events = story.kafka.group_events().iter();
    events
        .filter(
            |event| matches!(event.change, GroupChange::Left { reason: why, .. } if why == reason),
        )
        .count()
}

/// Who committed the ends of what records of a partition, in order.
fn commits(story: &Story, partition: i32) -> Vec<(String, i32, i64)> {
    let commits = story.kafka.commits().iter();
    commits
        .filter(|commit| commit.partition == partition && commit.offset > 0)
        .map(|commit| (commit.member.clone(), commit.generation, commit.offset))
        .collect()
}

fn fault(story: &Story, member: usize) -> String {
    format!("{:?}", story.consumer(member).status().fault)
}

#[test]
fn answer_that_comes_after_the_member_was_expelled_gives_nothing_back() {
    let mut story = calling(1, named("first"));
    once_to(&mut story, "first", Fault::Delay(Duration::from_secs(4)));
    await_heartbeat(&mut story);
    let id = member_id(&story, "first");
    let epoch = story.kafka.generation(GROUP);
    story.kafka.expel(GROUP, &id);
    story.end_call(succeeded());
    story.until("it has heard of it", |story| story.owned(0).is_empty());
    assert_eq!(story.committed(0), Some(0), "it does not own it any more");
    story.until("it is back", |story| story.owned(0) == [0]);
    story.until("it comes again", |story| story.open_calls.len() == 1);
    story.end_call(succeeded());
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let commits = commits(&story, 0);
    assert_eq!(commits.len(), 1);
    assert!(commits[0].1 > epoch, "{commits:?}");
    assert_eq!(story.values(0), ["a", "a"]);
}

#[test]
fn member_that_was_fenced_is_back_only_when_no_call_of_its_is_open() {
    let mut story = calling(2, named("first"));
    let fenced = Fault::Error(ErrorCode::FENCED_MEMBER_EPOCH.0);
    once_to(&mut story, "first", fenced);
    story.until("it has lost everything", |story| story.owned(0).is_empty());
    let before = story.kafka.requests(HEARTBEAT);
    story.play(Duration::from_secs(30));
    assert_eq!(story.kafka.requests(HEARTBEAT), before);
    story.end_call(succeeded());
    assert_eq!(story.committed(0), Some(0));
    story.until("it is back", |story| story.owned(0) == [0, 1]);
    story.until("it comes again", |story| story.open_calls.len() == 1);
}

#[test]
fn partition_is_handed_on_after_its_call_and_its_commit() {
    let mut story = calling(2, named("first"));
    story.produce(1, "b");
    story.until("both are called", |story| story.open_calls.len() == 2);
    let second = story.join(named("second"), budget());
    story.play(Duration::from_secs(20));
    story.produce(0, "a2");
    story.produce(1, "b2");
    story.play(Duration::from_secs(5));
    assert_eq!(story.owned(0), [0, 1], "what is given up is owned still");
    assert!(story.owned(second).is_empty());
    assert_eq!(story.open_calls.len(), 2);
    let (first_id, second_id) = (member_id(&story, "first"), member_id(&story, "second"));

    story.end_call(succeeded());
    story.end_call(succeeded());
    story.until("each has one", |story| {
        story.owned(0).len() == 1 && story.owned(second).len() == 1
    });
    let moved = story.owned(second)[0];
    story.until("both go on", |story| story.open_calls.len() == 2);
    story.end_call(succeeded());
    story.end_call(succeeded());
    story.until("all is committed", |story| {
        story.committed(0) == Some(2) && story.committed(1) == Some(2)
    });
    assert_eq!(story.values(0), ["a", "a2"]);
    assert_eq!(story.values(1), ["b", "b2"], "nothing comes again");
    let of_moved = commits(&story, moved);
    let by: Vec<&String> = of_moved.iter().map(|(member, ..)| member).collect();
    assert_eq!(by, [&first_id, &second_id]);
    assert_eq!(left(&story, "did not revoke in time"), 0);
}

#[test]
fn commit_of_an_epoch_that_has_passed_is_made_again_in_the_next() {
    let mut story = calling(1, named("first"));
    let epoch = story.kafka.generation(GROUP);
    // The group moves on while the answer that says so to the first is on its way.
    story.join(named("second"), budget());
    once_to(&mut story, "first", Fault::Delay(Duration::from_secs(4)));
    await_heartbeat(&mut story);
    story.until("the coordinator is an epoch ahead", |story| {
        story.kafka.generation(GROUP) > epoch
    });
    let before = story.kafka.requests(ApiKey::OffsetCommit);
    story.end_call(succeeded());
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let asked = story.kafka.requests(ApiKey::OffsetCommit) - before;
    assert_eq!(asked, 2, "once in each epoch");
    assert_eq!(commits(&story, 0)[0].1, story.kafka.generation(GROUP));
    assert_eq!(story.values(0), ["a"]);
}

#[test]
fn stale_epoch_makes_the_member_ask_at_once() {
    let mut story = calling(1, named("first"));
    let stale = Fault::Error(ErrorCode::STALE_MEMBER_EPOCH.0);
    story.kafka.script(ApiKey::OffsetCommit, [stale]);
    let before = story.kafka.requests(HEARTBEAT);
    story.end_call(succeeded());
    story.play(Duration::from_secs(1));
    assert_eq!(story.committed(0), Some(1));
    assert!(story.kafka.requests(HEARTBEAT) > before);
    assert_eq!(story.values(0), ["a"]);
}

#[test]
fn stop_commits_first_and_then_leaves() {
    let mut story = calling(2, named("first"));
    let (tell, told) = mpsc::channel();
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.api == ApiKey::OffsetCommit || seen.api == HEARTBEAT {
            tell.send(seen.api).unwrap();
        }
        Fault::Serve
    })));
    story.tell(0, Input::Stop);
    story.play(Duration::from_secs(12));
    assert_eq!(left(&story, "left"), 0, "a call is open");
    story.end_call(succeeded());
    story.until("it has stopped", |story| story.has_ended(0));
    assert_eq!(story.committed(0), Some(1));
    assert_eq!(left(&story, "left"), 1);
    let order: Vec<ApiKey> = told.try_iter().collect();
    let [.., commit, goodbye] = order[..] else {
        panic!("{order:?}");
    };
    assert_eq!((commit, goodbye), (ApiKey::OffsetCommit, HEARTBEAT));
}

#[test]
fn static_member_that_stops_comes_back_to_what_it_had() {
    let mut story = alone(2, instance("one"));
    let other = story.join(named("other"), budget());
    story.until("each has one", |story| {
        story.owned(0).len() == 1 && story.owned(other).len() == 1
    });
    let had = story.owned(0);
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
    story.play(Duration::from_secs(20));
    assert_eq!(story.owned(other).len(), 1, "its place is kept");
    let back = story.join(instance("two"), budget());
    story.until("it is back", |story| story.owned(back) == had);
    assert_eq!(left(&story, "left"), 0);
    let replaced = |change: &GroupChange| matches!(change, GroupChange::Replaced { .. });
    let events = story.kafka.group_events().iter();
    assert_eq!(events.filter(|event| replaced(&event.change)).count(), 1);
}

#[test]
fn static_member_that_was_killed_waits_for_the_session_of_the_one_before_it() {
    let mut story = alone(2, instance("one"));
    story.kill(0);
    let back = story.join(instance("two"), budget());
    story.play(Duration::from_secs(20));
    assert!(story.owned(back).is_empty());
    let said = "still holds the instance id node-1";
    assert!(
        fault(&story, back).contains(said),
        "{}",
        fault(&story, back)
    );
    story.until("its place is free", |story| story.owned(back) == [0, 1]);
    assert_eq!(fault(&story, back), "None");
    story.produce(0, "a");
    story.until("it works", |story| story.committed(0) == Some(1));
}

#[test]
fn no_call_starts_once_three_heartbeats_were_not_answered() {
    let mut story = alone(1, named("first"));
    story.kafka.set_hook(Some(Box::new(|seen| {
        if seen.api == HEARTBEAT {
            Fault::Silence
        } else {
            Fault::Serve
        }
    })));
    story.play(Duration::from_secs(16));
    story.produce(0, "a");
    story.play(Duration::from_secs(14));
    assert!(story.delivered.is_empty(), "the lease is over");
    assert_eq!(story.owned(0), [0], "though nobody has taken it away");
    story.kafka.set_hook(None);
    story.until("it goes on", |story| story.committed(0) == Some(1));
    assert_eq!(left(&story, "session timed out"), 0);
}

#[test]
fn broker_that_does_not_know_consumer_groups_is_served_as_a_classic_member() {
    let mut config = fake_kafka::Config::new(1);
    config.hidden_apis.insert(HEARTBEAT as i16);
    let mut story = Story::of_cluster_with(config, 2);
    story.join(named("first"), budget());
    story.until("it owns everything", |story| story.owned(0) == [0, 1]);
    assert!(story.was_said(NOT_SERVED));
    story.produce(1, "a");
    story.until("it works", |story| story.committed(1) == Some(1));
    let said = story.notices.iter();
    assert_eq!(
        said.filter(|notice| notice.message == NOT_SERVED).count(),
        1
    );
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
    assert_eq!(left(&story, "left"), 1);
}

#[test]
fn broker_that_has_consumer_groups_switched_off_is_served_as_a_classic_member() {
    let mut story = Story::of_cluster(1, 1);
    let off = Fault::Error(ErrorCode::UNSUPPORTED_VERSION.0);
    story.kafka.script(HEARTBEAT, [off]);
    story.join(named("first"), budget());
    story.until("it owns everything", |story| story.owned(0) == [0]);
    assert!(story.was_said(NOT_SERVED));
    assert_eq!(story.kafka.requests(ApiKey::SyncGroup), 1);
    story.produce(0, "a");
    story.until("it works", |story| story.committed(0) == Some(1));
}

#[test]
fn group_of_classic_members_that_is_not_migrated_is_named_and_waited_for() {
    let mut story = alone(1, consumer_config());
    let second = story.join(named("second"), budget());
    let said = "has classic members, and the broker does not migrate it";
    story.until("it says why it is not let in", |story| {
        fault(story, second).contains(said)
    });
    story.tell(0, Input::Stop);
    story.until("the last of them has left", |story| story.has_ended(0));
    story.until("it takes over", |story| story.owned(second) == [0]);
    assert_eq!(fault(&story, second), "None");
}

#[test]
fn partition_that_the_coordinator_knows_of_first_is_looked_for() {
    let mut story = alone(1, named("first"));
    story.kafka.add_partitions(TOPIC, 2);
    story.produce(1, "a");
    story.play(Duration::from_secs(10));
    assert_eq!(story.owned(0), [0, 1]);
    assert_eq!(story.values(1), ["a"]);
    assert_eq!(story.committed(1), Some(1));
}

#[test]
fn topic_that_is_created_anew_is_read_from_its_beginning() {
    let mut story = alone(2, named("first"));
    for value in ["a", "b", "c"] {
        story.produce(0, value);
    }
    story.until("all is committed", |story| story.committed(0) == Some(3));
    story.kafka.recreate_topic(TOPIC);
    story.produce(0, "new");
    story.until("the new one is read", |story| {
        story.values(0).last().is_some_and(|value| value == "new")
    });
    story.until("and committed", |story| story.committed(0) == Some(1));
    assert_eq!(story.owned(0), [0, 1]);
}
