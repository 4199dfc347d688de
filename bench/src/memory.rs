//! What the real appliance holds of memory: by partitions, by budget, before a slow function, and at rest.
//!
//! Each run has a full topic and a fresh appliance, which works off the backlog as fast as it can. The peak is the
//! process's from its start to the last record; what is settled is its resident size some seconds later, when
//! nothing is to be done.
//!
//! Invariant: a run in which a record was missing, came twice or out of order gives no figure.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::plot::{Plot, Shape};
use crate::results::{Figures, Output};
use crate::rig::{Rig, Setup};
use crate::stage::Filling;
use crate::table::Table;
use crate::wait::{pause, since};
use crate::{cpu, results, say};

const MIB: u64 = 1024 * 1024;

/// How often is looked what has arrived.
const POLL: Duration = Duration::from_millis(20);

/// Bytes of a batch in the topic, where a partition has as many.
const BATCH_BYTES: usize = 64 << 10;

/// So many partitions are judged, which are to take less than that, and than the budget.
const MANY: (i32, f64) = (1_000, 1_024.0);

/// At rest with one mapping.
const IDLE: f64 = 40.0;

/// Options of `memory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partitions, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000])]
    partitions: Vec<i32>,
    /// `memory_bytes` of these cases, in MiB.
    #[arg(long, default_value_t = 512)]
    budget: u64,
    /// `memory_bytes` in MiB, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 256, 512])]
    budgets: Vec<u64>,
    /// Partitions of the cases by budget.
    #[arg(long, default_value_t = 100)]
    budget_partitions: i32,
    /// Partitions before a function that takes its time, one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    slow: Vec<i32>,
    /// Milliseconds that such a function takes for a call.
    #[arg(long, default_value_t = 200)]
    call_millis: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Shards.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Megabytes of values in each run.
    #[arg(long, default_value_t = 600)]
    megabytes: usize,
    /// Seconds after which a run ends though records are left.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of rest before the size is settled.
    #[arg(long, default_value_t = 5)]
    rest: u64,
    /// Rounds.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum About {
    Idle,
    Partitions,
    Budget,
    Slow,
}

/// One case.
#[derive(Clone, Copy, Debug)]
struct Case {
    about: About,
    partitions: i32,
    /// MiB.
    budget: u64,
    call_millis: u64,
    megabytes: usize,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run {
    peak: u64,
    settled: Option<u64>,
    megabytes_per_second: f64,
    records_per_call: f64,
}

/// One case; the peak is the most of the rounds, the rest their medians.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    about: About,
    value_bytes: usize,
    partitions: i32,
    shards: u32,
    budget_mebibytes: u64,
    call_milliseconds: u64,
    rounds: usize,
    peak_mebibytes: f64,
    /// `None` where records were left when the time was over.
    settled_mebibytes: Option<f64>,
    /// Megabytes of values, by the wall clock.
    value_megabytes_per_second: f64,
    records_per_call: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let cases = cases(arguments);
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    for at in 0..arguments.rounds.max(1) {
        say(&format!("round {} of {}", at + 1, arguments.rounds.max(1)));
        for (case, runs) in cases.iter().zip(&mut runs) {
            let run = measure(arguments, case);
            runs.push(run.map_err(|error| format!("{case:?}: {error}"))?);
        }
    }
    let each = cases.iter().zip(&runs);
    Ok(each
        .map(|(case, runs)| summary(arguments, case, runs))
        .collect())
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let busy = Case {
        about: About::Partitions,
        partitions: arguments.budget_partitions,
        budget: arguments.budget,
        call_millis: 0,
        megabytes: arguments.megabytes,
    };
    let idle = Case {
        about: About::Idle,
        partitions: 8,
        megabytes: 0,
        ..busy
    };
    let by_partitions = arguments
        .partitions
        .iter()
        .map(|&partitions| Case { partitions, ..busy });
    let by_budget = arguments.budgets.iter().map(|&budget| Case {
        about: About::Budget,
        budget,
        ..busy
    });
    let slow = arguments.slow.iter().map(|&partitions| Case {
        about: About::Slow,
        partitions,
        call_millis: arguments.call_millis,
        ..busy
    });
    let busy = by_partitions.chain(by_budget).chain(slow);
    std::iter::once(idle).chain(busy).collect()
}

fn measure(arguments: &Arguments, case: &Case) -> Result<Run, String> {
    let setup = Setup {
        shards: arguments.shards,
        memory_bytes: Some(case.budget * MIB),
        ..Setup::of(arguments.forebay.as_deref())?
    };
    let mut rig = Rig::start(&filling(arguments, case), &setup)?;
    let all = rig.stage.addresses.records;
    let mut began = None;
    let (arrived, took) = loop {
        let arrived = rig.arrived()?;
        arrived.must_be_clean()?;
        let waited = since(rig.started_micros);
        if arrived.records == 0 && waited > Duration::from_secs(arguments.seconds.max(60)) {
            return Err("nothing arrived".to_owned());
        }
        if arrived.records > 0 {
            let (began, before) =
                *began.get_or_insert((clock::monotonic_micros(), arrived.records));
            let took = since(began);
            if arrived.records >= all || took > Duration::from_secs(arguments.seconds) {
                break (arrived, (took, before));
            }
        }
        pause(POLL);
    };
    let is_whole = arrived.records >= all;
    if is_whole {
        pause(Duration::from_secs(arguments.rest));
        // What was there is all there is: nothing comes again later.
        rig.wait_for_clean(all)?;
    }
    let (took, before) = took;
    let bytes = (arrived.records - before) as f64 * arguments.value_bytes as f64;
    Ok(Run {
        peak: rig.node.peak_bytes()?,
        settled: is_whole.then(|| rig.node.resident_bytes()).transpose()?,
        megabytes_per_second: bytes / took.as_secs_f64().max(1e-3) / 1e6,
        records_per_call: arrived.records as f64 / arrived.calls.max(1) as f64,
    })
}

/// Every partition has its share, if it is a record.
fn filling(arguments: &Arguments, case: &Case) -> Filling {
    let value_bytes = arguments.value_bytes.max(1);
    let partitions = usize::try_from(case.partitions).unwrap_or(1).max(1);
    let records = (case.megabytes * 1_000_000 / value_bytes).max(partitions);
    Filling {
        value_bytes,
        records,
        partitions: case.partitions,
        batch_bytes: (records / partitions * value_bytes).min(BATCH_BYTES),
        call_millis: case.call_millis,
        ..Filling::default()
    }
}

fn summary(arguments: &Arguments, case: &Case, runs: &[Run]) -> Measured {
    let mebibytes = |bytes: u64| bytes as f64 / MIB as f64;
    let median = |of: fn(&Run) -> f64| cpu::median(runs.iter().map(of).collect());
    let settled: Option<Vec<f64>> = runs.iter().map(|run| run.settled.map(mebibytes)).collect();
    let peak = runs.iter().map(|run| run.peak).max();
    Measured {
        about: case.about,
        value_bytes: arguments.value_bytes,
        partitions: case.partitions,
        shards: arguments.shards,
        budget_mebibytes: case.budget,
        call_milliseconds: case.call_millis,
        rounds: runs.len(),
        peak_mebibytes: mebibytes(peak.unwrap_or_default()),
        settled_mebibytes: settled.map(cpu::median),
        value_megabytes_per_second: median(|run| run.megabytes_per_second),
        records_per_call: median(|run| run.records_per_call),
    }
}

impl About {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Partitions => "partitions",
            Self::Budget => "budget",
            Self::Slow => "slow",
        }
    }
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "memory";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "by",
            "partitions",
            "budget MiB",
            "call ms",
            "peak MiB",
            "settled MiB",
            "MB/s",
            "records/call",
        ];
        let mut table = Table::new(1, &names);
        for it in self {
            let settled = it.settled_mebibytes;
            table.row([
                it.about.name().to_owned(),
                it.partitions.to_string(),
                it.budget_mebibytes.to_string(),
                it.call_milliseconds.to_string(),
                format!("{:.0}", it.peak_mebibytes),
                settled.map_or_else(|| "-".to_owned(), |settled| format!("{settled:.0}")),
                format!("{:.0}", it.value_megabytes_per_second),
                format!("{:.0}", it.records_per_call),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let by_partitions = || self.iter().filter(|it| it.about == About::Partitions);
        let peak = by_partitions().map(|it| (f64::from(it.partitions), it.peak_mebibytes));
        let settled = by_partitions().filter_map(|it| {
            let settled = it.settled_mebibytes?;
            Some((f64::from(it.partitions), settled))
        });
        let plot = Plot {
            name: "partitions",
            title: "Resident size by partitions, at full rate".to_owned(),
            figures: "MiB",
            shape: Shape::Lines {
                axis: "partitions",
                by_multiples: true,
                series: vec![
                    ("peak".to_owned(), peak.collect()),
                    ("settled".to_owned(), settled.collect()),
                ],
            },
        };
        let has_points = by_partitions().next().is_some();
        has_points.then_some(plot).into_iter().collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let (partitions, most) = MANY;
        let mut goals = Vec::new();
        for it in self {
            match it.about {
                About::Partitions if it.partitions == partitions => {
                    let what = format!("peak MiB at {partitions} partitions");
                    goals.push(Goal::at_most(what.clone(), it.peak_mebibytes, most));
                    let budget = it.budget_mebibytes as f64;
                    let what = format!("{what}, beside the budget");
                    goals.push(Goal::at_most(what, it.peak_mebibytes, budget));
                }
                About::Idle => {
                    let settled = it.settled_mebibytes.unwrap_or(f64::NAN);
                    goals.push(Goal::at_most("MiB at rest with one mapping", settled, IDLE));
                }
                About::Partitions | About::Budget | About::Slow => {}
            }
        }
        goals
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        memory: Arguments,
    }

    #[test]
    fn every_partition_has_its_share() {
        let typed = ["x", "--megabytes=10", "--partitions=10000", "--budgets=64"];
        let arguments = Typed::parse_from(typed).memory;
        let cases = cases(&arguments);
        let filling = filling(&arguments, &cases[1]);
        assert_eq!((filling.partitions, filling.batch_bytes), (10_000, 1024));
        assert_eq!(filling.records, 10_000);
        let budget = cases[2];
        assert_eq!((budget.about, budget.partitions), (About::Budget, 100));
        assert_eq!(cases.len(), 5);
    }
}
