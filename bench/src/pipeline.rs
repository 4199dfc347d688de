//! The real appliance between an embedded broker and embedded functions: what a record costs it.
//!
//! Beside it, in the same rounds, the [`floor`]; to an endpoint that checks no signature, one that hashes nothing;
//! under TLS, one that decrypts and encrypts; with a filter on values, one that parses them.
//! The cases are all combinations of the options; how a run is measured is in [`load`](crate::load).

mod goals;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::load::{Appliance, Begun, Cost, Load};
use crate::plot::{Plot, Shape, size};
use crate::results::{Figures, Output};
use crate::rig::{Filtering, Signing};
use crate::table::{Table, percent, with_spread};
use crate::{cpu, floor, results, stage};

/// Options of `pipeline`; a list gives a case for each.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024, 10 * 1024])]
    value_bytes: Vec<usize>,
    /// `BatchSize`.
    #[arg(long, value_delimiter = ',', default_values_t = [goals::LARGE_BATCH])]
    batch_size: Vec<u32>,
    /// Mappings, each with a topic, a group and a function of its own; together they carry what one would.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    mappings: Vec<usize>,
    /// Partitions of a topic.
    #[arg(long, value_delimiter = ',', default_values_t = [8])]
    partitions: Vec<i32>,
    /// Shards.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    shards: Vec<u32>,
    /// How calls are signed; `none` is an endpoint of one's own, which spares the hash.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Signing::Sigv4])]
    signing: Vec<Signing>,
    /// By what records are filtered, which all pass: nothing, their topic, or members at the end of their values, which are
    /// JSON then; the floor beside it parses them too.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Filtering::None])]
    filter: Vec<Filtering>,
    /// Each case also with broker and function under TLS.
    #[arg(long)]
    tls: bool,
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

impl Arguments {
    /// All combinations.
    fn cases(&self) -> Vec<Load> {
        let none = Load {
            value_bytes: 0,
            batch_size: 0,
            mappings: 0,
            partitions: 0,
            shards: 0,
            signing: Signing::Sigv4,
            tls: false,
            filter: Filtering::None,
        };
        let cases = each(&[none], &self.value_bytes, |it, to| it.value_bytes = to);
        let cases = each(&cases, &self.batch_size, |it, to| it.batch_size = to);
        let cases = each(&cases, &self.mappings, |it, to| it.mappings = to);
        let cases = each(&cases, &self.partitions, |it, to| it.partitions = to);
        let cases = each(&cases, &self.shards, |it, to| it.shards = to);
        let cases = each(&cases, &self.signing, |it, to| it.signing = to);
        let cases = each(&cases, &self.filter, |it, to| it.filter = to);
        each(&cases, floor::wires(self.tls), |it, to| it.tls = to)
    }
}

/// Every case with every value; the values of a case stand beside each other.
fn each<T: Copy>(cases: &[Load], values: &[T], set: fn(&mut Load, T)) -> Vec<Load> {
    let with = |(mut load, value): (Load, T)| {
        set(&mut load, value);
        load
    };
    let pairs = cases
        .iter()
        .flat_map(|case| values.iter().map(|value| (*case, *value)));
    pairs.map(with).collect()
}

/// One case; medians of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    load: Load,
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

impl Measured {
    fn cpu_microseconds_per_record(&self) -> f64 {
        1e6 / self.records_per_cpu_second
    }

    fn cpu_nanoseconds_per_byte(&self) -> f64 {
        1e3 / self.value_megabytes_per_cpu_second
    }
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "pipeline";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "wire",
            "signing",
            "filter",
            "value bytes",
            "batch",
            "mappings",
            "partitions",
            "shards",
            "MB/CPU-s (least to most)",
            "floor",
            "share",
            "CPU us/record",
            "CPU ns/byte",
            "MB/s",
            "records/call",
            "peak MB",
        ];
        let mut table = Table::new(3, &names);
        for it in self {
            table.row([
                floor::wire_name(it.load.tls).to_owned(),
                it.load.signing.to_string(),
                it.load.filter.to_string(),
                it.load.value_bytes.to_string(),
                it.load.batch_size.to_string(),
                it.load.mappings.to_string(),
                it.load.partitions.to_string(),
                it.load.shards.to_string(),
                with_spread(it.value_megabytes_per_cpu_second, it.spread, 0),
                format!("{:.0}", it.floor_megabytes_per_cpu_second),
                percent(it.share_of_floor),
                format!("{:.2}", it.cpu_microseconds_per_record()),
                format!("{:.2}", it.cpu_nanoseconds_per_byte()),
                format!("{:.0}", it.value_megabytes_per_second),
                format!("{:.0}", it.records_per_call),
                format!("{:.0}", it.peak_megabytes),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let plot = Plot {
            name: "rate",
            title: "The appliance, beside the bare loop".to_owned(),
            figures: "MB of values per CPU-second",
            shape: lines(self),
        };
        vec![plot]
    }

    fn goals(&self) -> Vec<Goal> {
        goals::of(self)
    }
}

/// What tells a case from the others: its size of values, and what else is not the same in all.
fn case(all: &[Measured], load: &Load) -> String {
    let mut parts = vec![size(load.value_bytes)];
    let first = all.first().map_or(*load, |it| it.load);
    let mut part = |differs: fn(&Load, &Load) -> bool, text: String| {
        if all.iter().any(|it| differs(&it.load, &first)) {
            parts.push(text);
        }
    };
    part(
        |a, b| a.batch_size != b.batch_size,
        format!("batches of {}", load.batch_size),
    );
    part(
        |a, b| a.mappings != b.mappings,
        format!("mappings {}", load.mappings),
    );
    part(
        |a, b| a.partitions != b.partitions,
        format!("partitions {}", load.partitions),
    );
    part(
        |a, b| a.shards != b.shards,
        format!("shards {}", load.shards),
    );
    part(
        |a, b| a.signing != b.signing,
        format!("signing {}", load.signing),
    );
    part(
        |a, b| a.filter != b.filter,
        format!("filter {}", load.filter),
    );
    part(|a, b| a.tls != b.tls, floor::wire_name(load.tls).to_owned());
    parts.join(", ")
}

/// Rates over what varies most, a line for each case of the rest.
fn lines(all: &[Measured]) -> Shape {
    type Axis = (&'static str, fn(&Load) -> f64, fn(&mut Load));
    const AXES: [Axis; 5] = [
        (
            "bytes of a value",
            |it| it.value_bytes as f64,
            |it| it.value_bytes = 0,
        ),
        (
            "records in a call at most",
            |it| f64::from(it.batch_size),
            |it| it.batch_size = 0,
        ),
        ("mappings", |it| it.mappings as f64, |it| it.mappings = 0),
        (
            "partitions",
            |it| f64::from(it.partitions),
            |it| it.partitions = 0,
        ),
        ("shards", |it| f64::from(it.shards), |it| it.shards = 0),
    ];
    let values = |(_, of, _): &Axis| {
        let mut values: Vec<f64> = all.iter().map(|it| of(&it.load)).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values.len()
    };
    // The last of the greatest: so the first goes last.
    let widest = AXES.into_iter().rev().max_by_key(values);
    let (axis, of, forget) = widest.unwrap_or(AXES[0]);
    let mut rests: Vec<(Load, &Measured)> = Vec::new();
    for it in all {
        let mut rest = it.load;
        forget(&mut rest);
        if !rests.iter().any(|(known, _)| *known == rest) {
            rests.push((rest, it));
        }
    }
    let line = |rest: &Load, rate: fn(&Measured) -> f64| {
        let of_rest = all.iter().filter(|it| {
            let mut load = it.load;
            forget(&mut load);
            load == *rest
        });
        of_rest.map(|it| (of(&it.load), rate(it))).collect()
    };
    let mut series = Vec::new();
    for (rest, first) in &rests {
        let named = |name: &str| match rests.len() {
            1 => name.to_owned(),
            _ => format!("{name}, {}", case(all, &first.load)),
        };
        let forebay = line(rest, |it| it.value_megabytes_per_cpu_second);
        series.push((named("forebay"), forebay));
        let floor = line(rest, |it| it.floor_megabytes_per_cpu_second);
        series.push((named("floor"), floor));
    }
    Shape::Lines {
        axis,
        by_multiples: true,
        series,
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

/// One run of one case.
struct Run {
    cost: Cost,
    /// Megabytes of values per CPU-second.
    rate: f64,
    /// What the bare loop reached beside it.
    floor: f64,
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let appliance = Appliance {
        program: arguments.forebay.as_deref(),
        variables: &[],
    };
    let cases = arguments.cases();
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds.max(1) {
        // What the bare loop does not know of makes no difference to it.
        let mut floors: HashMap<floor::Case, f64> = HashMap::new();
        for (load, runs) in cases.iter().zip(&mut runs) {
            let per_batch = stage::usual_batch(load.value_bytes);
            let begun = Begun::new(load, arguments.megabytes, per_batch, &appliance);
            let cost = begun
                .and_then(Begun::carry)
                .map_err(|error| format!("{load:?}: {error}"))?;
            let case = load.bare();
            let floor = match floors.get(&case) {
                Some(floor) => *floor,
                None => floor::measure(&case, arguments.megabytes * 1_000_000)?,
            };
            floors.insert(case, floor);
            runs.push(Run {
                cost,
                rate: load.value_bytes as f64 / cost.cpu_microseconds_per_record(),
                floor,
            });
        }
    }
    let measured = cases.iter().zip(&runs);
    Ok(measured.map(|(load, runs)| summary(load, runs)).collect())
}

fn summary(load: &Load, runs: &[Run]) -> Measured {
    let median = |of: fn(&Run) -> f64| cpu::median(runs.iter().map(of).collect());
    let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    let value_megabytes = load.value_bytes as f64 / 1e6;
    Measured {
        load: *load,
        rounds: runs.len(),
        value_megabytes_per_cpu_second: median(|run| run.rate),
        spread: cpu::spread(&rates),
        floor_megabytes_per_cpu_second: median(|run| run.floor),
        share_of_floor: median(|run| run.rate / run.floor),
        records_per_cpu_second: median(|run| 1e6 / run.cost.cpu_microseconds_per_record()),
        value_megabytes_per_second: value_megabytes
            * median(|run| run.cost.records as f64 / run.cost.wall.as_secs_f64()),
        records_per_call: median(|run| run.cost.records_per_call()),
        peak_megabytes: median(|run| run.cost.peak_bytes as f64 / 1e6),
    }
}

/// A case of a test.
#[cfg(test)]
fn measured(value_bytes: usize, batch_size: u32, microseconds: f64) -> Measured {
    let load = Load {
        value_bytes,
        batch_size,
        mappings: 1,
        partitions: 8,
        shards: 1,
        signing: Signing::Sigv4,
        tls: false,
        filter: Filtering::None,
    };
    let rate = value_bytes as f64 / microseconds;
    Measured {
        load,
        rounds: 1,
        value_megabytes_per_cpu_second: rate,
        spread: [rate; 2],
        floor_megabytes_per_cpu_second: rate,
        share_of_floor: 1.0,
        records_per_cpu_second: 1e6 / microseconds,
        value_megabytes_per_second: rate,
        records_per_call: f64::from(batch_size),
        peak_megabytes: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_all_combinations_and_the_first_list_varies_slowest() {
        let none = measured(0, 0, 1.0).load;
        let cases = each(&[none], &[1, 2], |it, to| it.value_bytes = to);
        let cases = each(&cases, &[8, 9], |it, to| it.batch_size = to);
        let cases = cases.iter().map(|it| (it.value_bytes, it.batch_size));
        assert_eq!(cases.collect::<Vec<_>>(), [(1, 8), (1, 9), (2, 8), (2, 9)]);
    }

    #[test]
    fn plot_has_what_varies_as_its_axis_and_a_line_for_each_of_the_rest() {
        let shape = |all: &[Measured]| match lines(all) {
            Shape::Lines { axis, series, .. } => {
                let names: Vec<String> = series.into_iter().map(|(name, _)| name).collect();
                (axis, names.join("; "))
            }
            Shape::Bars { .. } => ("", String::new()),
        };
        let by_size = [measured(100, 10, 1.0), measured(1024, 10, 2.0)];
        assert_eq!(
            shape(&by_size),
            ("bytes of a value", "forebay; floor".to_owned())
        );
        let by_batch = [measured(1024, 10, 8.0), measured(1024, 1000, 2.0)];
        assert_eq!(shape(&by_batch).0, "records in a call at most");
    }

    #[test]
    fn data_of_before_there_were_choices_are_read() {
        let kept = r#"{"value_bytes":100,"batch_size":10000,"partitions":8,"shards":1}"#;
        let load: Load = serde_json::from_str(kept).unwrap();
        assert_eq!((load.mappings, load.signing), (1, Signing::Sigv4));
    }
}
