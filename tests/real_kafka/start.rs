//! Where a mapping starts on a topic that has records already.

use std::time::Duration;

use forebay_protocol::delivery::StartingPosition;
use forebay_tests::rig::{Broker, Forebay, Producer, Settings, Sink, eventually, unix_millis};

use super::{NEWEST, OLDER, PARTITIONS, await_all, rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_takes_what_came_after_the_declaration_and_nothing_before() {
    for version in [NEWEST, OLDER] {
        let Some(rig) = rig("LATEST") else { return };
        let broker = Broker::start(&rig, version).await;
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
        let mut forebay = Forebay::start(&broker, &settings);
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
        let expected = all.from(|partition, offset, _| offset >= before.end(partition));
        await_all(&mut sink, &expected, Duration::from_secs(60))
            .await
            .assert_sound();
        broker.await_no_lag("latest", PARTITIONS as usize).await;
        forebay.assert_running();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_takes_what_is_as_young_and_nothing_older() {
    for version in [NEWEST, OLDER] {
        let Some(rig) = rig("AT_TIMESTAMP") else {
            return;
        };
        let broker = Broker::start(&rig, version).await;
        broker.topic("time", PARTITIONS, &[]).await;
        broker.produce(Producer::Java, "time", 5_000, 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let time = i64::try_from(unix_millis()).expect("this century");
        broker.produce(Producer::Librdkafka, "time", 5_000, 2).await;
        let all = broker.expected("time").await;
        let expected = all.from(|_, _, timestamp| timestamp >= time);
        assert!(expected.records() > 1_000, "{}", expected.records());
        let mut sink = Sink::new();
        let settings = Settings {
            starting_position: StartingPosition::AtTimestamp(time),
            ..Settings::new("time", "time", sink.listen().await)
        };
        let mut forebay = Forebay::start(&broker, &settings);
        await_all(&mut sink, &expected, Duration::from_secs(60))
            .await
            .assert_sound();
        broker.await_no_lag("time", PARTITIONS as usize).await;
        forebay.assert_running();
    }
}
