//! Records that a function cannot digest: attempts, halves, partial answers, age, size, and where they end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use forebay_protocol::delivery::{
    Budget, ConsumerConfig, Destination, Diversion, Input, OnOversized, Taken,
};
use forebay_protocol::lambda::failure::{Condition, FunctionResponse, RecordPosition};
use forebay_protocol::lambda::invoke::Outcome;
use forebay_protocol::limits;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::story::{Call, Story, TOPIC, answered, consumer_config, failed, succeeded};

/// What Unix time it is when a story begins, in milliseconds.
const BEGINNING: i64 = 1_700_000_000_000;

/// A mapping with a destination, whose joint batches wait for a second.
fn diverting() -> ConsumerConfig {
    let mut config = consumer_config();
    config.delivery.destination = Some(Destination::Service);
    config.delivery.window = Duration::from_secs(1);
    config
}

/// A story of that mapping that owns its partitions.
fn story_of(config: ConsumerConfig, partitions: i32) -> Story {
    let mut story = Story::of_cluster(partitions, 1);
    story.join_told(config, Budget::new(64 << 20), [Input::UnixTime(BEGINNING)]);
    let owned = partitions as usize;
    story.until("all are owned", |story| story.owned(0).len() == owned);
    story
}

/// Those offsets of each call, in order.
fn offsets(call: &Call) -> Vec<(i32, i64)> {
    let records = call.records.iter();
    records.map(|it| (it.partition, it.offset)).collect()
}

/// Remembers what each call carried.
type Seen = Rc<RefCell<Vec<Vec<(i32, i64)>>>>;

/// A function that fails whenever it is called with one of those.
fn poisoned_by(story: &mut Story, poison: &'static [(i32, i64)]) -> Seen {
    let seen = Seen::default();
    let calls = Rc::clone(&seen);
    story.answer_calls(move |call| {
        let carried = offsets(call);
        let fails = carried.iter().any(|record| poison.contains(record));
        calls.borrow_mut().push(carried);
        match fails {
            true => failed(),
            false => succeeded(),
        }
    });
    seen
}

fn produce(story: &mut Story, partition: i32, count: usize) {
    for at in 0..count {
        story.produce(partition, &format!("{partition}-{at}"));
    }
}

/// A story of that mapping whose one record is given up with its first call: it is being written.
fn writing_of(mut config: ConsumerConfig) -> Story {
    config.delivery.retry.max_attempts = Some(0);
    let mut story = story_of(config, 1);
    poisoned_by(&mut story, &[(0, 0)]);
    produce(&mut story, 0, 1);
    story.until("a writing", |story| !story.open_diversions.is_empty());
    story
}

/// The next writing, acknowledged.
fn diverted(story: &mut Story) -> Diversion {
    story.until("a writing", |story| !story.open_diversions.is_empty());
    story.end_diversion(Ok(Taken::Whole))
}

/// Whether nothing of partition 0 is committed.
fn is_at_its_start(story: &Story) -> bool {
    story.committed(0).unwrap_or(0) == 0
}

fn ends(diversion: &Diversion) -> Vec<(i32, i64, i64)> {
    let lanes = diversion.failure.lanes.iter();
    lanes
        .map(|lane| (lane.partition, lane.first.offset, lane.last.offset))
        .collect()
}

/// Contract 4.6 and checklist 13: n attempts after the first make n + 1 calls.
#[test]
fn a_batch_is_given_up_after_its_attempts_and_goes_to_the_destination() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(2);
    let mut story = story_of(config, 1);
    let seen = poisoned_by(&mut story, &[(0, 1)]);
    produce(&mut story, 0, 3);
    story.until("a writing", |story| !story.open_diversions.is_empty());
    assert_eq!(seen.borrow().len(), 3);
    assert!(is_at_its_start(&story), "nothing has ended yet");
    let status = story.consumer(0).status().partitions[0].clone();
    let retry = status.retry.expect("it is given up");
    assert_eq!(retry.leaving, Some(Condition::RetryAttemptsExhausted));
    let diversion = story.end_diversion(Ok(Taken::WithoutEvent));
    let failure = &diversion.failure;
    assert_eq!(failure.condition, Condition::RetryAttemptsExhausted);
    assert_eq!((failure.invoke_count, failure.records()), (3, 3));
    assert_eq!(failure.request_id, "0b1");
    let response = FunctionResponse {
        status: 200,
        executed_version: "$LATEST".to_owned(),
        function_error: Some("Unhandled".to_owned()),
    };
    assert_eq!(failure.response, Some(response));
    assert_eq!(ends(&diversion), [(0, 0, 2)]);
    let event = diversion.event.concat();
    assert_eq!(failure.event_bytes, event.len());
    story.until("it is committed", |story| story.committed(0) == Some(3));
    assert_eq!(
        story.consumer(0).status().fault,
        None,
        "nothing is in the way"
    );
    let counters = story.consumer(0).status().counters;
    assert_eq!(counters.documents_shortened, 1);
    assert_eq!(
        (counters.records_diverted, counters.records_dropped),
        (3, 0)
    );
    assert_eq!(
        (counters.records_failed, counters.records_succeeded),
        (9, 0)
    );
    produce(&mut story, 0, 1);
    story.until("the next", |story| story.committed(0) == Some(4));
}

#[test]
fn without_a_destination_what_is_given_up_is_discarded_and_said() {
    let mut config = consumer_config();
    config.delivery.retry.max_attempts = Some(0);
    let mut story = story_of(config, 1);
    let seen = poisoned_by(&mut story, &[(0, 0)]);
    produce(&mut story, 0, 1);
    story.until("it is committed", |story| story.committed(0) == Some(1));
    assert_eq!(seen.borrow().len(), 1);
    assert_eq!(story.consumer(0).status().counters.records_dropped, 1);
    assert!(story.was_said("Records were given up and discarded"));
}

/// Contract 4.6: what never reached the function consumes no attempt.
#[test]
fn throttles_and_broken_calls_take_no_attempt() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(1);
    config.delivery.window = Duration::ZERO;
    let mut story = story_of(config, 1);
    story.hold_calls();
    produce(&mut story, 0, 1);
    let unreached = || {
        [
            Outcome::Throttled {
                retry_after: None,
                message: "429".to_owned(),
            },
            Outcome::ServiceError {
                retry_after: None,
                message: "500".to_owned(),
            },
            Outcome::Broken {
                reason: "reset".to_owned(),
            },
            Outcome::Refused {
                status: 403,
                code: "AccessDeniedException".to_owned(),
                message: String::new(),
            },
        ]
    };
    for outcome in unreached().into_iter().chain([failed()]).chain(unreached()) {
        story.until("a call", |story| story.open_calls.len() == 1);
        story.end_call(outcome);
        assert!(story.open_diversions.is_empty());
    }
    story.until("a call", |story| story.open_calls.len() == 1);
    story.end_call(failed());
    assert_eq!(diverted(&mut story).failure.invoke_count, 2);
}

/// Decision 12's example, to the letter.
#[test]
fn halves_find_the_record_that_the_function_cannot_digest() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(0);
    config.delivery.retry.bisect = true;
    let mut story = story_of(config, 1);
    let seen = poisoned_by(&mut story, &[(0, 2)]);
    produce(&mut story, 0, 4);
    let diversion = diverted(&mut story);
    assert_eq!(ends(&diversion), [(0, 2, 2)]);
    assert_eq!(
        diversion.failure.invoke_count, 3,
        "the calls that carried it"
    );
    story.until("all is committed", |story| story.committed(0) == Some(4));
    let record = |offset| (0, offset);
    let expected: Vec<Vec<(i32, i64)>> =
        [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3], vec![2], vec![3]]
            .into_iter()
            .map(|call| call.into_iter().map(record).collect())
            .collect();
    assert_eq!(*seen.borrow(), expected);
}

#[test]
fn a_joint_batch_splits_into_groups_of_lanes_first() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(0);
    config.delivery.retry.bisect = true;
    let mut story = story_of(config, 4);
    let seen = poisoned_by(&mut story, &[(3, 0)]);
    for partition in 0..4 {
        produce(&mut story, partition, 1);
    }
    let diversion = diverted(&mut story);
    assert_eq!(ends(&diversion), [(3, 0, 0)]);
    story.until("all is committed", |story| {
        (0..4).all(|partition| story.committed(partition) == Some(1))
    });
    let mut calls: Vec<Vec<i32>> = seen
        .borrow()
        .iter()
        .map(|call| call.iter().map(|(partition, _)| *partition).collect())
        .collect();
    assert_eq!(calls.remove(0), [0, 1, 2, 3]);
    calls.sort();
    assert_eq!(calls, [vec![0, 1], vec![2], vec![2, 3], vec![3]]);
}

/// As at AWS: without halves one poisoned lane holds up the whole joint batch, and goes with it.
#[test]
fn without_halves_a_joint_batch_is_given_up_whole_in_one_document() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(1);
    let mut story = story_of(config, 2);
    poisoned_by(&mut story, &[(1, 0)]);
    produce(&mut story, 0, 2);
    produce(&mut story, 1, 1);
    let diversion = diverted(&mut story);
    assert_eq!(ends(&diversion), [(0, 0, 1), (1, 0, 0)]);
    assert_eq!(diversion.failure.records(), 3);
}

/// Contract 4.4.
#[test]
fn only_the_records_that_the_function_reports_are_tried_again() {
    let mut config = diverting();
    config.delivery.retry.report_item_failures = true;
    config.delivery.retry.max_attempts = Some(1);
    let mut story = story_of(config, 2);
    story.hold_calls();
    produce(&mut story, 0, 4);
    produce(&mut story, 1, 2);
    story.until("the call", |story| story.open_calls.len() == 1);
    story.end_call(answered(&format!(
        r#"{{"batchItemFailures":[
            {{"itemIdentifier":{{"partition":"{TOPIC}-0","offset":3}}}},
            {{"itemIdentifier":{{"partition":"{TOPIC}-0","offset":"1"}}}}]}}"#
    )));
    story.until("what is below is committed", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(2)
    });
    produce(&mut story, 0, 1);
    story.until("the second call", |story| story.open_calls.len() == 1);
    let carried: Vec<(i32, i64)> = offsets(&story.open_calls[0]);
    assert_eq!(carried, [(0, 1), (0, 3)], "the lane waits for them");
    story.end_call(answered(&format!(
        r#"{{"batchItemFailures":[{{"itemIdentifier":{{"partition":"{TOPIC}-0","offset":3}}}}]}}"#
    )));
    let diversion = diverted(&mut story);
    assert_eq!(ends(&diversion), [(0, 3, 3)]);
    let failure = &diversion.failure;
    assert_eq!((failure.invoke_count, failure.records()), (2, 1));
    let response = failure.response.as_ref().expect("it answered");
    assert_eq!((response.status, &response.function_error), (200, &None));
    story.until("the rest goes on", |story| story.open_calls.len() == 1);
    story.end_call(answered("{}"));
    story.until("all is committed", |story| story.committed(0) == Some(5));
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_succeeded, counters.records_diverted),
        (6, 1)
    );
    assert_eq!(counters.records_failed, 3);
}

#[test]
fn an_answer_that_names_other_records_or_nothing_fails_the_whole_batch() {
    let foreign = format!(
        r#"{{"batchItemFailures":[{{"itemIdentifier":{{"partition":"{TOPIC}-0","offset":7}}}}]}}"#
    );
    let elsewhere = foreign.replace("-0\"", "-9\"").replace(":7", ":0");
    let padded = foreign.replace("-0\"", "-00\"").replace(":7", ":0");
    for answer in [&foreign, &elsewhere, &padded, "OK", "", "[1]"] {
        let mut config = diverting();
        config.delivery.retry.report_item_failures = true;
        config.delivery.retry.max_attempts = Some(0);
        let mut story = story_of(config, 1);
        let answer = answer.to_owned();
        story.answer_calls(move |_| answered(&answer));
        produce(&mut story, 0, 2);
        assert_eq!(ends(&diverted(&mut story)), [(0, 0, 1)]);
    }
}

#[test]
fn a_mapping_that_asks_for_no_report_takes_any_answer_for_a_success() {
    let mut story = story_of(diverting(), 1);
    story.answer_calls(|_| answered(r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#));
    produce(&mut story, 0, 1);
    story.until("it is committed", |story| story.committed(0) == Some(1));
}

/// Contract 4.7, decision 14.
#[test]
fn records_that_are_too_old_leave_before_a_call_and_between_two() {
    let mut config = diverting();
    config.delivery.retry.max_age = Some(Duration::from_secs(60));
    let mut story = story_of(config, 1);
    let seen = poisoned_by(&mut story, &[(0, 0), (0, 1), (0, 2), (0, 3)]);
    let at = |seconds: i64| BEGINNING + seconds * 1000;
    for timestamp in [at(0), at(-70), -1, at(-61)] {
        let mut record = NewRecord::value("x");
        record.timestamp = timestamp;
        story.kafka.append(TOPIC, 0, &[record]);
    }
    story.until("a writing", |story| !story.open_diversions.is_empty());
    story.end_diversion(Err("down"));
    let told = story.consumer(0).status().partitions[0].retry.clone();
    let told = told.expect("it is given up");
    assert_eq!(
        (told.offset, told.last_offset),
        (1, 3),
        "and nothing else is"
    );
    let early = diverted(&mut story);
    assert_eq!(early.failure.condition, Condition::RecordAgeExceeded);
    assert_eq!(
        (early.failure.records(), &early.failure.response),
        (2, &None)
    );
    assert_eq!(early.failure.invoke_count, 1, "though none was made");
    let oldest = RecordPosition {
        offset: 1,
        timestamp: at(-70),
    };
    assert_eq!(early.failure.lanes[0].first, oldest);
    story.until("a call", |_| !seen.borrow().is_empty());
    assert_eq!(seen.borrow()[0], [(0, 0), (0, 2)]);
    let late = diverted(&mut story);
    assert_eq!(ends(&late), [(0, 0, 0)]);
    assert_eq!(late.failure.response, None);
    assert!(late.failure.invoke_count > 1);
    story.until("what has ended is committed", |story| {
        story.committed(0) == Some(2)
    });
    story.answer_calls(|_| succeeded());
    story.until("a record without a time never ages", |story| {
        story.committed(0) == Some(4)
    });
}

/// Decision 16.
#[test]
fn a_destination_that_fails_is_written_to_again_and_its_lane_waits() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(0);
    let mut story = story_of(config, 2);
    poisoned_by(&mut story, &[(0, 0)]);
    produce(&mut story, 0, 1);
    story.until("a writing", |story| !story.open_diversions.is_empty());
    for _ in 0..5 {
        story.until("a writing", |story| !story.open_diversions.is_empty());
        story.end_diversion(Err("AccessDenied: sqs:SendMessage"));
    }
    let status = story.consumer(0).status();
    let fault = status.fault.expect("it is shown").to_string();
    assert_eq!(fault, "destination failing: AccessDenied: sqs:SendMessage");
    let retry = status.partitions[0].retry.as_ref().expect("it waits");
    assert_eq!(&*retry.error, "AccessDenied: sqs:SendMessage");
    assert!(retry.next_try.is_some());
    assert_eq!(status.counters.destination_errors, 5);
    produce(&mut story, 0, 1);
    produce(&mut story, 1, 1);
    story.until("others go on", |story| story.committed(1) == Some(1));
    assert!(is_at_its_start(&story));
    diverted(&mut story);
    story.until("it goes on", |story| story.committed(0) == Some(2));
    assert_eq!(story.consumer(0).status().fault, None);
}

#[test]
fn what_a_destination_does_not_take_is_dropped_if_the_owner_chose_so() {
    let mut config = diverting();
    config.delivery.drop_undelivered = true;
    let mut story = writing_of(config);
    for _ in 0..limits::DIVERSION_TRIES_BEFORE_DROP {
        assert!(is_at_its_start(&story));
        story.until("a writing", |story| !story.open_diversions.is_empty());
        story.end_diversion(Err("down"));
    }
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_dropped, counters.records_diverted),
        (1, 0)
    );
}

/// Decision 8, contract 2.5.
#[test]
fn a_record_that_no_call_may_carry_goes_to_the_destination_whole() {
    let mut config = diverting();
    config.body_limit = 10_000;
    config.delivery.on_oversized = OnOversized::Halt;
    let mut story = story_of(config, 1);
    let seen = poisoned_by(&mut story, &[]);
    produce(&mut story, 0, 1);
    story
        .kafka
        .append(TOPIC, 0, &[NewRecord::value(vec![b'x'; 9000])]);
    produce(&mut story, 0, 1);
    let diversion = diverted(&mut story);
    let failure = &diversion.failure;
    assert_eq!(failure.condition, Condition::MaximumPayloadSizeExceeded);
    assert_eq!((failure.invoke_count, &failure.response), (1, &None));
    assert_eq!(ends(&diversion), [(0, 1, 1)]);
    let event = diversion.event.concat();
    assert_eq!(failure.event_bytes, event.len());
    assert!(event.len() > 12_000, "the whole record: {}", event.len());
    story.until("the others", |story| story.committed(0) == Some(3));
    assert_eq!(*seen.borrow(), [vec![(0, 0)], vec![(0, 2)]]);
}

#[test]
fn of_a_record_that_is_too_large_to_be_held_the_destination_gets_its_place() {
    let mut story = story_of(diverting(), 1);
    let value = vec![b'x'; limits::OVERSIZED_EVENT_BYTES_MAX * 3 / 4];
    story.kafka.append(TOPIC, 0, &[NewRecord::value(value)]);
    produce(&mut story, 0, 1);
    let diversion = diverted(&mut story);
    assert!(diversion.event.is_empty());
    assert!(diversion.failure.event_bytes >= limits::OVERSIZED_EVENT_BYTES_MAX);
    assert_eq!(ends(&diversion), [(0, 0, 0)]);
    story.until("the other", |story| story.committed(0) == Some(2));
}

#[test]
fn a_single_record_that_the_endpoint_refuses_for_its_size_goes_to_the_destination() {
    let mut story = story_of(diverting(), 1);
    story.answer_calls(|call| {
        let is_refused = offsets(call).contains(&(0, 1));
        match is_refused {
            true => Outcome::TooLarge {
                message: "413".to_owned(),
            },
            false => succeeded(),
        }
    });
    produce(&mut story, 0, 3);
    let diversion = diverted(&mut story);
    let failure = &diversion.failure;
    assert_eq!(failure.condition, Condition::MaximumPayloadSizeExceeded);
    assert_eq!((failure.invoke_count, &failure.response), (1, &None));
    assert_eq!(ends(&diversion), [(0, 1, 1)]);
    assert!(!diversion.event.is_empty());
    story.until("the others", |story| story.committed(0) == Some(3));
}

/// Decision 15: what retention takes while it is tried goes where what is too old goes.
#[test]
fn what_retention_takes_while_it_is_tried_goes_to_the_destination() {
    let mut story = story_of(diverting(), 1);
    poisoned_by(&mut story, &[(0, 0)]);
    produce(&mut story, 0, 2);
    story.until("it fails", |story| {
        story.consumer(0).status().counters.function_errors > 0
    });
    story.kafka.delete_before(TOPIC, 0, 2);
    let diversion = diverted(&mut story);
    assert_eq!(diversion.failure.condition, Condition::RecordAgeExceeded);
    assert_eq!(ends(&diversion), [(0, 0, 1)]);
}

#[test]
fn a_writing_that_is_under_way_is_waited_for_and_committed_at_a_stop() {
    let mut story = writing_of(diverting());
    story.tell(0, Input::Stop);
    story.play(Duration::from_secs(10));
    assert!(!story.has_ended(0));
    story.end_diversion(Ok(Taken::Whole));
    story.until("it stops", |story| story.has_ended(0));
    assert_eq!(story.committed(0), Some(1));
}

#[test]
fn an_abort_waits_for_no_writing_and_commits_nothing_of_it() {
    let mut story = writing_of(diverting());
    story.tell(0, Input::Abort);
    story.until("it stops", |story| story.has_ended(0));
    assert!(is_at_its_start(&story));
}

#[test]
fn a_writing_that_never_ends_counts_as_failed() {
    let mut story = writing_of(diverting());
    story.open_diversions.clear();
    story.play(limits::DIVERSION_OVERDUE);
    story.until("another", |story| !story.open_diversions.is_empty());
    diverted(&mut story);
    story.until("it goes on", |story| story.committed(0) == Some(1));
}
