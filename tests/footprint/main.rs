//! What the real process holds and burns: a thousand partitions at full rate, and one mapping at rest.
//!
//! Invariant: without the binary that `tests/run end_to_end` builds, every test here says aloud that it was
//! skipped.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use forebay_protocol::limits::FRAME_BYTES_MAX;
use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_kafka::{Config, Offsets};
use forebay_tests::fake_lambda::FakeLambda;
use forebay_tests::harness::{Declared, Site};
use forebay_tests::liar::{Liar, Lie};
use forebay_tests::node::Node;

const TOPIC: &str = "orders";
const MIB: u64 = 1024 * 1024;

/// `None` without a binary.
fn start(site: &Site) -> Option<Node> {
    let Some(program) = std::env::var_os("FOREBAY_BIN") else {
        let line = "SKIPPED: needs the binary; run tests/run end_to_end\n";
        std::io::stderr().write_all(line.as_bytes()).ok();
        return None;
    };
    Some(Node::start(Path::new(&program), site).expect("the binary runs"))
}

async fn received(lambda: &FakeLambda) -> (u64, bool) {
    lambda
        .with(|functions| {
            let lean = functions.lean().expect("the endpoint was started lean");
            (lean.records, lean.is_clean())
        })
        .await
}

/// Three brokers, 1,000 partitions, 500 MB of values that all wait at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_partitions_at_full_rate_stay_below_the_budget() {
    const PARTITIONS: i32 = 1_000;
    const BATCHES: u64 = 10;
    const BATCH: u64 = 50;
    const BUDGET: u64 = 512 * MIB;
    let kafka = FakeKafkaServer::start(Config::new(3)).expect("loopback has free ports");
    let lambda = FakeLambda::start_lean().expect("loopback has free ports");
    let records = vec![NewRecord::value(vec![b'.'; 1024]); BATCH as usize];
    let batch = encode(&records, BatchOptions::default());
    kafka
        .with(move |kafka| {
            kafka.create_topic(TOPIC, PARTITIONS);
            for partition in 0..PARTITIONS {
                for _ in 0..BATCHES {
                    kafka.append_raw(TOPIC, partition, batch.clone(), Offsets::Assign);
                }
            }
        })
        .await;
    let mut site = Site::new(&kafka.bootstrap(), &lambda.url())
        .key("shards", "2")
        .key("memory_bytes", &BUDGET.to_string());
    site.declare(
        &Declared::new(TOPIC).with("MaximumBatchingWindowInSeconds = 0\nBatchSize = 1000\n"),
    );
    let Some(node) = start(&site) else {
        return;
    };
    let wanted = u64::try_from(PARTITIONS).expect("it is positive") * BATCHES * BATCH;
    eventually!(received(&lambda).await.0 >= wanted);
    assert_eq!(
        received(&lambda).await,
        (wanted, true),
        "once each, in order"
    );
    let peak = node.peak_bytes().expect("the node runs");
    let line = format!(
        "1,000 partitions: {} MiB at most, of {} MiB\n",
        peak / MIB,
        BUDGET / MIB
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert!(peak < BUDGET, "{} MiB", peak / MIB);
}

/// Brokers that announce as much as a frame may have, and send it; beside them an honest one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_without_an_end_are_held_within_bounds() {
    const LIARS: usize = 4;
    const BUDGET: u64 = 256 * MIB;
    let kafka = FakeKafkaServer::start(Config::new(1)).expect("loopback has free ports");
    let lambda = FakeLambda::start_lean().expect("loopback has free ports");
    kafka.with(|kafka| kafka.create_topic(TOPIC, 1)).await;
    let mut site =
        Site::new(&kafka.bootstrap(), &lambda.url()).key("memory_bytes", &BUDGET.to_string());
    site.declare(&Declared::new(TOPIC));
    let largest = i32::try_from(FRAME_BYTES_MAX).expect("a length of Kafka's");
    let mut liars = Vec::new();
    for at in 0..LIARS {
        let lie = Lie::Endless(largest.to_be_bytes().to_vec(), Vec::new());
        let liar = Liar::start(lie, None)
            .await
            .expect("loopback has free ports");
        let mut mapping = Declared::new(&format!("lie-{at}"));
        mapping.bootstrap = Some(liar.address());
        site.declare(&mapping);
        liars.push(liar);
    }
    let Some(node) = start(&site) else {
        return;
    };
    let mut sent = 0;
    while liars.iter().any(|liar| liar.met() < 4) {
        kafka
            .with(|kafka| kafka.append(TOPIC, 0, &[NewRecord::value("a")]))
            .await;
        sent += 1;
        eventually!(received(&lambda).await.0 == sent);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let peak = node.peak_bytes().expect("the node runs");
    let line = format!(
        "{LIARS} brokers without an end: {} MiB at most\n",
        peak / MIB
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert!(peak < BUDGET, "{} MiB", peak / MIB);
}

/// How often its threads wake is the same on every machine, and is what is judged. What a wake costs is the machine's: the same
/// nine took 4 ms of a stretch here and 41 ms there, where it had little of its CPUs. Only a thread that runs without waiting,
/// which wakes seldom, is told by its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idle_mapping_takes_next_to_nothing() {
    const STRETCHES: u32 = 4;
    /// As long as the interval of heartbeats, so that each has what recurs.
    const STRETCH: Duration = Duration::from_secs(3);
    /// Two long polls a second, a status of the shard, a heartbeat in three.
    const WAITS_A_SECOND_MAX: u64 = 15;
    /// Of a core; one that runs in circles takes all that it gets.
    const SHARE_MAX: f64 = 0.1;
    let kafka = FakeKafkaServer::start(Config::new(1)).expect("loopback has free ports");
    let lambda = FakeLambda::start_lean().expect("loopback has free ports");
    kafka
        .with(|kafka| {
            kafka.create_topic(TOPIC, 8);
            kafka.append(TOPIC, 0, &[NewRecord::value("a")]);
        })
        .await;
    let mut site = Site::new(&kafka.bootstrap(), &lambda.url())
        .key("heartbeat_interval_ms", &STRETCH.as_millis().to_string())
        .key("session_timeout_ms", "45000");
    site.declare(&Declared::new(TOPIC).with(""));
    let Some(mut node) = start(&site) else {
        return;
    };
    eventually!(received(&lambda).await.0 == 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waits_before = node.waits();
    let mut least = Duration::MAX;
    for _ in 0..STRETCHES {
        let before = node.cpu_time().expect("the node runs");
        tokio::time::sleep(STRETCH).await;
        least = least.min(node.cpu_time().expect("the node runs") - before);
    }
    let idle = STRETCH * STRETCHES;
    let waits = (node.waits() - waits_before) / idle.as_secs();
    let resident = node.resident_bytes().expect("the node runs");
    let line = format!(
        "idle: {} MiB, {least:?} of CPU in {STRETCH:?}, {waits} waits a second\n",
        resident / MIB
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert!(waits <= WAITS_A_SECOND_MAX, "{waits} waits a second");
    assert!(
        least < STRETCH.mul_f64(SHARE_MAX),
        "{least:?}: a thread runs in circles"
    );
    assert!(resident < 40 * MIB, "{} MiB", resident / MIB);
}
