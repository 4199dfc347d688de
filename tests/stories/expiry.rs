//! Retention takes what is still being tried.

use std::time::Duration;

use forebay_protocol::delivery::Budget;
use forebay_tests::fake_kafka::Config;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::story::{Story, TOPIC, consumer_config, failed, succeeded};
use kafka_protocol::messages::ApiKey;

const SAID: &str = "Records expired while their call was being tried again";

/// A function that fails while three records wait for it, each of that size.
fn stuck(value_bytes: usize) -> Story {
    let mut story = Story::new(1, 1);
    story.answer_calls(|_| failed());
    for at in 0..3 {
        let record = NewRecord::value(vec![b'0' + at; value_bytes]);
        story.kafka.append(TOPIC, 0, &[record]);
    }
    story.play(Duration::from_secs(30));
    assert!(story.consumer(0).status().counters.function_errors > 2);
    story
}

#[test]
fn batch_whose_records_the_log_has_lost_is_given_up_and_said() {
    let mut story = stuck(10);
    story.kafka.delete_before(TOPIC, 0, 3);
    story.until("it is said", |story| story.was_said(SAID));
    story.produce(0, "young");
    story.answer_calls(|_| succeeded());
    story.until("what is left is delivered", |story| {
        story.values(0) == ["young"]
    });
    assert_eq!(story.consumer(0).status().counters.records_dropped, 3);
}

#[test]
fn lane_too_full_to_be_fetched_for_learns_of_it_too() {
    let mut story = stuck(700_000);
    story.kafka.delete_before(TOPIC, 0, 3);
    story.until("it is said", |story| story.was_said(SAID));
}

#[test]
fn batch_of_which_the_log_holds_one_record_is_tried_on() {
    let mut story = stuck(10);
    story.kafka.delete_before(TOPIC, 0, 2);
    story.play(Duration::from_secs(300));
    assert!(!story.was_said(SAID));
    story.answer_calls(|_| succeeded());
    story.until("it is delivered", |story| story.values(0).len() == 3);
}

#[test]
fn brokers_that_tell_no_log_start_with_a_fetch_are_asked_for_it() {
    // As Kafka before 1.0 has it.
    let config = Config::new(1).with_max_version(ApiKey::Fetch, 4);
    let mut story = Story::of_cluster_with(config, 1);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.answer_calls(|_| failed());
    for at in 0..3 {
        story.produce(0, &at.to_string());
    }
    story.play(Duration::from_secs(30));
    story.kafka.delete_before(TOPIC, 0, 3);
    story.until("it is said", |story| story.was_said(SAID));
}
