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
use serde::Serialize;

use crate::stage::{Filling, Stage, TOPIC};
use crate::wait::{pause, since};
use crate::{cpu, floor, say, write_json};

/// How often the function is asked what has arrived.
const POLL: Duration = Duration::from_millis(5);

/// A run in which nothing arrives for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Write the result there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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

#[derive(Debug, Serialize)]
struct Measured {
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
    /// Share of the machine's time that a hypervisor took meanwhile.
    stolen: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match measure_all(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("pipeline gives no figure: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<(), String> {
    let program = match &arguments.forebay {
        Some(program) => program.clone(),
        None => Node::program()?,
    };
    let before = cpu::Machine::now();
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
    let stolen = cpu::Machine::now().stolen_since(&before);
    say(
        "values   batch  MB/CPU-s (least to most)  floor  share   records/CPU-s  MB/s  records/call  peak MB",
    );
    let measured: Vec<Measured> = arguments
        .value_bytes
        .iter()
        .zip(&runs)
        .map(|(value_bytes, runs)| summary(arguments, *value_bytes, runs, stolen))
        .collect();
    for it in &measured {
        say(&format!(
            "{:<7} {:>6}  {:>6.0} ({:.0} to {:.0}) {:>12.0} {:>5.1}% {:>13.0} {:>6.0} {:>12.0} {:>8.0}",
            it.value_bytes,
            it.batch_size,
            it.value_megabytes_per_cpu_second,
            it.spread[0],
            it.spread[1],
            it.floor_megabytes_per_cpu_second,
            it.share_of_floor * 100.0,
            it.records_per_cpu_second,
            it.value_megabytes_per_second,
            it.records_per_call,
            it.peak_megabytes,
        ));
    }
    say(&format!(
        "stolen: {:.1} % of the machine's time",
        stolen * 100.0
    ));
    write_json(arguments.json.as_deref(), &measured)
}

/// One run: a full topic, a fresh appliance, until everything has arrived.
fn measure(arguments: &Arguments, value_bytes: usize, program: &Path) -> Result<Run, String> {
    let bytes = arguments.megabytes * 1_000_000;
    let filling = Filling {
        value_bytes,
        records: (bytes / value_bytes.max(1)).min(1_000_000),
        partitions: arguments.partitions,
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

fn summary(arguments: &Arguments, value_bytes: usize, runs: &[Run], stolen: f64) -> Measured {
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
        stolen,
    }
}
