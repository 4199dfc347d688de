//! The gate of the hot path: the CPU of decode, encode and hash over the CPU of the hash alone.
//!
//! The numerator walks a fetched record set, encodes its records into an event and hashes that, as a
//! lane does it, with a recycled buffer; the denominator is ring's SHA-256 of the same body. Both are
//! measured in every round, and the median of the rounds' ratios is the result: it repeats on machines
//! whose absolute times do not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::kafka::records::{Decompressor, RecordReader};
use forebay_protocol::lambda::event::{Buffer, EventShape, Fragment, Push, Sealed, frame_event};
use forebay_protocol::limits;
use forebay_protocol::sigv4::{PayloadDigest, PayloadHash};
use serde::Serialize;

use crate::{cpu, sample, say, write_json};

/// What is measured, and the goal of each (design: performance, "The gate").
const CASES: [Case; 6] = [
    Case::new("100 B", 100, 1, 1.25),
    Case::new("1 KB", 1024, 1, 1.15),
    Case::new("10 KB", 10 * 1024, 1, 1.12),
    Case::new("100 B", 100, 2, 0.92),
    Case::new("1 KB", 1024, 2, 0.85),
    Case::new("10 KB", 10 * 1024, 2, 0.85),
];

/// Rounds before the first that counts.
const WARM_UP: usize = 5;

/// Bodies, or pairs of them, per measurement, so that it is long against the clock's steps.
const REPEATS: u32 = 3;

/// Options of `codec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds that count.
    #[arg(long, default_value_t = 61)]
    rounds: usize,
    /// Write the result there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Bodies that the core has at a time. Two fill the gaps that another hardware thread of the core would
    /// use as well: beside a busy one only the figures with one say anything.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    bodies: Vec<usize>,
    /// Exit with 1 if a ratio is above its goal.
    #[arg(long)]
    gate: bool,
    /// Per cent that a ratio may be above its goal, where others use the machine's cores too.
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    slack: u8,
}

struct Case {
    name: &'static str,
    value_bytes: usize,
    /// Bodies that the core has at a time.
    bodies: usize,
    goal: f64,
}

impl Case {
    const fn new(name: &'static str, value_bytes: usize, bodies: usize, goal: f64) -> Self {
        Self {
            name,
            value_bytes,
            bodies,
            goal,
        }
    }
}

#[derive(Debug, Serialize)]
struct Measured {
    value_bytes: usize,
    bodies: usize,
    records: usize,
    body_bytes: usize,
    /// The median of the rounds.
    ratio: f64,
    /// The quartiles of the rounds.
    ratio_spread: [f64; 2],
    goal: f64,
    codec_nanoseconds_per_record: f64,
    /// Megabytes of values per CPU-second of decode, encode and hash.
    value_megabytes_per_cpu_second: f64,
    hash_gigabytes_per_second: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match measure_all(arguments) {
        Ok(missed) if arguments.gate && !missed.is_empty() => {
            say(&format!("gate missed: {}", missed.join(", ")));
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("codec cannot measure: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures, reports, and returns what is above its goal.
fn measure_all(arguments: &Arguments) -> Result<Vec<String>, String> {
    let mut benches = CASES
        .iter()
        .filter(|case| arguments.bodies.contains(&case.bodies))
        .map(Bench::new)
        .collect::<Result<Vec<_>, _>>()?;
    for round in 0..WARM_UP + arguments.rounds.max(1) {
        for bench in &mut benches {
            bench.round(round >= WARM_UP)?;
        }
    }
    let measured: Vec<Measured> = benches.iter().map(Bench::measured).collect();
    say(
        "values  bodies  records  body bytes  ratio (quartiles)     goal  ns/record  MB/CPU-s  hash GB/s",
    );
    let mut missed = Vec::new();
    for (case, result) in benches.iter().map(|bench| bench.case).zip(&measured) {
        say(&line(case, result));
        if result.ratio > case.goal * (1.0 + f64::from(arguments.slack) / 100.0) {
            missed.push(format!(
                "{} with {} at {:.3}, goal {:.2}",
                case.name, case.bodies, result.ratio, case.goal
            ));
        }
    }
    write_json(arguments.json.as_deref(), &measured)?;
    Ok(missed)
}

fn line(case: &Case, result: &Measured) -> String {
    let [low, high] = result.ratio_spread;
    format!(
        "{:<7} {:>6} {:>8} {:>11}  {:.3} ({low:.3} to {high:.3}) {:>6.2} {:>10.1} {:>9.0} {:>10.2}",
        case.name,
        case.bodies,
        result.records,
        result.body_bytes,
        result.ratio,
        result.goal,
        result.codec_nanoseconds_per_record,
        result.value_megabytes_per_cpu_second,
        result.hash_gigabytes_per_second,
    )
}

/// One case with all that it reuses from round to round.
struct Bench {
    case: &'static Case,
    set: Bytes,
    shape: EventShape,
    decompressor: Decompressor,
    buffers: Vec<Buffer>,
    body: Bytes,
    records: usize,
    ratios: Vec<f64>,
    codec: Vec<f64>,
    hash: Vec<f64>,
}

impl Bench {
    fn new(case: &'static Case) -> Result<Self, String> {
        let most = limits::BODY_BYTES_LIMIT / case.value_bytes;
        let mut bench = Self {
            case,
            set: sample::record_set(most.min(limits::BATCH_SIZE_MAX as usize), case.value_bytes)?,
            shape: EventShape::new("k1.example.net:9092,k2.example.net:9092", "orders"),
            decompressor: Decompressor::new(),
            buffers: Vec::new(),
            body: Bytes::new(),
            records: 0,
            ratios: Vec::new(),
            codec: Vec::new(),
            hash: Vec::new(),
        };
        let sealed = bench.encode()?;
        bench.records = sealed.records().len();
        bench.body = Bytes::copy_from_slice(&sealed.body());
        bench.recycle(sealed);
        Ok(bench)
    }

    /// Decodes the set into an event, until that is full.
    fn encode(&mut self) -> Result<Sealed, String> {
        let mut reader = RecordReader::new(self.set.clone(), 0, Vec::new(), true);
        let mut fragment = Fragment::new(&self.shape, 0, self.buffers.pop().unwrap_or_default());
        if self.case.bodies == 1 {
            fragment.hash_along();
        }
        while let Some(record) = reader
            .next(&mut self.decompressor)
            .map_err(|error| error.to_string())?
        {
            match fragment.push(&record, limits::BODY_BYTES_LIMIT) {
                Push::Appended => {}
                Push::Full => break,
                Push::Oversized { .. } => return Err("a sample fits no body".to_owned()),
            }
        }
        Ok(fragment.seal())
    }

    /// Hashes as a shard does what was not hashed along: the framed events, in bounded steps, two beside
    /// each other.
    fn hash(&self, sealed: &[Sealed]) {
        let mut hashes = sealed.iter().filter_map(|sealed| {
            let all = 0..sealed.records().len();
            if let Some(digest) = sealed.digest(&all) {
                std::hint::black_box(digest);
                return None;
            }
            let pieces = frame_event(&self.shape, &[(sealed, all)]);
            Some(PayloadHash::new(pieces))
        });
        while let Some(mut first) = hashes.next() {
            if let Some(mut second) = hashes.next() {
                while !first.is_done() && !second.is_done() {
                    let mut budget = limits::TURN_BYTES;
                    PayloadHash::step_two(&mut first, &mut second, &mut budget);
                }
                std::hint::black_box(finish(second));
            }
            std::hint::black_box(finish(first));
        }
    }

    fn recycle(&mut self, sealed: Sealed) {
        self.buffers.extend(sealed.into_buffer());
    }

    fn round(&mut self, counts: bool) -> Result<(), String> {
        let mut failed = None;
        let codec = cpu::time(|| {
            for _ in 0..REPEATS {
                let bodies: Result<Vec<Sealed>, String> =
                    (0..self.case.bodies).map(|_| self.encode()).collect();
                match bodies {
                    Ok(bodies) => {
                        self.hash(&bodies);
                        bodies.into_iter().for_each(|sealed| self.recycle(sealed));
                    }
                    Err(error) => failed = Some(error),
                }
            }
        });
        let hash = cpu::time(|| {
            for _ in 0..REPEATS as usize * self.case.bodies {
                let body = std::hint::black_box(&self.body[..]);
                std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, body));
            }
        });
        if counts {
            self.ratios.push(codec.as_secs_f64() / hash.as_secs_f64());
            self.codec.push(self.per_body(codec));
            self.hash.push(self.per_body(hash));
        }
        failed.map_or(Ok(()), Err)
    }

    fn measured(&self) -> Measured {
        let mut sorted = self.ratios.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: usize| {
            sorted
                .get(sorted.len() * share / 4)
                .copied()
                .unwrap_or(f64::NAN)
        };
        let (codec, hash) = (
            cpu::median(self.codec.clone()),
            cpu::median(self.hash.clone()),
        );
        let records = self.records as f64;
        Measured {
            value_bytes: self.case.value_bytes,
            bodies: self.case.bodies,
            records: self.records,
            body_bytes: self.body.len(),
            ratio: cpu::median(self.ratios.clone()),
            ratio_spread: [at(1), at(3)],
            goal: self.case.goal,
            codec_nanoseconds_per_record: codec * 1e9 / records,
            value_megabytes_per_cpu_second: records * self.case.value_bytes as f64 / codec / 1e6,
            hash_gigabytes_per_second: self.body.len() as f64 / hash / 1e9,
        }
    }

    fn per_body(&self, time: Duration) -> f64 {
        time.as_secs_f64() / (f64::from(REPEATS) * self.case.bodies as f64)
    }
}

/// In the same steps.
fn finish(mut hash: PayloadHash) -> PayloadDigest {
    while !hash.is_done() {
        let mut budget = limits::TURN_BYTES;
        hash.step(&mut budget);
    }
    hash.finish()
}
