//! BatchSize, the window and the size cap; where a partition starts.

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{Declared, Stage};

#[tokio::test]
async fn no_call_carries_more_than_the_batch_size() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value("a"); 25];
            kafka.append("orders", 0, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders").with("BatchSize = 10\n"));
    let node = site.start().await;
    eventually!(stage.delivered("orders").await == 25);
    let sizes = stage
        .on_lambda(|functions| {
            let calls = functions.ledger().calls().iter();
            calls.map(|call| call.records.len()).collect::<Vec<_>>()
        })
        .await;
    assert_eq!(sizes, [10, 10, 5]);
    node.shutdown().await;
}

#[tokio::test]
async fn no_body_reaches_the_size_cap() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            for _ in 0..20 {
                kafka.append("orders", 0, &[NewRecord::value(vec![b'x'; 700_000])]);
            }
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.delivered("orders").await == 20);
    let largest = stage
        .on_lambda(|functions| {
            let calls = functions.ledger().calls().iter();
            calls.map(|call| call.body.len()).max()
        })
        .await;
    assert!(largest < Some(6_291_456), "{largest:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn records_wait_for_company_in_the_window() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders").with("MaximumBatchingWindowInSeconds = 1\n"));
    let node = site.start().await;
    eventually!(stage.on_kafka(|kafka| kafka.is_stable("orders")).await);
    for _ in 0..5 {
        stage
            .on_kafka(|kafka| kafka.append("orders", 0, &[NewRecord::value("a")]))
            .await;
    }
    eventually!(stage.delivered("orders").await == 5);
    let calls = stage
        .on_lambda(|functions| functions.ledger().calls().len())
        .await;
    assert_eq!(calls, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn latest_starts_behind_what_was_there() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &[NewRecord::value("old")]);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders").starting("LATEST"));
    let node = site.start().await;
    // What LATEST resolved to is committed before the first fetch.
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    stage
        .on_kafka(|kafka| kafka.append("orders", 0, &[NewRecord::value("new")]))
        .await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    let attempted = stage
        .on_lambda(|functions| functions.ledger().attempted("orders", 0))
        .await;
    assert_eq!(attempted, [1]);
    node.shutdown().await;
}

#[tokio::test]
async fn commit_wins_over_the_starting_position() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value("a"); 5];
            kafka.append("orders", 0, &records);
            kafka.set_committed("orders", "orders", 0, 3);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 5);
    let attempted = stage
        .on_lambda(|functions| functions.ledger().attempted("orders", 0))
        .await;
    assert_eq!(attempted, [3, 4]);
    node.shutdown().await;
}
