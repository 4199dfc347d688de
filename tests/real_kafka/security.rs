//! TLS, mutual TLS and SASL at the listeners of a real Kafka.
//!
//! Invariant: who is not trusted gets and gives no record, and the mapping says why and heals by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_tests::rig::{
    Broker, Forebay, Producer, Settings, Sink, await_all, eventually, file_uri,
};
use rustix::process::Signal;

use super::{NEWEST, OLDER, OLDEST, PARTITIONS, rig};

const ROOT: &str = "SERVER_ROOT_CA_CERTIFICATE";
const PLAIN: &str = "BASIC_AUTH";
const SCRAM_512: &str = "SASL_SCRAM_512_AUTH";
const CERTIFICATE: &str = "CLIENT_CERTIFICATE_TLS_AUTH";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_on_the_newest_kafka() {
    security(NEWEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_on_an_older_kafka() {
    security(OLDER).await;
}

/// Where the mechanism's messages come without a header, and who is refused is hung up on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_wrong_is_told_by_the_oldest_kafka_too() {
    let Some(rig) = rig("security") else { return };
    let broker = Broker::start_secure(&rig, OLDEST).await;
    let sink = Sink::new();
    let access = [(ROOT, "root"), (PLAIN, "wrong")];
    let port = sink.listen().await;
    let settings = settings(&broker, "wrong-plain", "SASL", &access, port);
    let mut forebay = Forebay::start(&broker, &settings);
    await_log(&forebay, "PROBLEM: SASL authentication failed.").await;
    let checked = forebay.check().await;
    let said = "is of no use (SASL authentication failed: PLAIN: the broker closed the connection during authentication; an old broker refuses credentials in that way); mend SourceAccessConfigurations";
    assert!(checked.contains(said), "{checked}");
    forebay.assert_running();
}

async fn security(version: &'static str) {
    let Some(rig) = rig("security") else { return };
    let broker = Broker::start_secure(&rig, version).await;
    records_come_under_tls(&broker).await;
    records_come_under_mutual_tls(&broker).await;
    a_new_certificate_is_used_without_a_rebalance(&broker).await;
    records_come_after_each_kind_of_login(&broker).await;
    a_password_that_is_wrong_is_told_and_mended_without_a_restart(&broker).await;
    a_root_that_is_wrong_is_told_and_mended_without_a_restart(&broker).await;
    a_certificate_that_is_missing_is_told(&broker).await;
    a_certificate_that_nobody_asked_for_is_told(&broker).await;
    a_listener_without_tls_is_told(&broker).await;
}

/// Writes some records of every kind, and lets them come at that listener.
async fn records_come(
    broker: &Broker,
    topic: &str,
    listener: &str,
    access: &[(&'static str, &str)],
) {
    broker.topic(topic, PARTITIONS, &[]).await;
    broker.produce(Producer::Java, topic, 5_000, 1).await;
    let expected = broker.expected(topic).await;
    let mut sink = Sink::new();
    let settings = settings(broker, topic, listener, access, sink.listen().await);
    let mut forebay = Forebay::start(broker, &settings);
    await_all(&mut sink, &expected, Duration::from_secs(60))
        .await
        .assert_sound();
    broker.await_no_lag(topic, PARTITIONS as usize).await;
    forebay.assert_running();
    let (status, log) = forebay.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{log}");
}

fn settings(
    broker: &Broker,
    topic: &str,
    listener: &str,
    access: &[(&'static str, &str)],
    function_port: u16,
) -> Settings {
    let secrets = access.iter();
    Settings {
        access: secrets
            .map(|(kind, name)| (*kind, broker.secret_uri(name)))
            .collect(),
        bootstrap: Some(broker.listener(listener).to_owned()),
        ..Settings::new(topic, topic, function_port)
    }
}

async fn records_come_under_tls(broker: &Broker) {
    records_come(broker, "tls", "TLS", &[(ROOT, "root")]).await;
}

async fn records_come_under_mutual_tls(broker: &Broker) {
    let access = [(ROOT, "root"), (CERTIFICATE, "client")];
    records_come(broker, "mtls", "MTLS", &access).await;
}

async fn a_new_certificate_is_used_without_a_rebalance(broker: &Broker) {
    broker.topic("renewed", PARTITIONS, &[]).await;
    broker.produce(Producer::Java, "renewed", 1_000, 1).await;
    let mut sink = Sink::new();
    let access = [(ROOT, "root"), (CERTIFICATE, "client")];
    let port = sink.listen().await;
    let mut settings = settings(broker, "renewed", "MTLS", &access, port);
    let dir = tempfile::tempdir().expect("a folder");
    let secret = own_copy(&mut settings, dir.path());
    let mut forebay = Forebay::start(broker, &settings);
    let before = broker.expected("renewed").await;
    await_all(&mut sink, &before, Duration::from_secs(60)).await;
    let joined = forebay.times_logged("Joined the group");
    copy(&broker.secret("second"), &secret);
    forebay.signal(Signal::HUP);
    // Of the seed, of the coordinator twice, and of the broker that is fetched from.
    eventually("all is made anew", Duration::from_secs(30), async || {
        (forebay.times_logged("it is made anew") >= 4).then_some(())
    })
    .await;
    broker
        .produce(Producer::Librdkafka, "renewed", 1_000, 2)
        .await;
    let all = broker.expected("renewed").await;
    await_all(&mut sink, &all, Duration::from_secs(60))
        .await
        .assert_sound();
    assert_eq!(forebay.times_logged("Joined the group"), joined);
    forebay.assert_running();
}

/// Lets the last secret of a mapping be a file that may be changed; its path.
fn own_copy(settings: &mut Settings, dir: &Path) -> PathBuf {
    let secret = dir.join("secret.json");
    let (_, last) = settings.access.last_mut().expect("a secret");
    copy(Path::new(last.trim_start_matches("file:")), &secret);
    *last = file_uri(&secret);
    secret
}

async fn records_come_after_each_kind_of_login(broker: &Broker) {
    for (topic, kind) in [
        ("plain", PLAIN),
        ("scram-256", "SASL_SCRAM_256_AUTH"),
        ("scram-512", SCRAM_512),
    ] {
        records_come(broker, topic, "SASL", &[(ROOT, "root"), (kind, "user")]).await;
    }
}

async fn a_password_that_is_wrong_is_told_and_mended_without_a_restart(broker: &Broker) {
    for (topic, kind) in [("wrong-plain", PLAIN), ("wrong-scram", SCRAM_512)] {
        let access = [(ROOT, "root"), (kind, "wrong")];
        let mending = Mending {
            topic,
            listener: "SASL",
            right: "user",
            result: "PROBLEM: SASL authentication failed.",
        };
        told_and_mended(broker, &access, mending).await;
    }
}

async fn a_root_that_is_wrong_is_told_and_mended_without_a_restart(broker: &Broker) {
    let mending = Mending {
        topic: "wrong-root",
        listener: "TLS",
        right: "root",
        result: "PROBLEM: Lambda failed to authenticate server.",
    };
    told_and_mended(broker, &[(ROOT, "stranger")], mending).await;
}

/// The last secret of a mapping is wrong at first.
struct Mending {
    topic: &'static str,
    listener: &'static str,
    right: &'static str,
    result: &'static str,
}

async fn told_and_mended(broker: &Broker, access: &[(&'static str, &str)], mending: Mending) {
    let topic = mending.topic;
    broker.topic(topic, PARTITIONS, &[]).await;
    broker.produce(Producer::Librdkafka, topic, 1_000, 1).await;
    let expected = broker.expected(topic).await;
    let mut sink = Sink::new();
    let port = sink.listen().await;
    let mut settings = settings(broker, topic, mending.listener, access, port);
    let dir = tempfile::tempdir().expect("a folder");
    let secret = own_copy(&mut settings, dir.path());
    let mut forebay = Forebay::start(broker, &settings);
    await_log(&forebay, mending.result).await;
    assert!(sink.ledger().calls.is_empty());
    copy(&broker.secret(mending.right), &secret);
    forebay.signal(Signal::HUP);
    await_all(&mut sink, &expected, Duration::from_secs(90))
        .await
        .assert_sound();
    forebay.assert_running();
}

async fn a_certificate_that_is_missing_is_told(broker: &Broker) {
    let mut sink = Sink::new();
    let port = sink.listen().await;
    let settings = settings(broker, "mtls", "MTLS", &[(ROOT, "root")], port);
    let mut forebay = Forebay::start(broker, &settings);
    await_log(&forebay, "PROBLEM: Server failed to authenticate Lambda.").await;
    forebay.assert_running();
    assert!(sink.ledger().calls.is_empty());
}

/// A broker that lets everybody in would let a stranger's clients in as well.
async fn a_certificate_that_nobody_asked_for_is_told(broker: &Broker) {
    let mut sink = Sink::new();
    let port = sink.listen().await;
    let access = [(ROOT, "root"), (CERTIFICATE, "client")];
    let settings = settings(broker, "tls", "TLS", &access, port);
    let mut forebay = Forebay::start(broker, &settings);
    await_log(&forebay, "PROBLEM: Server failed to authenticate Lambda.").await;
    forebay.assert_running();
    assert!(sink.ledger().calls.is_empty());
}

async fn a_listener_without_tls_is_told(broker: &Broker) {
    let sink = Sink::new();
    let port = sink.listen().await;
    let mut settings = settings(broker, "tls", "TLS", &[(ROOT, "root")], port);
    settings.bootstrap = Some(broker.bootstrap.clone());
    let mut forebay = Forebay::start(broker, &settings);
    await_log(&forebay, "as a listener without TLS does").await;
    forebay.assert_running();
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the secret is copied");
}

async fn await_log(forebay: &Forebay, text: &str) {
    eventually(text, Duration::from_secs(30), async || {
        forebay.has_logged(text).then_some(())
    })
    .await;
}
