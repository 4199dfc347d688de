//! Records that no filter wants: passed over like gaps, counted, and never committed before what stands before them.

use std::sync::Arc;
use std::time::Duration;

use forebay_protocol::delivery::status::Counters;
use forebay_protocol::delivery::{Budget, ConsumerConfig, OnOversized};
use forebay_protocol::filter::{Filter, FilterSet};
use forebay_tests::story::{Story, consumer_config, failed, succeeded};

/// A consumer of one partition with filters; plain text other than `yes` is not wanted.
fn filtering(mut config: ConsumerConfig) -> Story {
    let filter = Filter::compile(r#"{"value":[{"prefix":"yes"}]}"#).expect("a pattern");
    let mut story = Story::of_cluster(1, 1);
    config.delivery.filters = Arc::new(FilterSet::new(vec![filter]));
    story.join(config, Budget::new(64 << 20));
    story
}

fn counters(story: &Story) -> Counters {
    story.consumer(0).status().counters
}

#[test]
fn a_poll_that_is_filtered_away_whole_is_committed_without_a_call() {
    let mut story = filtering(consumer_config());
    for _ in 0..3 {
        story.produce(0, "no");
    }
    story.until("it is committed", |story| story.committed(0) == Some(3));
    let counters = counters(&story);
    assert_eq!((counters.calls, counters.records_polled), (0, 3));
    assert_eq!(counters.records_filtered, 3);
    assert!(story.delivered.is_empty());
}

#[test]
fn what_is_filtered_behind_an_open_call_waits_for_its_end() {
    let mut story = filtering(consumer_config());
    story.hold_calls();
    story.produce(0, "no");
    story.produce(0, "yes");
    story.until("the call is open", |story| !story.open_calls.is_empty());
    for _ in 0..3 {
        story.produce(0, "no");
    }
    story.play(Duration::from_secs(20));
    assert_eq!(story.committed(0), Some(1), "the first ended by itself");
    let offsets: Vec<_> = story.open_calls[0]
        .records
        .iter()
        .map(|it| it.offset)
        .collect();
    assert_eq!(offsets, [1]);
    story.end_call(failed());
    story.until("it is called again", |story| !story.open_calls.is_empty());
    assert_eq!(story.committed(0), Some(1));
    story.end_call(succeeded());
    story.until("all is committed", |story| story.committed(0) == Some(5));
    assert_eq!(story.values(0), ["yes"]);
}

#[test]
fn batch_size_counts_what_is_sent() {
    let mut config = consumer_config();
    config.delivery.batch_size = 2;
    config.delivery.window = Duration::from_secs(60);
    let mut story = filtering(config);
    story.hold_calls();
    for value in ["no", "yes 1", "no", "no", "yes 2", "yes 3"] {
        story.produce(0, value);
    }
    story.until("a batch is full", |story| !story.open_calls.is_empty());
    let offsets: Vec<_> = story.open_calls[0]
        .records
        .iter()
        .map(|it| it.offset)
        .collect();
    assert_eq!(offsets, [1, 4]);
    story.end_call(succeeded());
    story.until("what ended is committed", |story| {
        story.committed(0) == Some(5)
    });
}

#[test]
fn a_record_that_no_body_holds_and_no_filter_wants_is_passed_over() {
    let mut config = consumer_config();
    config.body_limit = 4096;
    config.delivery.on_oversized = OnOversized::Halt;
    let mut story = filtering(config);
    story.produce(0, &"no ".repeat(4096));
    story.produce(0, "yes");
    story.until("it is committed", |story| story.committed(0) == Some(2));
    assert_eq!(counters(&story).records_filtered, 1);
}
