//! Faults at the function: the same bytes come again, nothing is committed early, nothing is lost.

use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Stage};

/// Three records, one batch, those replies first; every attempt carries the same bytes.
async fn check(replies: Vec<Reply>) {
    let stage = Stage::new();
    let faults = replies.len();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = ["a", "b", "c"].map(NewRecord::value);
            kafka.append("orders", 0, &records);
        })
        .await;
    stage
        .on_lambda(move |functions| functions.script("orders", replies))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 3);
    stage
        .on_lambda(move |functions| {
            let ledger = functions.ledger();
            assert_eq!(ledger.delivered("orders", 0), [0, 1, 2]);
            // A reset before the body leaves no entry: the body was never read.
            assert!(ledger.calls().len() <= faults + 1);
            let first = &ledger.calls()[0].body;
            assert!(ledger.calls().iter().all(|call| call.body == *first));
        })
        .await;
    let early = stage
        .on_kafka(|kafka| {
            let commits = kafka.commits().iter();
            commits
                .filter(|commit| ![0, 3].contains(&commit.offset))
                .count()
        })
        .await;
    assert_eq!(early, 0, "an offset inside the failing batch was committed");
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn function_error_is_retried_with_the_same_bytes() {
    check(vec![Reply::function_error(), Reply::function_error()]).await;
}

#[tokio::test]
async fn service_errors_are_retried_with_the_same_bytes() {
    check(vec![
        Reply::error(500, "ServiceException", "no"),
        Reply::error(503, "ServiceUnavailable", "no"),
    ])
    .await;
}

#[tokio::test]
async fn broken_connections_are_retried_with_the_same_bytes() {
    check(vec![
        Reply::ResetBeforeBody,
        Reply::ResetAfterBody,
        Reply::HalfAnswer,
    ])
    .await;
}

#[tokio::test]
async fn nothing_is_committed_while_the_function_hangs() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &[NewRecord::value("a")]);
        })
        .await;
    stage
        .on_lambda(|functions| functions.script("orders", [Reply::Hang]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let site = site.key("grace_ms", "200");
    let node = site.start().await;
    eventually!(
        stage
            .on_lambda(|functions| functions.ledger().open_calls())
            .await
            == 1
    );
    let report = node.shutdown().await;
    assert!(report.gave_up, "{report:?}");
    assert!(stage.committed("orders", "orders", 0).await <= 0);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &[NewRecord::value("a")]);
        })
        .await;
    stage
        .on_lambda(|functions| functions.script("orders", [Reply::throttled(Some(2))]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.delivered("orders").await == 1);
    let waited = stage
        .on_lambda(|functions| {
            let calls = functions.ledger().calls();
            calls[1].began - calls[0].began
        })
        .await;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    node.shutdown().await;
}
