//! Logs that are not what they were: corrupt batches, records too large, retention, truncation, topics
//! created anew, transactions, leaders that move. Nothing is passed over in silence.

use std::time::Duration;

use bytes::BytesMut;
use forebay::Appliance;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, Producer, encode};
use forebay_tests::fake_kafka::{Config, Offsets};
use forebay_tests::harness::{Declared, Stage, get};

/// The value of the first series of that name, over all labels.
async fn metric(node: &Appliance, name: &str) -> f64 {
    let (_, text) = get(node.metrics_addr(), "/metrics")
        .await
        .expect("metrics are served");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn attempted(stage: &Stage, topic: &'static str, partition: i32) -> Vec<i64> {
    stage
        .on_lambda(move |functions| functions.ledger().attempted(topic, partition))
        .await
}

#[tokio::test]
async fn corrupt_batch_halts_its_lane_and_no_other() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 2);
            let records = vec![NewRecord::value("a"); 3];
            kafka.append("orders", 0, &records);
            let mut corrupt = BytesMut::from(&encode(&records, BatchOptions::default())[..]);
            let last = corrupt.len() - 1;
            corrupt[last] ^= 1;
            kafka.append_raw("orders", 0, corrupt.freeze(), Offsets::Assign);
            kafka.append("orders", 0, &records);
            kafka.append("orders", 1, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    eventually!(stage.committed("orders", "orders", 1).await == 3);
    eventually!(metric(&node, "forebay_mapping_faults").await > 0.0);
    // What lies behind the corrupt batch is neither delivered nor committed.
    assert_eq!(attempted(&stage, "orders", 0).await, [0, 1, 2]);
    stage
        .on_kafka(|kafka| kafka.append("orders", 1, &[NewRecord::value("b")]))
        .await;
    eventually!(stage.committed("orders", "orders", 1).await == 4);
    assert_eq!(stage.committed("orders", "orders", 0).await, 3);
    node.shutdown().await;
}

async fn one_huge_among_small(stage: &Stage) {
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &[NewRecord::value("a")]);
            kafka.append("orders", 0, &[NewRecord::value(vec![b'x'; 5_000_000])]);
            kafka.append("orders", 0, &[NewRecord::value("b")]);
        })
        .await;
}

#[tokio::test]
async fn record_too_large_for_any_body_halts_its_lane() {
    let stage = Stage::new();
    one_huge_among_small(&stage).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    eventually!(metric(&node, "forebay_mapping_faults").await > 0.0);
    assert_eq!(attempted(&stage, "orders", 0).await, [0]);
    node.shutdown().await;
}

#[tokio::test]
async fn record_too_large_is_discarded_where_the_owner_says_so() {
    let stage = Stage::new();
    one_huge_among_small(&stage).await;
    let mut site = stage.site().key("on_oversized_record", "\"discard\"");
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(attempted(&stage, "orders", 0).await, [0, 2]);
    eventually!(metric(&node, "forebay_dropped_records_total").await >= 1.0);
    node.shutdown().await;
}

#[tokio::test]
async fn body_that_the_endpoint_refuses_is_split_in_order() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value(vec![b'x'; 1_000]); 40];
            kafka.append("orders", 0, &records);
        })
        .await;
    stage
        .on_lambda(|functions| functions.set_body_limit(10_000))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 40);
    assert_eq!(stage.delivered("orders").await, 40);
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn retention_that_overtook_us_is_counted() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            for _ in 0..10 {
                kafka.append("orders", 0, &[NewRecord::value("a")]);
            }
            kafka.set_committed("orders", "orders", 0, 2);
            kafka.delete_before("orders", 0, 6);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 10);
    assert_eq!(attempted(&stage, "orders", 0).await, [6, 7, 8, 9]);
    eventually!(metric(&node, "forebay_retention_lost_records_total").await == 4.0);
    node.shutdown().await;
}

#[tokio::test]
async fn commit_beyond_a_truncated_log_goes_back_to_what_there_is() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value("a"); 3];
            kafka.append("orders", 0, &records);
            kafka.set_committed("orders", "orders", 0, 50);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(attempted(&stage, "orders", 0).await, [0, 1, 2]);
    node.shutdown().await;
}

#[tokio::test]
async fn topic_created_anew_while_we_were_down_starts_at_its_beginning() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value("a"); 5];
            kafka.append("orders", 0, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 5);
    node.shutdown().await;
    stage
        .on_kafka(|kafka| {
            kafka.recreate_topic("orders");
            let records = vec![NewRecord::value("b"); 8];
            kafka.append("orders", 0, &records);
        })
        .await;
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 8);
    assert_eq!(stage.delivered("orders").await, 8);
    node.shutdown().await;
}

#[tokio::test]
async fn aborted_and_control_records_take_no_call_and_leave_no_lag() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            for (sequence, committed) in [(0, true), (2, false)] {
                let producer = Producer {
                    id: 9,
                    epoch: 0,
                    sequence,
                };
                let options = BatchOptions {
                    producer: Some(producer),
                    transactional: true,
                    ..BatchOptions::default()
                };
                let records = vec![NewRecord::value("a"); 2];
                kafka.append_with("orders", 0, &records, options);
                kafka.append_marker("orders", 0, producer.id, committed);
            }
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    // Two records and a marker, then two aborted ones and a marker: the end is at 6.
    eventually!(stage.committed("orders", "orders", 0).await == 6);
    assert_eq!(attempted(&stage, "orders", 0).await, [0, 1]);
    node.shutdown().await;
}

#[tokio::test]
async fn delivery_goes_on_when_leaders_and_coordinator_move() {
    let stage = Stage::with_cluster(Config::new(3));
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 3))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    for round in 0..6 {
        stage
            .on_kafka(move |kafka| {
                for partition in 0..3 {
                    kafka.append("orders", partition, &[NewRecord::value("a")]);
                    kafka.move_leader("orders", partition, Some(1 + (round + partition) % 3));
                }
                kafka.move_coordinator("orders", 1 + round % 3);
            })
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for partition in 0..3 {
        eventually!(stage.committed("orders", "orders", partition).await == 6);
    }
    stage.assert_no_violation().await;
    node.shutdown().await;
}
