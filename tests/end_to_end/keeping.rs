//! A mapping that is declared before it is enabled: LATEST is the end of the log at the declaration.

use forebay::Appliance;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{Declared, Site, Stage, get};
use kafka_protocol::messages::ApiKey;

const WINDOW: &str = "MaximumBatchingWindowInSeconds = 0\n";

fn declared(enabled: bool) -> Declared {
    Declared::new("orders")
        .starting("LATEST")
        .with(&format!("{WINDOW}Enabled = {enabled}\n"))
}

async fn produce(stage: &Stage, value: &'static str) {
    stage
        .on_kafka(move |kafka| kafka.append("orders", 0, &[NewRecord::value(value)]))
        .await;
}

/// A topic with three records, and a node where the mapping is declared and not enabled.
async fn declare_disabled() -> (Stage, Site) {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 1))
        .await;
    for _ in 0..3 {
        produce(&stage, "old").await;
    }
    let mut site = stage.site();
    site.declare(&declared(false));
    (stage, site)
}

async fn enable(site: &mut Site, node: &Appliance) {
    site.declare(&declared(true));
    node.reload();
    node.reloaded().await;
}

/// The value of the only mapping's gauge.
async fn gauge(node: &Appliance, name: &str) -> Option<f64> {
    let (_, metrics) = get(node.metrics_addr(), "/metrics").await.ok()?;
    let series = format!("{name}{{");
    let line = metrics.lines().find(|line| line.starts_with(&series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn all_that_is_produced_after_the_declaration_arrives_and_nothing_before() {
    let (stage, mut site) = declare_disabled().await;
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    produce(&stage, "new").await;
    produce(&stage, "new").await;
    assert_eq!(stage.delivered("orders").await, 0);
    assert_eq!(gauge(&node, "forebay_mapping_consumers").await, Some(0.0));
    assert_eq!(gauge(&node, "forebay_mapping_faults").await, Some(0.0));
    assert_eq!(get(node.metrics_addr(), "/readyz").await.unwrap().0, 200);
    enable(&mut site, &node).await;
    produce(&stage, "new").await;
    eventually!(stage.committed("orders", "orders", 0).await == 6);
    assert_eq!(stage.delivered("orders").await, 3);
    // The gauge shows a status, which may come after the first commit.
    eventually!(gauge(&node, "forebay_mapping_consumers").await == Some(1.0));
    node.shutdown().await;
    stage.assert_no_violation().await;
}

#[tokio::test]
async fn place_outlives_the_node() {
    let (stage, mut site) = declare_disabled().await;
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    let report = node.shutdown().await;
    assert_eq!(report, forebay::ShutdownReport::default());
    produce(&stage, "new").await;
    let node = site.start().await;
    enable(&mut site, &node).await;
    eventually!(stage.committed("orders", "orders", 0).await == 4);
    assert_eq!(stage.delivered("orders").await, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn mapping_that_was_disabled_keeps_the_place_that_it_had_reached() {
    let (stage, mut site) = declare_disabled().await;
    site.declare(&declared(true));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    produce(&stage, "new").await;
    eventually!(stage.committed("orders", "orders", 0).await == 4);
    site.declare(&declared(false));
    node.reload();
    eventually!(gauge(&node, "forebay_mapping_consumers").await == Some(0.0));
    produce(&stage, "later").await;
    let joins = stage
        .on_kafka(|kafka| kafka.requests(ApiKey::JoinGroup))
        .await;
    enable(&mut site, &node).await;
    eventually!(stage.committed("orders", "orders", 0).await == 5);
    assert!(
        stage
            .on_kafka(|kafka| kafka.requests(ApiKey::JoinGroup))
            .await
            > joins
    );
    assert_eq!(stage.delivered("orders").await, 2);
    node.shutdown().await;
}

#[tokio::test]
async fn disabled_mapping_of_a_cluster_out_of_reach_has_a_fault_and_can_be_removed() {
    let (_stage, mut site) = declare_disabled().await;
    let mut dead = declared(false);
    dead.bootstrap = Some("127.0.0.1:1".to_owned());
    site.declare(&dead);
    let node = site.start().await;
    eventually!(gauge(&node, "forebay_mapping_faults").await == Some(1.0));
    site.withdraw("orders");
    node.reload();
    eventually!(gauge(&node, "forebay_mapping_faults").await.is_none());
    node.shutdown().await;
}
