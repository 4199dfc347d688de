//! The main job with nothing installed: an embedded broker and a function in this process, the real
//! appliance between them, and a producer.
//!
//! `cargo run --release --example quickstart` runs until Ctrl-C;
//! `cargo run --release --example quickstart -- --records 1000000` ends by itself, with exit code 0 when
//! that many records have arrived, once each and in order, and 1 otherwise.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use forebay_tests::clock;
use forebay_tests::fake_kafka::Config;
use forebay_tests::fake_kafka::Offsets;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_lambda::FakeLambda;
use forebay_tests::fake_lambda::lean::{STAMP_BYTES, stamp};
use forebay_tests::harness::{Declared, Site};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "quickstart";
/// Bytes of values that may be on their way; the producer waits beyond that.
const OUTSTANDING_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A run that counts gives up when nothing has arrived for so many lines.
const SILENT_SECONDS_MAX: u32 = 30;

/// Carries records from an embedded broker into a function, through the real appliance.
#[derive(Parser)]
struct Arguments {
    /// End when that many records have arrived.
    #[arg(long)]
    records: Option<u64>,
    /// The topic's partitions.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Records of one invocation (`BatchSize`).
    #[arg(long, default_value_t = 1000)]
    batch_size: u32,
    /// Records a second to produce; as many as are taken when left out.
    #[arg(long)]
    rate: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kafka = FakeKafkaServer::start(Config::new(1)).expect("loopback has free ports");
    let lambda = FakeLambda::start_lean().expect("loopback has free ports");
    let partitions = arguments.partitions.max(1);
    kafka
        .with(move |kafka| kafka.create_topic(TOPIC, partitions))
        .await;

    let mut site = Site::new(&kafka.bootstrap(), &lambda.url());
    let shards = std::thread::available_parallelism().map_or(1, usize::from);
    site = site.key("shards", &shards.to_string());
    let members = format!(
        "MaximumBatchingWindowInSeconds = 0\nBatchSize = {}\n",
        arguments.batch_size
    );
    site.declare(&Declared::new(TOPIC).with(&members));
    let node = site.start().await;
    println!(
        "Broker:  {}  (topic {TOPIC}, {partitions} partitions)",
        kafka.bootstrap()
    );
    println!(
        "         echo hello | kcat -b {} -t {TOPIC} -P",
        kafka.bootstrap()
    );
    println!("Metrics: http://{}/metrics", node.metrics_addr());

    let outcome = tokio::select! {
        outcome = run(&arguments, &kafka, &lambda) => outcome,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.expect("the signal can be waited for");
            println!("Draining.");
            ExitCode::SUCCESS
        }
    };
    node.shutdown().await;
    outcome
}

/// Shows one event, then produces and reports until the records that were asked for have arrived.
async fn run(arguments: &Arguments, kafka: &FakeKafkaServer, lambda: &FakeLambda) -> ExitCode {
    let first = NewRecord::value(r#"{"hello":"forebay"}"#)
        .at(clock::unix_millis())
        .with_key("greeting")
        .with_header("lang", Some(Bytes::from_static(b"en")));
    kafka
        .with(move |kafka| kafka.append(TOPIC, 0, &[first]))
        .await;
    let event = loop {
        if let Some(event) = lambda.with(|functions| functions.sample().cloned()).await {
            break event;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("The function saw:\n{}\n", String::from_utf8_lossy(&event));
    tokio::select! {
        () = produce(arguments, kafka, lambda) => unreachable!("the producer waits at its end"),
        outcome = report(arguments, kafka, lambda) => outcome,
    }
}

/// Appends batches round the partitions, never more than may be on their way.
async fn produce(arguments: &Arguments, kafka: &FakeKafkaServer, lambda: &FakeLambda) {
    let value_bytes = arguments.value_bytes.max(STAMP_BYTES);
    let outstanding_max = (OUTSTANDING_BYTES_MAX / value_bytes as u64).max(1_000);
    let began = clock::monotonic_micros();
    let mut produced = 1;
    let mut partition = 0;
    loop {
        let left = arguments
            .records
            .map_or(u64::MAX, |records| records.saturating_sub(produced));
        if left == 0 {
            return std::future::pending().await;
        }
        let allowed = arguments.rate.map_or(u64::MAX, |rate| {
            let elapsed = clock::monotonic_micros() - began;
            (rate * elapsed / 1_000_000).saturating_sub(produced)
        });
        let count = left
            .min(allowed)
            .min(if value_bytes > 16_384 { 10 } else { 200 });
        if count == 0 || produced.saturating_sub(received(lambda).await) > outstanding_max {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let batch = batch(count, value_bytes);
        kafka
            .with(move |kafka| kafka.append_raw(TOPIC, partition, batch, Offsets::Assign))
            .await;
        produced += count;
        partition = (partition + 1) % arguments.partitions.max(1);
    }
}

fn batch(count: u64, value_bytes: usize) -> Bytes {
    let timestamp = clock::unix_millis();
    let records: Vec<_> = (0..count)
        .map(|_| {
            let mut value = vec![b'.'; value_bytes];
            value[..STAMP_BYTES].copy_from_slice(&stamp(clock::monotonic_micros()));
            NewRecord::value(value).at(timestamp)
        })
        .collect();
    encode(&records, BatchOptions::default())
}

/// A line a second.
async fn report(arguments: &Arguments, kafka: &FakeKafkaServer, lambda: &FakeLambda) -> ExitCode {
    let mut before = received(lambda).await;
    let mut began = clock::monotonic_micros();
    let mut silent = 0;
    loop {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if arguments.records.is_some_and(|records| before < records)
                && Some(received(lambda).await) >= arguments.records
            {
                break;
            }
        }
        let (records, clean, latency) = lambda
            .with(|functions| {
                let lean = functions.lean().expect("the endpoint was started lean");
                (lean.records, lean.is_clean(), lean.take_latency())
            })
            .await;
        let now = clock::monotonic_micros();
        let seconds = (now - began) as f64 / 1e6;
        let rate = (records - before) as f64 / seconds;
        println!(
            "{rate:>10.0} records/s  {:>7.1} MB/s  latency p50 {:.2} ms  p99 {:.2} ms  {}",
            rate * arguments.value_bytes as f64 / 1e6,
            latency.value_at_quantile(0.5) as f64 / 1e3,
            latency.value_at_quantile(0.99) as f64 / 1e3,
            if clean {
                "once each, in order"
            } else {
                "DUPLICATES OR GAPS"
            },
        );
        silent = if records == before { silent + 1 } else { 0 };
        (before, began) = (records, now);
        if let Some(wanted) = arguments.records {
            if records >= wanted {
                let right = records == wanted && clean;
                println!(
                    "{records} records arrived, {}.",
                    if right {
                        "once each and in order"
                    } else {
                        "but not once each and in order"
                    }
                );
                return if right {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                };
            }
            if silent >= SILENT_SECONDS_MAX {
                println!("{records} records arrived, then nothing for {silent} s.");
                return ExitCode::FAILURE;
            }
        }
        forget_committed(arguments, kafka).await;
    }
}

/// Lets the embedded broker's memory go for what is committed.
async fn forget_committed(arguments: &Arguments, kafka: &FakeKafkaServer) {
    let partitions = arguments.partitions.max(1);
    kafka
        .with(move |kafka| {
            for partition in 0..partitions {
                let committed = kafka.committed(TOPIC, TOPIC, partition);
                if let Some(offset) = committed.map(|committed| committed.offset) {
                    kafka.delete_before(TOPIC, partition, offset);
                }
            }
        })
        .await;
}

async fn received(lambda: &FakeLambda) -> u64 {
    lambda
        .with(|functions| functions.lean().map_or(0, |lean| lean.records))
        .await
}
