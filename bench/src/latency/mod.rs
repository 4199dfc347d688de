//! How long a record takes through the real appliance, and how long the appliance takes to start.
//!
//! From the time at which a record was meant to be sent, by an open-loop [`Producer`], to the call that it came
//! in: producer, broker, appliance and function run in processes of their own on this machine. Beside it, in the
//! same rounds, the [`Hop`]: the same records at the same rate from the same producer straight to the function.
//! What is between the two, percentile by percentile, was added by broker and appliance.
//!
//! A load of 100 % is what can be [`carried`] here without a window: broker, function, producer and appliance
//! share this machine's CPUs, so it is less than the appliance could alone.
//!
//! Invariant: every record that was sent after the warm-up is in the figures, however late it came; a run in
//! which one was missing, came twice or out of order gives none.

mod carried;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::hop::Hop;
use crate::plot::{Plot, Shape};
use crate::producer::{Load, Producer, Target};
use crate::results::{Figures, Output};
use crate::rig::{Rig, Setup};
use crate::sink::Latency;
use crate::stage::{Filling, TOPIC};
use crate::still::StoodStill;
use crate::table::{Table, percent, with_spread};
use crate::wait::pause;
use crate::wire::Wire;
use crate::{cpu, results, say};

/// Before what counts, or as long as that if it is shorter.
const WARM_UP_SECONDS: u64 = 5;

/// How long the machine alone is watched, or as long as what counts if that is shorter.
const WATCHED_SECONDS: u64 = 3;

/// What may be added with no window at half load, in milliseconds: the median and the 99th percentile.
const ADDED: [f64; 2] = [0.5, 2.0];

/// Options of `latency`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Partitions.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Shards.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Batching windows in milliseconds, one case each: 0, 500 (AWS's default) or whole seconds.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 500])]
    windows: Vec<u32>,
    /// Per cent of what can be carried, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 80])]
    loads: Vec<u32>,
    /// What can be carried, in records a second; it is measured if left out.
    #[arg(long, value_name = "RECORDS")]
    carried: Option<u32>,
    /// Seconds of a run that count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How often the start is measured.
    #[arg(long, default_value_t = 10)]
    starts: usize,
    /// Measure the start alone.
    #[arg(long)]
    start: bool,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    value_bytes: usize,
    partitions: i32,
    shards: u32,
    rounds: usize,
    seconds: u64,
    /// Records a second that are 100 %; `None` where only the start was measured.
    carried_records_per_second: Option<u32>,
    /// `None` of runs that did not look.
    #[serde(default)]
    stood_still: Option<StoodStill>,
    cases: Vec<Case>,
    start: Option<start::Measured>,
}

/// One window at one load; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Case {
    window_milliseconds: u32,
    load_percent: u32,
    records_per_second: u32,
    forebay: Percentiles,
    hop: Percentiles,
    /// Of the rounds' differences.
    added: Percentiles,
    records_per_call: f64,
    /// Share of the machine's time that a hypervisor took during these runs.
    stolen: f64,
}

/// In milliseconds; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Percentiles {
    p50: f64,
    /// The least and the most.
    p50_spread: [f64; 2],
    p99: f64,
    /// The least and the most.
    p99_spread: [f64; 2],
    p999: f64,
    max: f64,
}

/// One round of a case: through the appliance, and beside it.
struct Round {
    forebay: Run,
    hop: Run,
    stolen: f64,
}

struct Run {
    latency: Latency,
    records_per_call: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Found, String> {
    let setup = Setup {
        shards: arguments.shards,
        ..Setup::of(arguments.forebay.as_deref())?
    };
    let mut found = Found {
        value_bytes: arguments.value_bytes,
        partitions: arguments.partitions,
        shards: arguments.shards,
        rounds: arguments.rounds.max(1),
        seconds: arguments.seconds.max(1),
        carried_records_per_second: None,
        stood_still: None,
        cases: Vec::new(),
        start: start::measure_all(arguments, &setup)?,
    };
    if !arguments.start {
        let carried = match arguments.carried {
            Some(given) => given,
            None => carried::measure(arguments, &setup)?,
        };
        found.carried_records_per_second = Some(carried);
        found.stood_still = Some(StoodStill::measure(Duration::from_secs(
            found.seconds.min(WATCHED_SECONDS),
        )));
        found.cases = cases(arguments, &setup, carried)?;
    }
    Ok(found)
}

fn cases(arguments: &Arguments, setup: &Setup, carried: u32) -> Result<Vec<Case>, String> {
    let windows = arguments.windows.iter();
    let keys: Vec<(u32, u32)> = windows
        .flat_map(|window| arguments.loads.iter().map(|load| (*window, *load)))
        .collect();
    let rate_at = |load: u32| (u64::from(carried) * u64::from(load) / 100).max(1);
    let mut rounds: Vec<Vec<Round>> = keys.iter().map(|_| Vec::new()).collect();
    for at in 0..arguments.rounds.max(1) {
        say(&format!("round {} of {}", at + 1, arguments.rounds.max(1)));
        for ((window_millis, load), rounds) in keys.iter().zip(&mut rounds) {
            let setup = Setup {
                window_millis: *window_millis,
                ..setup.clone()
            };
            rounds.push(round(arguments, &setup, rate_at(*load))?);
        }
    }
    let each = keys.iter().zip(&rounds);
    Ok(each
        .map(|((window, load), rounds)| summary((*window, *load), rate_at(*load), rounds))
        .collect())
}

/// A fresh stage and appliance, and both ways after each other.
fn round(arguments: &Arguments, setup: &Setup, rate: u64) -> Result<Round, String> {
    let machine = cpu::Machine::now();
    let mut rig = start_rig(arguments, setup)?;
    let broker = Target::Broker(Wire::connect(&rig.stage.addresses.bootstrap)?);
    let forebay = measure(arguments, &mut rig, load(arguments, TOPIC, rate), broker)?;
    let function = Target::Function(Hop::connect(&rig.stage.addresses.url)?);
    let hop = measure(arguments, &mut rig, load(arguments, "hop", rate), function)?;
    Ok(Round {
        forebay,
        hop,
        stolen: cpu::Machine::now().stolen_since(&machine),
    })
}

/// A stage with an appliance that has delivered all there was.
fn start_rig(arguments: &Arguments, setup: &Setup) -> Result<Rig, String> {
    let filling = Filling {
        value_bytes: arguments.value_bytes,
        records: 1,
        partitions: arguments.partitions,
        forgets_committed: true,
        ..Filling::default()
    };
    let mut rig = Rig::start(&filling, setup)?;
    rig.wait_for_clean(rig.stage.addresses.records)?;
    Ok(rig)
}

fn load(arguments: &Arguments, topic: &str, rate: u64) -> Load {
    Load {
        topic: topic.to_owned(),
        partitions: arguments.partitions,
        value_bytes: arguments.value_bytes,
        rate: u32::try_from(rate).unwrap_or(u32::MAX),
    }
}

fn measure(
    arguments: &Arguments,
    rig: &mut Rig,
    load: Load,
    target: Target,
) -> Result<Run, String> {
    let seconds = arguments.seconds.max(1);
    let first = rig.arrived()?.records;
    let producer = Producer::start(load, target)?;
    pause(Duration::from_secs(seconds.min(WARM_UP_SECONDS)));
    rig.stage.take_latency()?;
    let before = rig.arrived()?;
    pause(Duration::from_secs(seconds));
    let after = rig.arrived()?;
    let sent = producer.stop()?;
    rig.wait_for_clean(first + sent)?;
    Ok(Run {
        latency: rig.stage.take_latency()?,
        records_per_call: (after.records - before.records) as f64
            / (after.calls - before.calls).max(1) as f64,
    })
}

fn summary((window, load): (u32, u32), rate: u64, rounds: &[Round]) -> Case {
    let median = |of: fn(&Round) -> f64| cpu::median(rounds.iter().map(of).collect());
    let difference = |round: &Round| {
        let pairs = milliseconds(&round.forebay.latency).into_iter();
        let pairs = pairs.zip(milliseconds(&round.hop.latency));
        pairs.map(|(ours, hop)| ours - hop).collect()
    };
    let of = |of: fn(&Round) -> &Run| -> Vec<Vec<f64>> {
        let each = rounds.iter().map(of);
        each.map(|run| milliseconds(&run.latency).into()).collect()
    };
    Case {
        window_milliseconds: window,
        load_percent: load,
        records_per_second: u32::try_from(rate).unwrap_or(u32::MAX),
        forebay: Percentiles::of(&of(|round| &round.forebay)),
        hop: Percentiles::of(&of(|round| &round.hop)),
        added: Percentiles::of(&rounds.iter().map(difference).collect::<Vec<_>>()),
        records_per_call: median(|round| round.forebay.records_per_call),
        stolen: median(|round| round.stolen),
    }
}

/// p50, p99, p99.9 and the most.
fn milliseconds(latency: &Latency) -> [f64; 4] {
    [
        latency.p50_micros,
        latency.p99_micros,
        latency.p999_micros,
        latency.max_micros,
    ]
    .map(|micros| micros as f64 / 1e3)
}

impl Percentiles {
    /// Of rounds as [`milliseconds`] has them.
    fn of(rounds: &[Vec<f64>]) -> Self {
        let all = |at: usize| -> Vec<f64> { rounds.iter().map(|round| round[at]).collect() };
        Self {
            p50: cpu::median(all(0)),
            p50_spread: cpu::spread(&all(0)),
            p99: cpu::median(all(1)),
            p99_spread: cpu::spread(&all(1)),
            p999: cpu::median(all(2)),
            max: cpu::median(all(3)),
        }
    }
}

impl Figures for Found {
    const COMMAND: &'static str = "latency";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "way",
            "window ms",
            "load",
            "records/s",
            "p50 ms (least to most)",
            "p99 ms (least to most)",
            "p99.9 ms",
            "max ms",
            "records/call",
            "stolen",
        ];
        let mut table = Table::new(1, &names);
        for it in &self.cases {
            let ways = [
                (
                    "forebay",
                    &it.forebay,
                    format!("{:.1}", it.records_per_call),
                ),
                ("hop", &it.hop, String::new()),
                ("added", &it.added, String::new()),
            ];
            for (way, percentiles, records_per_call) in ways {
                table.row([
                    way.to_owned(),
                    it.window_milliseconds.to_string(),
                    format!("{} %", it.load_percent),
                    it.records_per_second.to_string(),
                    with_spread(percentiles.p50, percentiles.p50_spread, 2),
                    with_spread(percentiles.p99, percentiles.p99_spread, 2),
                    format!("{:.2}", percentiles.p999),
                    format!("{:.2}", percentiles.max),
                    records_per_call,
                    percent(it.stolen),
                ]);
            }
        }
        let cases = (!self.cases.is_empty()).then_some(table);
        let start = self.start.iter().map(start::Measured::table);
        cases.into_iter().chain(start).collect()
    }

    fn plots(&self) -> Vec<Plot> {
        let case = |it: &Case| format!("{} ms, {} %", it.window_milliseconds, it.load_percent);
        let of = |name: &str, figure: fn(&Percentiles) -> f64| {
            let figures = self.cases.iter().map(|it| figure(&it.added));
            (name.to_owned(), figures.collect())
        };
        let plot = Plot {
            name: "added",
            title: "Added to a hop, by window and load".to_owned(),
            figures: "milliseconds",
            shape: Shape::Bars {
                groups: self.cases.iter().map(case).collect(),
                series: vec![of("p50", |it| it.p50), of("p99", |it| it.p99)],
            },
        };
        (!self.cases.is_empty())
            .then_some(plot)
            .into_iter()
            .collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let judged = self
            .cases
            .iter()
            .filter(|it| it.window_milliseconds == 0 && it.load_percent == 50);
        let added = judged.flat_map(|it| {
            [
                ("p50", it.added.p50, ADDED[0]),
                ("p99", it.added.p99, ADDED[1]),
            ]
            .map(|(name, measured, most)| {
                let what = format!("{name} in ms that is added without a window at half load");
                Goal::at_most(what, measured, most).by_wall_clock()
            })
        });
        added
            .chain(self.start.iter().map(start::Measured::goal))
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        let carried = self.carried_records_per_second.map(|carried| {
            format!(
                "100 % are {carried} records a second of {} B in {} partitions: what broker, producer, appliance and function carry together here without a window",
                self.value_bytes, self.partitions
            )
        });
        let start = self.start.iter().map(|_| start::NOTE.to_owned());
        let machine = self.stood_still.iter().map(StoodStill::note);
        carried.into_iter().chain(machine).chain(start).collect()
    }
}
