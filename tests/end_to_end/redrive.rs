//! What failed is sent again: from each kind of place, to the function and back to the topic.
//!
//! A node writes the documents, as its function fails; then the function is mended.

mod scene;

use forebay::control::redrive::{Order, Target};
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_lambda::Reply;
use forebay_tests::fake_lambda::event::SeenRecord;
use forebay_tests::harness::Stage;
use serde_json::{Value, json};

use self::scene::{
    BUCKET, FAILED, NO_DESTINATION, QUEUE, QUEUE_PATH, RECORDS, Scene, documents, executed, order,
    removing,
};
use crate::secrets::is_inside;

const SENT_BEFORE: &str = "0 sent, 0 records sent";

#[tokio::test]
async fn a_bucket_gives_the_function_the_same_bytes_again() {
    if !is_inside(
        "redrive::a_bucket_gives_the_function_the_same_bytes_again",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(BUCKET, "BatchSize = 2\n").await;
    scene.fail().await;
    let (kept, (failed, _)) = (scene.kept().await, scene.bodies().await);
    assert!(kept > 3, "the list has pages");
    let dry = scene.redrive(order()).await;
    dry.check(
        true,
        &format!("{kept} documents: {kept} would be sent, 10 records in all"),
    );
    assert_eq!(scene.bodies().await.1.len(), 0, "a dry run calls nothing");
    assert!(!scene.site.path().join("state/redrive").exists());
    let done = scene.redrive(executed()).await;
    done.check(
        true,
        &format!("{kept} documents: {kept} sent, 10 records sent"),
    );
    assert_eq!(
        scene.bodies().await,
        (failed.clone(), failed),
        "byte for byte"
    );
    assert_eq!(
        scene.kept().await,
        kept,
        "nothing is removed unless it is asked for"
    );
    let again = scene.redrive(removing()).await;
    again.check(
        true,
        &format!("{kept} documents: {SENT_BEFORE}, {kept} sent before, {kept} removed"),
    );
    assert_eq!(scene.kept().await, 0);
    assert_eq!(scene.bodies().await.1.len(), kept, "nothing is sent twice");
}

#[tokio::test]
async fn a_queue_has_offsets_and_the_function_gets_the_same_bytes_again() {
    if !is_inside(
        "redrive::a_queue_has_offsets_and_the_function_gets_the_same_bytes_again",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(QUEUE, "BatchSize = 3\n").await;
    scene.fail().await;
    let (kept, (failed, _)) = (scene.kept().await, scene.bodies().await);
    // Half of them come by a topic of SNS.
    scene
        .aws
        .with(|it| {
            let queue = it.destinations.queues.get_mut(QUEUE_PATH).unwrap();
            for text in queue.iter_mut().step_by(2) {
                *text = json!({ "Type": "Notification", "MessageId": "1", "Message": text })
                    .to_string();
            }
            queue.push("hello".to_owned());
        })
        .await;
    let dry = scene.redrive(order()).await;
    let all = kept + 1;
    dry.check(
        true,
        &format!("{all} documents: {kept} would be sent, 10 records in all, 1 left alone"),
    );
    assert_eq!(scene.kept().await, all);
    let done = scene.redrive(removing()).await;
    let summary =
        format!("{all} documents: {kept} sent, 10 records sent, 1 left alone, {kept} removed");
    done.check(true, &summary);
    done.says("left alone: it is no document of failed Kafka records (line 1, column 1)");
    assert_eq!(
        scene.bodies().await,
        (failed.clone(), failed),
        "byte for byte"
    );
    assert_eq!(scene.kept().await, 1, "what is no document stays");
}

#[tokio::test]
async fn brokers_and_functions_are_reached_under_tls() {
    if !is_inside("redrive::brokers_and_functions_are_reached_under_tls", &[]) {
        return;
    }
    let scene = Scene::on(Stage::secure(), QUEUE, "").await;
    scene.fail().await;
    let (kept, (failed, _)) = (scene.kept().await, scene.bodies().await);
    let done = scene.redrive(removing()).await;
    done.check(
        true,
        &format!(
            "{}: {kept} sent, 10 records sent, {kept} removed",
            documents(kept)
        ),
    );
    assert_eq!(
        scene.bodies().await,
        (failed.clone(), failed),
        "byte for byte"
    );
}

#[tokio::test]
async fn what_fails_again_stays_and_is_sent_the_next_time() {
    if !is_inside(
        "redrive::what_fails_again_stays_and_is_sent_the_next_time",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(
        QUEUE,
        "BatchSize = 100\nFunctionResponseTypes = [\"ReportBatchItemFailures\"]\n",
    )
    .await;
    scene.fail().await;
    let kept = scene.kept().await;
    scene.mend(Reply::function_error()).await;
    let failed = scene.redrive(removing()).await;
    failed.check(
        false,
        &format!(
            "{}: {SENT_BEFORE}, {kept} not sent whole, and kept",
            documents(kept)
        ),
    );
    failed.says("the function failed: Error: no; it is kept");
    // It does not take offset 1 of either partition.
    scene
        .stage
        .on_lambda(|functions| {
            functions.forget("orders");
            functions.set_hook(Some(Box::new(|call| {
                let failed = call.records.iter().filter(|it| it.offset == 1);
                let item = |it: &SeenRecord| {
                    let partition = format!("{}-{}", it.topic, it.partition);
                    json!({ "itemIdentifier": { "partition": partition, "offset": it.offset } })
                };
                let items: Vec<Value> = failed.map(item).collect();
                Reply::Ok(json!({ "batchItemFailures": items }).to_string().into())
            })));
        })
        .await;
    let partly = scene.redrive(removing()).await;
    partly.check(
        false,
        &format!(
            "{}: 0 sent, 8 records sent, {kept} not sent whole, and kept",
            documents(kept)
        ),
    );
    partly.says("the function says that it failed on partition 0 offset 1");
    let rest = scene.redrive(removing()).await;
    rest.says("0 records sent, ");
    scene.mend(Reply::ok()).await;
    let done = scene.redrive(removing()).await;
    done.check(
        true,
        &format!(
            "{}: {kept} sent, 2 records sent, {kept} removed",
            documents(kept)
        ),
    );
    done.says(" were sent before");
    assert_eq!(scene.kept().await, 0);
    // Records 0, 2, 3, 4 were taken once; the function was asked for 1 in each call that it took.
    for partition in [0, 1] {
        assert_eq!(scene.delivered(partition).await, [0, 1, 1, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn what_retention_has_taken_is_told_and_its_document_kept() {
    if !is_inside(
        "redrive::what_retention_has_taken_is_told_and_its_document_kept",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(QUEUE, "BatchSize = 100\n").await;
    scene.fail().await;
    let kept = scene.kept().await;
    scene
        .stage
        .on_kafka(|kafka| kafka.delete_before("orders", 0, 3))
        .await;
    let done = scene.redrive(removing()).await;
    assert_eq!(done.succeeded, Ok(false), "{:#?}", done.lines);
    done.says("retention has taken partition 0 offsets 0 to 2; it is kept");
    assert_eq!(scene.delivered(0).await, [3, 4]);
    assert_eq!(scene.kept().await, kept);
    // What is left of it is not sent again.
    scene.redrive(removing()).await;
    assert_eq!(scene.delivered(0).await, [3, 4]);
    let anew = |records: i64| {
        scene.stage.on_kafka(move |kafka| {
            kafka.recreate_topic("orders");
            for at in 0..2 * records {
                let partition = i32::from(at % 2 == 1);
                kafka.append("orders", partition, &[NewRecord::value("other").at(at)]);
            }
        })
    };
    for (records, said) in [
        (
            RECORDS,
            "and the one that failed was of 2023-11-14T22:13:20.",
        ),
        (
            2,
            "ends before offset 2, and the document speaks of 4: was the topic made anew?",
        ),
    ] {
        anew(records).await;
        let done = scene.redrive(removing()).await;
        assert_eq!(done.succeeded, Ok(false), "{:#?}", done.lines);
        done.says(said);
    }
    assert_eq!(
        scene.delivered(0).await,
        [3, 4],
        "no other record is sent instead"
    );
}

#[tokio::test]
async fn a_topic_is_read_to_its_end_and_goes_on_where_it_stopped() {
    if !is_inside(
        "redrive::a_topic_is_read_to_its_end_and_goes_on_where_it_stopped",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(FAILED, "").await;
    scene.fail().await;
    scene
        .stage
        .on_kafka(|kafka| {
            let junk = [NewRecord::value("hello"), NewRecord::default()];
            kafka.append("failed", 0, &junk);
        })
        .await;
    let refused = scene.redrive(removing()).await;
    let said = refused.succeeded.unwrap_err();
    assert!(said.contains("removed by its retention alone"), "{said}");
    let some = Order {
        limit: Some(4),
        ..executed()
    };
    let some = scene.redrive(some).await;
    some.says("4 sent, 4 records sent");
    let rest = scene.redrive(executed()).await;
    rest.check(
        true,
        "12 documents: 6 sent, 6 records sent, 4 sent before, 2 left alone",
    );
    for partition in [0, 1] {
        assert_eq!(scene.delivered(partition).await, [0, 1, 2, 3, 4]);
    }
    assert_eq!(
        scene.stage.committed("orders", "orders", 0).await,
        RECORDS,
        "nothing is committed"
    );
    // A topic that was made anew has other records at the same offsets.
    scene
        .stage
        .on_kafka(|kafka| kafka.recreate_topic("failed"))
        .await;
    let anew = scene.redrive(executed()).await;
    let said = anew.succeeded.unwrap_err();
    assert!(
        said.contains("made anew") && said.contains("--progress"),
        "{said}"
    );
}

#[tokio::test]
async fn records_go_back_to_their_topic_as_they_were() {
    if !is_inside("redrive::records_go_back_to_their_topic_as_they_were", &[]) {
        return;
    }
    for destination in [BUCKET, QUEUE] {
        let scene = Scene::new(destination, "BatchSize = 4\n").await;
        scene.fail().await;
        let kept = scene.kept().await;
        let back = Order {
            to: Target::Topic,
            ..removing()
        };
        let done = scene.redrive(back).await;
        done.check(
            true,
            &format!("{kept} documents: {kept} sent, 10 records sent, {kept} removed"),
        );
        assert_eq!(
            scene.bodies().await.1.len(),
            0,
            "the function is not called"
        );
        // A node delivers what came.
        let node = scene.site.start().await;
        for partition in [0, 1] {
            eventually!(scene.stage.committed("orders", "orders", partition).await == 2 * RECORDS);
        }
        node.shutdown().await;
        let calls = scene
            .stage
            .on_lambda(|it| it.ledger().calls().to_vec())
            .await;
        let place = |it: &SeenRecord| {
            (
                it.partition,
                it.offset,
                it.timestamp,
                it.key.clone(),
                it.value.clone(),
                it.headers.clone(),
            )
        };
        let seen = |succeeded: bool| {
            let calls = calls.iter().filter(|it| it.succeeded == succeeded);
            let mut seen: Vec<_> = calls.flat_map(|it| &it.records).map(place).collect();
            seen.sort();
            seen
        };
        let mut expected = seen(false);
        let mut found = seen(true);
        // The offsets are new; by their times they are in order.
        for record in expected.iter_mut().chain(&mut found) {
            record.1 = 0;
        }
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{destination}");
        assert_eq!(found.len(), 10);
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_made_ends_it_with_what_to_do() {
    if !is_inside(
        "redrive::a_call_that_cannot_be_made_ends_it_with_what_to_do",
        &[],
    ) {
        return;
    }
    let scene = Scene::new(BUCKET, "BatchSize = 2\n").await;
    scene.fail().await;
    let kept = scene.kept().await;
    let throttled = [
        Reply::throttled(None),
        Reply::error(503, "", "busy"),
        Reply::ok(),
    ];
    scene
        .stage
        .on_lambda(move |it| it.script("orders", throttled))
        .await;
    scene
        .mend(Reply::error(403, "AccessDeniedException", "not you"))
        .await;
    let ended = scene.redrive(removing()).await;
    assert_eq!(ended.succeeded, Ok(false));
    ended.says("1 document: 1 sent, ");
    ended.says("it ended early: the function cannot be called: ");
    ended.says("start it again to go on from there");
    assert_eq!(scene.kept().await, kept - 1);
    scene
        .mend(Reply::error(413, "RequestTooLargeException", "large"))
        .await;
    let large = scene.redrive(removing()).await;
    large.says("the endpoint does not take it");
    assert_eq!(scene.kept().await, kept - 1);
    scene.mend(Reply::ok()).await;
    let rest = kept - 1;
    let done = scene.redrive(removing()).await;
    assert_eq!(done.succeeded, Ok(true), "{:#?}", done.lines);
    done.says(&format!("{rest} documents: {rest} sent, "));
    for partition in [0, 1] {
        assert_eq!(scene.delivered(partition).await, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn what_is_of_others_is_left_alone() {
    if !is_inside("redrive::what_is_of_others_is_left_alone", &[]) {
        return;
    }
    let scene = Scene::new(QUEUE, "BatchSize = 100\n").await;
    scene.fail().await;
    let kept = scene.kept().await;
    scene
        .aws
        .with(|it| {
            let queue = it.destinations.queues.get_mut(QUEUE_PATH).unwrap();
            let own = queue[0].clone();
            for (old, new) in [
                (":function:orders\"", ":function:bills\""),
                ("\"orders-", "\"bills-"),
                ("127.0.0.1:", "other.example.net:"),
                ("RetryAttemptsExhausted", "Probe"),
            ] {
                assert!(own.contains(old), "{own}");
                queue.push(own.replace(old, new));
            }
        })
        .await;
    let all = kept + 4;
    let done = scene.redrive(removing()).await;
    done.check(
        true,
        &format!(
            "{all} documents: {kept} sent, 10 records sent, 3 left alone, 1 of forebay check --probe, {} removed",
            kept + 1
        ),
    );
    for said in [
        "it is of another function, ",
        "it is of another topic, bills",
        "it is of another cluster, ",
    ] {
        done.says(said);
    }
    assert_eq!(scene.kept().await, 3);
}

#[tokio::test]
async fn a_redrive_that_makes_no_sense_is_refused() {
    if !is_inside("redrive::a_redrive_that_makes_no_sense_is_refused", &[]) {
        return;
    }
    let scene = Scene::new(NO_DESTINATION, "").await;
    let refused = async |order: Order| scene.redrive(order).await.succeeded.unwrap_err();
    let said = refused(order()).await;
    assert!(
        said.contains("the mapping has no DestinationConfig") && said.contains("--from"),
        "{said}"
    );
    let unknown = Order {
        mapping: "bills".to_owned(),
        ..order()
    };
    assert_eq!(
        refused(unknown).await,
        "there is no mapping bills; there are orders"
    );
    let from = |text: &str| Order {
        from: Some(text.to_owned()),
        ..order()
    };
    let said = refused(from("kafka://nowhere")).await;
    assert!(said.contains("there is no topic nowhere"), "{said}");
    let progress = |name: &str| Order {
        progress: Some(scene.site.path().join(name)),
        execute: true,
        ..from("s3://failed/a/")
    };
    scene
        .redrive(progress("one"))
        .await
        .check(true, "0 documents: 0 sent, 0 records sent");
    let other = Order {
        to: Target::Topic,
        ..progress("one")
    };
    let said = refused(other).await;
    assert!(
        said.contains("from s3://failed/a/ to function; name another file"),
        "{said}"
    );
    let missing = scene.redrive(from("s3://missing")).await;
    assert_eq!(missing.succeeded, Ok(false));
    missing.says("NoSuchBucket");
    missing.says("create it, or correct --from");
}
