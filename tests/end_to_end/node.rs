//! The node itself: reload, drain, health and metrics, and mappings that do not disturb each other.

use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Stage, get};

async fn one_record_each(stage: &Stage, topics: &'static [&'static str]) {
    stage
        .on_kafka(move |kafka| {
            for topic in topics {
                kafka.create_topic(topic, 1);
                kafka.append(topic, 0, &[NewRecord::value("a")]);
            }
        })
        .await;
}

#[tokio::test]
async fn reload_starts_what_was_added_and_drains_what_was_removed() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders", "bills"]).await;
    let mut site = stage.site();
    site.declare(&Declared::new("bills"));
    site.declare(&Declared::new("orders"));
    site.withdraw("bills");
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    assert_eq!(stage.delivered("bills").await, 0);
    site.declare(&Declared::new("bills"));
    site.withdraw("orders");
    node.reload();
    eventually!(stage.committed("bills", "bills", 0).await == 1);
    eventually!(
        stage
            .on_kafka(|kafka| kafka.members("orders").is_empty())
            .await
    );
    assert_eq!(stage.committed("orders", "orders", 0).await, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn drain_lets_the_call_end_commits_it_and_leaves() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders"]).await;
    let slow = Reply::ok().after(Duration::from_secs(1));
    stage
        .on_lambda(move |functions| functions.script("orders", [slow]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(
        stage
            .on_lambda(|functions| functions.ledger().open_calls())
            .await
            == 1
    );
    let report = node.shutdown().await;
    assert!(!report.gave_up, "{report:?}");
    assert_eq!(stage.committed("orders", "orders", 0).await, 1);
    assert!(
        stage
            .on_kafka(|kafka| kafka.members("orders").is_empty())
            .await
    );
}

#[tokio::test]
async fn bad_mapping_does_not_disturb_another() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders", "broken"]).await;
    stage
        .on_lambda(|functions| functions.remove_function("broken"))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    site.declare(&Declared::new("broken"));
    site.declare(&Declared::new("missing"));
    let mut dead = Declared::new("dead");
    dead.bootstrap = Some("127.0.0.1:1".to_owned());
    site.declare(&dead);
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    assert_eq!(
        stage.on_kafka(|kafka| kafka.auto_creations_asked()).await,
        0
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_mapping_that_crashes_the_node_again_and_again_starts_halted() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders", "bills"]).await;
    let mut site = stage.site();
    let uuid = uuid::Uuid::from_u128(7);
    let halted = Declared::new("bills").with(&format!("UUID = \"{uuid}\"\n"));
    site.declare(&Declared::new("orders"));
    site.declare(&halted);
    for _ in 0..3 {
        let state_dir = site.config().state_dir;
        forebay::crash::note(&state_dir, uuid, forebay::clock::unix_now()).unwrap();
    }
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    assert_eq!(stage.delivered("bills").await, 0);
    site.declare(
        &halted
            .clone()
            .with(&format!("{}BatchSize = 7\n", halted.members)),
    );
    node.reload();
    eventually!(stage.committed("bills", "bills", 0).await == 1);
    node.shutdown().await;
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders"]).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    let address = node.metrics_addr();
    assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
    assert_eq!(get(address, "/readyz").await.unwrap().0, 200);
    let (status, metrics) = get(address, "/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("forebay_"), "{metrics}");
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_given_up_is_reported_from_its_commit_on() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders"]).await;
    stage
        .on_lambda(|functions| functions.script("orders", [Reply::ok(), Reply::Hang]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    stage
        .on_kafka(|kafka| kafka.append("orders", 0, &[NewRecord::value("b")]))
        .await;
    eventually!(
        stage
            .on_lambda(|functions| functions.ledger().open_calls())
            .await
            == 1
    );
    node.give_up();
    let report = node.shutdown().await;
    let again: Vec<_> = report
        .unfinished
        .iter()
        .map(|it| (it.topic.as_str(), it.partition, it.committed_offset))
        .collect();
    assert_eq!(again, [("orders", 0, Some(1))]);
}

/// Succeeded records of the only mapping.
fn succeeded(metrics: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    let series = lines.find(|line| line.starts_with("forebay_succeeded_records_total{"))?;
    series.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn totals_outlive_the_consumers_that_counted_them() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders"]).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    for records in 1..=4 {
        eventually!(stage.committed("orders", "orders", 0).await == records);
        // The consumer ends before its counters were published for the last time.
        let members = format!("MaximumBatchingWindowInSeconds = 0\nBatchSize = {records}\n");
        site.declare(&Declared::new("orders").with(&members));
        node.reload();
        node.reloaded().await;
        stage
            .on_kafka(|kafka| kafka.append("orders", 0, &[NewRecord::value("b")]))
            .await;
    }
    let address = node.metrics_addr();
    eventually!(succeeded(&get(address, "/metrics").await.unwrap().1) == Some(5.0));
    node.shutdown().await;
}

#[tokio::test]
async fn a_draining_node_is_healthy_but_not_ready() {
    let stage = Stage::new();
    one_record_each(&stage, &["orders"]).await;
    stage
        .on_lambda(|functions| functions.script("orders", [Reply::Hang]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    let address = node.metrics_addr();
    eventually!(
        stage
            .on_lambda(|functions| functions.ledger().open_calls())
            .await
            == 1
    );
    let give_up = node.give_up_handle();
    let ending = tokio::spawn(node.shutdown());
    eventually!(get(address, "/readyz").await.unwrap() == (503, "not ready\n".to_owned()));
    assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
    give_up.now();
    ending.await.unwrap();
}

#[tokio::test]
async fn authentication_that_is_not_carried_out_is_refused_before_anything_starts() {
    let stage = Stage::new();
    let mut site = stage.site();
    let auth = "SourceAccessConfigurations = [{ Type = \"IAM_AUTH\" }]\n";
    site.declare(&Declared::new("orders").with(auth));
    let started = forebay::Appliance::start(site.config(), forebay::Listeners::default()).await;
    let Err(forebay::StartError::Config(problems)) = started else {
        panic!("it started");
    };
    let text = problems.to_string();
    assert!(text.contains("SourceAccessConfigurations"), "{text}");
}
