//! The memory budget: many half-full lanes still move, and a dead function starves nobody.

use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Stage};

#[tokio::test]
async fn thousand_half_full_lanes_move_under_a_small_budget() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1000);
            for partition in 0..1000 {
                let records = vec![NewRecord::value(vec![b'x'; 20_000]); 3];
                kafka.append("orders", partition, &records);
            }
        })
        .await;
    let mut site = stage.site();
    let members = "BatchSize = 10000\nMaximumBatchingWindowInSeconds = 300\n";
    site.declare(&Declared::new("orders").with(members));
    let site = site.key("memory_bytes", "67108864");
    let node = site.start().await;
    // More than the budget waits in the lanes: batches close early, or nothing would move for minutes.
    eventually!(within Duration::from_secs(60), stage.delivered("orders").await >= 1500);
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn dead_function_does_not_starve_a_living_one() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            for topic in ["dead", "living"] {
                kafka.create_topic(topic, 8);
                for at in 0..400 {
                    let record = NewRecord::value(vec![b'x'; 100_000]);
                    kafka.append(topic, at % 8, &[record]);
                }
            }
        })
        .await;
    stage
        .on_lambda(|functions| {
            functions.always("dead", Reply::error(503, "ServiceUnavailable", "no"));
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("dead"));
    site.declare(&Declared::new("living"));
    let site = site.key("memory_bytes", "134217728");
    let node = site.start().await;
    eventually!(within Duration::from_secs(60), stage.delivered("living").await == 400);
    assert_eq!(stage.delivered("dead").await, 0);
    node.shutdown().await;
}
