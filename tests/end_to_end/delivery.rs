//! A topic reaches its function: every record, in order, in AWS's exact event, and is then committed.

use bytes::Bytes;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{Declared, Stage};

#[tokio::test]
async fn topic_arrives_whole_and_in_order_and_is_committed() {
    check_arrival(Stage::new()).await;
}

#[tokio::test]
async fn topic_arrives_whole_and_in_order_under_tls_and_is_committed() {
    check_arrival(Stage::secure()).await;
}

async fn check_arrival(stage: Stage) {
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 4);
            for at in 0..400 {
                let record = NewRecord::value(format!("value-{at}")).at(1_700_000_000_000 + at);
                kafka.append("orders", (at % 4) as i32, &[record]);
            }
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.delivered("orders").await == 400);
    for partition in 0..4 {
        eventually!(stage.committed("orders", "orders", partition).await == 100);
        let delivered = stage
            .on_lambda(move |functions| functions.ledger().delivered("orders", partition))
            .await;
        assert_eq!(delivered, (0..100).collect::<Vec<i64>>());
    }
    stage.assert_no_violation().await;
    let report = node.shutdown().await;
    assert!(report.unfinished.is_empty(), "{report:?}");
}

#[tokio::test]
async fn event_is_byte_for_byte_what_aws_sends() {
    let stage = Stage::new();
    let records = [
        NewRecord::value("{\"a\":1}")
            .at(1_700_000_000_123)
            .with_key("k1")
            .with_header("trace", Some(Bytes::from_static(&[1, 0xff, 0x80])))
            .with_header("trace", Some(Bytes::new())),
        NewRecord {
            timestamp: 1_700_000_000_124,
            key: Some(Bytes::new()),
            ..NewRecord::default()
        },
    ];
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic("orders", 1);
            kafka.append("orders", 0, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.delivered("orders").await == 2);
    let body = stage
        .on_lambda(|functions| functions.ledger().calls()[0].body.clone())
        .await;
    let expected = format!(
        concat!(
            r#"{{"eventSource":"SelfManagedKafka","bootstrapServers":"{}","records":{{"orders-0":["#,
            r#"{{"topic":"orders","partition":0,"offset":0,"timestamp":1700000000123,"timestampType":"CREATE_TIME","#,
            r#""key":"azE=","value":"eyJhIjoxfQ==","headers":[{{"trace":[1,-1,-128]}},{{"trace":[]}}]}},"#,
            r#"{{"topic":"orders","partition":0,"offset":1,"timestamp":1700000000124,"timestampType":"CREATE_TIME","#,
            r#""key":"","headers":[]}}]}}}}"#
        ),
        stage.kafka.bootstrap()
    );
    assert_eq!(String::from_utf8_lossy(&body), expected);
    node.shutdown().await;
}
