//! Partitions that stand still although nothing that is known holds them.
//!
//! Invariant: they are named, go on by themselves, and neither lose a record nor bring one out of order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_tests::fake_kafka::Fault;
use forebay_tests::story::{Story, failed, succeeded};
use kafka_protocol::messages::ApiKey;

const STOOD_STILL: &str = "Partition stood still without a reason; it is started again";

const LOST_CALL: &str = "Call has not ended long after its deadline; it counts as broken";

fn restarts(story: &Story) -> u64 {
    story.consumer(0).status().counters.partitions_restarted
}

fn at_work() -> Story {
    let mut story = Story::new(2, 2);
    story.produce(0, "0");
    story.produce(1, "0");
    story.until("both partitions are at work", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
    story
}

/// From now on fetches of those connections to broker 1 that stand fail, whatever is done about it but a new one.
fn spoil(story: &mut Story, error: i16) {
    let spoilt: BTreeSet<_> = story.kafka.connections_to(1).into_iter().collect();
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.api == ApiKey::Fetch && spoilt.contains(&seen.connection) {
            Fault::Error(error)
        } else {
            Fault::Serve
        }
    })));
}

#[test]
fn a_partition_whose_fetches_fail_for_ever_is_started_again() {
    let mut story = at_work();
    spoil(&mut story, -1);
    // The fetch that waits already still brings this one.
    story.produce(0, "1");
    story.produce(1, "1");
    story.until("it is delivered", |story| story.values(0).len() == 2);
    for at in 2..5 {
        story.produce(0, &at.to_string());
        story.produce(1, &at.to_string());
    }
    story.until("it goes on", |story| story.values(0).len() == 5);
    assert_eq!(story.values(0), ["0", "1", "2", "3", "4"]);
    assert_eq!(story.values(1), ["0", "1", "2", "3", "4"]);
    assert!(story.was_said(STOOD_STILL));
    assert_eq!(restarts(&story), 1);
    story.until("it is committed", |story| story.committed(0) == Some(5));
}

#[test]
fn a_call_whose_end_nobody_tells_is_made_again() {
    let mut story = at_work();
    story.hold_calls();
    story.produce(0, "1");
    story.until("a call is open", |story| story.open_calls.len() == 1);
    // The answer is lost, and nobody notices the deadline.
    story.open_calls.clear();
    story.answer_calls(|_| succeeded());
    story.produce(0, "2");
    story.until("the record is delivered", |story| {
        story.values(0) == ["0", "1", "2"]
    });
    assert!(story.was_said(LOST_CALL));
    story.until("it is committed", |story| story.committed(0) == Some(3));
}

#[test]
fn what_waits_for_a_reason_is_left_alone() {
    let mut story = at_work();
    // Nothing to do.
    story.play(Duration::from_secs(900));
    // A call that takes as long as it may.
    story.hold_calls();
    story.produce(0, "1");
    story.until("a call is open", |story| story.open_calls.len() == 1);
    story.play(Duration::from_secs(55));
    story.end_call(succeeded());
    // A function that fails for ever.
    let fails = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&fails);
    story.answer_calls(move |_| match flag.load(Ordering::Relaxed) {
        true => failed(),
        false => succeeded(),
    });
    story.produce(0, "2");
    story.play(Duration::from_secs(900));
    fails.store(false, Ordering::Relaxed);
    story.until("it is delivered", |story| story.values(0).len() == 3);
    // A partition without a leader.
    story
        .kafka
        .move_leader(forebay_tests::story::TOPIC, 0, None);
    story.play(Duration::from_secs(900));
    story
        .kafka
        .move_leader(forebay_tests::story::TOPIC, 0, Some(2));
    story.produce(0, "3");
    story.until("it is delivered", |story| story.values(0).len() == 4);
    assert!(!story.was_said(STOOD_STILL));
    assert!(!story.was_said(LOST_CALL));
    assert_eq!(restarts(&story), 0);
}
