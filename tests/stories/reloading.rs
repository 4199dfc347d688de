//! Other settings for delivery while records are on their way: what is under way goes on, and what is decided next is decided
//! by the new ones.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::{
    Budget, ConsumerConfig, DeliverySettings, Destination, Input, RetryPolicy, Taken,
};
use forebay_protocol::filter::{Filter, FilterSet};
use forebay_protocol::lambda::failure::Condition;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::story::{Story, TOPIC, consumer_config, failed, succeeded};

/// Delivers by the story's settings with that change from now on.
fn change(story: &mut Story, change: impl FnOnce(&mut DeliverySettings)) {
    let mut settings = consumer_config().delivery;
    change(&mut settings);
    story.tell(0, Input::Delivery(Box::new(settings)));
}

fn story_of(config: ConsumerConfig) -> Story {
    let mut story = Story::of_cluster(1, 1);
    story.join(config, Budget::new(64 << 20));
    story.until("it owns the partition", |story| story.owned(0) == [0]);
    story.hold_calls();
    story
}

fn next_call(story: &mut Story) -> Vec<i64> {
    story.until("a call", |story| story.open_calls.len() == 1);
    let records = story.open_calls[0].records.iter();
    records.map(|it| it.offset).collect()
}

#[test]
fn attempts_stay_counted_and_a_limit_holds_for_the_next() {
    let mut story = story_of(consumer_config());
    story.produce(0, "a");
    for _ in 0..2 {
        next_call(&mut story);
        story.end_call(failed());
    }
    let waits = |story: &Story| story.consumer(0).status().partitions[0].retry.clone();
    let before = waits(&story).expect("it fails");
    change(&mut story, |it| {
        it.retry.max_attempts = Some(3);
        it.destination = Some(Destination::Service);
    });
    assert_eq!(waits(&story), Some(before), "it waits as it did");
    next_call(&mut story);
    story.end_call(failed());
    assert!(story.open_diversions.is_empty(), "one is left");
    next_call(&mut story);
    story.end_call(failed());
    let diversion = story.end_diversion(Ok(Taken::Whole));
    assert_eq!(diversion.failure.invoke_count, 4);
    let reason = Condition::RetryAttemptsExhausted;
    assert_eq!(diversion.failure.condition, reason);
    story.until("it goes on", |story| story.committed(0) == Some(1));
}

/// What is called at this moment ends by what holds when it ends.
#[test]
fn an_open_call_goes_on_and_its_end_is_judged_by_the_new_settings() {
    let mut config = consumer_config();
    config.delivery.retry = RetryPolicy {
        max_attempts: Some(0),
        ..RetryPolicy::default()
    };
    let mut story = story_of(config);
    story.produce(0, "a");
    story.produce(0, "b");
    next_call(&mut story);
    change(&mut story, |it| it.retry.bisect = true);
    assert_eq!(story.open_calls.len(), 1);
    let carried = next_call(&mut story);
    story.end_call(failed());
    assert_eq!(story.consumer(0).status().counters.records_dropped, 0);
    // Where both travelled together, halves are made of them.
    assert_eq!(next_call(&mut story), carried[..1]);
}

#[test]
fn what_is_encoded_stays_and_what_follows_is_filtered_and_cut_anew() {
    let mut config = consumer_config();
    config.delivery.window = Duration::from_secs(5);
    let mut story = story_of(config);
    story.produce(0, r#"{"send":"no"}"#);
    story.play(Duration::from_secs(1));
    let pattern = r#"{"value":{"send":["yes"]}}"#;
    let filter = Filter::compile(pattern).expect("a pattern");
    change(&mut story, |it| {
        it.window = Duration::from_secs(3);
        it.batch_size = 2;
        it.filters = Arc::new(FilterSet::new([filter].into()));
    });
    story.produce(0, r#"{"send":"no"}"#);
    story.play(Duration::from_millis(1500));
    assert!(story.open_calls.is_empty(), "it may still have company");
    story.play(Duration::from_secs(1));
    assert_eq!(next_call(&mut story), [0], "the new window has ended");
    for _ in 0..3 {
        story.produce(0, r#"{"send":"yes"}"#);
    }
    story.end_call(succeeded());
    assert_eq!(next_call(&mut story), [2, 3], "a full batch goes at once");
    assert_eq!(story.consumer(0).status().counters.records_filtered, 1);
}

#[test]
fn a_record_too_large_goes_to_the_destination_that_comes() {
    let mut config = consumer_config();
    config.body_limit = 10_000;
    let mut story = story_of(config);
    let record = NewRecord::value(vec![b'x'; 9000]);
    story.kafka.append(TOPIC, 0, &[record]);
    story.until("it halts", |story| {
        story.consumer(0).status().partitions[0].halted.is_some()
    });
    change(&mut story, |it| it.destination = Some(Destination::Service));
    story.play(Duration::from_secs(2));
    assert_eq!(
        story.open_diversions.len(),
        1,
        "it is not waited for the next look"
    );
    story.end_diversion(Ok(Taken::Whole));
    story.until("it goes on", |story| story.committed(0) == Some(1));
}

/// Whoever has mended his destination is not kept waiting for a minute.
#[test]
fn what_waits_for_its_destination_is_written_at_once() {
    let mut config = consumer_config();
    config.delivery.retry.max_attempts = Some(0);
    config.delivery.destination = Some(Destination::Service);
    let mut story = story_of(config);
    story.produce(0, "a");
    next_call(&mut story);
    story.end_call(failed());
    for _ in 0..8 {
        story.until("a writing", |story| !story.open_diversions.is_empty());
        story.end_diversion(Err("AccessDenied"));
    }
    change(&mut story, |it| {
        it.retry.max_attempts = Some(0);
        it.destination = Some(Destination::Service);
    });
    assert_eq!(story.open_diversions.len(), 1);
    story.end_diversion(Ok(Taken::Whole));
    story.until("it goes on", |story| story.committed(0) == Some(1));
}
