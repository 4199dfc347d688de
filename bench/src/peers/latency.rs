//! A trickle: how long a record takes through each consumer, and what of a core it takes to wait for it.
//!
//! From the time at which a record was meant to be sent, by an open-loop [`Producer`]. In rounds that interleave
//! the consumers; beside each figure stands the share of time that the machine was stolen.

use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use super::Arguments;
use super::cluster::Cluster;
use super::roster::{Contestant, Task};
use crate::plot::{Plot, Shape};
use crate::producer::{Load, Producer, Target, Values, batch};
use crate::sink::{Latency, Sink};
use crate::table::{Table, percent, with_spread};
use crate::wait::{pause, since};
use crate::{cpu, say};

/// How often is looked whether something has come.
const POLL: Duration = Duration::from_millis(20);

/// Nothing takes longer to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Before what counts: code is compiled, buffers are there.
const WARM_UP: Duration = Duration::from_secs(5);

/// One consumer; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) consumer: String,
    value_bytes: usize,
    records_per_second: u32,
    partitions: i32,
    rounds: usize,
    pub(crate) p50_milliseconds: f64,
    /// The least and the most.
    p50_spread: [f64; 2],
    p99_milliseconds: f64,
    /// The least and the most.
    p99_spread: [f64; 2],
    max_milliseconds: f64,
    records_per_call: f64,
    /// CPU time of the consumer over wall time.
    pub(crate) share_of_a_core: f64,
    resident_megabytes: f64,
    peak_megabytes: f64,
    /// Share of the machine's time that a hypervisor took during this consumer's runs.
    stolen: f64,
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    latency: Latency,
    records_per_call: f64,
    share_of_a_core: f64,
    resident_bytes: u64,
    peak_bytes: u64,
    stolen: f64,
}

/// All rounds.
pub(crate) fn measure_all(
    arguments: &Arguments,
    cluster: &Cluster,
    contestants: &[Contestant],
) -> Result<Vec<Measured>, String> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); contestants.len()];
    for round in 0..arguments.rounds.max(1) {
        say(&format!(
            "round {} of {}",
            round + 1,
            arguments.rounds.max(1)
        ));
        for (contestant, runs) in contestants.iter().zip(&mut runs) {
            let topic = format!("latency-{}-{round}", contestant.name());
            let run = measure(arguments, cluster, contestant, &topic);
            runs.push(run.map_err(|error| format!("{topic}: {error}; {}", contestant.log()))?);
        }
    }
    let each = contestants.iter().zip(&runs);
    Ok(each
        .map(|(contestant, runs)| summary(arguments, contestant, runs))
        .collect())
}

/// One run: a fresh consumer of a fresh topic, which is written to until the time is over.
fn measure(
    arguments: &Arguments,
    cluster: &Cluster,
    contestant: &Contestant,
    topic: &str,
) -> Result<Run, String> {
    let mut sink = Sink::start()?;
    let (producer, primed) = produce(arguments, cluster, topic)?;
    let mut running = contestant.start(&Task {
        bootstrap: &cluster.bootstrap,
        topic,
        group: topic,
        url: &sink.url,
        batch_size: arguments.batch_size,
    })?;
    let began = clock::monotonic_micros();
    while sink.arrived()?.records == 0 {
        running.process.cpu_time()?;
        if since(began) > PATIENCE {
            return Err("nothing arrived".to_owned());
        }
        pause(POLL);
    }
    pause(WARM_UP);
    sink.take_latency()?;
    let (machine, before) = (cpu::Machine::now(), sink.arrived()?);
    let (began, cpu_before) = (clock::monotonic_micros(), running.process.cpu_time()?);
    pause(Duration::from_secs(arguments.seconds));
    let cpu = running.process.cpu_time()? - cpu_before;
    let (wall, latency, after) = (since(began), sink.take_latency()?, sink.arrived()?);
    let stolen = cpu::Machine::now().stolen_since(&machine);
    let sent = primed + producer.stop()?;
    let began = clock::monotonic_micros();
    while sink.arrived()?.records < sent {
        if since(began) > PATIENCE {
            return Err("records were missing".to_owned());
        }
        pause(POLL);
    }
    sink.arrived()?.must_be_clean()?;
    Ok(Run {
        latency,
        records_per_call: (after.records - before.records) as f64
            / (after.calls - before.calls).max(1) as f64,
        share_of_a_core: cpu.as_secs_f64() / wall.as_secs_f64(),
        resident_bytes: running.process.resident_bytes()?,
        peak_bytes: running.process.peak_bytes()?,
        stolen,
    })
}

/// A producer, and how many records were written before it began.
fn produce(
    arguments: &Arguments,
    cluster: &Cluster,
    topic: &str,
) -> Result<(Producer, u64), String> {
    let load = Load {
        topic: topic.to_owned(),
        partitions: arguments.partitions,
        value_bytes: arguments.latency_value_bytes,
        rate: arguments.rate,
    };
    let mut wire = cluster.connect()?;
    wire.create_topic(topic, load.partitions)?;
    let values = Values::new(load.value_bytes);
    for partition in 0..load.partitions {
        // The first record is written until the partition is there.
        let first = values.record(0, clock::monotonic_micros());
        wire.produce(topic, partition, &batch(&[first]))?;
    }
    let primed = u64::try_from(load.partitions).unwrap_or_default();
    let producer = Producer::start(load, Target::Broker(wire))?;
    Ok((producer, primed))
}

fn summary(arguments: &Arguments, contestant: &Contestant, runs: &[Run]) -> Measured {
    let all = |of: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(of).collect() };
    let median = |of: fn(&Run) -> f64| cpu::median(all(of));
    let p50 = |run: &Run| run.latency.p50_micros as f64 / 1e3;
    let p99 = |run: &Run| run.latency.p99_micros as f64 / 1e3;
    Measured {
        consumer: contestant.name().to_owned(),
        value_bytes: arguments.latency_value_bytes,
        records_per_second: arguments.rate,
        partitions: arguments.partitions,
        rounds: runs.len(),
        p50_milliseconds: median(p50),
        p50_spread: cpu::spread(&all(p50)),
        p99_milliseconds: median(p99),
        p99_spread: cpu::spread(&all(p99)),
        max_milliseconds: median(|run| run.latency.max_micros as f64 / 1e3),
        records_per_call: median(|run| run.records_per_call),
        share_of_a_core: median(|run| run.share_of_a_core),
        resident_megabytes: median(|run| run.resident_bytes as f64 / 1e6),
        peak_megabytes: median(|run| run.peak_bytes as f64 / 1e6),
        stolen: median(|run| run.stolen),
    }
}

/// The table.
pub(crate) fn table(measured: &[Measured]) -> Table {
    let names = [
        "consumer",
        "p50 ms (least to most)",
        "p99 ms (least to most)",
        "max ms",
        "records/call",
        "of a core",
        "resident MB",
        "peak MB",
        "stolen",
    ];
    let mut table = Table::new(1, &names);
    for it in measured {
        table.row([
            it.consumer.clone(),
            with_spread(it.p50_milliseconds, it.p50_spread, 2),
            with_spread(it.p99_milliseconds, it.p99_spread, 2),
            format!("{:.1}", it.max_milliseconds),
            format!("{:.1}", it.records_per_call),
            percent(it.share_of_a_core),
            format!("{:.0}", it.resident_megabytes),
            format!("{:.0}", it.peak_megabytes),
            percent(it.stolen),
        ]);
    }
    table
}

/// The picture.
pub(crate) fn plot(measured: &[Measured]) -> Plot {
    let of = |quantile: fn(&Measured) -> f64| measured.iter().map(quantile).collect();
    Plot {
        name: "latency",
        title: "From the intended send to the invocation".to_owned(),
        figures: "milliseconds",
        shape: Shape::Bars {
            groups: measured.iter().map(|it| it.consumer.clone()).collect(),
            series: vec![
                ("p50".to_owned(), of(|it| it.p50_milliseconds)),
                ("p99".to_owned(), of(|it| it.p99_milliseconds)),
            ],
        },
    }
}
