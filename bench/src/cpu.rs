//! CPU time of the calling thread: what is left of a measurement on a machine that others use too.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let before = now();
    work();
    now().saturating_sub(before)
}

/// The middle one; of an even number the upper middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    seconds + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}
