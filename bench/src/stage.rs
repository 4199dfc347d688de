//! The cluster and the function of a run, in a process of their own so that the appliance's CPU time is the
//! appliance's alone.
//!
//! The parent reads one line, [`Addresses`], when the topic is filled; it may then ask what one may ask a
//! [`sink`], or for a [`Trouble`]; the process ends with its standard input.
//!
//! Invariant: the topic is filled before anything is told, so that no producer runs beside a measurement.

use std::time::Duration;

use bytes::Bytes;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_kafka::{Config, FakeKafka, Fault, Offsets};
use forebay_tests::fake_lambda::lean::Lean;
use forebay_tests::fake_lambda::{FakeLambda, Functions, Reply};
use kafka_protocol::messages::ApiKey;
use serde::{Deserialize, Serialize};

use crate::helper::{Helper, tell};
use crate::sample::Noise;
use crate::sink::{self, ARRIVED, LATENCY, Latency};

/// The one topic, which is also the function and the group.
pub(crate) const TOPIC: &str = "bench";

/// A batch is closed at about this many bytes of values.
const BATCH_BYTES: usize = 64 << 10;

/// What the topic holds, and how the stage behaves.
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
    /// A batch is closed at about this many bytes of values.
    #[arg(long, default_value_t = BATCH_BYTES)]
    pub(crate) batch_bytes: usize,
    /// Milliseconds that the function takes for a call.
    #[arg(long, default_value_t = 0)]
    pub(crate) call_millis: u64,
    /// The group is there, without members, and has committed the beginning.
    #[arg(long)]
    pub(crate) has_group: bool,
    /// What the group commits is deleted.
    #[arg(long)]
    pub(crate) forgets_committed: bool,
}

impl Default for Filling {
    fn default() -> Self {
        Self {
            value_bytes: 1024,
            records: 0,
            partitions: 8,
            batch_bytes: BATCH_BYTES,
            call_millis: 0,
            has_group: false,
            forgets_committed: false,
        }
    }
}

impl Filling {
    /// The arguments that say the same.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "stage".to_owned(),
            format!("--value-bytes={}", self.value_bytes),
            format!("--records={}", self.records),
            format!("--partitions={}", self.partitions),
            format!("--batch-bytes={}", self.batch_bytes),
            format!("--call-millis={}", self.call_millis),
        ];
        let flags = [
            ("--has-group", self.has_group),
            ("--forgets-committed", self.forgets_committed),
        ];
        let raised = flags.into_iter().filter(|(_, is_raised)| *is_raised);
        arguments.extend(raised.map(|(flag, _)| flag.to_owned()));
        arguments
    }
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
    /// Records that came again.
    pub(crate) duplicates: u64,
    /// Whether each record came in order, once or more often.
    pub(crate) is_in_order: bool,
    /// Whether each record came once and in order.
    pub(crate) is_clean: bool,
    /// When the first call came, in microseconds on the monotonic clock.
    pub(crate) first_micros: Option<u64>,
}

impl Arrived {
    /// The counts up to now.
    pub(crate) fn of(lean: &Lean) -> Self {
        Self {
            records: lean.records,
            calls: lean.calls,
            body_bytes: lean.body_bytes,
            duplicates: lean.duplicates,
            is_in_order: lean.is_in_order(),
            is_clean: lean.is_clean(),
            first_micros: lean.first,
        }
    }
}

/// The child's side.
pub(crate) fn serve(filling: &Filling) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let broken = |error: std::io::Error| format!("loopback: {error}");
    let mut cluster = Config::new(1);
    cluster.forgets_committed = filling.forgets_committed;
    let kafka = FakeKafkaServer::start(cluster).map_err(broken)?;
    let lambda = FakeLambda::start_lean().map_err(broken)?;
    if filling.call_millis > 0 {
        let late = Reply::ok().after(Duration::from_millis(filling.call_millis));
        runtime.block_on(lambda.with(|functions| functions.always(TOPIC, late)));
    }
    let (batch, per_batch) = batch_of(filling.value_bytes, filling.batch_bytes);
    let batches = filling.records.div_ceil(per_batch);
    let partitions = filling.partitions.max(1);
    let has_group = filling.has_group;
    runtime.block_on(kafka.with(move |kafka| {
        kafka.create_topic(TOPIC, partitions);
        for partition in (0..partitions).filter(|_| has_group) {
            kafka.set_committed(TOPIC, TOPIC, partition, 0);
        }
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
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        if let Some(trouble) = Trouble::named(&line) {
            runtime.block_on(lambda.with(move |functions| trouble.befalls_functions(functions)));
            runtime.block_on(kafka.with(move |kafka| trouble.befalls_kafka(kafka)));
            tell(&())?;
            continue;
        }
        runtime.block_on(lambda.with(move |functions| {
            let lean = functions.lean().ok_or("the function keeps no count")?;
            sink::answer(&line, lean)
        }))?;
    }
    Ok(())
}

/// What befalls the next call, or the next request of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The function fails.
    FunctionError,
    /// The broker hangs up instead of an answer to a fetch.
    Fetch,
    /// The call is throttled.
    Throttle,
    /// The connection is reset before the body is read.
    ResetBefore,
    /// The broker takes a commit, and hangs up instead of an answer.
    Commit,
    /// The connection is reset when the body has been read.
    ResetAfter,
    /// The broker hangs up instead of an answer to a heartbeat.
    Heartbeat,
    /// The answer ends in its middle.
    HalfAnswer,
}

impl Trouble {
    /// In turn.
    pub(crate) const ALL: [Self; 8] = [
        Self::FunctionError,
        Self::Fetch,
        Self::Throttle,
        Self::ResetBefore,
        Self::Commit,
        Self::ResetAfter,
        Self::Heartbeat,
        Self::HalfAnswer,
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    fn befalls_functions(self, functions: &mut Functions) {
        let reply = match self {
            Self::FunctionError => Reply::function_error(),
            Self::Throttle => Reply::throttled(None),
            Self::ResetBefore => Reply::ResetBeforeBody,
            Self::ResetAfter => Reply::ResetAfterBody,
            Self::HalfAnswer => Reply::HalfAnswer,
            Self::Fetch | Self::Commit | Self::Heartbeat => return,
        };
        functions.script(TOPIC, [reply]);
    }

    fn befalls_kafka(self, kafka: &mut FakeKafka) {
        match self {
            Self::Fetch => kafka.script(ApiKey::Fetch, [Fault::Drop]),
            Self::Commit => kafka.script(ApiKey::OffsetCommit, [Fault::DropAnswer]),
            Self::Heartbeat => kafka.script(ApiKey::Heartbeat, [Fault::Drop]),
            Self::FunctionError
            | Self::Throttle
            | Self::ResetBefore
            | Self::ResetAfter
            | Self::HalfAnswer => {}
        }
    }
}

/// One batch of values of that size, and how many.
pub(crate) fn batch(value_bytes: usize) -> (Bytes, usize) {
    batch_of(value_bytes, BATCH_BYTES)
}

fn batch_of(value_bytes: usize, batch_bytes: usize) -> (Bytes, usize) {
    let mut noise = Noise::default();
    let count = (batch_bytes / value_bytes.max(1)).max(1);
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
        let mut helper = Helper::start(&filling.arguments())?;
        let addresses = helper.hear()?;
        Ok(Self { helper, addresses })
    }

    /// What has arrived by now.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        self.helper.ask(ARRIVED)
    }

    /// Lets that befall what comes next.
    pub(crate) fn trouble(&mut self, trouble: Trouble) -> Result<(), String> {
        self.helper.ask(&trouble.name())
    }

    /// The latencies since this was last asked.
    pub(crate) fn take_latency(&mut self) -> Result<Latency, String> {
        self.helper.ask(LATENCY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_known_by_its_name() {
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::named(&trouble.name()), Some(trouble));
        }
        assert_eq!(Trouble::named(ARRIVED), None);
    }
}
