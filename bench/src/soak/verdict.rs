//! What the samples of a soak come to: nothing may grow once the appliance is warm.
//!
//! Invariant: what is judged is not what the bound was taken from.

use serde::{Deserialize, Serialize};

use crate::goal::Goal;

const MIB: f64 = 1024.0 * 1024.0;

/// The resident size may be that many times what it was when warm, and that many MiB more: the allocator keeps what
/// one burst took, but a leak passes any bound.
const RESIDENT: (f64, f64) = (1.25, 16.0);

/// So many descriptors more: connections to the function are kept for a while after a burst, and one that ends
/// lives beside the one that replaces it.
const DESCRIPTORS: u64 = 64;

/// Records of that many seconds may wait: a call that fails is tried again after a while.
const WAITING_SECONDS: u64 = 30;

/// What was seen at one moment; counts are since the beginning, latencies since the last sample.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) seconds: u64,
    /// Records.
    pub(super) sent: u64,
    /// Records, those that came again included.
    pub(super) arrived: u64,
    pub(super) calls: u64,
    /// Records that came again.
    pub(super) duplicates: u64,
    /// Records that were sent and had not arrived.
    pub(super) waiting: u64,
    pub(super) resident_bytes: u64,
    pub(super) descriptors: u64,
    /// CPU time over wall time since the last sample.
    pub(super) share_of_a_core: f64,
    pub(super) p50_micros: u64,
    pub(super) p99_micros: u64,
    pub(super) max_micros: u64,
}

impl Sample {
    /// Above the lines.
    pub(super) const HEAD: &str = "seconds       sent    waiting   again   resident  descriptors  of a core    p50 ms    p99 ms    max ms";

    pub(super) fn line(&self) -> String {
        let milliseconds = |micros: u64| micros as f64 / 1e3;
        format!(
            "{:>7} {:>10} {:>10} {:>7} {:>6.1} MiB {:>12} {:>8.1} % {:>9.2} {:>9.2} {:>9.2}",
            self.seconds,
            self.sent,
            self.waiting,
            self.duplicates,
            self.mebibytes(),
            self.descriptors,
            self.share_of_a_core * 100.0,
            milliseconds(self.p50_micros),
            milliseconds(self.p99_micros),
            milliseconds(self.max_micros),
        )
    }

    pub(super) fn mebibytes(&self) -> f64 {
        self.resident_bytes as f64 / MIB
    }
}

/// The samples of the warm-up, a tenth of the run and one sample at least, and the others.
pub(super) fn split(samples: &[Sample], seconds: u64) -> (&[Sample], &[Sample]) {
    let warm = samples.partition_point(|it| it.seconds <= seconds / 10);
    samples.split_at(warm.max(1).min(samples.len()))
}

pub(super) fn goals(samples: &[Sample], seconds: u64, records_per_second: u32) -> Vec<Goal> {
    let (warm, rest) = split(samples, seconds);
    if rest.is_empty() {
        return Vec::new();
    }
    let (times, more) = RESIDENT;
    let waiting = u64::from(records_per_second) * WAITING_SECONDS;
    vec![
        Goal::at_most(
            "MiB of resident size after the warm-up",
            mebibytes_at_most(rest),
            mebibytes_at_most(warm) * times + more,
        ),
        Goal::at_most(
            "descriptors after the warm-up",
            descriptors_at_most(rest) as f64,
            (descriptors_at_most(warm) + DESCRIPTORS) as f64,
        ),
        Goal::at_most(
            "records that wait",
            waiting_at_most(rest) as f64,
            waiting as f64,
        ),
    ]
}

pub(super) fn mebibytes_at_most(samples: &[Sample]) -> f64 {
    samples.iter().map(Sample::mebibytes).fold(0.0, f64::max)
}

pub(super) fn descriptors_at_most(samples: &[Sample]) -> u64 {
    let counts = samples.iter().map(|it| it.descriptors);
    counts.max().unwrap_or_default()
}

pub(super) fn waiting_at_most(samples: &[Sample]) -> u64 {
    samples
        .iter()
        .map(|it| it.waiting)
        .max()
        .unwrap_or_default()
}

/// The slope of the line through the resident sizes; `None` where minutes would have to tell of hours.
pub(super) fn mebibytes_per_hour(samples: &[Sample]) -> Option<f64> {
    const MINUTES_LEAST: u64 = 10;
    let (first, last) = (samples.first()?, samples.last()?);
    if last.seconds - first.seconds < MINUTES_LEAST * 60 {
        return None;
    }
    let hours = |it: &Sample| it.seconds as f64 / 3600.0;
    let count = samples.len() as f64;
    let mean_hours = samples.iter().map(hours).sum::<f64>() / count;
    let mean_size = samples.iter().map(Sample::mebibytes).sum::<f64>() / count;
    let (mut product, mut square) = (0.0, 0.0);
    for it in samples {
        let from_mean = hours(it) - mean_hours;
        product += from_mean * (it.mebibytes() - mean_size);
        square += from_mean * from_mean;
    }
    Some(product / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of samples, one a minute.
    fn hour(of: impl Fn(u64) -> Sample) -> Vec<Sample> {
        let minutes = 1..=60;
        minutes
            .map(|minute| Sample {
                seconds: minute * 60,
                ..of(minute)
            })
            .collect()
    }

    fn steady() -> Sample {
        Sample {
            resident_bytes: 40 << 20,
            descriptors: 30,
            ..Sample::default()
        }
    }

    fn missed(samples: &[Sample]) -> usize {
        let goals = goals(samples, 3600, 1_000);
        assert_eq!(goals.len(), 3);
        goals.iter().filter(|goal| !goal.is_met()).count()
    }

    #[test]
    fn steady_run_passes() {
        assert_eq!(missed(&hour(|_| steady())), 0);
    }

    #[test]
    fn leak_of_a_mebibyte_a_minute_is_found() {
        let leaks = hour(|minute| Sample {
            resident_bytes: (40 + minute) << 20,
            ..steady()
        });
        assert_eq!(missed(&leaks), 1);
        let (_, rest) = split(&leaks, 3600);
        assert!((mebibytes_per_hour(rest).unwrap() - 60.0).abs() < 1e-6);
    }

    #[test]
    fn lost_descriptors_and_a_growing_queue_are_found() {
        let worse = hour(|minute| Sample {
            descriptors: 30 + 2 * minute,
            waiting: minute * 1_000,
            ..steady()
        });
        assert_eq!(missed(&worse), 2);
    }

    #[test]
    fn short_run_is_warm_after_one_sample_and_tells_no_slope() {
        let samples = [1, 2, 3].map(|seconds| Sample {
            seconds,
            ..steady()
        });
        let (warm, rest) = split(&samples, 3);
        assert_eq!((warm.len(), rest.len()), (1, 2));
        assert!(mebibytes_per_hour(rest).is_none());
        assert!(goals(&samples[..1], 3, 1).is_empty());
    }
}
