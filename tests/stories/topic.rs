//! Failed records that go to a topic of the same cluster: what stands there, and what must not.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{
    Budget, ConsumerConfig, Destination, Disconnect, Input, Skip, SkipId, TopicDestination,
};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_protocol::kafka::partitioner::hash_of_key;
use forebay_protocol::lambda::failure::Condition;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_kafka::{Config, Fault};
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config, failed, succeeded};
use kafka_protocol::messages::ApiKey;
use serde_json::Value;

const FAILED: &str = "orders.failed";
const BEGINNING: i64 = 1_700_000_000_000;
const PAYLOAD: &str = "payload";

/// A mapping that gives every record up after one call, for that topic.
fn config() -> ConsumerConfig {
    let mut config = consumer_config();
    config.delivery.destination = Some(Destination::Topic(TopicDestination {
        topic: FAILED.to_owned(),
        function_arn: "arn:aws:lambda:eu-west-1:111122223333:function:f".to_owned(),
    }));
    config.delivery.retry.max_attempts = Some(0);
    config
}

/// A story of that mapping, whose function fails, and whose topic of failed records has three partitions.
fn story() -> Story {
    story_of(Config::new(1), 1)
}

fn story_of(cluster: Config, partitions: i32) -> Story {
    let mut story = Story::of_cluster_with(cluster, partitions);
    story.kafka.create_topic(FAILED, 3);
    begin(&mut story, partitions);
    story
}

fn begin(story: &mut Story, partitions: i32) {
    story.answer_calls(|_| failed());
    story.join_told(
        config(),
        Budget::new(64 << 20),
        [Input::UnixTime(BEGINNING)],
    );
    let owned = partitions as usize;
    story.until("all are owned", |story| story.owned(0).len() == owned);
}

/// Records with keys, as one batch.
fn produce(story: &mut Story, partition: i32, keys: &[&'static str]) {
    let record = |key: &&'static str| NewRecord::value(format!("of {key}")).with_key(*key);
    let records: Vec<NewRecord> = keys.iter().map(record).collect();
    story.kafka.append(TOPIC, partition, &records);
}

/// A document as it stands in the topic: its partition, its key and itself.
type Document = (i32, Option<Bytes>, Value);

/// What stands in the topic of failed records, by the partition and the offset of its record.
fn written(story: &Story) -> BTreeMap<(i32, i64), Vec<Document>> {
    let mut written: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for partition in 0..story.kafka.partition_count(FAILED) {
        for record in story.kafka.records(FAILED, partition) {
            let document = record.value.expect("a document has text");
            let document: Value = serde_json::from_slice(&document).expect("it is JSON");
            let place = place(&document).expect("a document tells its place");
            let found = written.entry(place).or_default();
            found.push((partition, record.key, document));
        }
    }
    written
}

/// Of whom a document is.
fn place(document: &Value) -> Option<(i32, i64)> {
    let info = &document["KafkaBatchInfo"];
    let of = match document.get(PAYLOAD) {
        Some(event) => &event["records"],
        None => &info["recordsInfo"],
    };
    let lane = of.as_object()?.keys().next()?;
    let partition = lane.strip_prefix(TOPIC)?.strip_prefix('-')?;
    let offset = info["recordInfo"]["offset"].as_str()?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

fn places(story: &Story) -> Vec<(i32, i64)> {
    let written = written(story);
    let many = written.iter().filter(|(_, documents)| documents.len() > 1);
    assert_eq!(many.count(), 0, "a record stands there once: {written:#?}");
    written.into_keys().collect()
}

/// The status says why the destination takes nothing.
fn fault(story: &Story) -> String {
    let fault = story.consumer(0).status().fault;
    fault.map(|it| it.to_string()).unwrap_or_default()
}

/// Contract 5.4: a document for each record, under its own key.
#[test]
fn each_record_stands_in_the_topic_under_its_own_key() {
    let mut story = story();
    produce(&mut story, 0, &["a", "b", "a", "c"]);
    story.kafka.append(TOPIC, 0, &[NewRecord::value("no key")]);
    story.until("all are committed", |story| story.committed(0) == Some(5));
    assert_eq!(places(&story), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    let written = written(&story);
    let of = |offset| written[&(0, offset)][0].clone();
    assert_eq!(of(0).0, of(2).0, "one key has one partition");
    for (offset, key) in [(0, Some("a")), (1, Some("b")), (3, Some("c")), (4, None)] {
        assert_eq!(of(offset).1.as_deref(), key.map(str::as_bytes));
    }
    let (_, _, document) = of(1);
    let context = &document["requestContext"];
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(
        context["functionArn"].as_str().unwrap().rsplit(':').next(),
        Some("$LATEST")
    );
    assert_eq!(document["KafkaBatchInfo"]["batchSize"], 1);
    let records = &document[PAYLOAD]["records"][format!("{TOPIC}-0")];
    assert_eq!(records.as_array().unwrap().len(), 1);
    assert_eq!(
        (&records[0]["offset"], &records[0]["key"]),
        (&1.into(), &"Yg==".into())
    );
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_diverted, counters.destination_errors),
        (5, 0)
    );
}

#[test]
fn an_answer_that_is_lost_leaves_no_record_twice() {
    let mut story = story();
    story.kafka.script(ApiKey::Produce, [Fault::DropAnswer]);
    produce(&mut story, 0, &["a", "b", "c", "d", "e", "f"]);
    story.until("all are committed", |story| story.committed(0) == Some(6));
    assert_eq!(places(&story).len(), 6);
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_diverted, counters.destination_errors),
        (6, 1)
    );
}

#[test]
fn without_idempotence_every_record_stands_there_all_the_same() {
    let story = |cluster: Config, scripted: &[Fault]| {
        let mut story = Story::of_cluster_with(cluster, 1);
        story.kafka.create_topic(FAILED, 3);
        story
            .kafka
            .script(ApiKey::InitProducerId, scripted.to_vec());
        begin(&mut story, 1);
        produce(&mut story, 0, &["a", "b"]);
        story.until("all are committed", |story| story.committed(0) == Some(2));
        assert_eq!(places(&story).len(), 2);
        story
    };
    story(Config::new(1).without(ApiKey::InitProducerId), &[]);
    let denied = Fault::Error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
    let told = story(Config::new(1), &[denied]);
    assert!(told.was_said(
        "Failed records are written without idempotence: the mapping's user may not IDEMPOTENT_WRITE"
    ));
}

#[test]
fn brokers_that_are_starting_are_asked_again_and_not_complained_of() {
    let mut story = story();
    let loading = Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0);
    let scripted = std::iter::repeat_n(loading.clone(), 30);
    story.kafka.script(ApiKey::InitProducerId, scripted);
    produce(&mut story, 0, &["a"]);
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let errors = |story: &Story| story.consumer(0).status().counters.destination_errors;
    assert_eq!(errors(&story), 0);

    let mut story = self::story();
    let scripted = std::iter::repeat_n(loading, 60).chain([Fault::Drop]);
    story.kafka.script(ApiKey::InitProducerId, scripted);
    produce(&mut story, 0, &["a"]);
    story.until("it is told", |story| {
        fault(story).contains("no producer id")
    });
    story.until("it is committed", |story| story.committed(0) == Some(1));
    assert_eq!(errors(&story), 2);
}

#[test]
fn a_topic_that_is_missing_is_told_at_once_and_waited_for() {
    let mut story = Story::of_cluster(1, 1);
    begin(&mut story, 1);
    story.until("it is told", |story| {
        fault(story).contains("does not exist; create it")
    });
    produce(&mut story, 0, &["a"]);
    story.play(Duration::from_secs(100));
    assert!(matches!(story.committed(0), None | Some(0)));
    story.kafka.create_topic(FAILED, 1);
    story.until("it is written", |story| story.committed(0) == Some(1));
    assert_eq!(places(&story), [(0, 0)]);
    assert_eq!(fault(&story), "");
}

#[test]
fn what_brokers_refuse_is_written_once_they_take_it() {
    let errors = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::INVALID_RECORD,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode(9999),
    ];
    let mut story = story();
    let scripted = errors.map(|error| Fault::Error(error.0));
    story.kafka.script(ApiKey::Produce, scripted);
    produce(&mut story, 0, &["a", "a"]);
    story.until("it is told", |story| {
        fault(story).contains("was not written to: NOT_LEADER")
    });
    story.until("all are committed", |story| story.committed(0) == Some(2));
    assert_eq!(places(&story).len(), 2);
    let counters = story.consumer(0).status().counters;
    assert_eq!(counters.destination_errors, errors.len() as u64);
    assert_eq!(fault(&story), "");
}

#[test]
fn a_topic_that_is_narrow_gets_fewer_at_once_then_packed_then_without_event() {
    let mut story = Story::of_cluster(1, 1);
    story.kafka.create_topic(FAILED, 1);
    story.kafka.set_max_message_bytes(FAILED, 2000);
    begin(&mut story, 1);
    let noise: Vec<u8> = (0..4000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let records = [
        NewRecord::value("small").with_key("a"),
        NewRecord::value(vec![b'x'; 4000]).with_key("b"),
        NewRecord::value(noise).with_key("c"),
    ];
    story.kafka.append(TOPIC, 0, &records);
    story.until("all are committed", |story| story.committed(0) == Some(3));
    assert_eq!(places(&story), [(0, 0), (0, 1), (0, 2)]);
    let written = written(&story);
    let has_event = |offset| written[&(0, offset)][0].2.get(PAYLOAD).is_some();
    assert_eq!([0, 1, 2].map(has_event), [true, true, false]);
    let payload_size = &written[&(0, 2)][0].2["KafkaBatchInfo"]["payloadSize"];
    assert!(payload_size.as_u64() > Some(5000), "{payload_size}");
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.documents_shortened, counters.destination_errors),
        (1, 0)
    );
}

#[test]
fn a_topic_too_narrow_for_any_document_is_told() {
    let mut story = Story::of_cluster(1, 1);
    story.kafka.create_topic(FAILED, 1);
    story.kafka.set_max_message_bytes(FAILED, 100);
    begin(&mut story, 1);
    produce(&mut story, 0, &["a"]);
    story.until("it is told", |story| {
        fault(story).contains("raise its max.message.bytes")
    });
    story.kafka.set_max_message_bytes(FAILED, 10_000);
    story.until("it is written", |story| story.committed(0) == Some(1));
    assert_eq!(places(&story), [(0, 0)]);
}

#[test]
fn records_follow_the_leader_of_their_partition() {
    let mut story = story_of(Config::new(3), 1);
    produce(&mut story, 0, &["a"]);
    story.until("the first", |story| story.committed(0) == Some(1));
    let at = written(&story)[&(0, 0)][0].0;
    let next = story.kafka.leader(FAILED, at).0.unwrap() % 3 + 1;
    story.kafka.move_leader(FAILED, at, Some(next));
    produce(&mut story, 0, &["a"]);
    story.until("the second", |story| story.committed(0) == Some(2));
    story.kafka.move_leader(FAILED, at, None);
    produce(&mut story, 0, &["a"]);
    story.until("it is told", |story| fault(story).contains("has no leader"));
    story.kafka.move_leader(FAILED, at, Some(1));
    story.until("the third", |story| story.committed(0) == Some(3));
    assert_eq!(places(&story).len(), 3);
}

#[test]
fn a_leader_that_cannot_be_reached_is_told_and_other_lanes_go_on() {
    let mut story = Story::of_cluster(2, 2);
    story.kafka.create_topic(FAILED, 2);
    story.refuse_with(|endpoint| {
        let reason = || Disconnect::Unreachable("no route to host".to_owned());
        (endpoint.host == "fake-2").then(reason)
    });
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.kafka.move_coordinator(GROUP, 1);
    story.answer_calls(|call| match call.records[0].partition {
        0 => failed(),
        _ => succeeded(),
    });
    story.join_told(
        config(),
        Budget::new(64 << 20),
        [Input::UnixTime(BEGINNING)],
    );
    story.until("all are owned", |story| story.owned(0).len() == 2);
    // One of these keys has its place at the broker that cannot be reached.
    produce(&mut story, 0, &["a", "b", "c", "d", "e", "f"]);
    story.until("it is told", |story| {
        fault(story).contains("no route to host")
    });
    produce(&mut story, 1, &["a"]);
    story.until("the other lane", |story| story.committed(1) == Some(1));
    story.refuse(|_| false);
    story.until("all are committed", |story| story.committed(0) == Some(6));
    assert_eq!(places(&story).len(), 6);
}

#[test]
fn a_lane_whose_topic_fails_is_released_and_another_member_writes_it() {
    let mut story = Story::of_cluster(2, 1);
    begin(&mut story, 2);
    produce(&mut story, 0, &["a"]);
    produce(&mut story, 1, &["a"]);
    story.play(Duration::from_secs(20));
    let mut second = config();
    second.client_id = "second".to_owned();
    second.seed = 2;
    story.join_told(second, Budget::new(64 << 20), [Input::UnixTime(BEGINNING)]);
    story.until("they share", |story| {
        story.owned(0).len() == 1 && story.owned(1).len() == 1
    });
    story.kafka.create_topic(FAILED, 2);
    story.until("both are written", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
    assert_eq!(places(&story), [(0, 0), (1, 0)]);
}

/// What was written and the lane that goes are heard in one turn.
#[test]
fn a_record_is_written_once_though_a_lane_goes_when_that_is_heard() {
    let mut story = Story::of_cluster(2, 1);
    story.kafka.create_topic(FAILED, 3);
    begin(&mut story, 2);
    let then = story.now() + Duration::from_secs(5);
    story.kafka.set_hook(Some(Box::new(move |seen| {
        match (seen.api, seen.client_id) {
            (ApiKey::Produce, _) => Fault::Until(then),
            (ApiKey::SyncGroup, client) if client != "second" => Fault::Until(then),
            _ => Fault::Serve,
        }
    })));
    produce(&mut story, 0, &["a"]);
    produce(&mut story, 1, &["a"]);
    let mut second = config();
    second.client_id = "second".to_owned();
    second.seed = 2;
    story.join_told(second, Budget::new(64 << 20), [Input::UnixTime(BEGINNING)]);
    story.play(Duration::from_millis(4_990));
    assert_eq!(
        (story.owned(0).len(), story.committed(0)),
        (2, Some(0)),
        "nothing has gone or ended yet"
    );
    story.until("they share, and both have ended", |story| {
        let both = (0..2).all(|partition| story.committed(partition) == Some(1));
        both && story.owned(0).len() == 1 && story.owned(1).len() == 1
    });
    assert_eq!(places(&story), [(0, 0), (1, 0)]);
}

/// Of a joint batch one lane's record is written, and that of the other lane, which is not, is discarded by an operator: what
/// is left has nothing more to write, and goes to the function.
#[test]
fn what_is_left_when_nothing_waits_for_the_topic_any_more_is_called_with() {
    let key_for = |partition: u32| {
        let keys = (0_u32..).map(|at| format!("key-{at}"));
        let mut keys = keys.filter(|key| hash_of_key(key.as_bytes()) % 2 == partition);
        keys.next().expect("keys go everywhere")
    };
    let mut story = Story::of_cluster(2, 1);
    story.kafka.create_topic(FAILED, 2);
    story.kafka.move_leader(FAILED, 1, None);
    let mut config = config();
    config.delivery.retry.max_age = Some(Duration::from_secs(60));
    config.delivery.window = Duration::from_secs(1);
    story.join_told(config, Budget::new(64 << 20), [Input::UnixTime(BEGINNING)]);
    story.until("all are owned", |story| story.owned(0).len() == 2);
    let old = |key: String| {
        NewRecord::value("old")
            .with_key(key)
            .at(BEGINNING - 100_000)
    };
    let fresh = NewRecord::value("fresh").at(BEGINNING);
    story.kafka.append(TOPIC, 0, &[old(key_for(0)), fresh]);
    story.kafka.append(TOPIC, 1, &[old(key_for(1))]);
    story.until("it is told", |story| fault(story).contains("has no leader"));
    story.until("the other is written", |story| {
        story.committed(0) == Some(1)
    });
    let skip = Skip {
        id: SkipId(1),
        partition: 1,
        offset: 0,
        discard: true,
    };
    story.tell(0, Input::Skips(vec![skip]));
    story.until("the rest is committed", |story| {
        story.committed(0) == Some(2) && story.committed(1) == Some(1)
    });
    assert_eq!(story.values(0), ["fresh"]);
}

#[test]
fn a_node_that_stops_lets_end_what_is_on_its_way_and_no_more() {
    let mut story = story();
    let minute = Fault::Delay(Duration::from_secs(5));
    story.kafka.script(ApiKey::Produce, [minute]);
    produce(&mut story, 0, &["a"]);
    story.play(Duration::from_secs(1));
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
    assert_eq!(story.committed(0), Some(1));

    let mut story = Story::of_cluster(1, 1);
    begin(&mut story, 1);
    produce(&mut story, 0, &["a"]);
    story.play(Duration::from_secs(1));
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
    assert!(
        matches!(story.committed(0), None | Some(0)),
        "it comes again"
    );
}

#[test]
fn where_the_owner_chose_so_what_the_topic_does_not_take_is_discarded() {
    let mut story = Story::of_cluster(1, 1);
    story.answer_calls(|_| failed());
    let mut config = config();
    config.delivery.drop_undelivered = true;
    story.join_told(config, Budget::new(64 << 20), [Input::UnixTime(BEGINNING)]);
    story.until("it is owned", |story| story.owned(0).len() == 1);
    produce(&mut story, 0, &["a"]);
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let counters = story.consumer(0).status().counters;
    assert_eq!(
        (counters.records_dropped, counters.destination_errors),
        (1, 3)
    );
}

#[test]
fn a_record_too_large_for_any_call_goes_there_with_its_event() {
    let mut story = story();
    let value = vec![b'x'; 5_000_000];
    story
        .kafka
        .append(TOPIC, 0, &[NewRecord::value(value).with_key("a")]);
    story.until("it is committed", |story| story.committed(0) == Some(1));
    let written = written(&story);
    let (_, key, document) = &written[&(0, 0)][0];
    assert_eq!(key.as_deref(), Some(&b"a"[..]));
    let condition = Condition::MaximumPayloadSizeExceeded.as_str();
    assert_eq!(document["requestContext"]["condition"], condition);
    let payload = document[PAYLOAD].to_string().len() as u64;
    assert_eq!(document["KafkaBatchInfo"]["payloadSize"], payload);
}

#[test]
fn the_group_is_not_troubled_by_a_topic_that_fails() {
    let mut story = Story::of_cluster(1, 1);
    begin(&mut story, 1);
    produce(&mut story, 0, &["a"]);
    let generation = story.kafka.generation(GROUP);
    story.play(Duration::from_secs(300));
    assert_eq!(story.kafka.generation(GROUP), generation);
    assert!(
        story.kafka.requests(ApiKey::Metadata) < 300,
        "it is asked with patience"
    );
}
