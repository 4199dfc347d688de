//! Where a mapping starts on a topic that has records already.
//!
//! Invariant: what must arrive is what lies behind where Kafka says that it starts.

use std::time::Duration;

use forebay_protocol::delivery::StartingPosition;
use forebay_tests::rig::{
    Broker, Forebay, Producer, Settings, Sink, await_all, eventually, unix_millis,
};

use super::{NEWEST, OLDER, OLDEST, PARTITIONS, rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_positions_on_the_newest_kafka() {
    starting_positions(NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_positions_on_an_older_kafka() {
    starting_positions(OLDER).await;
}

async fn starting_positions(version: &'static str) {
    let Some(rig) = rig("starting positions") else {
        return;
    };
    let broker = Broker::start(&rig, version).await;
    latest_takes_what_came_after_the_declaration_and_nothing_before(&broker).await;
    time_takes_what_is_as_young_and_nothing_older(&broker).await;
}

/// Brokers of that age create what is asked for by name, if they may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_told_and_not_created_on_the_oldest_kafka() {
    a_missing_topic_is_told_and_not_created(OLDEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_told_and_not_created_on_the_newest_kafka() {
    a_missing_topic_is_told_and_not_created(NEWEST).await;
}

async fn a_missing_topic_is_told_and_not_created(version: &'static str) {
    let Some(rig) = rig("a missing topic") else {
        return;
    };
    let broker = Broker::start_creating(&rig, version).await;
    let mut sink = Sink::new();
    let settings = Settings::new("absent", "absent", sink.listen().await);
    let mut forebay = Forebay::start(&broker, &settings);
    eventually("it is told", Duration::from_secs(30), async || {
        let told = "PROBLEM: Topic absent does not exist.";
        forebay.has_logged(told).then_some(())
    })
    .await;
    // For as long as it takes to ask some times more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(broker.topics().await, [""; 0]);
    broker.topic("absent", PARTITIONS, &[]).await;
    assert_eq!(broker.topics().await, ["absent"]);
    broker.produce(Producer::Java, "absent", 1_000, 1).await;
    let expected = broker.expected("absent").await;
    await_all(&mut sink, &expected, Duration::from_secs(90))
        .await
        .assert_sound();
    broker.await_no_lag("absent", PARTITIONS as usize).await;
    forebay.assert_running();
}

async fn latest_takes_what_came_after_the_declaration_and_nothing_before(broker: &Broker) {
    broker.topic("latest", PARTITIONS, &[]).await;
    broker
        .produce(Producer::Librdkafka, "latest", 5_000, 1)
        .await;
    let before = broker.expected("latest").await;
    let mut sink = Sink::new();
    let settings = Settings {
        starting_position: StartingPosition::Latest,
        ..Settings::new("latest", "latest", sink.listen().await)
    };
    let mut forebay = Forebay::start(broker, &settings);
    eventually(
        "the start is resolved",
        Duration::from_secs(30),
        async || {
            let log = forebay.log();
            log.contains("Start was resolved for all partitions, and committed")
                .then_some(())
        },
    )
    .await;
    // At once, while the group still gathers.
    broker.produce(Producer::Java, "latest", 5_000, 2).await;
    let all = broker.expected("latest").await;
    let expected = all.from(|partition, offset| offset >= before.end(partition));
    await_all(&mut sink, &expected, Duration::from_secs(60))
        .await
        .assert_sound();
    broker.await_no_lag("latest", PARTITIONS as usize).await;
    forebay.assert_running();
}

async fn time_takes_what_is_as_young_and_nothing_older(broker: &Broker) {
    broker.topic("time", PARTITIONS, &[]).await;
    broker.produce(Producer::Java, "time", 5_000, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let time = unix_millis();
    broker.produce(Producer::Librdkafka, "time", 5_000, 2).await;
    let starts = broker.offsets_at("time", time).await;
    assert_eq!(starts.len(), PARTITIONS as usize, "{starts:?}");
    let all = broker.expected("time").await;
    let expected = all.from(|partition, offset| offset >= starts[&partition]);
    assert!(expected.records() > 1_000, "{}", expected.records());
    let mut sink = Sink::new();
    let settings = Settings {
        starting_position: StartingPosition::AtTimestamp(
            i64::try_from(time).expect("this century"),
        ),
        ..Settings::new("time", "time", sink.listen().await)
    };
    let mut forebay = Forebay::start(broker, &settings);
    await_all(&mut sink, &expected, Duration::from_secs(60))
        .await
        .assert_sound();
    broker.await_no_lag("time", PARTITIONS as usize).await;
    forebay.assert_running();
}
