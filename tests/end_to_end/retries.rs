//! Records that a function cannot digest: how often they are tried, and what goes on meanwhile.

use std::time::Duration;

use forebay::Appliance;
use forebay_tests::clock::unix_millis;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::{Invocation, Reply};
use forebay_tests::harness::{Declared, Site, Stage};
use kafka_protocol::messages::ApiKey;

use crate::status::metric;

/// A mapping with those members, and a node that serves it; the topic has one partition with those records.
async fn serving(stage: &Stage, members: &str, records: &[NewRecord]) -> (Site, Appliance) {
    let records = records.to_vec();
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders").with(members));
    let node = site.start().await;
    (site, node)
}

fn values(count: usize) -> Vec<NewRecord> {
    (0..count)
        .map(|at| NewRecord::value(format!("{at}")))
        .collect()
}

/// The function fails whenever a call carries that offset.
async fn poison(stage: &Stage, offset: i64, reply: impl Fn() -> Reply + Send + 'static) {
    let hook = move |call: &Invocation| match call.offsets("orders", 0).contains(&offset) {
        true => reply(),
        false => Reply::ok(),
    };
    stage
        .on_lambda(move |functions| functions.set_hook(Some(Box::new(hook))))
        .await;
}

async fn calls(stage: &Stage) -> Vec<Vec<i64>> {
    stage
        .on_lambda(|functions| {
            let calls = functions.ledger().calls().iter();
            calls.map(|call| call.offsets("orders", 0)).collect()
        })
        .await
}

#[tokio::test]
async fn what_fails_too_often_is_discarded_counted_and_passed_over() {
    let stage = Stage::new();
    poison(&stage, 1, Reply::function_error).await;
    let (site, node) = serving(&stage, "MaximumRetryAttempts = 1", &values(3)).await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(calls(&stage).await, [[0, 1, 2], [0, 1, 2]]);
    stage
        .on_kafka(|kafka| {
            kafka.append("orders", 0, &[NewRecord::value("next")]);
        })
        .await;
    eventually!(stage.committed("orders", "orders", 0).await == 4);
    eventually!(metric(&node, "forebay_dropped_records_total{").await == Some(3.0));
    eventually!(metric(&node, "forebay_failed_records_total{").await == Some(6.0));
    stage.assert_no_violation().await;
    node.shutdown().await;
    drop(site);
}

#[tokio::test]
async fn halves_find_the_record_that_the_function_cannot_digest() {
    let stage = Stage::new();
    poison(&stage, 2, Reply::function_error).await;
    let members = "MaximumRetryAttempts = 0\nBisectBatchOnFunctionError = true";
    let (site, node) = serving(&stage, members, &values(4)).await;
    eventually!(stage.committed("orders", "orders", 0).await == 4);
    let expected: [&[i64]; 5] = [&[0, 1, 2, 3], &[0, 1], &[2, 3], &[2], &[3]];
    assert_eq!(calls(&stage).await, expected);
    eventually!(metric(&node, "forebay_dropped_records_total{").await == Some(1.0));
    stage.assert_no_violation().await;
    node.shutdown().await;
    drop(site);
}

#[tokio::test]
async fn only_what_the_function_reports_is_tried_again() {
    let stage = Stage::new();
    let report =
        r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"orders-0","offset":1}}]}"#;
    stage
        .on_lambda(move |functions| {
            let replies = [report; 2].map(|body| Reply::Ok(body.into()));
            functions.script("orders", replies);
        })
        .await;
    let members = "FunctionResponseTypes = [\"ReportBatchItemFailures\"]";
    let (site, node) = serving(&stage, members, &values(3)).await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    let expected: [&[i64]; 3] = [&[0, 1, 2], &[1], &[1]];
    assert_eq!(calls(&stage).await, expected);
    eventually!(metric(&node, "forebay_succeeded_records_total{").await == Some(3.0));
    node.shutdown().await;
    drop(site);
}

#[tokio::test]
async fn an_answer_that_is_no_report_fails_the_whole_batch() {
    let stage = Stage::new();
    stage
        .on_lambda(|functions| functions.script("orders", [Reply::Ok("OK".into())]))
        .await;
    let members = "FunctionResponseTypes = [\"ReportBatchItemFailures\"]";
    let (site, node) = serving(&stage, members, &values(2)).await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    assert_eq!(calls(&stage).await, [[0, 1], [0, 1]]);
    node.shutdown().await;
    drop(site);
}

#[tokio::test]
async fn records_that_are_too_old_never_reach_the_function() {
    let stage = Stage::new();
    let mut records = values(3);
    let now = unix_millis();
    for (record, age_seconds) in records.iter_mut().zip([0, 3600, 10]) {
        record.timestamp = now - age_seconds * 1000;
    }
    let (site, node) = serving(&stage, "MaximumRecordAgeInSeconds = 600", &records).await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    assert_eq!(calls(&stage).await, [[0, 2]]);
    eventually!(metric(&node, "forebay_dropped_records_total{").await == Some(1.0));
    node.shutdown().await;
    drop(site);
}

#[tokio::test]
async fn a_limit_that_comes_with_a_reload_frees_what_was_tried_for_ever() {
    let stage = Stage::new();
    poison(&stage, 0, Reply::function_error).await;
    let (mut site, node) = serving(&stage, "", &values(1)).await;
    eventually!(calls(&stage).await.len() >= 2);
    assert!(stage.committed("orders", "orders", 0).await <= 0);
    site.declare(&Declared::new("orders").with("MaximumRetryAttempts = 0"));
    node.reload();
    node.reloaded().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_reload_that_changes_how_records_are_delivered_keeps_consumers_and_attempts() {
    let stage = Stage::new();
    poison(&stage, 0, Reply::function_error).await;
    let (mut site, node) = serving(&stage, "", &values(1)).await;
    eventually!(calls(&stage).await.len() >= 2);
    let joins = async || {
        let asked = stage.on_kafka(|kafka| kafka.requests(ApiKey::JoinGroup));
        asked.await
    };
    let before = joins().await;
    let members = "MaximumRetryAttempts = 4\nBatchSize = 7\nMaximumBatchingWindowInSeconds = 1\n\
                   BisectBatchOnFunctionError = true\nFunctionResponseTypes = [\"ReportBatchItemFailures\"]\n\
                   FilterCriteria.Filters = [{ Pattern = '{\"partition\": [0]}' }]";
    site.declare(&Declared::new("orders").with(members));
    node.reload();
    node.reloaded().await;
    eventually!(within Duration::from_secs(60), stage.committed("orders", "orders", 0).await == 1);
    assert_eq!(calls(&stage).await.len(), 5, "those before are among them");
    assert_eq!(joins().await, before, "nobody has joined again");
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_destination_that_goes_away_starts_the_consumer_again() {
    let stage = Stage::new();
    poison(&stage, 0, Reply::function_error).await;
    let members = "DestinationConfig.OnFailure.Destination = \"arn:aws:sqs:eu-central-1:123456789012:failed\"\nMaximumRetryAttempts = -1";
    let (mut site, node) = serving(&stage, members, &values(1)).await;
    eventually!(calls(&stage).await.len() >= 2);
    let joins = async || {
        let asked = stage.on_kafka(|kafka| kafka.requests(ApiKey::JoinGroup));
        asked.await
    };
    let before = joins().await;
    site.declare(&Declared::new("orders").with("MaximumRetryAttempts = 1"));
    node.reload();
    node.reloaded().await;
    eventually!(stage.committed("orders", "orders", 0).await == 1);
    assert!(joins().await > before);
    node.shutdown().await;
}
