//! The real appliance between an embedded broker and an embedded function: what a record costs it.
//!
//! Beside it, in the same rounds, the [`floor`].
//!
//! CPU time of the appliance's process, from the first record that arrived to the last, in rounds that
//! interleave the cases. The topic is full before the appliance starts, so it is never short of records.
//!
//! Invariant: a run in which a record was missing, came twice or out of order gives no figure.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use forebay_tests::clock;
use forebay_tests::harness::{Declared, Site};
use forebay_tests::node::Node;
use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::plot::{Plot, Shape, size};
use crate::results::{Figures, Output};
use crate::stage::{Filling, Stage, TOPIC};
use crate::table::{Table, percent, with_spread};
use crate::wait::{pause, since};
use crate::{cpu, floor, results};

/// How often the function is asked what has arrived.
const POLL: Duration = Duration::from_millis(5);

/// A run in which nothing arrives for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the appliance is to reach of the bare loop's rate, from 1 KB on.
const SHARE_OF_FLOOR: f64 = 0.85;

/// Options of `pipeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024, 10 * 1024])]
    value_bytes: Vec<usize>,
    /// `BatchSize`.
    #[arg(long, default_value_t = 10_000)]
    batch_size: u32,
    /// Partitions.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Shards.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Megabytes of values in each run (of the smallest values fewer, else it takes long).
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// One run of one case.
struct Run {
    /// Megabytes of values per CPU-second.
    per_cpu_second: f64,
    records_per_cpu_second: f64,
    per_wall_second: f64,
    records_per_call: f64,
    peak_bytes: u64,
    /// What the bare loop reached beside it.
    floor: f64,
}

/// One case; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    value_bytes: usize,
    batch_size: u32,
    partitions: i32,
    shards: u32,
    rounds: usize,
    /// The median of the rounds.
    value_megabytes_per_cpu_second: f64,
    /// The least and the most.
    spread: [f64; 2],
    /// What the bare loop reached, median of the rounds.
    floor_megabytes_per_cpu_second: f64,
    /// The median of the rounds' shares.
    share_of_floor: f64,
    records_per_cpu_second: f64,
    /// Wall clock, of whatever the machine had to give.
    value_megabytes_per_second: f64,
    records_per_call: f64,
    peak_megabytes: f64,
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "pipeline";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "value bytes",
            "batch",
            "partitions",
            "shards",
            "MB/CPU-s (least to most)",
            "floor",
            "share",
            "records/CPU-s",
            "MB/s",
            "records/call",
            "peak MB",
        ];
        let mut table = Table::new(0, &names);
        for it in self {
            table.row([
                it.value_bytes.to_string(),
                it.batch_size.to_string(),
                it.partitions.to_string(),
                it.shards.to_string(),
                with_spread(it.value_megabytes_per_cpu_second, it.spread, 0),
                format!("{:.0}", it.floor_megabytes_per_cpu_second),
                percent(it.share_of_floor),
                format!("{:.0}", it.records_per_cpu_second),
                format!("{:.0}", it.value_megabytes_per_second),
                format!("{:.0}", it.records_per_call),
                format!("{:.0}", it.peak_megabytes),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let of = |name: &str, rate: fn(&Measured) -> f64| {
            let points = self.iter().map(|it| (it.value_bytes as f64, rate(it)));
            (name.to_owned(), points.collect())
        };
        let plot = Plot {
            name: "rate",
            title: "The appliance, beside the bare loop".to_owned(),
            figures: "MB of values per CPU-second",
            shape: Shape::Lines {
                axis: "bytes of a value",
                by_multiples: true,
                series: vec![
                    of("forebay", |it| it.value_megabytes_per_cpu_second),
                    of("floor", |it| it.floor_megabytes_per_cpu_second),
                ],
            },
        };
        vec![plot]
    }

    fn goals(&self) -> Vec<Goal> {
        let judged = self
            .iter()
            .filter(|it| it.value_bytes >= 1024 && it.shards == 1);
        let goal = |it: &Measured| {
            let what = format!("share of the floor at {}", size(it.value_bytes));
            Goal::at_least(what, it.share_of_floor, SHARE_OF_FLOOR)
        };
        judged.map(goal).collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let program = match &arguments.forebay {
        Some(program) => program.clone(),
        None => Node::program()?,
    };
    let mut runs: Vec<Vec<Run>> = arguments.value_bytes.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds.max(1) {
        for (value_bytes, runs) in arguments.value_bytes.iter().zip(&mut runs) {
            let run = measure(arguments, *value_bytes, &program)?;
            let floor = floor::measure(
                *value_bytes,
                arguments.batch_size as usize,
                arguments.megabytes * 1_000_000,
            )?;
            runs.push(Run { floor, ..run });
        }
    }
    let measured = arguments.value_bytes.iter().zip(&runs);
    Ok(measured
        .map(|(value_bytes, runs)| summary(arguments, *value_bytes, runs))
        .collect())
}

/// One run: a full topic, a fresh appliance, until everything has arrived.
fn measure(arguments: &Arguments, value_bytes: usize, program: &Path) -> Result<Run, String> {
    let bytes = arguments.megabytes * 1_000_000;
    let filling = Filling {
        value_bytes,
        records: (bytes / value_bytes.max(1)).min(1_000_000),
        partitions: arguments.partitions,
        ..Filling::default()
    };
    let mut stage = Stage::start(&filling)?;
    let site = site(arguments, &stage);
    let mut appliance = Node::start(program, &site)?;
    let mut heard = clock::monotonic_micros();
    let mut first = None;
    let mut last = 0;
    loop {
        let arrived = stage.arrived()?;
        if !arrived.is_clean {
            return Err("records were missing, came twice or out of order".to_owned());
        }
        if arrived.records > last {
            (last, heard) = (arrived.records, clock::monotonic_micros());
        } else if since(heard) > PATIENCE {
            return Err(format!("{last} records arrived, then nothing"));
        }
        let cpu = appliance.cpu_time()?;
        if arrived.records == 0 {
            pause(POLL);
            continue;
        }
        let (cpu_before, began, records_before) =
            *first.get_or_insert((cpu, clock::monotonic_micros(), arrived.records));
        if arrived.records < stage.addresses.records {
            pause(POLL);
            continue;
        }
        let records = (arrived.records - records_before) as f64;
        let megabytes = records * value_bytes as f64 / 1e6;
        let cpu = (cpu - cpu_before).as_secs_f64();
        return Ok(Run {
            per_cpu_second: megabytes / cpu,
            records_per_cpu_second: records / cpu,
            per_wall_second: megabytes / since(began).as_secs_f64(),
            records_per_call: arrived.records as f64 / arrived.calls as f64,
            peak_bytes: appliance.peak_bytes()?,
            floor: 0.0,
        });
    }
}

/// A node with one mapping whose calls are signed, as AWS wants them.
fn site(arguments: &Arguments, stage: &Stage) -> Site {
    let site = Site::new(&stage.addresses.bootstrap, &stage.addresses.url)
        .key("shards", &arguments.shards.to_string());
    let members = format!(
        "MaximumBatchingWindowInSeconds = 0\nBatchSize = {}\n",
        arguments.batch_size
    );
    site.declare_signed(&Declared::new(TOPIC).with(&members));
    site
}

fn summary(arguments: &Arguments, value_bytes: usize, runs: &[Run]) -> Measured {
    let median = |of: fn(&Run) -> f64| cpu::median(runs.iter().map(of).collect());
    let rates: Vec<f64> = runs.iter().map(|run| run.per_cpu_second).collect();
    Measured {
        value_bytes,
        batch_size: arguments.batch_size,
        partitions: arguments.partitions,
        shards: arguments.shards,
        rounds: runs.len(),
        value_megabytes_per_cpu_second: median(|run| run.per_cpu_second),
        spread: cpu::spread(&rates),
        floor_megabytes_per_cpu_second: median(|run| run.floor),
        share_of_floor: median(|run| run.per_cpu_second / run.floor),
        records_per_cpu_second: median(|run| run.records_per_cpu_second),
        value_megabytes_per_second: median(|run| run.per_wall_second),
        records_per_call: median(|run| run.records_per_call),
        peak_megabytes: median(|run| run.peak_bytes as f64 / 1e6),
    }
}
