//! Whether what a record costs stays the same with more shards and with more mappings, and what a node costs
//! that has nothing to do.
//!
//! Shards: one mapping, 1 to as many shards as there are CPUs. Mappings: the same load, spread over more and more
//! of them on one shard. Calls are as large in every case, else their size would be what is measured: a batch of
//! the source is as large as a call, and AWS's default of 100 records is small enough that a thousand mappings
//! have whole ones.
//!
//! When a run begins: no figure has a start in it. A case's node is started, with the default heartbeats, and
//! counts as begun when a record of each partition of each mapping has arrived and no group changes any more.
//! Only then are the topics filled, in one step; CPU time is taken from just before that step to the last
//! arrival. So all that the mappings do beside meanwhile (fetches that wait, heartbeats, commits) is in the figure,
//! as it should be, and their joins are not. See [`load`](crate::load).
//!
//! Idle: a node whose mappings have all begun and have nothing to do, over some seconds.
//!
//! Invariant: cases are compared with the first of their list, in the same round.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::load::{Appliance, Begun, Cost, Load};
use crate::plot::{Plot, Shape};
use crate::results::{Figures, Output};
use crate::rig::{Filtering, Signing};
use crate::table::{Table, with_spread};
use crate::{cpu, results};

/// How many times the first case's cost a record may have: flat, but for what noise does.
const FLAT: f64 = 1.15;

/// Of each second, with one mapping: a hundredth of a core.
const IDLE_MILLISECONDS: f64 = 10.0;

/// Options of `scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Shards, a case each; 1 to the CPUs of the machine if left out.
    #[arg(long, value_delimiter = ',')]
    shards: Vec<u32>,
    /// Mappings, a case each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    mappings: Vec<usize>,
    /// Mappings of nodes that have nothing to do, a case each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000])]
    idle_mappings: Vec<usize>,
    /// How long such a node is watched.
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// `BatchSize`, and records of a batch of the source.
    #[arg(long, default_value_t = 100)]
    batch_size: u32,
    /// Partitions of a mapping's topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Megabytes of values in each run, over all mappings.
    #[arg(long, default_value_t = 500)]
    megabytes: usize,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// A number of shards or of mappings.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    count: usize,
    /// The median of the rounds.
    cpu_microseconds_per_record: f64,
    /// The least and the most.
    spread: [f64; 2],
    /// To the first step, of the same round each; the median.
    ratio: f64,
    records_per_call: f64,
    peak_megabytes: f64,
}

/// A node with nothing to do.
#[derive(Debug, Serialize, Deserialize)]
struct Idle {
    mappings: usize,
    /// The median of the rounds.
    cpu_milliseconds_per_second: f64,
    /// The least and the most.
    spread: [f64; 2],
}

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    value_bytes: usize,
    batch_size: u32,
    partitions: i32,
    rounds: usize,
    cpus: usize,
    shards: Vec<Step>,
    mappings: Vec<Step>,
    idle: Vec<Idle>,
}

impl Figures for Found {
    const COMMAND: &'static str = "scale";

    fn tables(&self) -> Vec<Table> {
        let steps = [("shards", &self.shards), ("mappings", &self.mappings)];
        let steps = steps.into_iter().filter(|(_, steps)| !steps.is_empty());
        let mut tables: Vec<Table> = steps.map(|(of, steps)| table(of, steps)).collect();
        if !self.idle.is_empty() {
            let names = [
                "idle mappings",
                "CPU ms/s (least to most)",
                "share of a core",
            ];
            let mut table = Table::new(0, &names);
            for it in &self.idle {
                table.row([
                    it.mappings.to_string(),
                    with_spread(it.cpu_milliseconds_per_second, it.spread, 2),
                    format!("{:.2} %", it.cpu_milliseconds_per_second / 10.0),
                ]);
            }
            tables.push(table);
        }
        tables
    }

    fn plots(&self) -> Vec<Plot> {
        let plot = |name: &'static str, title: &str, steps: &[Step]| Plot {
            name,
            title: title.to_owned(),
            figures: "CPU us of a record",
            shape: Shape::Lines {
                axis: name,
                by_multiples: true,
                series: vec![(
                    "forebay".to_owned(),
                    steps
                        .iter()
                        .map(|it| (it.count as f64, it.cpu_microseconds_per_record))
                        .collect(),
                )],
            },
        };
        let steps = [
            ("shards", "A record's cost, by shards", &self.shards),
            ("mappings", "A record's cost, by mappings", &self.mappings),
        ];
        // One point is no line.
        let steps = steps.into_iter().filter(|(.., steps)| steps.len() > 1);
        steps
            .map(|(name, title, steps)| plot(name, title, steps))
            .collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let flat = |of: &str, steps: &[Step]| -> Vec<Goal> {
            let later = steps.iter().skip(1);
            let first = steps.first().map_or(0, |it| it.count);
            let goal = |it: &Step| {
                let what = format!("CPU of a record with {} {of} over {first}", it.count);
                Goal::at_most(what, it.ratio, FLAT)
            };
            later.map(goal).collect()
        };
        let mut goals = flat("shards", &self.shards);
        goals.extend(flat("mappings", &self.mappings));
        let idle = self.idle.iter().find(|it| it.mappings == 1);
        goals.extend(idle.map(|it| {
            let what = "CPU ms a second of an idle node with one mapping";
            Goal::at_most(what, it.cpu_milliseconds_per_second, IDLE_MILLISECONDS)
        }));
        goals
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "values of {} B, calls of {} records at most, {} partitions a mapping, signed, median of {} rounds",
            self.value_bytes, self.batch_size, self.partitions, self.rounds
        )];
        if self.cpus <= 2 {
            notes.push(format!(
                "the machine has {} CPUs: of more shards than that it says nothing, and the broker and the \
                 functions run on the same",
                self.cpus
            ));
        }
        notes
    }
}

fn table(of: &str, steps: &[Step]) -> Table {
    let names = [
        of,
        "CPU us/record (least to most)",
        "to the first",
        "records/call",
        "peak MB",
    ];
    let mut table = Table::new(0, &names);
    for it in steps {
        table.row([
            it.count.to_string(),
            with_spread(it.cpu_microseconds_per_record, it.spread, 2),
            format!("{:.2}", it.ratio),
            format!("{:.0}", it.records_per_call),
            format!("{:.0}", it.peak_megabytes),
        ]);
    }
    table
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Found, String> {
    let appliance = Appliance {
        program: arguments.forebay.as_deref(),
        variables: &[],
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut shards = arguments.shards.clone();
    if shards.is_empty() {
        shards = (1..=u32::try_from(cpus).unwrap_or(u32::MAX)).collect();
    }
    let loads = |of: &dyn Fn(usize) -> Load, counts: &[usize]| -> Vec<(usize, Load)> {
        counts.iter().map(|count| (*count, of(*count))).collect()
    };
    let counts: Vec<usize> = shards.iter().map(|it| *it as usize).collect();
    let by_shards = loads(&|count| arguments.load(count, 1), &counts);
    let by_mappings = loads(&|count| arguments.load(1, count), &arguments.mappings);
    let (mut of_shards, mut of_mappings) = (Vec::new(), Vec::new());
    let mut of_idle = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
        of_shards.push(round(arguments, &by_shards, &appliance)?);
        of_mappings.push(round(arguments, &by_mappings, &appliance)?);
        of_idle.push(idle(arguments, &appliance)?);
    }
    Ok(Found {
        value_bytes: arguments.value_bytes,
        batch_size: arguments.batch_size,
        partitions: arguments.partitions,
        rounds: of_shards.len(),
        cpus,
        shards: steps(&by_shards, &of_shards),
        mappings: steps(&by_mappings, &of_mappings),
        idle: idles(&arguments.idle_mappings, &of_idle),
    })
}

impl Arguments {
    fn load(&self, shards: usize, mappings: usize) -> Load {
        Load {
            value_bytes: self.value_bytes,
            batch_size: self.batch_size,
            mappings,
            // A shard without a partition would say nothing of shards.
            partitions: self
                .partitions
                .max(i32::try_from(shards).unwrap_or(i32::MAX)),
            shards: u32::try_from(shards).unwrap_or(u32::MAX),
            signing: Signing::Sigv4,
            tls: false,
            filter: Filtering::None,
        }
    }
}

/// Each case once.
fn round(
    arguments: &Arguments,
    cases: &[(usize, Load)],
    appliance: &Appliance<'_>,
) -> Result<Vec<Cost>, String> {
    let per_batch = arguments.batch_size.max(1) as usize;
    let costs = cases.iter().map(|(_, load)| {
        let begun = Begun::new(load, arguments.megabytes, per_batch, appliance);
        let cost = begun.and_then(Begun::carry);
        cost.map_err(|error| format!("{load:?}: {error}"))
    });
    costs.collect()
}

/// CPU milliseconds of each second.
fn idle(arguments: &Arguments, appliance: &Appliance<'_>) -> Result<Vec<f64>, String> {
    let time = Duration::from_secs(arguments.idle_seconds.max(1));
    let per_second = arguments.idle_mappings.iter().map(|mappings| {
        let load = arguments.load(1, *mappings);
        let begun = Begun::new(&load, 0, 1, appliance);
        let cpu = begun.and_then(|mut begun| begun.idle(time));
        let cpu = cpu.map_err(|error| format!("{mappings} idle mappings: {error}"))?;
        Ok(cpu.as_secs_f64() * 1e3 / time.as_secs_f64())
    });
    per_second.collect()
}

/// Medians over the rounds.
fn steps(cases: &[(usize, Load)], rounds: &[Vec<Cost>]) -> Vec<Step> {
    let step = |(at, (count, _)): (usize, &(usize, Load))| {
        let of = |of: fn(&Cost) -> f64| -> Vec<f64> {
            let costs = rounds.iter().filter_map(|round| round.get(at));
            costs.map(of).collect()
        };
        let costs = of(Cost::cpu_microseconds_per_record);
        let ratios = rounds.iter().filter_map(|round| {
            let (own, first) = (round.get(at)?, round.first()?);
            Some(own.cpu_microseconds_per_record() / first.cpu_microseconds_per_record())
        });
        Step {
            count: *count,
            spread: cpu::spread(&costs),
            cpu_microseconds_per_record: cpu::median(costs),
            ratio: cpu::median(ratios.collect()),
            records_per_call: cpu::median(of(Cost::records_per_call)),
            peak_megabytes: cpu::median(of(|it| it.peak_bytes as f64 / 1e6)),
        }
    };
    cases.iter().enumerate().map(step).collect()
}

fn idles(mappings: &[usize], rounds: &[Vec<f64>]) -> Vec<Idle> {
    let idle = |(at, mappings): (usize, &usize)| {
        let costs = rounds.iter().filter_map(|round| round.get(at).copied());
        let costs: Vec<f64> = costs.collect();
        Idle {
            mappings: *mappings,
            spread: cpu::spread(&costs),
            cpu_milliseconds_per_second: cpu::median(costs),
        }
    };
    mappings.iter().enumerate().map(idle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::cost_to_test_with as cost;

    fn case(count: usize) -> (usize, Load) {
        let load = Load {
            value_bytes: 1,
            batch_size: 1,
            mappings: count,
            partitions: 1,
            shards: 1,
            signing: Signing::Sigv4,
            tls: false,
            filter: Filtering::None,
        };
        (count, load)
    }

    #[test]
    fn ratio_is_to_the_first_case_of_the_same_round() {
        // The machine was slow in the second round: the ratio does not see it.
        let rounds = [
            vec![cost(2), cost(3)],
            vec![cost(20), cost(30)],
            vec![cost(2), cost(3)],
        ];
        let steps = steps(&[case(1), case(10)], &rounds);
        assert_eq!((steps[0].ratio, steps[1].ratio), (1.0, 1.5));
        assert_eq!(steps[1].cpu_microseconds_per_record, 3.0);
        assert_eq!(steps[1].spread, [3.0, 30.0]);
    }

    #[test]
    fn idle_node_is_judged_with_one_mapping() {
        let found = |mappings: &[usize]| Found {
            value_bytes: 1,
            batch_size: 1,
            partitions: 1,
            rounds: 1,
            cpus: 2,
            shards: Vec::new(),
            mappings: Vec::new(),
            idle: idles(mappings, &[vec![20.0; mappings.len()]]),
        };
        assert!(found(&[1000]).goals().is_empty());
        let goals = found(&[1, 1000]).goals();
        assert_eq!((goals.len(), goals[0].is_met()), (1, false));
    }
}
