//! The exceptions to "never two open calls for one partition", each apart: what comes again is what the call
//! carried that could not be taken back, and nothing else; nothing of it was committed.
//!
//! SIGKILL and the frozen process need a process of their own: `tests/real_kafka`.

use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::Fault;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Site, Stage};
use kafka_protocol::messages::ApiKey;

const TOPIC: &str = "orders";

/// Two partitions with two records each; the first call of partition 0 gets that reply.
async fn stage_with(first_reply: Reply) -> Stage {
    let stage = Stage::new();
    stage
        .on_kafka(|kafka| {
            kafka.create_topic(TOPIC, 2);
            for partition in 0..2 {
                let records = ["a", "b"].map(NewRecord::value);
                kafka.append(TOPIC, partition, &records);
            }
        })
        .await;
    let mut first_reply = Some(first_reply);
    stage
        .on_lambda(move |functions| {
            functions.set_hook(Some(Box::new(move |call| {
                if call.offsets(TOPIC, 0).is_empty() {
                    return Reply::ok();
                }
                first_reply.take().unwrap_or_else(Reply::ok)
            })));
        })
        .await;
    stage
}

/// A node whose mapping takes each partition in calls of its own.
fn site(stage: &Stage, name: &str) -> Site {
    let mut site = stage.site();
    site.declare(&Declared {
        name: name.to_owned(),
        ..Declared::new(TOPIC).with("MaximumBatchingWindowInSeconds = 0\nBatchSize = 2\n")
    });
    site
}

async fn attempted(stage: &Stage, partition: i32) -> Vec<i64> {
    stage
        .on_lambda(move |functions| functions.ledger().attempted(TOPIC, partition))
        .await
}

async fn open_calls(stage: &Stage) -> usize {
    stage
        .on_lambda(|functions| functions.ledger().open_calls())
        .await
}

async fn committed(stage: &Stage, partition: i32) -> i64 {
    stage.committed(TOPIC, TOPIC, partition).await
}

/// Partition 0 was delivered twice, partition 1 once, and everything is committed.
async fn assert_only_the_lost_call_came_again(stage: &Stage) {
    eventually!(committed(stage, 0).await == 2 && committed(stage, 1).await == 2);
    assert_eq!(attempted(stage, 0).await, [0, 1, 0, 1]);
    assert_eq!(attempted(stage, 1).await, [0, 1]);
    let bodies = stage
        .on_lambda(|functions| {
            let calls = functions.ledger().calls().iter();
            let of_lane = calls.filter(|call| !call.offsets(TOPIC, 0).is_empty());
            of_lane.map(|call| call.body.clone()).collect::<Vec<_>>()
        })
        .await;
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn grace_deadline_closes_the_call_and_its_records_come_again() {
    let stage = stage_with(Reply::Hang).await;
    let first = site(&stage, "orders").key("grace_ms", "200");
    let node = first.start().await;
    eventually!(open_calls(&stage).await == 1 && committed(&stage, 1).await == 2);
    let report = node.shutdown().await;
    assert!(report.gave_up, "{report:?}");
    assert!(committed(&stage, 0).await <= 0, "the call was not answered");
    eventually!(open_calls(&stage).await == 0);
    let second = site(&stage, "orders").start().await;
    assert_only_the_lost_call_came_again(&stage).await;
    stage.assert_no_violation().await;
    second.shutdown().await;
}

#[tokio::test]
async fn connection_lost_after_the_send_means_the_same_call_again() {
    let stage = stage_with(Reply::ResetAfterBody).await;
    let node = site(&stage, "orders").start().await;
    assert_only_the_lost_call_came_again(&stage).await;
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn call_past_its_deadline_is_closed_and_made_again() {
    let stage = stage_with(Reply::Hang).await;
    let node = site(&stage, "orders").function_timeout(1).start().await;
    eventually!(open_calls(&stage).await == 1 && committed(&stage, 1).await == 2);
    assert!(committed(&stage, 0).await <= 0, "the call was not answered");
    assert_only_the_lost_call_came_again(&stage).await;
    stage.assert_no_violation().await;
    node.shutdown().await;
}

#[tokio::test]
async fn expelled_member_with_an_open_call_starts_no_other_and_commits_nothing() {
    let stage = stage_with(Reply::ok().after(Duration::from_secs(6))).await;
    let first = site(&stage, "cut-off").key("session_timeout_ms", "2000");
    let first = first.start().await;
    eventually!(open_calls(&stage).await == 1 && committed(&stage, 1).await == 2);
    // Its coordinator hears nothing of it any more.
    let cut_off = first_client(&stage).await;
    stage
        .on_kafka(move |kafka| {
            kafka.set_hook(Some(Box::new(move |seen| match seen.api {
                ApiKey::Heartbeat | ApiKey::JoinGroup if seen.client_id == cut_off => {
                    Fault::Silence
                }
                _ => Fault::Serve,
            })));
        })
        .await;
    let second = site(&stage, "successor").start().await;
    eventually!(committed(&stage, 0).await == 2);
    assert_eq!(open_calls(&stage).await, 1, "the first call is still open");
    assert_eq!(attempted(&stage, 0).await, [0, 1, 0, 1]);
    stage
        .on_kafka(|kafka| {
            kafka.append(TOPIC, 0, &[NewRecord::value("c")]);
            kafka.append(TOPIC, 1, &[NewRecord::value("c")]);
        })
        .await;
    eventually!(committed(&stage, 0).await == 3 && committed(&stage, 1).await == 3);
    eventually!(open_calls(&stage).await == 0);
    assert_eq!(attempted(&stage, 0).await, [0, 1, 0, 1, 2]);
    assert_eq!(attempted(&stage, 1).await, [0, 1, 2]);
    let overlaps = stage
        .on_lambda(|functions| functions.ledger().violations().to_vec())
        .await;
    assert_eq!(
        overlaps.len(),
        1,
        "only the call that nobody could take back: {overlaps:?}"
    );
    first.shutdown().await;
    second.shutdown().await;
    assert_eq!(committed(&stage, 0).await, 3);
}

/// The client id of the group's only member.
async fn first_client(stage: &Stage) -> String {
    stage
        .on_kafka(|kafka| {
            let (member, _) = kafka.members(TOPIC).first().cloned().expect("one member");
            // A member id is the client id and a dash and a number in hexadecimal.
            let (client, _) = member.rsplit_once('-').expect("a member id has a dash");
            client.to_owned()
        })
        .await
}
