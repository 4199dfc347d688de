//! The status document: what it says, to whom, and that nobody can hold it up.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use forebay::status::ask::ask;
use forebay::status::{Document, Mapping, socket};
use forebay::{Appliance, Listeners, StartError};
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::fake_kafka::{Fault, Seen};
use forebay_tests::fake_lambda::Reply;
use forebay_tests::harness::{Declared, Site, Stage, get};
use kafka_protocol::messages::ApiKey;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

fn path(site: &Site) -> PathBuf {
    socket::path(&site.config().runtime_dir)
}

pub(crate) async fn document(site: &Site) -> Document {
    let asked = ask(&path(site)).await;
    asked.unwrap_or_else(|error| panic!("{error}"))
}

/// That mapping, as its node tells of it.
async fn mapping(site: &Site, name: &str) -> Mapping {
    let document = document(site).await;
    let mut mappings = document.mappings.into_iter();
    let found = mappings.find(|mapping| mapping.name == name);
    found.expect("it is declared")
}

/// The value of the first series that begins so.
pub(crate) async fn metric(node: &Appliance, series: &str) -> Option<f64> {
    let (_, text) = get(node.metrics_addr(), "/metrics").await.ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with(series));
    lines.next()?.rsplit(' ').next()?.parse().ok()
}

async fn records(stage: &Stage, topic: &'static str, partitions: i32) {
    stage
        .on_kafka(move |kafka| {
            kafka.create_topic(topic, partitions);
            for partition in 0..partitions {
                kafka.append(
                    topic,
                    partition,
                    &[NewRecord::value("a"), NewRecord::value("b")],
                );
            }
        })
        .await;
}

#[tokio::test]
async fn node_mapping_and_partitions_are_told() {
    let stage = Stage::new();
    records(&stage, "orders", 2).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    eventually!(stage.committed("orders", "orders", 1).await == 2);
    eventually!(mapping(&site, "orders").await.last_processing_result == "OK");
    eventually!({
        let partitions = mapping(&site, "orders").await.partitions;
        partitions.len() == 2 && partitions.iter().all(|it| it.lag_records == Some(0))
    });
    let told = document(&site).await;
    assert_eq!(told.node.lifecycle, "running");
    assert_eq!(told.node.shards.len(), 1);
    assert_eq!(
        told.node.shards[0].generation,
        told.node.shards[0].planned_generation
    );
    let orders = &told.mappings[0];
    assert_eq!(orders.state, "Enabled");
    assert_eq!(orders.state_transition_reason, "USER_INITIATED");
    assert_eq!(orders.topics, ["orders"]);
    assert_eq!(orders.consumer_group_id, "orders");
    assert_eq!(orders.counters["succeeded_records"], 4);
    assert_eq!(orders.consumers[0].phase, "stable");
    assert!(
        orders.file.ends_with("mappings.d/orders.toml"),
        "{}",
        orders.file
    );
    assert!(
        (told.time - orders.last_modified).abs() < 60.0,
        "{orders:?}"
    );
    assert_eq!(orders.partitions[1].committed_offset, Some(2));
    assert_eq!(orders.partitions[1].high_watermark, Some(2));
    node.shutdown().await;
    assert!(
        !path(&site).exists(),
        "an end in order takes the socket away"
    );
}

/// Appends a record, and waits until it is committed.
async fn goes_on(stage: &Stage) {
    let end = stage
        .on_kafka(|kafka| {
            kafka.append("orders", 0, &[NewRecord::value("more")]);
            kafka.bounds("orders", 0).1
        })
        .await;
    eventually!(stage.committed("orders", "orders", 0).await == end);
}

#[tokio::test]
async fn a_mapping_whose_file_names_a_secret_that_cannot_be_read_goes_on_with_what_it_had() {
    let stage = Stage::secure();
    records(&stage, "orders", 1).await;
    let mut site = stage.site();
    let orders = Declared::new("orders");
    site.declare(&orders);
    let node = site.start().await;
    goes_on(&stage).await;
    let other = site.path().join("other.json");
    let access = format!(
        "SourceAccessConfigurations = [{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file:{}\" }}]\n",
        other.display()
    );
    site.reach_brokers(&access);
    site.declare(&orders);
    node.reload();
    node.reloaded().await;
    eventually!(mapping(&site, "orders").await.secrets.len() == 1);
    eventually!(mapping(&site, "orders").await.state == "Enabled");
    let told = mapping(&site, "orders").await;
    assert!(told.secrets[0].secret.ends_with("/other.json"), "{told:?}");
    assert_eq!(told.consumers.len(), 1, "{told:?}");
    goes_on(&stage).await;
    assert!(metric(&node, "forebay_mapping_faults{").await >= Some(1.0));
    // A root that has not signed the broker's certificate: now that it can be read, it is used.
    let text = serde_json::json!({ "certificate": ROOT }).to_string();
    std::fs::write(&other, text).unwrap();
    eventually!(within Duration::from_secs(15), {
        let told = mapping(&site, "orders").await;
        told.secrets.is_empty() && told.last_processing_result == "PROBLEM: Lambda failed to authenticate server."
    });
    node.shutdown().await;
}

#[tokio::test]
async fn a_mapping_that_is_to_have_tls_does_not_go_on_without() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    goes_on(&stage).await;
    let access = "SourceAccessConfigurations = [{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file:/absent.json\" }]\n";
    site.reach_brokers(access);
    site.declare(&Declared::new("orders"));
    node.reload();
    node.reloaded().await;
    eventually!({
        let told = mapping(&site, "orders").await;
        told.consumers.is_empty()
            && told.last_processing_result == "PROBLEM: A secret or ca_bundle cannot be read."
    });
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_retried_is_told_with_its_offset_in_document_and_metrics() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    stage
        .on_lambda(|functions| functions.always("orders", Reply::function_error()))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(
        mapping(&site, "orders")
            .await
            .partitions
            .iter()
            .any(|it| { it.retry.as_ref().is_some_and(|retry| retry.attempts >= 2) })
    );
    let orders = mapping(&site, "orders").await;
    assert_eq!(
        orders.last_processing_result,
        "PROBLEM: Function call failed"
    );
    let retry = orders.partitions[0].retry.as_ref().expect("it fails");
    assert_eq!((retry.offset, retry.last_offset), (0, 1));
    assert!(retry.failed_calls >= retry.attempts);
    assert!(
        retry.error.starts_with("function failing: "),
        "{}",
        retry.error
    );
    assert!((retry.age_seconds - (document(&site).await.time - retry.since)).abs() < 5.0);
    assert!(metric(&node, "forebay_partition_retry_calls{").await >= Some(2.0));
    assert!(metric(&node, "forebay_partition_retry_age_seconds{").await > Some(0.0));
    for lag in [
        "forebay_topic_lag_records{",
        "forebay_topic_lag_max_records{",
    ] {
        eventually!(metric(&node, lag).await == Some(2.0));
    }
    stage
        .on_lambda(|functions| functions.always("orders", Reply::ok()))
        .await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    eventually!(
        mapping(&site, "orders")
            .await
            .partitions
            .iter()
            .all(|it| it.retry.is_none())
    );
    assert_eq!(metric(&node, "forebay_partition_retry_calls{").await, None);
    node.shutdown().await;
}

#[tokio::test]
async fn a_call_that_is_open_is_told_with_its_begin_and_its_end() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    // Held so long that it can be seen.
    let slow = Reply::ok().after(Duration::from_secs(3));
    stage
        .on_lambda(move |functions| functions.script("orders", [slow]))
        .await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    let call = async || {
        let mut partitions = mapping(&site, "orders").await.partitions;
        partitions.pop().and_then(|it| it.call)
    };
    eventually!(call().await.is_some_and(|it| it.age_seconds > 1.0));
    let told = call().await.expect("it is held");
    let allowed = told.deadline - told.since;
    assert!(
        (allowed - 70.0).abs() < 0.1,
        "the function's 60 s and 10 more: {told:?}"
    );
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    eventually!(call().await.is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn the_end_of_a_partition_has_an_age_that_grows_while_no_fetch_is_answered() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    // What was not answered is asked again after this.
    let mut site = stage.site().key("request_timeout_ms", "1000");
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    let age = async || {
        let mut partitions = mapping(&site, "orders").await.partitions;
        partitions.pop()?.high_watermark_age_seconds
    };
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    eventually!(age().await.is_some());
    let silent = |seen: Seen<'_>| match seen.api {
        ApiKey::Fetch => Fault::Silence,
        _ => Fault::Serve,
    };
    stage
        .on_kafka(move |kafka| kafka.set_hook(Some(Box::new(silent))))
        .await;
    eventually!(age().await > Some(3.0));
    stage.on_kafka(|kafka| kafka.set_hook(None)).await;
    eventually!(age().await.is_some_and(|age| age < 2.0));
    node.shutdown().await;
}

#[tokio::test]
async fn states_are_awss() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    records(&stage, "bills", 1).await;
    // Held so long that the states in between can be seen.
    let slow = Reply::ok().after(Duration::from_secs(3));
    stage
        .on_lambda(move |functions| functions.script("orders", [slow]))
        .await;
    let mut site = stage.site();
    let orders = Declared::new("orders");
    site.declare(&orders);
    site.declare(&Declared::new("bills").with("Enabled = false\n"));
    let node = site.start().await;
    assert_eq!(mapping(&site, "orders").await.state, "Enabled");
    assert_eq!(mapping(&site, "bills").await.state, "Disabled");
    eventually!(
        stage
            .on_lambda(|functions| functions.ledger().open_calls())
            .await
            == 1
    );
    let before = mapping(&site, "orders").await.last_modified;
    site.declare(&orders.clone().with("Enabled = false\n"));
    node.reload();
    node.reloaded().await;
    eventually!(mapping(&site, "orders").await.state == "Disabling");
    eventually!(mapping(&site, "orders").await.state == "Disabled");
    assert!(mapping(&site, "orders").await.last_modified > before);
    site.declare(&orders);
    node.reload();
    node.reloaded().await;
    eventually!(mapping(&site, "orders").await.state == "Enabled");
    node.shutdown().await;
}

#[tokio::test]
async fn a_reading_with_problems_shows_them_until_one_has_none() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    site.write_mapping("bills", "FunctionName = \"bills\"\nBatchSize = 0\n");
    node.reload();
    node.reloaded().await;
    eventually!(!document(&site).await.node.reload.success);
    let problems = document(&site).await.node.reload.problems;
    assert!(
        problems
            .iter()
            .any(|it| it.contains("bills.toml:2: BatchSize = 0: ")),
        "{problems:?}"
    );
    site.withdraw("bills");
    node.reload();
    node.reloaded().await;
    eventually!(document(&site).await.node.reload.success);
    assert!(document(&site).await.node.reload.problems.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let stage = Stage::new();
    // A document that no socket's buffer takes whole.
    records(&stage, "orders", 3_000).await;
    let mut site = stage.site();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(mapping(&site, "orders").await.partitions.len() == 3_000);
    let mode = std::fs::metadata(path(&site)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // As many as are served at once, less one, that never read.
    let mut idle = Vec::new();
    for _ in 0..7 {
        idle.push(UnixStream::connect(path(&site)).await.unwrap());
    }
    let asking = (0..50).map(|_| {
        let path = path(&site);
        tokio::spawn(async move { ask(&path).await.map(|it| it.mappings[0].partitions.len()) })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().unwrap(), 3_000);
    }
    // Were all places taken, they would be free again soon.
    idle.push(UnixStream::connect(path(&site)).await.unwrap());
    assert_eq!(document(&site).await.mappings[0].partitions.len(), 3_000);
    let mut cut = Vec::new();
    idle[0].read_to_end(&mut cut).await.unwrap();
    assert!(
        !cut.ends_with(b"}\n"),
        "who waited too long gets half of it"
    );
    let health = get(node.metrics_addr(), "/healthz").await.unwrap();
    assert_eq!(health.0, 200);
    drop(idle);
    node.give_up();
    node.shutdown().await;
}

#[tokio::test]
async fn a_second_node_does_not_take_the_place_of_one_that_lives() {
    let stage = Stage::new();
    let site = stage.site();
    let node = site.start().await;
    let second = Appliance::start(site.config(), Listeners::default()).await;
    let refused = second.expect_err("the directory is taken");
    assert!(matches!(refused, StartError::Status(_)), "{refused}");
    assert!(
        refused.to_string().contains("another node that runs"),
        "{refused}"
    );
    assert_eq!(document(&site).await.node.lifecycle, "running");
    node.shutdown().await;
    site.start().await.shutdown().await;
}

#[tokio::test]
async fn a_node_that_may_not_make_its_socket_serves_all_the_same() {
    let stage = Stage::new();
    records(&stage, "orders", 1).await;
    let mut site = stage.site().key("runtime_dir", "\"forebay.toml/run\"");
    site.config_file();
    site.declare(&Declared::new("orders"));
    let node = site.start().await;
    eventually!(stage.committed("orders", "orders", 0).await == 2);
    node.shutdown().await;
}

/// A certificate of the tests' own, which outlives them.
const ROOT: &str = include_str!("../vectors/keys/root.pem");
const OTHER: &str = include_str!("../vectors/keys/client.pem");

#[tokio::test]
async fn certificates_and_secrets_are_told_and_follow_their_files() {
    let stage = Stage::new();
    let mut site = stage.site();
    let secret = site.path().join("root.json");
    let write = |pem: &str| {
        let text = serde_json::json!({ "certificate": pem }).to_string();
        std::fs::write(&secret, text).unwrap();
    };
    write(ROOT);
    let entry = format!(
        "SourceAccessConfigurations = [{{ Type = \"SERVER_ROOT_CA_CERTIFICATE\", URI = \"file://{}\" }}]\n",
        secret.display()
    );
    site.declare(&Declared::new("orders").with(&entry));
    let node = site.start().await;
    eventually!(!mapping(&site, "orders").await.certificates.is_empty());
    let told = mapping(&site, "orders").await;
    let root = &told.certificates[0];
    assert_eq!(root.kind, "broker root");
    assert_eq!(root.subject, "CN=root,O=Example");
    assert_eq!(root.secret, format!("file:{}", secret.display()));
    let series = "forebay_certificate_expiry_timestamp_seconds{";
    assert_eq!(metric(&node, series).await, Some(root.not_after));
    // The next reading of all would be a minute away.
    write(OTHER);
    eventually!(within Duration::from_secs(15), {
        mapping(&site, "orders").await.certificates[0].subject == "CN=client,O=Example"
    });
    std::fs::remove_file(&secret).unwrap();
    eventually!(within Duration::from_secs(15), {
        let secrets = mapping(&site, "orders").await.secrets;
        secrets.len() == 1 && secrets[0].error.contains("cannot be read")
    });
    assert_eq!(
        metric(&node, "forebay_mapping_unreadable_secrets{").await,
        Some(1.0)
    );
    assert_eq!(
        mapping(&site, "orders").await.certificates.len(),
        1,
        "the old one is used"
    );
    write(ROOT);
    eventually!(within Duration::from_secs(15), mapping(&site, "orders").await.secrets.is_empty());
    write("no certificate");
    eventually!(within Duration::from_secs(15), {
        let detail = mapping(&site, "orders").await.detail.unwrap_or_default();
        detail.contains("root.json")
    });
    node.shutdown().await;
}
