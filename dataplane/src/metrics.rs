//! The counters that shards write and control reads, and the names of every series.
//!
//! A shard is the only writer of its [`ShardMetrics`], so it adds with a load and a store, without a
//! locked instruction. Everything else that is exported comes from `ShardStatus` at scrape.
//!
//! Invariant: the name of a metric stands here only, and in the table of `systemd/README.md`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    fn the_largest_body_is_within_the_last_bound() {
        let metrics = ShardMetrics::default();
        metrics.note_body(6_291_455);
        let bodies = metrics.bodies.snapshot();
        assert_eq!(bodies.buckets.last().unwrap().1, 0);
    }
}
