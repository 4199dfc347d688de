//! The cluster and the function of a run, in a process of their own so that the appliance's CPU time is the
//! appliance's alone.
//!
//! The parent reads one line, [`Addresses`], when the topics are filled; it may then ask what one may ask a
//! [`sink`], for a [`Trouble`], or for [`More`]; the process ends with its standard input.
//!
//! Invariant: topics are filled in one step of the cluster, which answers nobody meanwhile, so that no producer
//! runs beside a measurement.

use std::time::Duration;

use bytes::Bytes;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_kafka::server::FakeKafkaServer;
use forebay_tests::fake_kafka::{Config, FakeKafka, Fault, Offsets};
use forebay_tests::fake_lambda::lean::Lean;
use forebay_tests::fake_lambda::{FakeLambda, Functions, Reply};
use forebay_tests::secure::Identity;
use kafka_protocol::messages::ApiKey;
use serde::{Deserialize, Serialize};

use crate::helper::{Helper, tell};
use crate::sample::{Noise, order};
use crate::sink::{self, ARRIVED, LATENCY, Latency};

/// The first topic, which is also the function and the group.
pub(crate) const TOPIC: &str = "bench";

/// Asks how often a group has changed.
const CHANGES: &str = "changes";

/// A batch is closed at about this many bytes of values.
const BATCH_BYTES: usize = 64 << 10;

/// What the topics hold, and how the stage behaves.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Filling {
    /// Bytes of each value; the key has eight.
    #[arg(long, default_value_t = 1024)]
    pub(crate) value_bytes: usize,
    /// Records at least; whole batches are written.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) records: usize,
    /// Partitions of a topic.
    #[arg(long, default_value_t = 8)]
    pub(crate) partitions: i32,
    /// Topics, each with a function and a group of its own; the records are spread over them.
    #[arg(long, default_value_t = 1)]
    pub(crate) mappings: usize,
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
    /// Both are reached under TLS.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Values are JSON.
    #[arg(long)]
    pub(crate) json_values: bool,
}

impl Default for Filling {
    fn default() -> Self {
        Self {
            value_bytes: 1024,
            records: 0,
            partitions: 8,
            mappings: 1,
            batch_bytes: BATCH_BYTES,
            call_millis: 0,
            has_group: false,
            forgets_committed: false,
            tls: false,
            json_values: false,
        }
    }
}

impl Filling {
    /// Partitions of all topics.
    pub(crate) fn lanes(&self) -> usize {
        self.mappings.max(1) * usize::try_from(self.partitions).unwrap_or(1).max(1)
    }

    /// Where so many batches go: into all topics' first partitions, then into their second.
    fn places(&self, batches: usize) -> impl Iterator<Item = (String, i32)> + use<> {
        let (topics, partitions) = (self.mappings.max(1), self.partitions.max(1));
        let places = (0..partitions).flat_map(move |at| (0..topics).map(move |it| (topic(it), at)));
        let places: Vec<_> = places.take(batches).collect();
        places.into_iter().cycle().take(batches)
    }

    /// The arguments that say the same.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "stage".to_owned(),
            format!("--value-bytes={}", self.value_bytes),
            format!("--records={}", self.records),
            format!("--partitions={}", self.partitions),
            format!("--mappings={}", self.mappings),
            format!("--batch-bytes={}", self.batch_bytes),
            format!("--call-millis={}", self.call_millis),
        ];
        let flags = [
            ("--has-group", self.has_group),
            ("--forgets-committed", self.forgets_committed),
            ("--tls", self.tls),
            ("--json-values", self.json_values),
        ];
        let raised = flags.into_iter().filter(|(_, is_raised)| *is_raised);
        arguments.extend(raised.map(|(flag, _)| flag.to_owned()));
        arguments
    }
}

/// The topic, group and function of the mapping with that number.
pub(crate) fn topic(mapping: usize) -> String {
    match mapping {
        0 => TOPIC.to_owned(),
        _ => format!("{TOPIC}-{mapping}"),
    }
}

/// Asks for more records; the answer is how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct More {
    /// At least; whole batches are written.
    pub(crate) records: usize,
    /// Records of a batch.
    pub(crate) per_batch: usize,
}

/// Where the stage is reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// As `bootstrap.servers`.
    pub(crate) bootstrap: String,
    /// The function's endpoint.
    pub(crate) url: String,
    /// Who vouches for both, as PEM, under TLS.
    pub(crate) root: Option<String>,
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

    /// Each record came once and in order so far; else there is no figure.
    pub(crate) fn must_be_clean(&self) -> Result<(), String> {
        if self.is_clean {
            return Ok(());
        }
        Err("records were missing, came twice or out of order".to_owned())
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
    let identity = filling.tls.then(Identity::new);
    let (kafka, lambda) = match &identity {
        None => (FakeKafkaServer::start(cluster), FakeLambda::start_lean()),
        Some(identity) => (
            FakeKafkaServer::start_secure(cluster, identity),
            FakeLambda::start_lean_secure(identity),
        ),
    };
    let (kafka, lambda) = (kafka.map_err(broken)?, lambda.map_err(broken)?);
    let filling = *filling;
    let topics = move || (0..filling.mappings.max(1)).map(topic);
    if filling.call_millis > 0 {
        let late = Reply::ok().after(Duration::from_millis(filling.call_millis));
        runtime.block_on(lambda.with(move |functions| {
            topics().for_each(|topic| functions.always(&topic, late.clone()));
        }));
    }
    let per_batch = per_batch(filling.value_bytes, filling.batch_bytes);
    let more = More {
        records: filling.records,
        per_batch,
    };
    let records = runtime.block_on(kafka.with(move |kafka| {
        let partitions = filling.partitions.max(1);
        for topic in topics() {
            kafka.create_topic(&topic, partitions);
            for partition in (0..partitions).filter(|_| filling.has_group) {
                kafka.set_committed(&topic, &topic, partition, 0);
            }
        }
        more.fill(&filling, kafka)
    }));
    tell(&Addresses {
        bootstrap: kafka.bootstrap(),
        url: lambda.url(),
        root: identity.map(|identity| identity.root_pem),
        records,
    })?;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        if let Some(trouble) = Trouble::named(&line) {
            runtime.block_on(lambda.with(move |functions| trouble.befalls_functions(functions)));
            runtime.block_on(kafka.with(move |kafka| trouble.befalls_kafka(kafka)));
            tell(&())?;
            continue;
        }
        if line == CHANGES {
            let changes = runtime.block_on(kafka.with(|kafka| kafka.group_events().len()));
            tell(&changes)?;
            continue;
        }
        if let Ok(more) = serde_json::from_str::<More>(&line) {
            tell(&runtime.block_on(kafka.with(move |kafka| more.fill(&filling, kafka))))?;
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

impl More {
    /// Fills the topics; with how many records.
    fn fill(self, filling: &Filling, kafka: &mut FakeKafka) -> u64 {
        let per_batch = self.per_batch.max(1);
        let batch = match filling.json_values {
            false => noise_batch(filling.value_bytes, per_batch),
            true => batch_of(vec![order(filling.value_bytes); per_batch]),
        };
        let batches = self.records.div_ceil(per_batch);
        for (topic, partition) in filling.places(batches) {
            kafka.append_raw(&topic, partition, batch.clone(), Offsets::Assign);
        }
        (batches * per_batch) as u64
    }
}

/// One batch of values of that size, and how many.
pub(crate) fn batch(value_bytes: usize) -> (Bytes, usize) {
    let count = usual_batch(value_bytes);
    (noise_batch(value_bytes, count), count)
}

/// How many values of that size a batch of the usual size has.
pub(crate) fn usual_batch(value_bytes: usize) -> usize {
    per_batch(value_bytes, BATCH_BYTES)
}

fn per_batch(value_bytes: usize, batch_bytes: usize) -> usize {
    (batch_bytes / value_bytes.max(1)).max(1)
}

fn noise_batch(value_bytes: usize, count: usize) -> Bytes {
    let mut noise = Noise::default();
    batch_of((0..count).map(|_| noise.bytes(value_bytes)).collect())
}

fn batch_of(values: Vec<Bytes>) -> Bytes {
    let values = values.into_iter().enumerate();
    let records: Vec<NewRecord> = values
        .map(|(at, value)| {
            NewRecord::value(value)
                .with_key(format!("{at:08}"))
                .at(1_700_000_000_000)
        })
        .collect();
    encode(&records, BatchOptions::default())
}

/// The parent's side. It ends the child when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage {
    helper: Helper,
    pub(crate) addresses: Addresses,
}

impl Stage {
    /// Fills the topics in a child and waits for it.
    pub(crate) fn start(filling: &Filling) -> Result<Self, String> {
        let mut helper = Helper::start(&filling.arguments())?;
        let addresses = helper.hear()?;
        Ok(Self { helper, addresses })
    }

    /// What has arrived by now.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        self.helper.ask(ARRIVED)
    }

    /// How often a group has changed by now.
    pub(crate) fn group_changes(&mut self) -> Result<u64, String> {
        self.helper.ask(CHANGES)
    }

    /// Fills the topics with more; how many records it was.
    pub(crate) fn fill(&mut self, more: More) -> Result<u64, String> {
        let question = serde_json::to_string(&more).map_err(|error| error.to_string())?;
        self.helper.ask(&question)
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
    fn load_is_spread_over_all_mappings_before_a_second_partition_gets_some() {
        let filling = Filling {
            mappings: 2,
            partitions: 2,
            ..Filling::default()
        };
        let places: Vec<_> = filling.places(5).collect();
        let places: Vec<_> = places
            .iter()
            .map(|(topic, at)| (topic.as_str(), *at))
            .collect();
        let round = [("bench", 0), ("bench-1", 0), ("bench", 1), ("bench-1", 1)];
        assert_eq!(places[..4], round);
        assert_eq!(places[4], round[0]);
        assert_eq!(filling.lanes(), 4);
        assert_eq!(filling.places(0).count(), 0);
    }

    #[test]
    fn trouble_is_known_by_its_name() {
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::named(&trouble.name()), Some(trouble));
        }
        assert_eq!(Trouble::named(ARRIVED), None);
    }
}
