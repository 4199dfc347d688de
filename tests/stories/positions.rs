//! Where lanes stand while topics are created anew and logs are truncated, and answers come late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_protocol::delivery::Budget;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::story::{Story, TOPIC, consumer_config, succeeded};
use kafka_protocol::messages::ApiKey;

/// Late, and yet before a heartbeat that waits behind it makes us look for another coordinator.
const LATE: Duration = Duration::from_secs(3);

/// Both partitions have a leader of their own; each has carried some records, all committed.
fn two_partitions_at_work() -> Story {
    let mut story = Story::new(2, 2);
    for at in 0..5 {
        story.produce(0, &format!("old {at}"));
        story.produce(1, &format!("old {at}"));
    }
    story.until("the old records are committed", |story| {
        story.committed(0) == Some(5) && story.committed(1) == Some(5)
    });
    story
}

/// The topic is created anew, and its partition 0 has three records.
fn recreate(story: &mut Story) {
    story.kafka.recreate_topic(TOPIC);
    for at in 0..3 {
        story.produce(0, &format!("new {at}"));
    }
}

fn new_values(story: &Story) -> Vec<String> {
    let mut values = story.values(0);
    values.retain(|value| value.starts_with("new"));
    values
}

fn everything_new_arrives_once(story: Story) {
    everything_new_arrives(story, 3, 3);
}

/// So many records, up to that offset.
fn everything_new_arrives(mut story: Story, records: usize, end: i64) {
    story.until("the new records are delivered", |story| {
        new_values(story).len() >= records
    });
    story.play(Duration::from_secs(20));
    let expected: Vec<String> = (0..records).map(|at| format!("new {at}")).collect();
    assert_eq!(new_values(&story), expected);
    assert_eq!(story.committed(0), Some(end));
}

#[test]
fn late_answer_about_the_old_logs_end_places_no_lane_of_the_new_topic() {
    let mut story = two_partitions_at_work();
    // The log shrinks below what was read: its start and then its end are asked for, which takes long.
    story
        .kafka
        .script(ApiKey::ListOffsets, [Fault::Serve, Fault::Delay(LATE)]);
    story.kafka.truncate(TOPIC, 0, 3);
    story.play(Duration::from_secs(1));
    recreate(&mut story);
    everything_new_arrives_once(story);
}

#[test]
fn late_answer_about_an_old_epoch_leaves_no_lane_behind() {
    let mut story = two_partitions_at_work();
    story
        .kafka
        .script(ApiKey::OffsetForLeaderEpoch, [Fault::Delay(LATE)]);
    story.kafka.truncate(TOPIC, 0, 3);
    story.play(Duration::from_secs(1));
    recreate(&mut story);
    everything_new_arrives_once(story);
}

#[test]
fn late_answer_that_the_old_log_is_shorter_keeps_no_record_of_the_new_topic_back() {
    let mut story = two_partitions_at_work();
    story.hold_calls();
    story.produce(0, "old 5");
    story.until("its call is open", |story| story.open_calls.len() == 1);
    story
        .kafka
        .script(ApiKey::OffsetForLeaderEpoch, [Fault::Delay(LATE)]);
    story.kafka.truncate(TOPIC, 0, 3);
    story.play(Duration::from_secs(1));
    recreate(&mut story);
    story.play(2 * LATE);
    story.answer_calls(|_| succeeded());
    story.end_call(succeeded());
    everything_new_arrives_once(story);
}

#[test]
fn late_fetch_of_the_old_topic_gives_the_new_one_nothing() {
    let mut story = Story::new(2, 2);
    story.until("both partitions are owned", |story| {
        story.owned(0).len() == 2
    });
    story.play(Duration::from_secs(2));
    // Partition 0's next fetch brings records of the old topic, long after the other partition's broker
    // has told of the new one.
    let has_come = Arc::new(AtomicBool::new(false));
    let comes = Arc::clone(&has_come);
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.api == ApiKey::Fetch && seen.node == 1 {
            comes.store(true, Ordering::Relaxed);
            Fault::Delay(LATE)
        } else {
            Fault::Serve
        }
    })));
    story.until("the fetch waits for records", |_| {
        has_come.load(Ordering::Relaxed)
    });
    story.produce(0, "old");
    story.play(Duration::from_millis(10));
    recreate(&mut story);
    story.play(Duration::from_secs(2));
    story.kafka.set_hook(None);
    everything_new_arrives_once(story);
}

#[test]
fn late_answer_to_a_commit_says_nothing_of_a_lane_that_went_back() {
    let mut story = Story::new(1, 1);
    story.until("the start is committed", |story| {
        story.committed(0) == Some(0)
    });
    story
        .kafka
        .script(ApiKey::OffsetCommit, [Fault::Delay(LATE)]);
    for at in 0..5 {
        story.produce(0, &format!("old {at}"));
    }
    let before = story.kafka.requests(ApiKey::OffsetCommit);
    story.until("the commit of them all is under way", |story| {
        story.values(0).len() == 5 && story.kafka.requests(ApiKey::OffsetCommit) > before
    });
    story.kafka.truncate(TOPIC, 0, 2);
    story.until("the lane has gone back", |story| {
        story.consumer(0).status().partitions[0].processed_offset == 2
    });
    story.produce(0, "new 0");
    story.until("what replaced the lost records is delivered", |story| {
        new_values(story) == ["new 0"]
    });
    story.until("it is committed", |story| story.committed(0) == Some(3));
}

#[test]
fn offsets_of_a_deleted_topic_are_never_committed_to_its_successor() {
    let mut story = two_partitions_at_work();
    // What is processed last is not committed before the topic is created anew.
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::OffsetCommit => Fault::Error(14),
        ApiKey::ListOffsets => Fault::Delay(LATE),
        _ => Fault::Serve,
    })));
    story.produce(0, "old 5");
    story.until("it is delivered", |story| story.values(0).len() == 6);
    recreate(&mut story);
    story.until("the consumer has seen it", |story| {
        story.was_said("Topic was created anew; starting at its beginning")
    });
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::ListOffsets => Fault::Delay(LATE),
        _ => Fault::Serve,
    })));
    story.play(Duration::from_secs(2));
    // Whoever owns the partition next reads the commit.
    story.kill(0);
    story.kafka.set_hook(None);
    story.join(consumer_config(), Budget::new(64 << 20));
    everything_new_arrives_once(story);
}

/// An unclean leader has less than was read, and has written more than that by the time that we see it.
fn write_over(story: &mut Story) {
    story.kafka.truncate(TOPIC, 0, 3);
    for at in 0..4 {
        story.produce(0, &format!("new {at}"));
    }
}

#[test]
fn what_an_unclean_leader_wrote_over_is_not_passed_over() {
    let mut story = two_partitions_at_work();
    story.kafka.move_leader(TOPIC, 0, Some(2));
    write_over(&mut story);
    everything_new_arrives(story, 4, 7);
}

#[test]
fn what_an_unclean_leader_wrote_over_while_we_were_down_is_not_passed_over() {
    let mut story = two_partitions_at_work();
    story.kill(0);
    write_over(&mut story);
    story.join(consumer_config(), Budget::new(64 << 20));
    everything_new_arrives(story, 4, 7);
}

#[test]
fn a_leader_that_moved_and_lost_nothing_is_gone_on_with() {
    let mut story = two_partitions_at_work();
    for round in 0..6 {
        story.kafka.move_leader(TOPIC, 0, Some(1 + round % 2));
        story.produce(0, &format!("new {round}"));
        story.play(Duration::from_secs(3));
    }
    assert_eq!(new_values(&story).len(), 6);
    assert_eq!(story.values(0).len(), 11);
    assert!(!story.was_said("Log was truncated below what was read"));
}

#[test]
fn a_broker_that_does_not_let_us_ask_for_epochs_is_read_all_the_same() {
    let mut story = two_partitions_at_work();
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::OffsetForLeaderEpoch => Fault::Error(31),
        _ => Fault::Serve,
    })));
    story.kafka.move_leader(TOPIC, 0, Some(2));
    story.produce(0, "new 0");
    story.until("it is delivered", |story| new_values(story) == ["new 0"]);
}
