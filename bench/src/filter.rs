//! What a filter costs a record: patterns on JSON, over simd-json's tape of the same value, its copy included.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::filter::{Filter, FilterSet, Scratch, Subject};
use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::results::{Figures, Output};
use crate::sample::order;
use crate::table::{Table, with_spread};
use crate::tape::Tape;
use crate::{cpu, results};

/// Rounds before the first that counts.
const WARM_UP: usize = 5;

/// What a pattern may cost at most (issue "Delivery as its owner wants it").
const RATIO_MAX: f64 = 1.2;

/// What is asked, and of what.
const PATTERNS: [(&str, &str); 8] = [
    ("equals, sent", r#"{"value":{"status":["CONFIRMED"]}}"#),
    ("equals, not", r#"{"value":{"status":["CANCELLED"]}}"#),
    (
        "nested and numeric, not",
        r#"{"value":{"customer":{"address":{"country":["FR","IT"]}},"amount":[{"numeric":[">",100]}]}}"#,
    ),
    (
        "elements of an array, not",
        r#"{"value":{"items":{"sku":[{"prefix":"X"}],"quantity":[{"numeric":[">",100]}]}}}"#,
    ),
    (
        "$or at the end, not",
        r#"{"value":{"$or":[{"flags":{"vip":[true]}},{"source":{"host":[{"cidr":"192.168.0.0/16"}]}}]}}"#,
    ),
    (
        "exists, not",
        r#"{"value":{"flags":{"vip":[{"exists":false}]}}}"#,
    ),
    (
        "no such member, not",
        r#"{"value":{"cancelledAt":[{"exists":true}]}}"#,
    ),
    ("topic alone, not", r#"{"topic":["payments"]}"#),
];

/// Options of `filter`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 10 * 1024])]
    value_bytes: Vec<usize>,
    /// Rounds that count.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// One pattern on one value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pattern: String,
    value_bytes: usize,
    /// The median of the rounds.
    ratio: f64,
    /// The quartiles of the rounds.
    ratio_spread: [f64; 2],
    nanoseconds: f64,
    tape_nanoseconds: f64,
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "filter";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "pattern",
            "value bytes",
            "ratio (quartiles)",
            "ns",
            "tape ns",
        ];
        let mut table = Table::new(1, &names);
        for it in self {
            table.row([
                it.pattern.clone(),
                it.value_bytes.to_string(),
                with_spread(it.ratio, it.ratio_spread, 3),
                format!("{:.0}", it.nanoseconds),
                format!("{:.0}", it.tape_nanoseconds),
            ]);
        }
        vec![table]
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |it: &Measured| {
            let what = format!("{} on {} bytes, over the tape", it.pattern, it.value_bytes);
            Goal::at_most(what, it.ratio, RATIO_MAX)
        };
        self.iter().map(goal).collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let mut cases = Vec::new();
    for value_bytes in &arguments.value_bytes {
        for (name, pattern) in PATTERNS {
            cases.push(Case::new(name, pattern, *value_bytes)?);
        }
    }
    for round in 0..WARM_UP + arguments.rounds.max(1) {
        for case in &mut cases {
            let times = case.round()?;
            if round >= WARM_UP {
                case.rounds.push(times);
            }
        }
    }
    Ok(cases.iter().map(Case::measured).collect())
}

struct Case {
    name: &'static str,
    value: Bytes,
    filters: FilterSet,
    scratch: Scratch,
    tape: Tape,
    /// Values in a measurement, so that it is long against the clock's steps.
    repeats: u32,
    rounds: Vec<Round>,
}

/// CPU time of one round.
struct Round {
    filter: Duration,
    tape: Duration,
}

impl Case {
    fn new(name: &'static str, pattern: &str, value_bytes: usize) -> Result<Self, String> {
        let filter = Filter::compile(pattern).map_err(|error| error.to_string())?;
        let mut case = Self {
            name,
            value: order(value_bytes),
            filters: FilterSet::new(vec![filter]),
            scratch: Scratch::default(),
            tape: Tape::default(),
            repeats: u32::try_from(4 * 1024 * 1024 / value_bytes.max(1))
                .unwrap_or(1)
                .max(1),
            rounds: Vec::new(),
        };
        let sent = case.passes();
        match sent == name.ends_with("sent") {
            true => Ok(case),
            false => Err(format!("{name}: the filter says otherwise")),
        }
    }

    fn passes(&mut self) -> bool {
        let subject = Subject {
            topic: "orders",
            partition: 3,
            offset: 41,
            timestamp: 1_700_000_000_123,
            timestamp_type: "CREATE_TIME",
            key: None,
            value: Some(black_box(&self.value)),
        };
        self.filters.passes(&subject, &mut self.scratch)
    }

    fn round(&mut self) -> Result<Round, String> {
        let filter = cpu::time(|| {
            for _ in 0..self.repeats {
                black_box(self.passes());
            }
        });
        let mut failed = None;
        let tape = cpu::time(|| {
            for _ in 0..self.repeats {
                failed = self.tape.of(&self.value).err().or(failed.take());
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Round { filter, tape }),
        }
    }

    fn measured(&self) -> Measured {
        let median = |of: fn(&Round) -> f64| cpu::median(self.rounds.iter().map(of).collect());
        let ratio = |round: &Round| round.filter.as_secs_f64() / round.tape.as_secs_f64();
        let mut ratios: Vec<f64> = self.rounds.iter().map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |share: usize| {
            let at = ratios.len() * share / 4;
            ratios.get(at).copied().unwrap_or(f64::NAN)
        };
        let repeats = f64::from(self.repeats);
        Measured {
            pattern: self.name.to_owned(),
            value_bytes: self.value.len(),
            ratio: cpu::median(ratios.clone()),
            ratio_spread: [at(1), at(3)],
            nanoseconds: median(|it| it.filter.as_secs_f64()) * 1e9 / repeats,
            tape_nanoseconds: median(|it| it.tape.as_secs_f64()) * 1e9 / repeats,
        }
    }
}
