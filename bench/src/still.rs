//! How much of the time the machine itself stands still: what no percentile of latency can be below.
//!
//! A hypervisor that takes a CPU away does not always own up to it as stolen time, and the kernel's own threads are not
//! interrupted. So threads that always want to run, one for each CPU, look at the clock all the time: what lies between
//! two looks was not theirs.
//!
//! Invariant: nothing else of ours runs meanwhile.

use std::thread;
use std::time::Duration;

use forebay_tests::clock;
use serde::{Deserialize, Serialize};

use crate::wait::since;

/// What is shorter is the price of interrupts, and of the caches.
const GAP_MICROS: u64 = 1_000;

/// How the machine stood still while all of its CPUs were wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoodStill {
    /// Of the time of a CPU, the mean of all.
    share: f64,
    /// The longest, in milliseconds.
    longest: f64,
}

/// What one thread saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gaps {
    sum_micros: u64,
    longest_micros: u64,
}

impl Gaps {
    fn note(&mut self, micros: u64) {
        if micros >= GAP_MICROS {
            self.sum_micros += micros;
            self.longest_micros = self.longest_micros.max(micros);
        }
    }
}

impl StoodStill {
    /// Keeps all CPUs busy for that long.
    pub(crate) fn measure(time: Duration) -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let gaps: Vec<Gaps> = thread::scope(|scope| {
            let threads: Vec<_> = (0..cpus).map(|_| scope.spawn(|| watch(time))).collect();
            let ends = threads.into_iter().map(|it| it.join().unwrap_or_default());
            ends.collect()
        });
        Self::of(&gaps, time)
    }

    fn of(gaps: &[Gaps], time: Duration) -> Self {
        let sum: u64 = gaps.iter().map(|it| it.sum_micros).sum();
        let longest = gaps.iter().map(|it| it.longest_micros).max();
        let all = time.as_micros() as f64 * gaps.len() as f64;
        Self {
            share: sum as f64 / all.max(1.0),
            longest: longest.unwrap_or_default() as f64 / 1e3,
        }
    }

    pub(crate) fn note(&self) -> String {
        format!(
            "the machine itself: where all CPUs were wanted, one that was wanted was not to be had for {:.1} % of the time \
             in stretches of 1 ms or more, the longest of {:.1} ms; what waits behind such a stretch is late whoever carries it",
            self.share * 100.0,
            self.longest
        )
    }
}

fn watch(time: Duration) -> Gaps {
    let (began, mut gaps) = (clock::monotonic_micros(), Gaps::default());
    let mut last = began;
    while since(began) < time {
        let now = clock::monotonic_micros();
        gaps.note(now - last);
        last = now;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_no_standing_still() {
        let mut gaps = Gaps::default();
        for micros in [1, 999, 1_000, 4_000] {
            gaps.note(micros);
        }
        assert_eq!((gaps.sum_micros, gaps.longest_micros), (5_000, 4_000));
        let found = StoodStill::of(&[gaps, Gaps::default()], Duration::from_millis(50));
        let expected = StoodStill {
            share: 0.05,
            longest: 4.0,
        };
        assert_eq!(found, expected);
    }
}
