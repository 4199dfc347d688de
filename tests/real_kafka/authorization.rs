//! A broker with ACLs: what is missing is told by name, and once it is granted the mapping works.
//!
//! Invariant: a mapping that is not allowed heals by itself.

use std::time::Duration;

use forebay_tests::rig::{Broker, Forebay, Producer, Settings, Sink, await_all, eventually};

use super::{NEWEST, PARTITIONS, rig};

const TOPIC: &str = "guarded";
const USER: &str = "forebay";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acls_that_are_missing_are_told_and_granted_without_a_restart() {
    let Some(rig) = rig("acls_that_are_missing") else {
        return;
    };
    let broker = Broker::start_guarded(&rig, NEWEST).await;
    broker.topic(TOPIC, PARTITIONS, &[]).await;
    broker.produce(Producer::Librdkafka, TOPIC, 1_000, 1).await;
    let expected = broker.expected(TOPIC).await;
    let mut sink = Sink::new();
    let access = [
        ("SERVER_ROOT_CA_CERTIFICATE", "root"),
        ("BASIC_AUTH", "user"),
    ];
    let settings = Settings {
        access: access
            .map(|(kind, name)| (kind, broker.secret_uri(name)))
            .to_vec(),
        bootstrap: Some(broker.listener("SASL").to_owned()),
        ..Settings::new(TOPIC, "guarded-group", sink.listen().await)
    };
    let mut forebay = Forebay::start(&broker, &settings);
    is_refused(&forebay, &["topic guarded", "group guarded-group"]).await;
    broker.allow(USER, "topic", TOPIC).await;
    is_refused(&forebay, &["group guarded-group"]).await;
    assert!(sink.ledger().calls.is_empty());
    broker.allow(USER, "group", "guarded-group").await;
    await_all(&mut sink, &expected, Duration::from_secs(60))
        .await
        .assert_sound();
    forebay.assert_running();
    broker
        .await_no_lag("guarded-group", PARTITIONS as usize)
        .await;
}

/// The status says that we are refused, and `check` what is to be granted: these, and no others.
async fn is_refused(forebay: &Forebay, lacking: &[&str]) {
    const RESULT: &str = "PROBLEM: Cluster failed to authorize Lambda.";
    eventually(RESULT, Duration::from_secs(30), async || {
        forebay.has_logged(RESULT).then_some(())
    })
    .await;
    let said = forebay.check().await;
    let problems = said.lines().filter(|line| line.starts_with("problem:"));
    let denied: Vec<&str> = problems
        .filter(|line| line.contains(" is not allowed"))
        .collect();
    assert_eq!(denied.len(), lacking.len(), "{said}");
    for (line, name) in denied.iter().zip(lacking) {
        let expected = format!("{name}: is not allowed; grant Describe and Read on it");
        assert!(line.contains(&expected), "{said}");
    }
}
