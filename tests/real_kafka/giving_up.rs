//! Records that are given up, among calls that fail in every way, to a topic that is not there at first; and SIGKILL.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use forebay_tests::fake_lambda::{FakeLambda, Invocation, Reply};
use forebay_tests::rig::{
    Broker, Document, Expected, Forebay, Producer, Settings, eventually, unix_millis,
};
use tokio::sync::mpsc;

use super::{NEWEST, PARTITIONS, rig, say};

const KILLS: u64 = 20;

/// The topic of failed records comes to be before that kill.
const TOPIC_SINCE: u64 = 8;

/// A partition and an offset.
type Place = (i32, i64);

/// The function reports these as failed, each time.
fn is_reported((_, offset): Place) -> bool {
    offset % 50 == 7
}

/// The function fails whole with these, each time.
fn is_poison((partition, offset): Place) -> bool {
    offset % 400 == 9 && partition % 2 == 0
}

fn places(call: &Invocation) -> Vec<Place> {
    let records = call.records.iter();
    records.map(|it| (it.partition, it.offset)).collect()
}

/// A function that tells what it has processed before it says so.
fn answer(number: u64, call: &Invocation, processed: &mpsc::UnboundedSender<Place>) -> Reply {
    let places = places(call);
    match number % 29 {
        3 => return Reply::throttled(None),
        11 => return Reply::error(500, "ServiceException", "no"),
        17 => return Reply::ResetAfterBody,
        23 => return Reply::HalfAnswer,
        _ => {}
    }
    if places.iter().any(|place| is_poison(*place)) {
        return Reply::function_error();
    }
    let (failed, fine): (Vec<Place>, Vec<Place>) =
        places.into_iter().partition(|place| is_reported(*place));
    let failed = failed.iter().map(|(partition, offset)| {
        let place = format!("{{\"partition\":\"failing-{partition}\",\"offset\":{offset}}}");
        format!("{{\"itemIdentifier\":{place}}}")
    });
    let failed: Vec<String> = failed.collect();
    for place in fine {
        processed.send(place).ok();
    }
    let body = format!("{{\"batchItemFailures\":[{}]}}", failed.join(","));
    Reply::Ok(Bytes::from(body))
}

/// 0 lost: every record was processed, or stands in the topic of failed records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_processed_or_given_up_when_killed_twenty_times() {
    let Some(rig) = rig("giving_up") else { return };
    let broker = Broker::start(&rig, NEWEST).await;
    broker.topic("failing", PARTITIONS, &[]).await;
    let load = broker.load(Producer::Librdkafka, "failing", 5, 400);
    let function = FakeLambda::start().expect("a free port");
    let (tell, mut heard) = mpsc::unbounded_channel();
    let (mut number, mut calls) = (0, tokio::sync::watch::channel(0_u64));
    let told = calls.0.clone();
    let hook = move |call: &Invocation| {
        number += 1;
        told.send(number).ok();
        answer(number, call, &tell)
    };
    let hook = Box::new(hook);
    function.with(|it| it.set_hook(Some(hook))).await;
    let settings = Settings {
        session_timeout: Duration::from_secs(2),
        failed_topic: Some("failed"),
        ..Settings::new("failing", "failing", function.address().port())
    };
    for round in 0..KILLS {
        if round == TOPIC_SINCE {
            broker.topic("failed", PARTITIONS, &[]).await;
        }
        let before = *calls.1.borrow_and_update();
        let mut forebay = Forebay::start(&broker, &settings);
        eventually("calls after a start", Duration::from_secs(60), async || {
            forebay.assert_running();
            (*calls.1.borrow() > before).then_some(())
        })
        .await;
        let after = (round * 7919 + unix_millis()) % 2000;
        tokio::time::sleep(Duration::from_millis(after)).await;
        forebay.assert_running();
        forebay.kill().await;
    }
    let mut forebay = Forebay::start(&broker, &settings);
    let produced = load.stop().await;
    let expected = broker.expected("failing").await;
    assert_eq!(expected.records(), produced.committed);
    let no_lag = broker.await_no_lag("failing", PARTITIONS as usize);
    tokio::time::timeout(Duration::from_secs(240), no_lag)
        .await
        .expect("everything ends");
    forebay.assert_running();
    let (status, log) = forebay.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{log}");

    let mut processed = BTreeSet::new();
    while let Ok(place) = heard.try_recv() {
        processed.insert(place);
    }
    let documents = broker.expected("failed").await.documents();
    judge(&expected, &processed, &documents);
}

/// Every record has ended one way at least, and those that the function cannot digest stand in the topic as they are.
fn judge(expected: &Expected, processed: &BTreeSet<Place>, documents: &[Document]) {
    let given_up: BTreeSet<Place> = documents.iter().map(|it| it.place).collect();
    let all: BTreeSet<Place> = expected.places().collect();
    let must = all.iter().copied();
    let must: BTreeSet<Place> = must
        .filter(|place| is_reported(*place) || is_poison(*place))
        .collect();
    say(&format!(
        "killed {KILLS} times among failures: {} records, {} of them poisoned, {} documents",
        all.len(),
        must.len(),
        documents.len()
    ));
    assert!(must.len() > 50, "few records failed: {}", must.len());
    let lost = must.difference(&given_up);
    assert!(must.is_subset(&given_up), "lost: {lost:?}");
    let ended: BTreeSet<Place> = processed.union(&given_up).copied().collect();
    assert_eq!(ended, all, "every record has ended one way at least");
    for document in documents {
        expected.assert_is(document);
    }
}
