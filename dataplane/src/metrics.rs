//! The counters that shards write and control reads, and the names of every series.
//!
//! A shard is the only writer of its [`ShardMetrics`], so it adds with a load and a store, without a
//! locked instruction. Everything else that is exported comes from `ShardStatus` at scrape.
//!
//! Invariant: the name of a metric stands here only, and in the table of `systemd/README.md`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_protocol::delivery::status::Counters;

/// One shard's counters: a single writer, relaxed atomics, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    /// How long each turn of an event loop held the shard, in microseconds.
    pub turns: Histogram<TurnBuckets>,
    /// How long each call took, in microseconds.
    pub calls: Histogram<CallBuckets>,
    /// The size of each body sent, in bytes.
    pub bodies: Histogram<BodyBuckets>,
}

impl ShardMetrics {
    /// Notes a turn.
    pub fn note_turn(&self, took: Duration) {
        self.turns.add(micros(took));
    }

    /// Notes a call that has ended.
    pub fn note_call(&self, took: Duration) {
        self.calls.add(micros(took));
    }

    /// Notes a body that was sent.
    pub fn note_body(&self, bytes: usize) {
        self.bodies.add(bytes as u64);
    }
}

/// One exported metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The full name, `_total` included.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// Its labels, in their order, joined by commas.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl Series {
    /// What it counts, without what all names have in common.
    pub fn bare_name(&self) -> &'static str {
        let bare = self.name.trim_start_matches("forebay_");
        bare.trim_end_matches("_total")
    }
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The kind as the table spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! series {
    ($($(#[$about:meta])* $id:ident = $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Series = Series {
            name: $name,
            kind: Kind::$kind,
            labels: $labels,
            help: $help,
        };)*
        /// Every metric that is exported, in the order of the table.
        pub const ALL: &[Series] = &[$($id),*];
    };
}

series! {
    PARTITION_LAG = Gauge "forebay_partition_lag_records" ["mapping,topic,partition,shard"]
        "High watermark, as the last fetch told it, less committed offset";
    PARTITION_FETCHED = Gauge "forebay_partition_fetched_offset" ["mapping,topic,partition,shard"]
        "Next offset to fetch";
    PARTITION_PROCESSED = Gauge "forebay_partition_processed_offset" ["mapping,topic,partition,shard"]
        "Below it every record was processed";
    PARTITION_COMMITTED = Gauge "forebay_partition_committed_offset" ["mapping,topic,partition,shard"]
        "The group's committed offset";
    PARTITION_HALTED = Gauge "forebay_partition_halted_lanes" ["mapping,topic,partition,shard"]
        "1 while the partition stands still until an operator acts";
    PARTITION_RETRY_AGE = Gauge "forebay_partition_retry_age_seconds" ["mapping,topic,partition,shard"]
        "Since when calls of its next records fail; absent while none does";
    PARTITION_RETRY_CALLS = Gauge "forebay_partition_retry_calls" ["mapping,topic,partition,shard"]
        "How many calls of them have failed; absent while none does";
    TOPIC_LAG = Gauge "forebay_topic_lag_records" ["mapping,topic"]
        "The lags of the partitions that this node owns, in all";
    TOPIC_LAG_MAX = Gauge "forebay_topic_lag_max_records" ["mapping,topic"]
        "The largest of them";
    RECORDS_POLLED = Counter "forebay_polled_records_total" ["mapping"] "Records read from Kafka";
    BYTES_FETCHED = Counter "forebay_fetched_bytes_total" ["mapping"] "Bytes of record sets fetched";
    RECORDS_FILTERED = Counter "forebay_filtered_records_total" ["mapping"]
        "Records that no pattern of FilterCriteria wants";
    RECORDS_INVOKED = Counter "forebay_invoked_records_total" ["mapping"]
        "Records sent in calls, again for each retry";
    RECORDS_FAILED = Counter "forebay_failed_records_total" ["mapping"] "Records in calls that failed";
    RECORDS_SUCCEEDED = Counter "forebay_succeeded_records_total" ["mapping"]
        "Records whose batch succeeded";
    RECORDS_DROPPED = Counter "forebay_dropped_records_total" ["mapping"]
        "Records given up by the owner's rule, and written nowhere";
    RECORDS_DIVERTED = Counter "forebay_destination_delivered_records_total" ["mapping"]
        "Records given up that the destination has acknowledged";
    DOCUMENTS_SHORTENED = Counter "forebay_destination_shortened_documents_total" ["mapping"]
        "Documents that the destination has without their event, as it takes none of that size";
    DESTINATION_ERRORS = Counter "forebay_destination_errors_total" ["mapping"]
        "Writings to the destination that failed";
    RECORDS_LOST = Counter "forebay_retention_lost_records_total" ["mapping"]
        "Records that retention took before they were read";
    OFFSETS_COMMITTED = Counter "forebay_committed_offsets_total" ["mapping"]
        "Sum of the advances of committed offsets";
    CALLS = Counter "forebay_calls_total" ["mapping"] "Calls started";
    FUNCTION_ERRORS = Counter "forebay_function_errors_total" ["mapping"]
        "Calls that ended in an error of the function";
    THROTTLES = Counter "forebay_throttles_total" ["mapping"] "Calls that were throttled";
    CALL_FAILURES = Counter "forebay_call_failures_total" ["mapping"]
        "Calls that ended in a service error or a broken connection";
    FETCH_ERRORS = Counter "forebay_fetch_errors_total" ["mapping"] "Fetches that failed";
    COMMIT_ERRORS = Counter "forebay_commit_errors_total" ["mapping"] "Commits that failed";
    REBALANCES = Counter "forebay_rebalances_total" ["mapping"] "Rebalances gone through";
    BROKER_THROTTLES = Counter "forebay_broker_throttles_total" ["mapping"]
        "Answers with which brokers wanted to be left alone for a while, by their quotas";
    PARTITIONS_RESTARTED = Counter "forebay_restarted_partitions_total" ["mapping"]
        "Partitions that stood still without a reason, and calls that never ended, begun again";
    MAPPING_CONSUMERS = Gauge "forebay_mapping_consumers" ["mapping"] "Consumers that run";
    MAPPING_FAULTS = Gauge "forebay_mapping_faults" ["mapping"]
        "Consumers that report a fault; 1 at least while the mapping has a problem";
    MAPPING_UNREADABLE_SECRETS = Gauge "forebay_mapping_unreadable_secrets" ["mapping"]
        "Secrets and CA bundles that cannot be read now, whatever is known of them";
    CERTIFICATE_EXPIRY = Gauge "forebay_certificate_expiry_timestamp_seconds" ["mapping,kind"]
        "When the first of its certificates of that kind (client, broker_root, function_root) ends, since 1970";
    RELOAD_SUCCESS = Gauge "forebay_config_reload_success" [""]
        "1 if the newest reading of the mappings had no problem, else 0";
    RELOAD_TIMESTAMP = Gauge "forebay_config_reload_timestamp_seconds" [""]
        "When the mappings were last read without a problem, since 1970";
    MEMORY_USED = Gauge "forebay_memory_used_bytes" ["shard"] "Bytes of the budget that consumers hold";
    MEMORY_BUDGET = Gauge "forebay_memory_budget_bytes" [""] "The budget for records and bodies";
    TURN_DURATION = Histogram "forebay_turn_duration_seconds" ["shard"]
        "How long a turn of an event loop held its shard";
    CALL_DURATION = Histogram "forebay_call_duration_seconds" ["shard"] "How long a call took";
    BODY_SIZE = Histogram "forebay_body_size_bytes" ["shard"] "The size of bodies sent";
}

/// How one counter is read.
type Read = fn(&Counters) -> u64;

/// The counters and the series that show them.
pub(crate) const COUNTERS: [(Series, Read); 21] = [
    (RECORDS_POLLED, |it| it.records_polled),
    (BYTES_FETCHED, |it| it.bytes_fetched),
    (RECORDS_FILTERED, |it| it.records_filtered),
    (RECORDS_INVOKED, |it| it.records_invoked),
    (RECORDS_FAILED, |it| it.records_failed),
    (RECORDS_SUCCEEDED, |it| it.records_succeeded),
    (RECORDS_DROPPED, |it| it.records_dropped),
    (RECORDS_DIVERTED, |it| it.records_diverted),
    (DOCUMENTS_SHORTENED, |it| it.documents_shortened),
    (DESTINATION_ERRORS, |it| it.destination_errors),
    (RECORDS_LOST, |it| it.records_lost_to_retention),
    (OFFSETS_COMMITTED, |it| it.offsets_committed),
    (CALLS, |it| it.calls),
    (FUNCTION_ERRORS, |it| it.function_errors),
    (THROTTLES, |it| it.throttles),
    (CALL_FAILURES, |it| it.call_failures),
    (FETCH_ERRORS, |it| it.fetch_errors),
    (COMMIT_ERRORS, |it| it.commit_errors),
    (REBALANCES, |it| it.rebalances),
    (BROKER_THROTTLES, |it| it.broker_throttles),
    (PARTITIONS_RESTARTED, |it| it.partitions_restarted),
];

/// One value for each of `COUNTERS`.
pub type Totals = [u64; COUNTERS.len()];

/// A consumer's counters in the table's order.
pub(crate) fn totals(counters: &Counters) -> Totals {
    COUNTERS.map(|(_, read)| read(counters))
}

/// Adds `more` to `totals`.
pub(crate) fn add(totals: &mut Totals, more: &Totals) {
    for (total, more) in totals.iter_mut().zip(more) {
        *total += more;
    }
}

/// The upper bounds of a histogram's buckets, ascending; what is above them all counts in a last bucket.
pub trait Buckets: Default {
    /// The bounds, inclusive, in the unit that is added.
    const BOUNDS: &'static [u64];
    /// How many of the added units are one exported unit.
    const PER_UNIT: f64;
}

/// Turns: 10 us to 1 s.
#[derive(Debug, Default)]
pub struct TurnBuckets;

impl Buckets for TurnBuckets {
    const BOUNDS: &'static [u64] = &[
        10, 30, 100, 300, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000, 1_000_000,
    ];
    const PER_UNIT: f64 = 1e6;
}

/// Calls: 1 ms to 15 min.
#[derive(Debug, Default)]
pub struct CallBuckets;

impl Buckets for CallBuckets {
    const BOUNDS: &'static [u64] = &[
        1_000,
        3_000,
        10_000,
        30_000,
        100_000,
        300_000,
        1_000_000,
        3_000_000,
        10_000_000,
        60_000_000,
        300_000_000,
        900_000_000,
    ];
    const PER_UNIT: f64 = 1e6;
}

/// Bodies: 1 KiB to the limit.
#[derive(Debug, Default)]
pub struct BodyBuckets;

impl Buckets for BodyBuckets {
    const BOUNDS: &'static [u64] = &[
        1 << 10,
        1 << 12,
        1 << 14,
        1 << 16,
        1 << 18,
        1 << 20,
        1 << 21,
        1 << 22,
        6_291_456,
    ];
    const PER_UNIT: f64 = 1.0;
}

/// Counts in fixed buckets, with one writer.
#[derive(Debug, Default)]
pub struct Histogram<B> {
    counts: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
    buckets: std::marker::PhantomData<B>,
}

/// Buckets of any histogram, the last one included.
const BUCKETS_MAX: usize = 16;

const _: () = assert!(TurnBuckets::BOUNDS.len() < BUCKETS_MAX);
const _: () = assert!(CallBuckets::BOUNDS.len() < BUCKETS_MAX);
const _: () = assert!(BodyBuckets::BOUNDS.len() < BUCKETS_MAX);

/// A histogram as it stood at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// The sum of what was added, in exported units.
    pub sum: f64,
    /// Each bucket's upper bound in exported units (infinite for the last) and its own count.
    pub buckets: Vec<(f64, u64)>,
}

impl<B: Buckets> Histogram<B> {
    /// Counts one value. Only the one writer may call it.
    pub fn add(&self, value: u64) {
        let bucket = B::BOUNDS.partition_point(|bound| *bound < value);
        bump(&self.counts[bucket], 1);
        bump(&self.sum, value);
    }

    /// Reads it, from any thread.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let bounds = B::BOUNDS
            .iter()
            .map(|bound| *bound as f64 / B::PER_UNIT)
            .chain([f64::INFINITY]);
        HistogramSnapshot {
            sum: self.sum.load(Ordering::Relaxed) as f64 / B::PER_UNIT,
            buckets: bounds
                .zip(self.counts.iter().map(|it| it.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}

/// A single writer needs no read-modify-write.
fn bump(counter: &AtomicU64, by: u64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.wrapping_add(by), Ordering::Relaxed);
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_holds_it() {
        let metrics = ShardMetrics::default();
        metrics.note_turn(Duration::from_micros(10));
        metrics.note_turn(Duration::from_micros(11));
        metrics.note_turn(Duration::from_secs(5));
        let turns = metrics.turns.snapshot();
        assert_eq!(turns.buckets[0], (0.000_01, 1));
        assert_eq!(turns.buckets[1], (0.000_03, 1));
        assert_eq!(turns.buckets.last().unwrap(), &(f64::INFINITY, 1));
        assert!((turns.sum - 5.000_021).abs() < 1e-9);
    }

    #[test]
    fn the_table_of_the_manual_is_what_is_exported() {
        let manual = include_str!("../../systemd/README.md");
        let rows: Vec<&str> = manual
            .lines()
            .filter(|line| line.starts_with("| `forebay_"))
            .collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|it| {
                let labels = it.labels.replace(',', ", ");
                let cell = if labels.is_empty() {
                    String::new()
                } else {
                    format!("{labels} ")
                };
                format!(
                    "| `{}` | {} | {cell}| {} |",
                    it.name,
                    it.kind.name(),
                    it.help
                )
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_largest_body_is_within_the_last_bound() {
        let metrics = ShardMetrics::default();
        metrics.note_body(6_291_455);
        let bodies = metrics.bodies.snapshot();
        assert_eq!(bodies.buckets.last().unwrap().1, 0);
    }
}
