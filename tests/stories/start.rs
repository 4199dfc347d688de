//! Where a mapping starts: LATEST and times, resolved once for all partitions.

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{
    Budget, ConsumerConfig, Fault as Trouble, GroupProtocol, StartingPosition,
};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config};
use kafka_protocol::messages::ApiKey;

fn starting_at(position: StartingPosition) -> ConsumerConfig {
    ConsumerConfig {
        starting_position: position,
        ..consumer_config()
    }
}

fn budget() -> Budget {
    Budget::new(64 << 20)
}

/// Three records in each of two partitions, a second apart.
fn some_history(brokers: i32) -> Story {
    let mut story = Story::of_cluster(2, brokers);
    for partition in 0..2 {
        for at in 0..3 {
            let record = NewRecord::value(Bytes::from(format!("old {at}"))).at(1_000 * at);
            story.kafka.append(TOPIC, partition, &[record]);
        }
    }
    story
}

#[test]
fn latest_means_when_the_mapping_was_declared_not_when_the_group_had_gathered() {
    let mut story = some_history(2);
    story
        .kafka
        .script(ApiKey::JoinGroup, [Fault::Delay(Duration::from_secs(3))]);
    story.join(starting_at(StartingPosition::Latest), budget());
    story.play(Duration::from_secs(1));
    assert_eq!(story.committed(0), Some(3), "before anybody is a member");
    story.produce(0, "new 0");
    story.produce(1, "new 1");
    story.until("both are delivered", |story| story.delivered.len() == 2);
    story.play(Duration::from_secs(5));
    assert_eq!(story.values(0), ["new 0"]);
    assert_eq!(story.values(1), ["new 1"]);
    assert_eq!(story.committed(0), Some(4));
}

#[test]
fn latest_is_not_resolved_again_by_the_next_owner() {
    let mut story = some_history(1);
    story
        .kafka
        .script(ApiKey::JoinGroup, [Fault::Delay(Duration::from_secs(30))]);
    let first = story.join(starting_at(StartingPosition::Latest), budget());
    story.play(Duration::from_secs(1));
    story.kill(first);
    story.produce(1, "between");
    story.join(starting_at(StartingPosition::Latest), budget());
    story.until("it is delivered", |story| story.values(1) == ["between"]);
}

#[test]
fn time_begins_at_the_first_record_that_is_as_young() {
    let mut story = some_history(2);
    story.join(starting_at(StartingPosition::AtTimestamp(1_000)), budget());
    story.until("it has begun", |story| {
        story.committed(0) == Some(3) && story.committed(1) == Some(3)
    });
    assert_eq!(story.values(0), ["old 1", "old 2"]);
    assert_eq!(story.values(1), ["old 1", "old 2"]);
}

/// As brokers answer of message format v0 (KIP-79): told all the time, and asked again now and then.
#[test]
fn time_on_a_topic_without_timestamps_is_told_until_the_broker_has_an_answer() {
    let mut story = some_history(2);
    let none = Fault::Error(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT.0);
    story
        .kafka
        .set_hook(Some(Box::new(move |seen| match seen.api {
            ApiKey::ListOffsets => none.clone(),
            _ => Fault::Serve,
        })));
    // The declaration has given up by then, and no owner has asked yet.
    story
        .kafka
        .script(ApiKey::JoinGroup, [Fault::Delay(Duration::from_secs(3))]);
    let member = story.join(starting_at(StartingPosition::AtTimestamp(1_000)), budget());
    let fault = |story: &Story| story.consumer(member).status().fault;
    story.until("it says so", |story| {
        fault(story) == Some(Trouble::NoTimestamps)
    });
    let asked = story.kafka.requests(ApiKey::ListOffsets);
    for _ in 0..120 {
        story.play(Duration::from_secs(1));
        assert_eq!(fault(&story), Some(Trouble::NoTimestamps));
    }
    let told = "Topic has no timestamps to start at; it is asked again";
    let times = story.notices.iter().filter(|it| it.message == told).count();
    assert_eq!(times, 1);
    let asked = story.kafka.requests(ApiKey::ListOffsets) - asked;
    assert!(asked <= 30, "two leaders, every ten seconds: {asked}");
    assert!(story.delivered.is_empty());

    story.kafka.set_hook(None);
    story.until("it has begun", |story| {
        story.committed(0) == Some(3) && story.committed(1) == Some(3)
    });
    assert_eq!(story.values(0), ["old 1", "old 2"]);
    assert_eq!(fault(&story), None);
}

#[test]
fn time_that_no_record_has_reached_begins_at_the_end() {
    let mut story = some_history(1);
    story.join(starting_at(StartingPosition::AtTimestamp(9_000)), budget());
    story.until("it has begun", |story| story.committed(1) == Some(3));
    story.produce(1, "new");
    story.until("what comes now is taken", |story| {
        story.committed(1) == Some(4)
    });
    assert_eq!(story.values(1), ["new"]);
}

#[test]
fn group_with_members_leaves_the_start_to_each_owner() {
    let mut story = some_history(1);
    let first = story.join(consumer_config(), budget());
    story.until("the group has a member", |story| {
        story.owned(first).len() == 2
    });
    story.until("it has read all", |story| story.committed(1) == Some(3));
    story.kafka.add_partitions(TOPIC, 3);
    let second = story.join(starting_at(StartingPosition::Latest), budget());
    story.until("they share", |story| !story.owned(second).is_empty());
    story.produce(2, "new");
    story.until("the new partition is read from its beginning", |story| {
        story.values(2) == ["new"]
    });
}

#[test]
fn partition_without_a_leader_does_not_hold_up_the_others() {
    let mut story = some_history(1);
    story.kafka.move_leader(TOPIC, 1, None);
    story.join(starting_at(StartingPosition::Latest), budget());
    story.until("it joins all the same", |story| story.owned(0).len() == 2);
    story.play(Duration::from_secs(2));
    story.produce(0, "new");
    story.until("its other partition works", |story| {
        story.values(0) == ["new"]
    });
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.until("the partition's owner resolves it", |story| {
        story.committed(1) == Some(3)
    });
}

#[test]
fn partition_that_appears_later_starts_at_its_beginning() {
    let mut story = some_history(1);
    story.join(starting_at(StartingPosition::Latest), budget());
    story.until("it has begun", |story| story.owned(0).len() == 2);
    story.kafka.add_partitions(TOPIC, 3);
    story.produce(2, "first");
    // The consumer looks at the topic every five minutes.
    story.play(Duration::from_secs(310));
    story.until("it is delivered", |story| story.values(2) == ["first"]);
}

#[test]
fn topic_created_anew_while_its_start_is_resolved_starts_at_what_it_holds() {
    let mut story = some_history(1);
    story.kafka.script(
        ApiKey::OffsetCommit,
        [Fault::Drop, Fault::Delay(Duration::from_secs(2))],
    );
    story.join(starting_at(StartingPosition::Latest), budget());
    story.kafka.recreate_topic(TOPIC);
    story.produce(0, "new");
    story.until("it is delivered", |story| story.values(0) == ["new"]);
}

#[test]
fn leader_of_a_group_waits_for_no_timer() {
    let story = Story::new(8, 1);
    // No time has passed: what a leader must know before it assigns is asked for with the answer that makes it one.
    assert_eq!(story.owned(0), (0..8).collect::<Vec<_>>());
}

/// As an unclean leader of `__consumer_offsets` does. What the policy says by now is not what it said then.
#[test]
fn member_whose_commits_the_group_has_forgotten_goes_on_where_it_was() {
    for group_protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut story = some_history(1);
        let config = ConsumerConfig {
            group_protocol,
            ..starting_at(StartingPosition::Latest)
        };
        story.join(config, budget());
        story.until("it owns both", |story| story.owned(0) == [0, 1]);
        story.produce(0, "new 0");
        story.until("it is committed", |story| story.committed(0) == Some(4));
        story.kafka.forget_group(GROUP);
        story.until("it has heard of it", |story| story.owned(0).is_empty());
        story.produce(0, "new 1");
        story.produce(1, "new 1");
        story.until("it is back", |story| story.owned(0) == [0, 1]);
        story.play(Duration::from_secs(10));
        assert_eq!(story.values(0), ["new 0", "new 1"]);
        assert_eq!(story.values(1), ["new 1"]);
        assert_eq!(story.committed(0), Some(5));
        assert!(story.was_said("Group has lost the commit of a partition; going on where it was"));
    }
}
