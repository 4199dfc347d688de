//! The gate of the hot path: the CPU of decode, encode and hash over the CPU of the hash alone.
//!
//! By the size of a value, by the way that a body is hashed, and by the codec of the source batches. The
//! median of the rounds' ratios is the result: it repeats on machines whose absolute times do not.

mod bench;
mod plain;

use std::process::ExitCode;
use std::time::Duration;

use bench::Bench;
use plain::PlainBench;
pub(crate) use plain::serve;
use serde::{Deserialize, Serialize};

use crate::goal::Goal;
use crate::plot::{Plot, Shape, size};
use crate::results::{Figures, Output};
use crate::sample::Source;
use crate::table::{Table, with_spread};
use crate::{cpu, results};

/// Rounds before the first that counts.
const WARM_UP: usize = 5;

/// Options of `codec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of a value.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024, 10 * 1024, 100 * 1024, 1024 * 1024])]
    value_bytes: Vec<usize>,
    /// How bodies are hashed.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["alone", "pair", "plain"])]
    ways: Vec<Way>,
    /// Codecs of the source batches; with more than none the values are a text that can be compressed.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["none"])]
    sources: Vec<Source>,
    /// Rounds that count.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// How a body is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// While it is written, as that of a shard's only lane.
    Alone,
    /// Beside another. Two fill the gaps that the core's other hardware thread would use as well: while that is
    /// busy, only the other ways' figures say anything.
    Pair,
    /// By safe code, after it was written, as on a CPU without SHA-NI and AVX2.
    Plain,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Pair => "pair",
            Self::Plain => "plain",
        }
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Case {
    /// Bytes of a value.
    #[arg(long)]
    value_bytes: usize,
    /// How bodies are hashed.
    #[arg(long, value_enum)]
    way: Way,
    /// Codec of the source batches.
    #[arg(long, value_enum)]
    source: Source,
}

impl Case {
    /// What the ratio is to be at most (design: performance, "The gate").
    fn goal(&self) -> Option<f64> {
        let [small, middle, large] = match (self.way, self.source) {
            (Way::Alone, Source::None) => [1.25, 1.15, 1.12],
            (Way::Pair, Source::None) => [0.92, 0.85, 0.85],
            _ => return None,
        };
        Some(match self.value_bytes {
            ..1024 => small,
            1024..10_240 => middle,
            10_240.. => large,
        })
    }

    /// Bodies that are hashed at a time.
    fn bodies(&self) -> usize {
        match self.way {
            Way::Pair => 2,
            Way::Alone | Way::Plain => 1,
        }
    }
}

/// CPU time for one body, in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Decode, encode and hash.
    codec: Duration,
    /// ring's hash.
    hash: Duration,
}

/// What a case's bodies have in them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Content {
    records: usize,
    body_bytes: usize,
}

/// One case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    value_bytes: usize,
    way: Way,
    source: Source,
    records: usize,
    body_bytes: usize,
    /// The median of the rounds.
    ratio: f64,
    /// The quartiles of the rounds.
    ratio_spread: [f64; 2],
    goal: Option<f64>,
    codec_nanoseconds_per_record: f64,
    /// Megabytes of values per CPU-second of decode, encode and hash.
    value_megabytes_per_cpu_second: f64,
    hash_gigabytes_per_second: f64,
}

impl Figures for Vec<Measured> {
    const COMMAND: &'static str = "codec";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "source",
            "way",
            "value bytes",
            "records",
            "body bytes",
            "ratio (quartiles)",
            "goal",
            "ns/record",
            "MB/CPU-s",
            "hash GB/s",
        ];
        let mut table = Table::new(2, &names);
        for it in self {
            table.row([
                format!("{:?}", it.source).to_lowercase(),
                it.way.name().to_owned(),
                it.value_bytes.to_string(),
                it.records.to_string(),
                it.body_bytes.to_string(),
                with_spread(it.ratio, it.ratio_spread, 3),
                it.goal.map_or("-".to_owned(), |goal| format!("{goal:.2}")),
                format!("{:.1}", it.codec_nanoseconds_per_record),
                format!("{:.0}", it.value_megabytes_per_cpu_second),
                format!("{:.2}", it.hash_gigabytes_per_second),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let plain = || self.iter().filter(|it| it.source == Source::None);
        let mut sizes: Vec<usize> = plain().map(|it| it.value_bytes).collect();
        sizes.dedup();
        let of = |way: Way| {
            let ratio = |bytes: &usize| {
                let found = plain().find(|it| it.way == way && it.value_bytes == *bytes);
                found.map_or(f64::NAN, |it| it.ratio)
            };
            (way.name().to_owned(), sizes.iter().map(ratio).collect())
        };
        let plot = Plot {
            name: "ratio",
            title: "Decode, encode and hash, over the hash alone".to_owned(),
            figures: "ratio of CPU time",
            shape: Shape::Bars {
                groups: sizes.iter().map(|bytes| size(*bytes)).collect(),
                series: [Way::Alone, Way::Pair, Way::Plain].map(of).into(),
            },
        };
        (!sizes.is_empty()).then_some(plot).into_iter().collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |it: &Measured| {
            let what = format!("ratio at {}, {}", size(it.value_bytes), it.way.name());
            Some(Goal::at_most(what, it.ratio, it.goal?))
        };
        self.iter().filter_map(goal).collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure_all(arguments))
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Measured>, String> {
    let mut stands = Vec::new();
    for source in &arguments.sources {
        for value_bytes in &arguments.value_bytes {
            for way in &arguments.ways {
                stands.push(Stand::new(Case {
                    value_bytes: *value_bytes,
                    way: *way,
                    source: *source,
                })?);
            }
        }
    }
    for round in 0..WARM_UP + arguments.rounds.max(1) {
        for stand in &mut stands {
            let result = stand.bench.round()?;
            if round >= WARM_UP {
                stand.rounds.push(result);
            }
        }
    }
    Ok(stands.iter().map(Stand::measured).collect())
}

/// A case, and its rounds so far.
struct Stand {
    case: Case,
    bench: Place,
    rounds: Vec<Round>,
}

/// Where a case is measured.
enum Place {
    Here(Box<Bench>),
    WithoutKernels(PlainBench),
}

impl Place {
    fn round(&mut self) -> Result<Round, String> {
        match self {
            Self::Here(bench) => bench.round(),
            Self::WithoutKernels(bench) => bench.round(),
        }
    }

    fn content(&self) -> Content {
        match self {
            Self::Here(bench) => bench.content(),
            Self::WithoutKernels(bench) => bench.content(),
        }
    }
}

impl Stand {
    fn new(case: Case) -> Result<Self, String> {
        let bench = match case.way {
            Way::Plain => Place::WithoutKernels(PlainBench::start(&case)?),
            Way::Alone | Way::Pair => Place::Here(Box::new(Bench::new(case)?)),
        };
        Ok(Self {
            case,
            bench,
            rounds: Vec::new(),
        })
    }

    fn measured(&self) -> Measured {
        let median = |of: fn(&Round) -> f64| cpu::median(self.rounds.iter().map(of).collect());
        let ratio = |round: &Round| round.codec.as_secs_f64() / round.hash.as_secs_f64();
        let mut ratios: Vec<f64> = self.rounds.iter().map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |share: usize| {
            let at = ratios.len() * share / 4;
            ratios.get(at).copied().unwrap_or(f64::NAN)
        };
        let codec = median(|round| round.codec.as_secs_f64());
        let hash = median(|round| round.hash.as_secs_f64());
        let content = self.bench.content();
        let records = content.records as f64;
        Measured {
            value_bytes: self.case.value_bytes,
            way: self.case.way,
            source: self.case.source,
            records: content.records,
            body_bytes: content.body_bytes,
            ratio: median(|round| round.codec.as_secs_f64() / round.hash.as_secs_f64()),
            ratio_spread: [at(1), at(3)],
            goal: self.case.goal(),
            codec_nanoseconds_per_record: codec * 1e9 / records,
            value_megabytes_per_cpu_second: records * self.case.value_bytes as f64 / codec / 1e6,
            hash_gigabytes_per_second: content.body_bytes as f64 / hash / 1e9,
        }
    }
}
