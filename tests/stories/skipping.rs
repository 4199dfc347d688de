//! What an operator wants passed over: records that are tried again or leave for their destination, and what a lane is
//! halted at.

use std::time::Duration;

use bytes::BytesMut;
use forebay_protocol::delivery::{
    Budget, ConsumerConfig, Destination, Input, Skip, SkipId, SkipStatus, Taken,
};
use forebay_protocol::lambda::failure::Condition;
use forebay_tests::fake_kafka::Offsets;
use forebay_tests::fake_kafka::batch::{self, BatchOptions, NewRecord};
use forebay_tests::story::{Story, TOPIC, consumer_config, failed, succeeded};

/// A mapping with a destination.
fn diverting() -> ConsumerConfig {
    let mut config = consumer_config();
    config.delivery.destination = Some(Destination::Service);
    config.delivery.retry.max_attempts = None;
    config
}

/// A story of that mapping whose first batch has `records` records, in so many partitions, and has failed once.
fn failing(config: ConsumerConfig, partitions: i32, records: usize) -> Story {
    let mut config = config;
    config.delivery.window = Duration::from_secs(1);
    let mut story = Story::of_cluster(partitions, 1);
    story.join(config, Budget::new(64 << 20));
    story.hold_calls();
    for partition in 0..partitions {
        for at in 0..records {
            story.produce(partition, &format!("{partition}-{at}"));
        }
    }
    story.until("a call", |story| story.open_calls.len() == 1);
    story.end_call(failed());
    story
}

fn skip(id: u64, offset: i64, discard: bool) -> Skip {
    Skip {
        id: SkipId(id),
        partition: 0,
        offset,
        discard,
    }
}

/// Wants that, and tells how it stands.
fn want(story: &mut Story, wish: Skip) -> SkipStatus {
    story.tell(0, Input::Skips(vec![wish]));
    stands(story)
}

/// How the last wish stands.
fn stands(story: &Story) -> SkipStatus {
    let skips = story.consumer(0).status().skips;
    skips.last().expect("it is wanted").1.clone()
}

fn carried(story: &Story) -> Vec<(i32, i64)> {
    let records = story.open_calls[0].records.iter();
    records.map(|it| (it.partition, it.offset)).collect()
}

fn dropped(story: &Story) -> u64 {
    story.consumer(0).status().counters.records_dropped
}

const fn discarded(last_offset: i64) -> SkipStatus {
    SkipStatus::Discarded { last_offset }
}

#[test]
fn a_record_between_two_calls_goes_to_the_destination_and_the_others_go_on() {
    let mut story = failing(diverting(), 2, 3);
    let leaving = want(&mut story, skip(1, 1, false));
    assert!(matches!(
        leaving,
        SkipStatus::Leaving {
            condition: Condition::SkippedByOperator,
            error: Some(_)
        }
    ));
    let diversion = story.end_diversion(Ok(Taken::Whole));
    let failure = &diversion.failure;
    assert_eq!(failure.condition, Condition::SkippedByOperator);
    assert_eq!((failure.records(), failure.lanes[0].first.offset), (1, 1));
    assert_eq!(failure.invoke_count, 1);
    assert!(failure.response.is_some(), "what the function said");
    assert_eq!(stands(&story), SkipStatus::Sent);
    story.until("the lane goes on", |story| story.open_calls.len() == 1);
    assert_eq!(
        carried(&story),
        [(0, 0), (0, 2)],
        "and the other waits its time"
    );
    let attempts = |story: &Story| story.consumer(0).status().partitions[0].retry.clone();
    assert_eq!(attempts(&story).expect("it failed").attempts, 1);
    story.answer_calls(|_| succeeded());
    story.end_call(succeeded());
    story.until("all is committed", |story| {
        story.committed(0) == Some(3) && story.committed(1) == Some(3)
    });
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_diverted, counters.records_dropped),
        (1, 0)
    );
}

#[test]
fn asked_twice_it_is_done_once() {
    let mut story = failing(diverting(), 1, 2);
    want(&mut story, skip(1, 0, false));
    let both = vec![skip(1, 0, false), skip(2, 0, false)];
    story.tell(0, Input::Skips(both));
    assert!(matches!(stands(&story), SkipStatus::Leaving { .. }));
    story.end_diversion(Ok(Taken::Whole));
    let skips = story.consumer(0).status().skips;
    assert!(skips.iter().all(|(_, status)| *status == SkipStatus::Sent));
    assert!(story.open_diversions.is_empty());
    assert_eq!(want(&mut story, skip(3, 0, false)), SkipStatus::Past);
    // The same wish said again, as every plan says it.
    assert_eq!(want(&mut story, skip(3, 0, false)), SkipStatus::Past);
    assert_eq!(story.consumer(0).status().counters.records_diverted, 1);
    story.tell(0, Input::Skips(Vec::new()));
    assert!(story.consumer(0).status().skips.is_empty());
}

#[test]
fn one_that_has_ended_within_its_batch_is_past() {
    let mut story = failing(diverting(), 1, 3);
    want(&mut story, skip(1, 1, true));
    assert_eq!(stands(&story), discarded(1));
    story.until("a call", |story| story.open_calls.len() == 1);
    story.end_call(failed());
    assert_eq!(want(&mut story, skip(2, 1, false)), SkipStatus::Past);
    assert_eq!(dropped(&story), 1);
}

#[test]
fn a_call_that_is_open_decides_what_becomes_of_a_wish() {
    let mut story = failing(diverting(), 1, 2);
    story.until("the next call", |story| story.open_calls.len() == 1);
    let called = want(&mut story, skip(1, 0, true));
    assert!(matches!(called, SkipStatus::Called { .. }), "{called:?}");
    story.end_call(succeeded());
    assert_eq!(stands(&story), SkipStatus::Succeeded);
    assert_eq!(dropped(&story), 0);

    let mut story = failing(diverting(), 1, 2);
    story.until("the next call", |story| story.open_calls.len() == 1);
    want(&mut story, skip(1, 0, true));
    story.end_call(failed());
    assert_eq!(stands(&story), discarded(0));
    story.until("the rest", |story| story.open_calls.len() == 1);
    assert_eq!(carried(&story), [(0, 1)]);
    assert!(story.was_said("Records were given up and discarded"));
    assert!(story.open_diversions.is_empty(), "by choice");
}

/// Whoever has waited long enough wants it no longer.
#[test]
fn a_wish_that_is_withdrawn_is_not_carried_out() {
    let mut story = failing(diverting(), 1, 1);
    story.until("the next call", |story| story.open_calls.len() == 1);
    want(&mut story, skip(1, 0, true));
    story.tell(0, Input::Skips(Vec::new()));
    story.end_call(failed());
    story.until("another call", |story| story.open_calls.len() == 1);
    assert_eq!(dropped(&story), 0);
}

#[test]
fn only_what_is_in_the_way_is_passed_over() {
    let mut story = failing(diverting(), 1, 2);
    story.produce(0, "behind");
    story.play(Duration::from_millis(100));
    let instead = |processed_offset, blocking| SkipStatus::NotBlocking {
        processed_offset,
        blocking,
    };
    assert_eq!(want(&mut story, skip(1, 2, true)), instead(0, Some((0, 1))));
    assert_eq!(
        want(&mut story, skip(2, 99, true)),
        instead(0, Some((0, 1)))
    );
    let elsewhere = Skip {
        partition: 7,
        ..skip(3, 0, true)
    };
    assert_eq!(want(&mut story, elsewhere), SkipStatus::NotOwned);
    story.until("the call", |story| story.open_calls.len() == 1);
    story.end_call(succeeded());
    story.until("the next", |story| story.open_calls.len() == 1);
    story.end_call(succeeded());
    assert_eq!(want(&mut story, skip(4, 3, true)), instead(3, None));
    assert_eq!(dropped(&story), 0);
}

#[test]
fn a_first_call_that_is_open_decides_as_any_other_does() {
    let mut story = failing(diverting(), 1, 1);
    story.produce(0, "hangs");
    story.until("the next call", |story| story.open_calls.len() == 1);
    story.end_call(succeeded());
    story.until("the first of what is behind", |story| {
        story.open_calls.len() == 1
    });
    let called = want(&mut story, skip(1, 1, true));
    assert!(matches!(called, SkipStatus::Called { .. }), "{called:?}");
    story.end_call(failed());
    assert_eq!(stands(&story), discarded(1));
    story.until("it is committed", |story| story.committed(0) == Some(2));
    assert_eq!(dropped(&story), 1);
}

#[test]
fn without_a_destination_it_can_be_discarded_only() {
    let mut story = failing(consumer_config(), 1, 1);
    assert_eq!(
        want(&mut story, skip(1, 0, false)),
        SkipStatus::NoDestination
    );
    assert_eq!(want(&mut story, skip(2, 0, true)), discarded(0));
    story.until("it is committed", |story| story.committed(0) == Some(1));
    assert_eq!(
        story.consumer(0).status().fault,
        None,
        "nothing is in the way"
    );
}

#[test]
fn what_its_destination_does_not_take_can_be_discarded() {
    let mut config = diverting();
    config.delivery.retry.max_attempts = Some(0);
    let mut story = failing(config, 1, 3);
    let wish = want(&mut story, skip(1, 1, false));
    assert!(matches!(
        wish,
        SkipStatus::Leaving {
            condition: Condition::RetryAttemptsExhausted,
            ..
        }
    ));
    let both = vec![skip(1, 1, false), skip(2, 1, true)];
    story.tell(0, Input::Skips(both));
    assert!(
        matches!(stands(&story), SkipStatus::Leaving { .. }),
        "it may be written at this moment"
    );
    story.end_diversion(Err("AccessDenied"));
    let skips = story.consumer(0).status().skips;
    assert!(
        skips.iter().all(|(_, status)| *status == discarded(1)),
        "{skips:?}"
    );
    story.until("it is written again", |story| {
        story.open_diversions.len() == 1
    });
    let diversion = story.end_diversion(Ok(Taken::Whole));
    assert_eq!(diversion.failure.records(), 2, "the others are kept for it");
    story.until("it goes on", |story| story.committed(0) == Some(3));
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_diverted, counters.records_dropped),
        (2, 1)
    );
}

#[test]
fn the_rest_of_a_batch_is_called_with_once_what_left_it_is_discarded() {
    let mut story = failing(diverting(), 2, 2);
    want(&mut story, skip(1, 0, false));
    story.end_diversion(Err("down"));
    assert_eq!(want(&mut story, skip(2, 0, true)), discarded(0));
    story.until("a call", |story| story.open_calls.len() == 1);
    assert_eq!(carried(&story)[0], (0, 1));
    story.answer_calls(|_| succeeded());
    story.end_call(succeeded());
    story.until("all is committed", |story| {
        story.committed(0) == Some(2) && story.committed(1) == Some(2)
    });
    assert_eq!(dropped(&story), 1);
}

#[test]
fn a_record_too_large_for_any_call_can_be_discarded() {
    let mut config = consumer_config();
    config.body_limit = 10_000;
    let mut story = Story::of_cluster(1, 1);
    story.join(config, Budget::new(64 << 20));
    story.produce(0, "before");
    story
        .kafka
        .append(TOPIC, 0, &[NewRecord::value(vec![b'x'; 9000])]);
    story.produce(0, "behind");
    let halted = |story: &Story| {
        let status = story.consumer(0).status();
        status
            .partitions
            .first()
            .is_some_and(|it| it.halted.is_some())
    };
    story.until("it halts", halted);
    assert_eq!(
        want(&mut story, skip(1, 1, false)),
        SkipStatus::NoDestination
    );
    assert_eq!(want(&mut story, skip(2, 1, true)), discarded(1));
    story.until("it goes on", |story| story.committed(0) == Some(3));
    assert_eq!(story.values(0), ["before", "behind"]);
    assert_eq!(dropped(&story), 1);
    assert_eq!(want(&mut story, skip(3, 1, true)), SkipStatus::Past);
}

/// A story whose partition has one record, a batch of three that is no good, and one record more.
fn corrupted(spoil: impl Fn(&mut BytesMut)) -> Story {
    let mut story = Story::of_cluster(1, 1);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.produce(0, "before");
    let records = ["a", "b", "c"].map(NewRecord::value);
    let mut raw = BytesMut::from(&batch::encode(&records, BatchOptions::default())[..]);
    spoil(&mut raw);
    story
        .kafka
        .append_raw(TOPIC, 0, raw.freeze(), Offsets::Assign);
    story.produce(0, "behind");
    story.until("it halts", |story| {
        let status = story.consumer(0).status();
        let mut partitions = status.partitions.iter();
        partitions.any(|it| it.halted.is_some())
    });
    story
}

#[test]
fn a_batch_that_does_not_decode_can_be_discarded_whole() {
    let mut story = corrupted(|raw| {
        let last = raw.len() - 1;
        raw[last] ^= 1;
    });
    let halted = story.consumer(0).status().partitions[0].halted.clone();
    let halted = halted.expect("it is halted");
    assert_eq!((halted.offset, halted.last_offset), (1, 3));
    let undecodable = SkipStatus::Undecodable { last_offset: 3 };
    assert_eq!(want(&mut story, skip(1, 1, false)), undecodable);
    let inside = want(&mut story, skip(2, 2, true));
    let blocking = Some((1, 3));
    assert!(
        matches!(inside, SkipStatus::NotBlocking { blocking: told, .. } if told == blocking),
        "a batch is named by its first offset: {inside:?}"
    );
    assert_eq!(want(&mut story, skip(3, 1, true)), discarded(3));
    story.until("it goes on", |story| story.committed(0) == Some(5));
    assert_eq!(story.values(0), ["before", "behind"]);
    assert_eq!(dropped(&story), 3);
}

/// Where even its end is not known, one offset after the other is passed over, and nothing that can be read.
#[test]
fn of_a_batch_without_a_header_one_offset_is_passed_over() {
    let mut story = corrupted(|raw| raw[16] = 9);
    assert_eq!(story.values(0), ["before"], "what is before it was read");
    for offset in [1, 2] {
        assert_eq!(
            want(&mut story, skip(offset as u64, offset, true)),
            discarded(offset)
        );
        story.until("it halts again", |story| {
            story.consumer(0).status().partitions[0].halted.is_some()
        });
    }
    assert_eq!(want(&mut story, skip(3, 3, true)), discarded(3));
    story.until("it goes on", |story| story.committed(0) == Some(5));
    assert_eq!(story.values(0), ["before", "behind"]);
}

/// A lane that looks again at what it was halted at is not free.
#[test]
fn a_wish_waits_while_a_halted_lane_looks_again() {
    let mut story = corrupted(|raw| raw[16] = 9);
    story.kafka.script(
        kafka_protocol::messages::ApiKey::Fetch,
        [forebay_tests::fake_kafka::Fault::Delay(
            Duration::from_secs(5),
        )],
    );
    story.until("it is probed", |story| {
        story.consumer(0).status().partitions[0].halted.is_none()
    });
    assert_eq!(want(&mut story, skip(1, 1, true)), SkipStatus::Looking);
    story.until("it is known", |story| stands(story) == discarded(1));
}
