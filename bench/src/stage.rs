//! The cluster and the function of a run, in a process of their own so that the appliance's CPU time is the
//! appliance's alone.
//!
//! The parent reads one line, [`Addresses`], when the topic is filled; each line that it then writes is
//! answered by one [`Arrived`]; the process ends with its standard input.
//!
//! Invariant: the topic is filled before anything is told, so that no producer runs beside a measurement.

use bytes::Bytes;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_kafka::{Config, Offsets};
use forebay_tests::fake_lambda::FakeLambda;
use forebay_tests::fake_lambda::lean::Lean;
use serde::{Deserialize, Serialize};

use crate::helper::{Helper, tell};
use crate::sample::Noise;

/// The one topic.
pub(crate) const TOPIC: &str = "bench";

/// A batch is closed at about this many bytes of values.
const BATCH_BYTES: usize = 64 << 10;

/// What the topic holds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Filling {
    /// Bytes of each value; the key has eight.
    #[arg(long, default_value_t = 1024)]
    pub(crate) value_bytes: usize,
    /// Records at least; whole batches are written.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) records: usize,
    /// Partitions.
    #[arg(long, default_value_t = 8)]
    pub(crate) partitions: i32,
}

/// Where the stage is reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// As `bootstrap.servers`.
    pub(crate) bootstrap: String,
    /// The function's endpoint.
    pub(crate) url: String,
    /// Records in the topic.
    pub(crate) records: u64,
}

/// What has reached the function.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// Records.
    pub(crate) records: u64,
    /// Calls.
    pub(crate) calls: u64,
    /// Bytes of bodies.
    pub(crate) body_bytes: u64,
    /// Whether each record came once and in order.
    pub(crate) is_clean: bool,
}

impl Arrived {
    /// The counts up to now.
    pub(crate) fn of(lean: &Lean) -> Self {
        Self {
            records: lean.records,
            calls: lean.calls,
            body_bytes: lean.body_bytes,
            is_clean: lean.is_clean(),
        }
    }
}

/// The child's side.
pub(crate) fn serve(filling: &Filling) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let broken = |error: std::io::Error| format!("loopback: {error}");
    let kafka = FakeKafkaServer::start(Config::new(1)).map_err(broken)?;
    let lambda = FakeLambda::start_lean().map_err(broken)?;
    let (batch, per_batch) = batch(filling.value_bytes);
    let batches = filling.records.div_ceil(per_batch);
    let partitions = filling.partitions.max(1);
    runtime.block_on(kafka.with(move |kafka| {
        kafka.create_topic(TOPIC, partitions);
        for (_, partition) in (0..batches).zip((0..partitions).cycle()) {
            kafka.append_raw(TOPIC, partition, batch.clone(), Offsets::Assign);
        }
    }));
    tell(&Addresses {
        bootstrap: kafka.bootstrap(),
        url: lambda.url(),
        records: (batches * per_batch) as u64,
    })?;
    for line in std::io::stdin().lines() {
        line.map_err(|error| format!("standard input: {error}"))?;
        let arrived = runtime
            .block_on(lambda.with(|functions| functions.lean().map(|lean| Arrived::of(lean))));
        tell(&arrived.ok_or("the function keeps no count")?)?;
    }
    Ok(())
}

/// One batch of values of that size, and how many.
pub(crate) fn batch(value_bytes: usize) -> (Bytes, usize) {
    let mut noise = Noise::default();
    let count = (BATCH_BYTES / value_bytes.max(1)).max(1);
    let records: Vec<NewRecord> = (0..count)
        .map(|at| {
            NewRecord::value(noise.bytes(value_bytes))
                .with_key(format!("{at:08}"))
                .at(1_700_000_000_000)
        })
        .collect();
    (encode(&records, BatchOptions::default()), count)
}

/// The parent's side. It ends the child when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    helper: Helper,
    pub(crate) addresses: Addresses,
}

impl Stage {
    /// Fills a topic in a child and waits for it.
    pub(crate) fn start(filling: &Filling) -> Result<Self, String> {
        let arguments = [
            "stage".to_owned(),
            format!("--value-bytes={}", filling.value_bytes),
            format!("--records={}", filling.records),
            format!("--partitions={}", filling.partitions),
        ];
        let mut helper = Helper::start(&arguments)?;
        let addresses = helper.hear()?;
        Ok(Self { helper, addresses })
    }

    /// What has arrived by now.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        self.helper.ask("")
    }
}
