//! A backlog: what a record costs each consumer.
//!
//! CPU time of the consumer while the middle three fifths of the records arrive, in rounds that interleave the
//! consumers. Each run begins at the beginning of the same topic, with a group of its own, and ends when all
//! records have arrived.
//!
//! Why not from the first record to the last: whoever fetches and encodes far ahead has done much of the work
//! before the first call, and none waits behind the last. Between two moments of full work what was done ahead is
//! the same, and the process's first second is not in it.

use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use super::Arguments;
use super::cluster::Cluster;
use super::roster::{Contestant, FOREBAY, Task};
use crate::plot::{Plot, Shape, size};
use crate::sink::Sink;
use crate::table::{Table, with_spread};
use crate::wait::{pause, since};
use crate::{cpu, say};

/// How often the function is asked what has arrived.
const POLL: Duration = Duration::from_millis(5);

/// A run in which nothing arrives for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most records of a topic: of small values that is long enough.
const RECORDS_MAX: usize = 1_000_000;

/// One consumer at one size of values; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) consumer: String,
    pub(crate) value_bytes: usize,
    batch_size: u32,
    partitions: i32,
    rounds: usize,
    pub(crate) value_megabytes_per_cpu_second: f64,
    /// The least and the most.
    spread: [f64; 2],
    cpu_microseconds_per_record: f64,
    /// Forebay's rate over this one's, of the same round each.
    pub(crate) forebay_ratio: f64,
    /// Wall clock, of whatever the machine had to give.
    value_megabytes_per_second: f64,
    records_per_call: f64,
    /// When the last record had arrived.
    resident_megabytes: f64,
    pub(crate) peak_megabytes: f64,
}

/// One run.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Megabytes of values per CPU-second.
    per_cpu_second: f64,
    cpu_microseconds_per_record: f64,
    per_wall_second: f64,
    records_per_call: f64,
    resident_bytes: u64,
    peak_bytes: u64,
}

/// A full topic.
struct Topic {
    name: String,
    value_bytes: usize,
    records: u64,
}

/// All rounds.
pub(crate) fn measure_all(
    arguments: &Arguments,
    cluster: &Cluster,
    contestants: &[Contestant],
) -> Result<Vec<Measured>, String> {
    let topics = arguments
        .value_bytes
        .iter()
        .map(|value_bytes| fill(arguments, cluster, *value_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); topics.len() * contestants.len()];
    for round in 0..arguments.rounds.max(1) {
        say(&format!(
            "round {} of {}",
            round + 1,
            arguments.rounds.max(1)
        ));
        let cases = topics
            .iter()
            .flat_map(|topic| contestants.iter().map(move |it| (topic, it)));
        for ((topic, contestant), runs) in cases.zip(&mut runs) {
            let group = format!("{}-{}-{round}", contestant.name(), topic.name);
            let run = measure(arguments, cluster, topic, contestant, &group);
            runs.push(run.map_err(|error| format!("{group}: {error}; {}", contestant.log()))?);
        }
    }
    let mut measured = Vec::new();
    for (topic, runs) in topics.iter().zip(runs.chunks(contestants.len())) {
        let forebay = runs.first().map_or(&[][..], Vec::as_slice);
        for (contestant, runs) in contestants.iter().zip(runs) {
            measured.push(summary(arguments, topic, contestant, runs, forebay));
        }
    }
    Ok(measured)
}

fn fill(arguments: &Arguments, cluster: &Cluster, value_bytes: usize) -> Result<Topic, String> {
    let name = format!("bench-{value_bytes}");
    let records = arguments.megabytes * 1_000_000 / value_bytes.max(1);
    let records = records.min(RECORDS_MAX);
    let records = cluster.fill(&name, arguments.partitions, value_bytes, records)?;
    Ok(Topic {
        name,
        value_bytes,
        records,
    })
}

/// One run: a fresh consumer, until everything has arrived.
fn measure(
    arguments: &Arguments,
    cluster: &Cluster,
    topic: &Topic,
    contestant: &Contestant,
    group: &str,
) -> Result<Run, String> {
    let mut sink = Sink::start()?;
    let mut running = contestant.start(&Task {
        bootstrap: &cluster.bootstrap,
        topic: &topic.name,
        group,
        url: &sink.url,
        batch_size: arguments.batch_size,
    })?;
    let mut heard = clock::monotonic_micros();
    let mut last = 0;
    let (mut begin, mut end) = (None, None);
    loop {
        let arrived = sink.arrived()?;
        arrived.must_be_clean()?;
        if arrived.records > last {
            (last, heard) = (arrived.records, clock::monotonic_micros());
        } else if since(heard) > PATIENCE {
            return Err(format!("{last} records arrived, then nothing"));
        }
        let moment = Moment {
            records: arrived.records,
            cpu: running.process.cpu_time()?,
            at: clock::monotonic_micros(),
        };
        if arrived.records <= topic.records / 5 {
            begin = Some(moment);
        } else if arrived.records >= topic.records / 5 * 4 && end.is_none() {
            end = Some(moment);
        }
        if arrived.records >= topic.records {
            let (begin, end) = begin
                .zip(end)
                .ok_or("the function had seen records before")?;
            return Ok(Run {
                records_per_call: arrived.records as f64 / arrived.calls as f64,
                resident_bytes: running.process.resident_bytes()?,
                peak_bytes: running.process.peak_bytes()?,
                ..Run::between(&begin, &end, topic.value_bytes)
            });
        }
        pause(POLL);
    }
}

/// What had arrived at a moment, and what it had cost.
struct Moment {
    records: u64,
    cpu: Duration,
    at: u64,
}

impl Run {
    fn between(begin: &Moment, end: &Moment, value_bytes: usize) -> Self {
        let records = (end.records - begin.records) as f64;
        let megabytes = records * value_bytes as f64 / 1e6;
        let cpu = (end.cpu - begin.cpu).as_secs_f64();
        let wall = Duration::from_micros(end.at - begin.at).as_secs_f64();
        Self {
            per_cpu_second: megabytes / cpu,
            cpu_microseconds_per_record: cpu * 1e6 / records,
            per_wall_second: megabytes / wall,
            ..Self::default()
        }
    }
}

fn summary(
    arguments: &Arguments,
    topic: &Topic,
    contestant: &Contestant,
    runs: &[Run],
    forebay: &[Run],
) -> Measured {
    let median = |of: fn(&Run) -> f64| cpu::median(runs.iter().map(of).collect());
    let rates: Vec<f64> = runs.iter().map(|run| run.per_cpu_second).collect();
    let ratios = forebay.iter().zip(runs);
    let ratios = ratios.map(|(ours, theirs)| ours.per_cpu_second / theirs.per_cpu_second);
    Measured {
        consumer: contestant.name().to_owned(),
        value_bytes: topic.value_bytes,
        batch_size: arguments.batch_size,
        partitions: arguments.partitions,
        rounds: runs.len(),
        value_megabytes_per_cpu_second: median(|run| run.per_cpu_second),
        spread: cpu::spread(&rates),
        cpu_microseconds_per_record: median(|run| run.cpu_microseconds_per_record),
        forebay_ratio: cpu::median(ratios.collect()),
        value_megabytes_per_second: median(|run| run.per_wall_second),
        records_per_call: median(|run| run.records_per_call),
        resident_megabytes: median(|run| run.resident_bytes as f64 / 1e6),
        peak_megabytes: median(|run| run.peak_bytes as f64 / 1e6),
    }
}

/// The table.
pub(crate) fn table(measured: &[Measured]) -> Table {
    let names = [
        "consumer",
        "value bytes",
        "MB/CPU-s (least to most)",
        "forebay is",
        "CPU us/record",
        "MB/s",
        "records/call",
        "resident MB",
        "peak MB",
    ];
    let mut table = Table::new(1, &names);
    for it in measured {
        let ratio = if it.consumer == FOREBAY {
            "-".to_owned()
        } else {
            format!("{:.2} times", it.forebay_ratio)
        };
        table.row([
            it.consumer.clone(),
            it.value_bytes.to_string(),
            with_spread(it.value_megabytes_per_cpu_second, it.spread, 0),
            ratio,
            format!("{:.2}", it.cpu_microseconds_per_record),
            format!("{:.0}", it.value_megabytes_per_second),
            format!("{:.0}", it.records_per_call),
            format!("{:.0}", it.resident_megabytes),
            format!("{:.0}", it.peak_megabytes),
        ]);
    }
    table
}

/// The picture.
pub(crate) fn plot(measured: &[Measured]) -> Plot {
    let mut sizes: Vec<usize> = measured.iter().map(|it| it.value_bytes).collect();
    sizes.dedup();
    let first = sizes.first().copied().unwrap_or_default();
    let consumers = measured.iter().filter(|it| it.value_bytes == first);
    let of = |consumer: &str| {
        let rate = |bytes: &usize| {
            let mut all = measured.iter();
            let found = all.find(|it| it.consumer == consumer && it.value_bytes == *bytes);
            found.map_or(f64::NAN, |it| it.value_megabytes_per_cpu_second)
        };
        (consumer.to_owned(), sizes.iter().map(rate).collect())
    };
    Plot {
        name: "rate",
        title: "What a CPU-second carries from a real Kafka to a function".to_owned(),
        figures: "MB of values per CPU-second",
        shape: Shape::Bars {
            groups: sizes.iter().map(|bytes| size(*bytes)).collect(),
            series: consumers.map(|it| of(&it.consumer)).collect(),
        },
    }
}
