use uuid::Uuid;

use super::*;
use crate::kafka::messages::{Broker, InitProducerIdResponse, PartitionMetadata, TopicMetadata};
use crate::kafka::partitioner::hash_of_key;
use crate::lambda::failure::Condition;

const TOPIC: &str = "failed";

/// A cluster of one broker that leads so many partitions of the topic.
fn view(partitions: i32) -> MetadataResponse {
    let partition = |partition| PartitionMetadata {
        error: ErrorCode::NONE,
        partition,
        leader: 1,
        leader_epoch: 0,
        replicas: vec![1],
    };
    MetadataResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        brokers: vec![Broker {
            node_id: 1,
            host: "b".to_owned(),
            port: 1,
            rack: None,
        }],
        cluster_id: None,
        topics: vec![TopicMetadata {
            error: ErrorCode::NONE,
            name: TOPIC.to_owned(),
            topic_id: Uuid::nil(),
            partitions: (0..partitions).map(partition).collect(),
        }],
    }
}

fn producer(partitions: i32) -> Producer {
    let endpoint = Endpoint {
        host: "a".to_owned(),
        port: 1,
    };
    let mut producer = Producer::new(TOPIC, vec![endpoint], Instant::ZERO);
    producer.handle_view(&view(partitions), Instant::ZERO);
    give_identity(&mut producer, 7);
    producer
}

fn give_identity(producer: &mut Producer, id: i64) {
    assert!(producer.identification.is_wanted(Instant::ZERO));
    let answer = InitProducerIdResponse {
        throttle_ms: 0,
        error: ErrorCode::NONE,
        producer_id: id,
        producer_epoch: 0,
    };
    assert_eq!(
        producer
            .identification
            .handle_answer(&answer, Instant::ZERO),
        Ok(())
    );
}

fn failure() -> Failure {
    Failure {
        condition: Condition::RetryAttemptsExhausted,
        request_id: String::new(),
        invoke_count: 1,
        response: None,
        at_unix_ms: 0,
        event_bytes: 0,
        lanes: Vec::new(),
    }
}

/// A try of the records of partition 0 at those offsets.
fn begin(producer: &mut Producer, of: u64, batch: u64, offsets: &[i64]) {
    let item = |offset: &i64| Item {
        of: DiversionId(of),
        partition: 0,
        offset: *offset,
        key_hash: Some(0),
        form: Form::Whole,
    };
    let items = offsets.iter().map(item).collect();
    producer.begin(DiversionId(of), batch, failure(), items);
}

/// Sends what is next, up to so many records; their offsets, and the stamp.
fn send(producer: &mut Producer, count: usize) -> (Vec<i64>, ProducerStamp) {
    let chunk = producer.next_chunk(0, |_| true).unwrap();
    let count = count.min(chunk.items.len());
    let stamp = producer.send(0, &chunk, count, 1000, None).unwrap();
    let offsets = chunk.items[..count].iter().map(|item| item.offset);
    (offsets.collect(), stamp)
}

fn answer(producer: &mut Producer, error: ErrorCode) {
    let produced = ProducedPartition {
        partition: 0,
        error,
        base_offset: 0,
        message: None,
    };
    producer.handle_produced(&produced, 0, Instant::ZERO);
}

fn events(producer: &mut Producer) -> Vec<Event> {
    std::iter::from_fn(|| producer.poll_event()).collect()
}

fn stamp(id: i64, base_sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id,
        epoch: 0,
        base_sequence,
    }
}

#[test]
fn records_are_numbered_and_end_as_they_are_acknowledged() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4, 5]);
    assert_eq!(send(&mut producer, 2), (vec![3, 4], stamp(7, 0)));
    assert!(
        producer.next_chunk(0, |_| true).is_none(),
        "one is in flight"
    );
    answer(&mut producer, ErrorCode::NONE);
    let written = BTreeSet::from([(0, 3), (0, 4)]);
    assert_eq!(events(&mut producer), [Event::Written(10, written)]);
    assert_eq!(send(&mut producer, 2), (vec![5], stamp(7, 2)));
    answer(&mut producer, ErrorCode::NONE);
    assert_eq!(
        events(&mut producer),
        [Event::Ended(DiversionId(1), Ok(()))]
    );
}

#[test]
fn what_may_have_been_written_comes_again_as_it_was() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4, 5]);
    send(&mut producer, 2);
    producer.handle_lost(0, "gone");
    let ended = Event::Ended(DiversionId(1), Err("gone".to_owned()));
    assert_eq!(events(&mut producer), [ended]);
    begin(&mut producer, 2, 10, &[3, 4, 5]);
    assert_eq!(send(&mut producer, 9), (vec![3, 4], stamp(7, 0)));
    answer(&mut producer, ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    assert_eq!(send(&mut producer, 9), (vec![5], stamp(7, 2)));
}

#[test]
fn others_first_settle_what_may_have_been_written() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4]);
    send(&mut producer, 9);
    producer.handle_lost(0, "gone");
    begin(&mut producer, 2, 11, &[8]);
    events(&mut producer);
    assert_eq!(send(&mut producer, 9), (vec![3, 4], stamp(7, 0)));
    answer(&mut producer, ErrorCode::NONE);
    let written = BTreeSet::from([(0, 3), (0, 4)]);
    assert_eq!(events(&mut producer), [Event::Written(10, written)]);
    assert_eq!(send(&mut producer, 9), (vec![8], stamp(7, 2)));
}

#[test]
fn numbers_of_a_batch_that_is_gone_are_used_for_no_other() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4]);
    send(&mut producer, 9);
    producer.handle_lost(0, "gone");
    begin(&mut producer, 2, 11, &[8]);
    let chunk = producer.next_chunk(0, |batch| batch != 10).unwrap();
    assert_eq!(chunk.batch, 11);
    assert!(!producer.identification.is_settled());
    give_identity(&mut producer, 8);
    assert_eq!(send(&mut producer, 9), (vec![8], stamp(8, 0)));
}

#[test]
fn a_batch_that_has_lost_some_of_its_records_begins_anew() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4]);
    send(&mut producer, 9);
    producer.handle_lost(0, "gone");
    begin(&mut producer, 2, 10, &[4]);
    give_identity(&mut producer, 8);
    assert_eq!(send(&mut producer, 9), (vec![4], stamp(8, 0)));
}

#[test]
fn a_broker_that_has_forgotten_us_is_written_to_as_by_somebody_else() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3]);
    send(&mut producer, 9);
    answer(&mut producer, ErrorCode::UNKNOWN_PRODUCER_ID);
    assert!(matches!(
        &events(&mut producer)[..],
        [Event::Ended(_, Err(_))]
    ));
    begin(&mut producer, 2, 10, &[3]);
    give_identity(&mut producer, 8);
    assert_eq!(send(&mut producer, 9), (vec![3], stamp(8, 0)));
}

#[test]
fn what_is_too_large_is_halved_then_packed_then_sent_without_its_event() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3, 4]);
    send(&mut producer, 9);
    answer(&mut producer, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(producer.next_chunk(0, |_| true).unwrap().bytes_max, 500);
    let form = |producer: &mut Producer| {
        let chunk = producer.next_chunk(0, |_| true).unwrap();
        let form = chunk.items[0].form;
        producer.send(0, &chunk, 1, 500, None).unwrap();
        answer(producer, ErrorCode::RECORD_LIST_TOO_LARGE);
        form
    };
    assert_eq!(form(&mut producer), Form::Whole);
    assert_eq!(form(&mut producer), Form::Gzip);
    let shortened = Event::Shortened {
        partition: 0,
        offset: 3,
    };
    assert_eq!(events(&mut producer), [shortened]);
    assert_eq!(form(&mut producer), Form::Bare);
    match &events(&mut producer)[..] {
        [Event::Ended(_, Err(reason))] => assert!(reason.contains("max.message.bytes"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// A topic may become narrower between two tries.
#[test]
fn numbers_of_what_may_have_been_written_are_not_used_again_for_less() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3]);
    send(&mut producer, 9);
    producer.handle_lost(0, "gone");
    begin(&mut producer, 2, 11, &[8]);
    events(&mut producer);
    assert_eq!(send(&mut producer, 9), (vec![3], stamp(7, 0)));
    answer(&mut producer, ErrorCode::MESSAGE_TOO_LARGE);
    give_identity(&mut producer, 8);
    assert_eq!(send(&mut producer, 9), (vec![8], stamp(8, 0)));
}

#[test]
fn records_with_a_key_go_where_kafkas_producer_sends_them_and_others_round() {
    let mut producer = producer(6);
    let item = |offset, key: Option<&[u8]>| Item {
        of: DiversionId(1),
        partition: 0,
        offset,
        key_hash: key.map(hash_of_key),
        form: Form::Whole,
    };
    let items = vec![
        item(0, Some(b"foobar")),
        item(1, None),
        item(2, None),
        item(3, Some(b"foobar")),
    ];
    producer.begin(DiversionId(1), 10, failure(), items);
    let at = (-790_332_482_i32 & i32::MAX) % 6;
    let chunk = producer.next_chunk(at, |_| true).unwrap();
    let offsets: Vec<i64> = chunk.items.iter().map(|item| item.offset).collect();
    assert!(offsets.contains(&0) && offsets.contains(&3), "{offsets:?}");
    assert!((2..=3).contains(&producer.partitions_due(1).len()));
}

#[test]
fn numbers_begin_anew_after_the_last() {
    let mut outbox = Outbox::new();
    outbox.next_sequence = i32::MAX - 1;
    outbox.count_up(1);
    assert_eq!(outbox.next_sequence, i32::MAX);
    outbox.count_up(3);
    assert_eq!(outbox.next_sequence, 2);
}

#[test]
fn a_topic_that_is_missing_fails_what_waits_and_is_looked_for_again() {
    let mut producer = producer(1);
    begin(&mut producer, 1, 10, &[3]);
    let mut missing = view(1);
    missing.topics[0].error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    producer.handle_view(&missing, Instant::ZERO);
    assert!(
        producer
            .amiss()
            .unwrap()
            .contains("does not exist; create it")
    );
    assert!(matches!(
        &events(&mut producer)[..],
        [Event::Ended(_, Err(_))]
    ));
    assert!(producer.poll_timeout().is_some());
    producer.handle_view(&view(1), Instant::ZERO);
    assert_eq!((producer.amiss(), producer.poll_timeout()), (None, None));
}
