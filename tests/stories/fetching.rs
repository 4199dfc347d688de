//! What a fetch asks for: how much, and of whom first.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{Budget, Consumer};
use forebay_protocol::limits::{
    FETCH_BYTES_MAX, FETCH_BYTES_MIN, FETCH_PARTITION_BYTES_MAX, UNKNOWN_BYTES,
};
use forebay_protocol::time::Instant;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, Producer};
use forebay_tests::story::{Story, TOPIC, consumer_config, succeeded};
use kafka_protocol::messages::{ApiKey, FetchRequest};
use kafka_protocol::protocol::Decodable;

const RECORDS: i64 = 12;
const RECORD_BYTES: usize = 500_000;

/// A fetch: what it asks for at most, and where each lane stands, in the order asked.
#[derive(Clone, Debug)]
struct Asked {
    max_bytes: usize,
    lanes: Vec<(i32, i64)>,
}

/// A cluster whose partitions hold a backlog, and what it is asked for; each fetch is answered that late.
fn backlog(partitions: i32, delay: Duration) -> (Story, mpsc::Receiver<Asked>) {
    let mut story = Story::of_cluster(partitions, 1);
    let (seen, asked) = mpsc::channel();
    story.kafka.set_hook(Some(Box::new(move |request| {
        if request.api != ApiKey::Fetch {
            return Fault::Serve;
        }
        let mut body = Bytes::copy_from_slice(request.body);
        let fetch = FetchRequest::decode(&mut body, request.version);
        let fetch = fetch.expect("a fetch is one by Kafka's own schema");
        let lanes = fetch.topics.iter().flat_map(|topic| &topic.partitions);
        let asked = Asked {
            max_bytes: usize::try_from(fetch.max_bytes).unwrap_or_default(),
            lanes: lanes.map(|it| (it.partition, it.fetch_offset)).collect(),
        };
        seen.send(asked).expect("they are counted at the end");
        Fault::Delay(delay)
    })));
    let record = NewRecord::value(Bytes::from(vec![b'x'; RECORD_BYTES]));
    for partition in 0..partitions {
        for _ in 0..RECORDS {
            let batch = std::slice::from_ref(&record);
            story.kafka.append(TOPIC, partition, batch);
        }
    }
    story.answer_calls(|_| succeeded());
    (story, asked)
}

/// All fetches of a consumer that delivers such a backlog, one of so many on its shard.
fn fetches_beside(others: usize, partitions: i32, delay: Duration) -> Vec<Asked> {
    let (mut story, asked) = backlog(partitions, delay);
    let budget = Budget::new(256 << 20);
    // They have nothing to do, but something may come at any time.
    let other = || Consumer::new(consumer_config(), budget.clone(), Instant::ZERO);
    let _others: Vec<Consumer> = (0..others).map(|_| other()).collect();
    story.join(consumer_config(), budget);
    story.until("all is delivered", |story| {
        (0..partitions).all(|partition| story.committed(partition) == Some(RECORDS))
    });
    asked.try_iter().collect()
}

/// The same of one that is alone on its shard.
fn fetches(partitions: i32, delay: Duration) -> Vec<Asked> {
    fetches_beside(0, partitions, delay)
}

#[test]
fn answers_that_come_soon_bring_a_part_of_the_lanes() {
    let asked = fetches(8, Duration::from_millis(1));
    let (first, then) = asked.split_first().unwrap();
    assert_eq!(first.max_bytes, FETCH_BYTES_MAX, "nothing is known of it");
    for fetch in then {
        assert!(fetch.max_bytes <= FETCH_BYTES_MAX / 3, "{fetch:?}");
    }
    // Only those at the beginning, where every lane has much left: later ones may have to wait for a lane that has none.
    for fetch in &fetches(32, Duration::from_millis(1))[1..4] {
        assert_eq!(fetch.max_bytes, 3 << 20, "{fetch:?}");
    }
}

#[test]
fn answers_that_take_long_bring_all_lanes() {
    let asked = fetches(8, Duration::from_millis(50));
    assert!(asked.len() > 3, "{asked:?}");
    for fetch in &asked {
        let all = fetch.lanes.len() * FETCH_PARTITION_BYTES_MAX;
        assert_eq!(fetch.max_bytes, all.min(FETCH_BYTES_MAX), "{fetch:?}");
    }
}

#[test]
fn whoever_waits_longest_is_fetched_first() {
    let asked = fetches(8, Duration::from_millis(1));
    for fetch in &asked {
        let offsets = || fetch.lanes.iter().map(|(_, offset)| *offset);
        let ahead = offsets().max().unwrap() - offsets().min().unwrap();
        // An answer brings two records of a partition at most, and of the last one that it reaches perhaps only one.
        assert!(ahead <= 3, "{fetch:?} of {asked:?}");
    }
}

#[test]
fn what_nobody_knows_to_be_there_is_asked_for_in_equal_parts() {
    for (others, part) in [(31, UNKNOWN_BYTES / 32), (999, FETCH_BYTES_MIN)] {
        let asked = fetches_beside(others, 8, Duration::from_millis(1));
        assert_eq!(asked[0].max_bytes, part);
        // Of the first lanes more is known by then to be there.
        assert!(asked[1].max_bytes > FETCH_BYTES_MAX / 4, "{:?}", asked[1]);
        // What brought all that there was is followed by one that knows of nothing.
        assert_eq!(asked.last().unwrap().max_bytes, part);
    }
}

#[test]
fn the_little_that_is_left_counts_as_little() {
    const BYTES: usize = 100_000;
    let mut story = Story::of_cluster(1, 1);
    story.answer_calls(|_| succeeded());
    let record = [NewRecord::value(Bytes::from(vec![b'x'; BYTES]))];
    let first_answer = FETCH_PARTITION_BYTES_MAX / BYTES;
    for _ in 0..=first_answer {
        story.kafka.append(TOPIC, 0, &record);
    }
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("all is delivered", |story| {
        story.committed(0) == Some(first_answer as i64 + 1)
    });
    // Nothing was known of the first fetch, and of those after the second that nothing is left.
    let [left] = story.ready[..] else {
        panic!("{:?}", story.ready);
    };
    // The first answer ended within the record that is left, and so counts for a little more.
    assert!((BYTES..BYTES * 12 / 10).contains(&left), "{left}");
}

#[test]
fn what_a_transaction_holds_back_is_not_expected() {
    let mut story = Story::of_cluster(1, 1);
    story.answer_calls(|_| succeeded());
    let held_back = BatchOptions {
        producer: Some(Producer {
            id: 7,
            epoch: 0,
            sequence: 0,
        }),
        transactional: true,
        ..BatchOptions::default()
    };
    story.produce(0, "first");
    let record = [NewRecord::value(Bytes::from_static(b"second"))];
    story.kafka.append_with(TOPIC, 0, &record, held_back);
    let member = story.join(consumer_config(), Budget::new(64 << 20));
    story.until("all that is committed is delivered", |story| {
        story.committed(0) == Some(1)
    });
    story.play(Duration::from_secs(2));
    assert!(!story.consumer(member).expects_records());
    story.kafka.append_marker(TOPIC, 0, 7, true);
    story.until("the transaction is delivered", |story| {
        story.values(0) == ["first", "second"]
    });
}
