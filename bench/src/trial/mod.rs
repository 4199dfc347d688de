//! The real appliance on the user's own Kafka and function: what his records cost it.
//!
//! The function is called with the topic's records from the beginning. Nothing else out there is touched: the group
//! is a fresh one, which the output names, and topics are only read (but for `--fill`).
//!
//! Invariant: a run in which a call failed, nothing arrived, or the counts do not fit the group's offsets gives no
//! figure.

mod appliance;
mod files;
mod group;
mod scrape;
mod topic;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use forebay_tests::clock;
use forebay_tests::node::Node;
use serde::{Deserialize, Serialize};

use self::appliance::Appliance;
use self::files::{Files, Options};
use self::group::Group;
use self::topic::{Topic, Weighed};
use self::watch::{End, Limits, Trial, Watched};
use crate::results::{Figures, Output};
use crate::signals::Signals;
use crate::table::{Table, percent};
use crate::{results, say};

/// By the wall clock less is no rate: commits come ten times a second at most.
const STEADY_MIN: Duration = Duration::from_secs(2);

/// Options of `trial`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Ends once that many records are committed. That is noticed some tenths of a second late, and what is in flight
    /// is let end: a fast function gets more.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    records: u64,
    /// Ends after that time.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// WRITES that many megabytes of noise into the topic first; for a topic made for it.
    #[arg(long, value_name = "MEGABYTES")]
    fill: Option<usize>,
    /// With --fill: bytes of a value.
    #[arg(long, default_value_t = 1024, requires = "fill")]
    value_bytes: usize,
    /// The appliance; the binary beside this one if left out.
    #[arg(long, value_name = "FILE")]
    forebay: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// All that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// As `bootstrap.servers`.
    kafka: String,
    topic: String,
    partitions: usize,
    group: String,
    function: String,
    /// As far as it was said; otherwise AWS's, and one for each CPU.
    batch_size: Option<u32>,
    shards: Option<u32>,
    end: End,
    /// Delivered and committed, what was in flight at the stop included.
    records: u64,
    /// Offsets between the beginning and what the group has committed after the stop.
    offsets: u64,
    /// Offsets behind that.
    lag: u64,
    /// Mean of the values that were read back, and how many those were.
    value_bytes: Option<f64>,
    weighed: u64,
    calls: u64,
    records_per_call: f64,
    /// Bounds in milliseconds.
    call_p50: Option<[Option<f64>; 2]>,
    call_p99: Option<[Option<f64>; 2]>,
    cpu_microseconds_per_record: f64,
    /// From the first commit to the last one, if that is long enough.
    steady: Option<Steady>,
    peak_megabytes: f64,
}

/// By the wall clock.
#[derive(Debug, Serialize, Deserialize)]
struct Steady {
    seconds: f64,
    records_per_second: f64,
    share_of_a_core: f64,
    stolen: f64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    results::finish(&arguments.output, || measure(arguments))
}

fn measure(arguments: &Arguments) -> Result<Found, String> {
    let program = Node::program(arguments.forebay.as_deref())?;
    let group_name = format!("forebay-trial-{}", clock::unix_millis());
    let files = Files::write(&arguments.options, &group_name)?;
    for note in appliance::check(&program, &files)? {
        say(&note);
    }
    let mut topic = Topic::find(&files.bootstrap, &files.topic)?;
    if let Some(megabytes) = arguments.fill {
        let records = topic.fill(megabytes, arguments.value_bytes)?;
        say(&format!("{records} records written into {}", files.topic));
    }
    if topic.offsets() == 0 {
        return Err(format!(
            "topic {} has no records; write some, or let --fill do it",
            files.topic
        ));
    }
    say(&format!(
        "Consumer group {group_name}: {} is called with records of {}, which has {}, until {} are delivered or {} s are over",
        files.function,
        files.topic,
        topic.offsets(),
        arguments.records,
        arguments.seconds,
    ));
    let mut signals = Signals::new()?;
    let mut group = Group::find(&files.bootstrap, &group_name)?;
    let trial = Trial {
        appliance: Appliance::start(&program, &files, &mut signals)?,
        topic: &topic,
        group: &mut group,
        signals: &mut signals,
        limits: Limits {
            records: arguments.records,
            time: Duration::from_secs(arguments.seconds),
        },
    };
    let watched = trial.run().map_err(|error| {
        let deletion = deletion(&files.bootstrap.join(","), &group_name);
        format!("{error}\nleft behind: {deletion}")
    })?;
    let starts: Vec<i64> = topic.partitions.iter().map(|it| it.start).collect();
    let weighed = topic.weigh(&watched.committed)?;
    topic.look()?;
    let ends: Vec<i64> = topic.partitions.iter().map(|it| it.end).collect();
    let ledger = Ledger {
        offsets: between(&starts, &watched.committed),
        lag: between(&watched.committed, &ends),
        succeeded: watched.counted.succeeded,
        dropped: watched.counted.dropped,
        is_complete: watched.end == End::Complete,
    };
    ledger.must_fit()?;
    Ok(found(
        &files, &topic, group_name, &watched, &ledger, weighed,
    ))
}

/// Offsets from some to others, all partitions together.
fn between(from: &[i64], to: &[i64]) -> u64 {
    let each = from.iter().zip(to).map(|(from, to)| to - from);
    u64::try_from(each.sum::<i64>()).unwrap_or_default()
}

/// What the group says, and what the appliance says.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    /// Committed since the beginning.
    offsets: u64,
    lag: u64,
    /// Records, by the appliance's own count.
    succeeded: u64,
    dropped: u64,
    /// Whether the appliance has had time to count all.
    is_complete: bool,
}

impl Ledger {
    /// Every record has an offset of its own, and is counted before it is committed. Some offsets have no record:
    /// markers of transactions, and what compaction took.
    fn must_fit(&self) -> Result<(), String> {
        let counted = self.succeeded + self.dropped;
        if counted > self.offsets {
            return Err(format!(
                "{counted} records were delivered, but the group has committed {} offsets: some came twice, or will",
                self.offsets
            ));
        }
        if self.dropped > 0 {
            return Err(format!("{} records were dropped", self.dropped));
        }
        if self.is_complete && self.succeeded == 0 {
            return Err("nothing was delivered: the topic's offsets have no records".to_owned());
        }
        Ok(())
    }
}

fn found(
    files: &Files,
    topic: &Topic,
    group: String,
    watched: &Watched,
    ledger: &Ledger,
    weighed: Weighed,
) -> Found {
    // At the end of all there is a count of records; before it, offsets are what is known of a moment.
    let (records, paid) = match watched.end {
        End::Complete => (ledger.succeeded, ledger.succeeded),
        End::Records | End::Seconds | End::Signal => (ledger.offsets, watched.advance),
    };
    let counted = &watched.counted;
    let steady = watched.steady.filter(|it| it.wall >= STEADY_MIN);
    Found {
        kafka: files.bootstrap.join(","),
        topic: files.topic.clone(),
        partitions: topic.partitions.len(),
        group,
        function: files.function.clone(),
        batch_size: files.batch_size,
        shards: files.shards,
        end: watched.end,
        records,
        offsets: ledger.offsets,
        lag: ledger.lag,
        value_bytes: weighed.mean(),
        weighed: weighed.records,
        calls: counted.calls,
        records_per_call: counted.records_per_call(),
        call_p50: counted.duration(0.5),
        call_p99: counted.duration(0.99),
        cpu_microseconds_per_record: watched.cpu.as_secs_f64() * 1e6 / paid.max(1) as f64,
        steady: steady.map(|it| Steady {
            seconds: it.wall.as_secs_f64(),
            records_per_second: it.offsets as f64 / it.wall.as_secs_f64(),
            share_of_a_core: it.cpu.as_secs_f64() / it.wall.as_secs_f64(),
            stolen: it.stolen,
        }),
        peak_megabytes: watched.peak_bytes as f64 / 1e6,
    }
}

impl Found {
    fn megabytes(&self) -> Option<f64> {
        Some(self.value_bytes? * self.records as f64 / 1e6)
    }

    fn megabytes_per_cpu_second(&self) -> Option<f64> {
        Some(self.value_bytes? / self.cpu_microseconds_per_record)
    }
}

impl Figures for Found {
    const COMMAND: &'static str = "trial";

    fn tables(&self) -> Vec<Table> {
        let figure = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}"))
        };
        let names = [
            "records",
            "MB of values",
            "calls",
            "records/call",
            "call p50 ms",
            "call p99 ms",
            "lag",
        ];
        let mut delivered = Table::new(0, &names);
        delivered.row([
            self.records.to_string(),
            figure(self.megabytes(), 1),
            self.calls.to_string(),
            format!("{:.0}", self.records_per_call),
            within(self.call_p50),
            within(self.call_p99),
            self.lag.to_string(),
        ]);
        let names = [
            "CPU us/record",
            "MB/CPU-s",
            "peak MB",
            "of a core",
            "records/s",
            "stolen",
        ];
        let mut taken = Table::new(0, &names);
        let steady = self.steady.as_ref();
        taken.row([
            format!("{:.2}", self.cpu_microseconds_per_record),
            figure(self.megabytes_per_cpu_second(), 0),
            format!("{:.0}", self.peak_megabytes),
            steady.map_or_else(|| "-".to_owned(), |it| percent(it.share_of_a_core)),
            figure(steady.map(|it| it.records_per_second), 0),
            steady.map_or_else(|| "-".to_owned(), |it| percent(it.stolen)),
        ]);
        vec![delivered, taken]
    }

    fn notes(&self) -> Vec<String> {
        let or = |number: Option<u32>, otherwise: &str| {
            number.map_or_else(|| otherwise.to_owned(), |number| number.to_string())
        };
        let end = match self.end {
            End::Complete => "all that was in the topic at the start is delivered and committed",
            End::Records => "there were as many records as --records allows",
            End::Seconds => "the time was over",
            End::Signal => "a signal",
        };
        let clock = match &self.steady {
            Some(it) => format!("{:.1} s from the first commit to the last", it.seconds),
            None => "too short for a rate: give it more records".to_owned(),
        };
        let ledger = match self.end {
            End::Complete if self.offsets > self.records => format!(
                "{} offsets committed, {} of them without a record (markers of transactions, or compacted)",
                self.offsets,
                self.offsets - self.records
            ),
            _ => format!("{} offsets committed", self.offsets),
        };
        vec![
            format!(
                "{} ({} partitions) to {}; BatchSize {}, shards {}",
                self.topic,
                self.partitions,
                self.function,
                or(self.batch_size, "100"),
                or(self.shards, "one per CPU"),
            ),
            format!("ended: {end}; no call failed; {ledger}"),
            format!("wall clock: {clock}"),
            format!(
                "a value has {:.0} bytes, the mean of {} that were read back",
                self.value_bytes.unwrap_or_default(),
                self.weighed
            ),
            format!("left behind: {}", deletion(&self.kafka, &self.group)),
        ]
    }
}

/// What stays behind, and how it is deleted.
fn deletion(kafka: &str, group: &str) -> String {
    format!(
        "the consumer group {group}; kafka-consumer-groups.sh --bootstrap-server {kafka} --delete --group {group}"
    )
}

/// Between which bounds something is.
fn within(bounds: Option<[Option<f64>; 2]>) -> String {
    match bounds {
        Some([Some(least), Some(most)]) => format!("{least} to {most}"),
        Some([Some(least), None]) => format!("over {least}"),
        Some([None, _]) | None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_fits_if_no_record_is_counted_without_an_offset() {
        let ledger = Ledger {
            offsets: 100,
            lag: 0,
            succeeded: 100,
            dropped: 0,
            is_complete: true,
        };
        assert_eq!(ledger.must_fit(), Ok(()));
        let wrong = |ledger: Ledger| ledger.must_fit().unwrap_err();
        let twice = Ledger {
            succeeded: 101,
            ..ledger
        };
        assert!(wrong(twice).contains("twice"));
        let dropped = Ledger {
            succeeded: 99,
            dropped: 1,
            ..ledger
        };
        assert!(wrong(dropped).contains("dropped"));
        let nothing = Ledger {
            succeeded: 0,
            ..ledger
        };
        assert!(wrong(nothing).contains("nothing"));
        // The last counts may be a second old.
        let early = Ledger {
            succeeded: 0,
            is_complete: false,
            ..ledger
        };
        assert_eq!(early.must_fit(), Ok(()));
    }

    #[test]
    fn bounds_are_said_as_far_as_there_are_some() {
        assert_eq!(within(Some([Some(0.0), Some(1.0)])), "0 to 1");
        assert_eq!(within(Some([Some(900.0), None])), "over 900");
        assert_eq!(within(None), "-");
    }
}
