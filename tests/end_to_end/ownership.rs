//! Restarts and rebalances: a node goes on at the commit, and two nodes share a group.

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::harness::{Declared, Stage};

#[tokio::test]
async fn restarted_node_goes_on_at_the_commit() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic("orders", 1);
            let records = vec![NewRecord::value("a"); 10];
            kafka.append("orders", 0, &records);
        })
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 10);
    node.shutdown().await;
    eventually!(
        stage
            .on_kafka(|kafka| kafka.members("orders").is_empty())
            .await
    );
    stage
        .on_kafka(|kafka| {
            let records = vec![NewRecord::value("b"); 10];
            kafka.append("orders", 0, &records);
        })
        .await;
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 20);
    let attempted = stage
        .on_lambda(|functions| functions.ledger().attempted("orders", 0))
        .await;
    assert_eq!(attempted, (0..20).collect::<Vec<i64>>());
    node.shutdown().await;
}

#[tokio::test]
async fn two_nodes_share_a_group_without_loss_or_overlap() {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| kafka.create_topic("orders", 8))
        .await;
    let (mut first, mut second) = (stage.site(), stage.site());
    first.declare(&Declared::new("orders"));
    second.declare(&Declared::new("orders"));
    let one = first.start().await;
    eventually!(stage.on_kafka(|kafka| kafka.is_stable("orders")).await);
    produce(&stage, 20).await;
    let two = second.start().await;
    eventually!(
        stage
            .on_kafka(|kafka| kafka.members("orders").len() == 2 && kafka.is_stable("orders"))
            .await
    );
    produce(&stage, 20).await;
    one.shutdown().await;
    produce(&stage, 20).await;
    eventually!(stage.delivered("orders").await == 8 * 60);
    for partition in 0..8 {
        eventually!(stage.committed("orders", "orders", partition).await == 60);
        let delivered = stage
            .on_lambda(move |functions| functions.ledger().delivered("orders", partition))
            .await;
        assert_eq!(
            delivered,
            (0..60).collect::<Vec<i64>>(),
            "partition {partition}"
        );
    }
    stage.assert_no_violation().await;
    two.shutdown().await;
}

async fn produce(stage: &Stage, rounds: i32) {
    for _ in 0..rounds {
        stage
            .on_kafka(|kafka| {
                for partition in 0..8 {
                    kafka.append("orders", partition, &[NewRecord::value("a")]);
                }
            })
            .await;
    }
}
