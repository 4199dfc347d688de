//! What the function receives is what Kafka's own consumer reads.

use std::time::Duration;

use forebay_tests::fake_kafka::Config;
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::rig::{Broker, Forebay, Producer, Settings, Sink, await_all};

use super::{NEWEST, OLDER, PARTITIONS, rig, say};

const RECORDS_EACH: u64 = 100_000;
/// Of the embedded broker, for each producer.
const EMBEDDED_RECORDS_EACH: u64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_function_receives_what_kafkas_consumer_reads_on_4_4_0() {
    check(NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_function_receives_what_kafkas_consumer_reads_on_2_8_2() {
    check(OLDER).await;
}

/// Mixed records of two producers, in every codec, through transactions: once each and in order.
async fn check(version: &'static str) {
    let Some(rig) = rig(&format!("equality on {version}")) else {
        return;
    };
    let broker = Broker::start(&rig, version).await;
    broker.topic("mixed", PARTITIONS, &[]).await;
    let java = broker.produce(Producer::Java, "mixed", RECORDS_EACH, 1);
    let librdkafka = broker.produce(Producer::Librdkafka, "mixed", RECORDS_EACH, 2);
    let (java, librdkafka) = tokio::join!(java, librdkafka);
    assert!(java.aborted > 0 && librdkafka.aborted > 0);
    let expected = broker.expected("mixed").await;
    assert_eq!(expected.records(), java.committed + librdkafka.committed);

    let mut sink = Sink::new();
    let settings = Settings {
        batch_size: 1000,
        window_seconds: None,
        signed: true,
        ..Settings::new("mixed", "equality", sink.listen().await)
    };
    let mut forebay = Forebay::start(&broker, &settings);
    let start = tokio::time::Instant::now();
    let verdict = await_all(&mut sink, &expected, Duration::from_secs(180)).await;
    say(&format!(
        "{version}: {} records in {:?}, {} calls",
        verdict.delivered,
        start.elapsed(),
        sink.ledger().calls.len()
    ));
    verdict.assert_sound();
    assert_eq!(
        verdict.delivered,
        expected.records(),
        "once each: nothing was disturbed"
    );
    broker.await_no_lag("equality", PARTITIONS as usize).await;
    forebay.assert_running();
}

/// Of records in every codec and of transactions only what a pattern wants arrives, and nothing stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_filter_wants_is_committed_and_not_delivered() {
    const PATTERN: &str = r#"{"partition":[{"anything-but":[1]}],"offset":[{"numeric":["<",2000]}],"timestampType":["CREATE_TIME"]}"#;
    let Some(rig) = rig("filters") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("filtered", PARTITIONS, &[]).await;
    broker
        .produce(Producer::Java, "filtered", EMBEDDED_RECORDS_EACH, 3)
        .await;
    let all = broker.expected("filtered").await.records();
    let expected = broker.expected("filtered").await;
    let expected = expected.only(|partition, offset| partition != 1 && offset < 2000);
    assert!(expected.records() > 0 && expected.records() < all);
    let mut sink = Sink::new();
    let settings = Settings {
        filter: Some(PATTERN),
        ..Settings::new("filtered", "filtered", sink.listen().await)
    };
    let mut forebay = Forebay::start(&broker, &settings);
    let verdict = await_all(&mut sink, &expected, Duration::from_secs(120)).await;
    verdict.assert_sound();
    assert_eq!(verdict.delivered, expected.records(), "once each");
    broker.await_no_lag("filtered", PARTITIONS as usize).await;
    let verdict = expected.judge(&sink.ledger().calls, &[]);
    verdict.assert_sound();
    say(&format!("{} of {all} records wanted", verdict.delivered));
    forebay.assert_running();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_serves_clients_of_4_4_0() {
    check_embedded(NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_serves_clients_of_2_8_2() {
    check_embedded(OLDER).await;
}

/// The broker of the quickstart takes what others write, and gives it to others and to us alike.
async fn check_embedded(version: &'static str) {
    let Some(rig) = rig(&format!("the embedded broker, clients of {version}")) else {
        return;
    };
    let kafka = FakeKafkaServer::start(Config::new(1)).expect("loopback has free ports");
    let partitions = i32::try_from(PARTITIONS).expect("a few");
    kafka
        .with(move |kafka| kafka.create_topic("embedded", partitions))
        .await;
    let broker = Broker::fake(&rig, version, kafka.bootstrap());
    let java = broker.produce(Producer::Java, "embedded", EMBEDDED_RECORDS_EACH, 1);
    let librdkafka = broker.produce(Producer::Librdkafka, "embedded", EMBEDDED_RECORDS_EACH, 2);
    tokio::join!(java, librdkafka);
    let expected = broker.expected("embedded").await;
    assert_eq!(expected.records(), 2 * EMBEDDED_RECORDS_EACH);

    let mut sink = Sink::new();
    let settings = Settings::new("embedded", "embedded", sink.listen().await);
    let mut forebay = Forebay::start(&broker, &settings);
    let verdict = await_all(&mut sink, &expected, Duration::from_secs(60)).await;
    verdict.assert_sound();
    assert_eq!(verdict.delivered, expected.records());
    forebay.assert_running();
}
