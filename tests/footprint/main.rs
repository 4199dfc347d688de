//! What the real process holds and burns: a thousand partitions at full rate, and one mapping at rest.
//!
//! Invariant: without the binary that `tests/run end_to_end` builds, every test here says aloud that it was
//! skipped.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay_tests::eventually;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_kafka::{Config, Offsets};
use forebay_tests::fake_lambda::FakeLambda;
use forebay_tests::harness::{Declared, Site};

const TOPIC: &str = "orders";
const MIB: u64 = 1024 * 1024;

/// A running `forebay`; it is killed when this is dropped.
struct Node(Child);

impl Node {
    fn start(site: &Site) -> Option<Self> {
        let Some(program) = std::env::var_os("FOREBAY_BIN") else {
            let line = "SKIPPED: needs the binary; run tests/run end_to_end\n";
            std::io::stderr().write_all(line.as_bytes()).ok();
            return None;
        };
        let mut command = Command::new(PathBuf::from(program));
        command.arg("run").arg("--config").arg(site.config_file());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Some(Self(
            command.process_group(0).spawn().expect("the binary runs"),
        ))
    }

    /// A line of `/proc/<pid>/status`, in bytes.
    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(path).expect("the node runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes
            .and_then(|kb| kb.parse::<u64>().ok())
            .expect("the kernel tells")
            * 1024
    }

    /// CPU time so far, in clock ticks (a hundredth of a second).
    fn ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(path).expect("the node runs");
        let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split(' ').collect();
        let field = |at: usize| fields[at].parse::<u64>().expect("a number");
        field(11) + field(12)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
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
    let Some(node) = Node::start(&site) else {
        return;
    };
    let wanted = u64::try_from(PARTITIONS).expect("it is positive") * BATCHES * BATCH;
    eventually!(received(&lambda).await.0 >= wanted);
    assert_eq!(
        received(&lambda).await,
        (wanted, true),
        "once each, in order"
    );
    let peak = node.status("VmHWM");
    let line = format!(
        "1,000 partitions: {} MiB at most, of {} MiB\n",
        peak / MIB,
        BUDGET / MIB
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert!(peak < BUDGET, "{} MiB", peak / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idle_mapping_takes_next_to_nothing() {
    const SECONDS: u64 = 10;
    let kafka = FakeKafkaServer::start(Config::new(1)).expect("loopback has free ports");
    let lambda = FakeLambda::start_lean().expect("loopback has free ports");
    kafka
        .with(|kafka| {
            kafka.create_topic(TOPIC, 8);
            kafka.append(TOPIC, 0, &[NewRecord::value("a")]);
        })
        .await;
    let mut site = Site::new(&kafka.bootstrap(), &lambda.url())
        .key("heartbeat_interval_ms", "3000")
        .key("session_timeout_ms", "45000");
    site.declare(&Declared::new(TOPIC).with(""));
    let Some(node) = Node::start(&site) else {
        return;
    };
    eventually!(received(&lambda).await.0 == 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = node.ticks();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let ticks = node.ticks() - before;
    let resident = node.status("VmRSS");
    let line = format!(
        "idle: {} MiB, {ticks} ticks in {SECONDS} s\n",
        resident / MIB
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert!(ticks < SECONDS, "{ticks} ticks are 1 % of a core or more");
    assert!(resident < 40 * MIB, "{} MiB", resident / MIB);
}
