//! A trickle: how long a record takes through each consumer, and what of a core it takes to wait for it.
//!
//! An open-loop producer stamps the time at which each record was meant to be sent into its value, so that
//! what is late because it had to wait is late in the figures as well. In rounds that interleave the consumers;
//! beside each figure stands the share of time that the machine was stolen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use forebay_tests::clock;
use forebay_tests::fake_kafka::batch::{BatchOptions, NewRecord, encode};
use forebay_tests::fake_lambda::lean::{STAMP_BYTES, stamp};
use serde::{Deserialize, Serialize};

use super::Arguments;
use super::cluster::Cluster;
use super::roster::{Contestant, Task};
use crate::plot::{Plot, Shape};
use crate::sample::Noise;
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
    let producer = Producer::start(arguments, cluster, topic)?;
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
    let sent = producer.stop()?;
    let began = clock::monotonic_micros();
    while sink.arrived()?.records < sent {
        if since(began) > PATIENCE {
            return Err("records were missing".to_owned());
        }
        pause(POLL);
    }
    if !sink.arrived()?.is_clean {
        return Err("records came twice or out of order".to_owned());
    }
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

/// Writes one record at a time to each partition in turn, at a rate that waits for nobody.
struct Producer {
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64, String>>,
    hearer: JoinHandle<Result<(), String>>,
}

impl Producer {
    fn start(arguments: &Arguments, cluster: &Cluster, topic: &str) -> Result<Self, String> {
        let mut wire = cluster.connect()?;
        wire.create_topic(topic, arguments.partitions)?;
        let mut schedule = Schedule {
            noise: Noise::default(),
            value_bytes: arguments.latency_value_bytes,
            interval: Duration::from_secs(1) / arguments.rate.max(1),
            began: 0,
            sent: 0,
        };
        for partition in 0..arguments.partitions {
            // The first record is written until the partition is there.
            wire.produce(topic, partition, &schedule.batch(clock::monotonic_micros()))?;
        }
        schedule.began = clock::monotonic_micros();
        let mut hearing = wire.try_clone()?;
        let (sent, unheard) = mpsc::channel();
        let hearer =
            std::thread::spawn(move || unheard.iter().try_for_each(|()| hearing.hear_produced()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, topic) = (Arc::clone(&is_over), topic.to_owned());
        let partitions = arguments.partitions;
        let sender = std::thread::spawn(move || {
            for partition in (0..partitions).cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let meant = schedule.next();
                wire.send_produce(&topic, partition, schedule.batch(meant))?;
                sent.send(())
                    .map_err(|_| "the broker refuses records".to_owned())?;
            }
            Ok(schedule.sent)
        });
        Ok(Self {
            is_over,
            sender,
            hearer,
        })
    }

    /// How many records there are, all of them acknowledged.
    fn stop(self) -> Result<u64, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let panicked = |_| "the producer panicked".to_owned();
        let sent = self.sender.join().map_err(panicked)?;
        self.hearer.join().map_err(panicked)??;
        sent
    }
}

struct Schedule {
    noise: Noise,
    value_bytes: usize,
    interval: Duration,
    began: u64,
    /// Records so far, those before the schedule began included.
    sent: u64,
}

impl Schedule {
    /// Waits for the next record's time; a time that has passed is not waited for, and not forgiven.
    fn next(&self) -> u64 {
        let interval = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX);
        let meant = self.began + self.sent * interval;
        let now = clock::monotonic_micros();
        if meant > now {
            pause(Duration::from_micros(meant - now));
        }
        meant
    }

    /// A batch of one record that was meant to be sent then.
    fn batch(&mut self, meant: u64) -> Bytes {
        let rest = self
            .noise
            .bytes(self.value_bytes.saturating_sub(STAMP_BYTES));
        let value = [&stamp(meant)[..], &rest[..]].concat();
        self.sent += 1;
        let record = NewRecord::value(value)
            .with_key(format!("{:08}", self.sent))
            .at(clock::unix_millis());
        encode(&[record], BatchOptions::default())
    }
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
