//! A mapping that is not enabled: where it is to start is resolved when it is declared, and kept (decision 25).

use std::time::Duration;

use forebay_protocol::delivery::{Budget, ConsumerConfig, Duty, Fault, Input, StartingPosition};
use forebay_tests::fake_kafka::{self, FakeKafka};
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config};
use kafka_protocol::messages::ApiKey;

const HOUR: Duration = Duration::from_secs(3600);

/// LATEST, not enabled.
fn keeper() -> ConsumerConfig {
    ConsumerConfig {
        duty: Duty::KeepPlace,
        ..server()
    }
}

/// The same mapping, enabled.
fn server() -> ConsumerConfig {
    ConsumerConfig {
        starting_position: StartingPosition::Latest,
        ..consumer_config()
    }
}

fn budget() -> Budget {
    Budget::new(64 << 20)
}

/// Two partitions with a record each.
fn some_history() -> Story {
    let mut story = Story::of_cluster(2, 1);
    story.produce(0, "old 0");
    story.produce(1, "old 1");
    story
}

fn joins(kafka: &FakeKafka) -> u64 {
    kafka.requests(ApiKey::JoinGroup)
}

/// Ends the keeper and lets the mapping be served.
fn enable(story: &mut Story, keeper: usize) -> usize {
    story.tell(keeper, Input::Stop);
    story.until("the keeper has ended", |story| story.has_ended(keeper));
    story.join(server(), budget())
}

#[test]
fn what_is_produced_between_declaration_and_enabling_is_delivered() {
    let mut story = some_history();
    let keeper = story.join(keeper(), budget());
    story.until("the start is kept", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
    story.produce(0, "new 0");
    story.play(2 * HOUR);
    story.produce(1, "new 1");
    assert_eq!(joins(&story.kafka), 0, "it is never a member");
    assert_eq!(story.committed(0), Some(1), "and moves nothing");
    enable(&mut story, keeper);
    story.until("both are delivered", |story| story.delivered.len() == 2);
    story.play(Duration::from_secs(5));
    assert_eq!(story.values(0), ["new 0"]);
    assert_eq!(story.values(1), ["new 1"]);
}

#[test]
fn kept_place_is_committed_again_every_hour_and_costs_no_connection() {
    let mut story = some_history();
    story.join(keeper(), budget());
    story.play(Duration::from_secs(60));
    assert_eq!(story.kafka.commits().len(), 2, "one for each partition");
    assert_eq!(story.kafka.connections(), 0);
    let asked = story.kafka.requests(ApiKey::Metadata);
    story.play(HOUR - Duration::from_secs(120));
    assert_eq!(story.kafka.requests(ApiKey::Metadata), asked);
    story.play(Duration::from_secs(120));
    assert_eq!(story.kafka.commits().len(), 4);
    story.play(10 * HOUR);
    assert_eq!(story.kafka.commits().len(), 24);
    assert_eq!(story.committed(0), Some(1));
    assert_eq!(story.kafka.connections(), 0);
}

#[test]
fn place_that_moved_within_the_hour_is_left_alone() {
    let mut story = some_history();
    story.kafka.set_committed(GROUP, TOPIC, 0, 1);
    story.kafka.set_committed(GROUP, TOPIC, 1, 1);
    story.join(keeper(), budget());
    for offset in 2..8 {
        story.play(HOUR * 3 / 4);
        story.kafka.set_committed(GROUP, TOPIC, 0, offset);
    }
    let commits = story.kafka.requests(ApiKey::OffsetCommit);
    assert_eq!(commits, 0, "somebody is at it");
    story.play(3 * HOUR);
    assert!(story.kafka.requests(ApiKey::OffsetCommit) > 0);
    assert_eq!(story.committed(0), Some(7));
}

#[test]
fn cluster_out_of_reach_is_said_and_tried_until_it_is_there() {
    let mut story = some_history();
    story.refuse(|_| true);
    let keeper = story.join(keeper(), budget());
    story.play(2 * HOUR);
    let fault = story.consumer(keeper).status().fault;
    assert!(
        matches!(fault, Some(Fault::ClusterUnreachable(_))),
        "{fault:?}"
    );
    story.refuse(|_| false);
    story.until("the start is kept", |story| story.committed(1) == Some(1));
    assert_eq!(story.consumer(keeper).status().fault, None);
}

#[test]
fn refused_commit_is_tried_until_it_is_taken_without_a_storm() {
    let mut story = some_history();
    const DENIED: i16 = 29;
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::OffsetCommit => fake_kafka::Fault::Error(DENIED),
        _ => fake_kafka::Fault::Serve,
    })));
    story.join(keeper(), budget());
    story.play(HOUR);
    assert!(
        story.was_said("Start could not be resolved and committed yet; it is tried until it is")
    );
    let asked = story.kafka.requests(ApiKey::OffsetCommit);
    assert!((300..600).contains(&asked), "{asked}");
    story.produce(0, "new");
    story.kafka.set_hook(None);
    story.until("the start is kept", |story| story.committed(0) == Some(1));
}

#[test]
fn group_with_members_is_left_to_them_and_looked_after_when_they_have_gone() {
    let mut story = some_history();
    let foreign = story.join(consumer_config(), budget());
    story.until("the foreign member has read all", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
    story.kafka.add_partitions(TOPIC, 3);
    let commits = story.kafka.commits().len();
    let keeper = story.join(keeper(), budget());
    story.play(Duration::from_secs(30));
    assert_eq!(story.kafka.commits().len(), commits);
    assert_eq!(story.consumer(keeper).status().fault, None);
    story.kill(foreign);
    story.until("the session has ended, and the rest is kept", |story| {
        story.committed(2) == Some(0)
    });
    assert_eq!(story.committed(0), Some(1));
}

#[test]
fn partition_without_a_leader_does_not_hold_up_the_place_of_the_others() {
    let mut story = some_history();
    story.kafka.move_leader(TOPIC, 1, None);
    story.join(keeper(), budget());
    story.until("the other is kept", |story| story.committed(0) == Some(1));
    story.play(HOUR);
    assert_eq!(story.committed(1), None);
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.until("it is kept too", |story| story.committed(1) == Some(1));
}

#[test]
fn keeper_that_is_told_to_end_awaits_the_commit_under_way() {
    let mut story = some_history();
    let slow = fake_kafka::Fault::Delay(Duration::from_secs(3));
    story.kafka.script(ApiKey::OffsetCommit, [slow]);
    let keeper = story.join(keeper(), budget());
    story.play(Duration::from_secs(1));
    story.tell(keeper, Input::Stop);
    assert!(!story.has_ended(keeper));
    story.until("it has ended", |story| story.has_ended(keeper));
    assert_eq!(story.committed(1), Some(1));
}

#[test]
fn keeper_ends_at_once_while_the_cluster_is_out_of_reach_and_while_it_rests() {
    let mut story = some_history();
    let resting = story.join(keeper(), budget());
    story.play(Duration::from_secs(60));
    story.tell(resting, Input::Stop);
    assert!(story.has_ended(resting));
    story.refuse(|_| true);
    let lost = story.join(keeper(), budget());
    story.play(Duration::from_secs(60));
    story.tell(lost, Input::Stop);
    assert!(story.has_ended(lost));
}

#[test]
fn topic_created_anew_while_its_place_is_kept_starts_at_its_beginning() {
    let mut story = some_history();
    let keeper = story.join(keeper(), budget());
    story.until("the start is kept", |story| story.committed(1) == Some(1));
    story.kafka.recreate_topic(TOPIC);
    story.produce(0, "first of the new");
    story.play(2 * HOUR);
    enable(&mut story, keeper);
    story.until("it is delivered", |story| {
        story.values(0) == ["first of the new"]
    });
}
