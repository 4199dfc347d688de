//! The clocks of the fakes: monotonic for latencies, real for record timestamps.
//!
//! Invariant: the one place in this package that asks the kernel for the time.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds on the monotonic clock; the same for the whole process.
pub fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("the clock is past its origin");
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).expect("below a second") / 1_000
}

/// Unix milliseconds.
pub fn unix_millis() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}
