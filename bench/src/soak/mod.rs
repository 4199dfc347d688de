//! Hours of steady load on the real appliance, with faults if wanted: does it stay as it is?
//!
//! A producer that waits for nobody writes to the embedded broker, which deletes what is committed. At intervals
//! a [`Sample`] is taken and printed; a ledger that is wrong ends the run at once. The [`verdict`] is on the
//! samples.
//!
//! Invariant: without faults each record comes once and in order; with them it comes at least once, and never
//! before the one before it.

mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use self::verdict::Sample;
use crate::goal::Goal;
use crate::plot::{Plot, Shape};
use crate::producer::{Load, Producer, Target};
use crate::results::{Figures, Output};
use crate::rig::{Rig, Setup};
use crate::stage::{Arrived, Filling, TOPIC, Trouble};
use crate::table::Table;
use crate::wait::{pause, since};
use crate::wire::Wire;
use crate::{results, say};

/// How often there is a fault, and a process that has ended is noticed.
const BEAT: Duration = Duration::from_secs(1);

/// Options of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The same in seconds, instead.
    #[arg(long)]
    seconds: Option<u64>,
    /// Seconds between two samples; a sixtieth of the run if left out, and a minute at most.
    #[arg(long)]
    interval: Option<u64>,
    /// A fault each second, in turn: a call fails, is throttled or cut off, a broker hangs up.
    #[arg(long)]
    faults: bool,
    /// Records a second.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Partitions.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Shards.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(self.minutes * 60).max(1)
    }

    fn interval(&self) -> u64 {
        let sixtieth = (self.seconds() / 60).clamp(1, 60);
        self.interval.unwrap_or(sixtieth).max(1)
    }
}

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    seconds: u64,
    value_bytes: usize,
    partitions: i32,
    shards: u32,
    records_per_second: u32,
    /// How many faults there were; `None` if none were wanted.
    faults: Option<u64>,
    records: u64,
    calls: u64,
    /// Records that came again.
    duplicates: u64,
    samples: Vec<Sample>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    // A soak is its verdict: its exit code tells without being asked.
    results::finish(&arguments.output.judged(), || measure(arguments))
}

fn measure(arguments: &Arguments) -> Result<Found, String> {
    let setup = Setup {
        shards: arguments.shards,
        ..Setup::of(arguments.forebay.as_deref())?
    };
    let filling = Filling {
        partitions: arguments.partitions,
        forgets_committed: true,
        ..Filling::default()
    };
    let mut soak = Soak::start(arguments, Rig::start(&filling, &setup)?)?;
    let mut samples: Vec<Sample> = Vec::new();
    say(Sample::HEAD);
    while since(soak.began).as_secs() < arguments.seconds() {
        soak.pass(arguments.interval())?;
        let sample = soak.sample()?;
        say(&sample.line());
        samples.push(sample);
    }
    let Soak {
        mut rig,
        producer,
        faults,
        ..
    } = soak;
    let sent = producer.stop()?;
    let arrived = rig.wait_for(sent)?;
    judge(&arrived, arguments.faults)?;
    if arrived.records - arrived.duplicates != sent {
        return Err(format!(
            "{sent} records were sent, {} others came",
            arrived.records - arrived.duplicates
        ));
    }
    Ok(Found {
        seconds: arguments.seconds(),
        value_bytes: arguments.value_bytes,
        partitions: arguments.partitions,
        shards: arguments.shards,
        records_per_second: arguments.rate,
        faults: arguments.faults.then_some(faults),
        records: arrived.records,
        calls: arrived.calls,
        duplicates: arrived.duplicates,
        samples,
    })
}

fn judge(arrived: &Arrived, has_faults: bool) -> Result<(), String> {
    if has_faults && arrived.is_in_order {
        return Ok(());
    }
    arrived.must_be_clean()
}

/// A run under way.
struct Soak {
    rig: Rig,
    producer: Producer,
    has_faults: bool,
    began: u64,
    faults: u64,
    cpu: Duration,
    sampled: u64,
}

impl Soak {
    fn start(arguments: &Arguments, rig: Rig) -> Result<Self, String> {
        let load = Load {
            topic: TOPIC.to_owned(),
            partitions: arguments.partitions,
            value_bytes: arguments.value_bytes,
            rate: arguments.rate,
        };
        let broker = Target::Broker(Wire::connect(&rig.stage.addresses.bootstrap)?);
        let began = clock::monotonic_micros();
        Ok(Self {
            producer: Producer::start(load, broker)?,
            rig,
            has_faults: arguments.faults,
            began,
            faults: 0,
            cpu: Duration::ZERO,
            sampled: began,
        })
    }

    /// Lets time pass, with its faults.
    fn pass(&mut self, seconds: u64) -> Result<(), String> {
        for _ in 0..seconds {
            if self.has_faults {
                let turn = self.faults as usize % Trouble::ALL.len();
                self.rig.stage.trouble(Trouble::ALL[turn])?;
                self.faults += 1;
            }
            pause(BEAT);
            judge(&self.rig.arrived()?, self.has_faults)?;
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample, String> {
        let sent = self.producer.sent();
        let arrived = self.rig.arrived()?;
        let latency = self.rig.stage.take_latency()?;
        let cpu = self.rig.node.cpu_time()?;
        let wall = since(self.sampled);
        let share_of_a_core = (cpu - self.cpu).as_secs_f64() / wall.as_secs_f64();
        self.cpu = cpu;
        self.sampled = clock::monotonic_micros();
        Ok(Sample {
            seconds: since(self.began).as_secs(),
            sent,
            arrived: arrived.records,
            calls: arrived.calls,
            duplicates: arrived.duplicates,
            waiting: sent.saturating_sub(arrived.records - arrived.duplicates),
            resident_bytes: self.rig.node.resident_bytes()?,
            descriptors: self.rig.node.descriptors()? as u64,
            share_of_a_core,
            p50_micros: latency.p50_micros,
            p99_micros: latency.p99_micros,
            max_micros: latency.max_micros,
        })
    }
}

impl Figures for Found {
    const COMMAND: &'static str = "soak";

    fn tables(&self) -> Vec<Table> {
        let names = [
            "seconds",
            "records",
            "again",
            "calls",
            "faults",
            "MiB warm",
            "MiB at most",
            "MiB/hour",
            "descriptors warm",
            "at most",
            "waiting at most",
        ];
        let mut table = Table::new(0, &names);
        let (warm, rest) = verdict::split(&self.samples, self.seconds);
        let mebibytes = |samples| format!("{:.1}", verdict::mebibytes_at_most(samples));
        let growth = verdict::mebibytes_per_hour(rest);
        table.row([
            self.seconds.to_string(),
            self.records.to_string(),
            self.duplicates.to_string(),
            self.calls.to_string(),
            self.faults.unwrap_or_default().to_string(),
            mebibytes(warm),
            mebibytes(rest),
            growth.map_or_else(|| "-".to_owned(), |growth| format!("{growth:.2}")),
            verdict::descriptors_at_most(warm).to_string(),
            verdict::descriptors_at_most(rest).to_string(),
            verdict::waiting_at_most(rest).to_string(),
        ]);
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let points = self.samples.iter().map(|it| {
            let minutes = it.seconds as f64 / 60.0;
            (minutes, it.mebibytes())
        });
        let plot = Plot {
            name: "resident",
            title: "Resident size under steady load".to_owned(),
            figures: "MiB",
            shape: Shape::Lines {
                axis: "minutes",
                by_multiples: false,
                series: vec![("forebay".to_owned(), points.collect())],
            },
        };
        vec![plot]
    }

    fn goals(&self) -> Vec<Goal> {
        verdict::goals(&self.samples, self.seconds, self.records_per_second)
    }

    fn notes(&self) -> Vec<String> {
        let met = self.goals().iter().all(Goal::is_met);
        let verdict = if met { "passed" } else { "FAILED" };
        let ledger = match self.faults {
            None => "each record came once, in order",
            Some(_) => "each record came, in order",
        };
        vec![format!(
            "soak {verdict}; {ledger}, and {} again",
            self.duplicates
        )]
    }
}
