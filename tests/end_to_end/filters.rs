//! FilterCriteria on the real appliance: what is sent, what a reload changes, and what is refused.

use forebay::Appliance;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{Declared, Stage, get};

use crate::status::document;

/// A mapping of `orders` with that pattern alone.
fn filtered(pattern: &str) -> Declared {
    let criteria = format!("FilterCriteria = {{ Filters = [{{ Pattern = '{pattern}' }}] }}\n");
    Declared::new("orders").with(&format!("MaximumBatchingWindowInSeconds = 0\n{criteria}"))
}

async fn produce(stage: &Stage, values: &'static [&'static str]) {
    stage
        .on_kafka(move |kafka| {
            for value in values {
                kafka.append("orders", 0, &[NewRecord::value(*value)]);
            }
        })
        .await;
}

async fn delivered(stage: &Stage) -> Vec<i64> {
    stage
        .on_lambda(|functions| functions.ledger().delivered("orders", 0))
        .await
}

async fn members(stage: &Stage) -> Vec<(String, String)> {
    stage.on_kafka(|kafka| kafka.members("orders")).await
}

/// What the node says of filtered records.
async fn counted(node: &Appliance) -> Option<f64> {
    let (_, metrics) = get(node.metrics_addr(), "/metrics").await.ok()?;
    let mut lines = metrics.lines();
    let line = lines.find(|it| it.starts_with("forebay_filtered_records_total{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn only_what_a_pattern_wants_is_sent_and_a_reload_takes_another() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    produce(
        &stage,
        &[r#"{"status":"open"}"#, r#"{"status":"paid"}"#, "text"],
    )
    .await;
    let mut site = stage.site();
    site.declare(&filtered(r#"{"value":{"status":["paid"]}}"#));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(delivered(&stage).await, [1, 2], "text fits no such clause");

    produce(&stage, &[r#"{"status":"open"}"#]).await;
    eventually!(stage.committed("orders", "orders", 0).await == 4);
    assert_eq!(delivered(&stage).await.len(), 2);
    eventually!(counted(&node).await == Some(2.0));

    let before = members(&stage).await;
    site.declare(&filtered(r#"{"value":{"status":["open"]}}"#));
    node.reload();
    node.reloaded().await;
    eventually!({
        let shards = document(&site).await.node.shards;
        let mut shards = shards.iter();
        shards.all(|it| it.generation == it.planned_generation)
    });
    assert_eq!(members(&stage).await, before, "nobody has joined again");
    produce(&stage, &[r#"{"status":"paid"}"#, r#"{"status":"open"}"#]).await;
    eventually!(stage.committed("orders", "orders", 0).await == 6);
    assert_eq!(delivered(&stage).await, [1, 2, 5]);
    node.shutdown().await;
    stage.assert_no_violation().await;
}
