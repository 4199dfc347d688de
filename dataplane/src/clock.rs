//! The only place that reads a clock.
//!
//! Machines are told the time as a plain value; the shell asks here.
//!
//! Invariant: `now` goes on while the machine sleeps, so a lease that a sleeper held is seen to be over.

use std::time::Duration;

use forebay_protocol::time::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since boot, sleep included (`CLOCK_BOOTTIME`).
pub fn now() -> Instant {
    Instant::from_micros(micros(clock_gettime(ClockId::Boottime)))
}

/// Time since 1970, for signatures and log lines; it may jump.
pub fn unix_now() -> Duration {
    Duration::from_micros(micros(clock_gettime(ClockId::Realtime)))
}

fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_never_goes_back() {
        let first = now();
        assert!(first > Instant::ZERO);
        assert!(now() >= first);
    }

    #[test]
    fn unix_time_is_of_this_century() {
        assert!(unix_now() > Duration::from_secs(1_577_836_800));
    }
}
