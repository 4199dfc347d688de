//! Waiting, and how long it took, on the monotonic clock.

use std::time::Duration;

use forebay_tests::clock;

/// The time since that moment of [`clock::monotonic_micros`].
pub(crate) fn since(micros: u64) -> Duration {
    Duration::from_micros(clock::monotonic_micros().saturating_sub(micros))
}

/// Sleeps.
#[expect(
    clippy::disallowed_methods,
    reason = "no shard here: a thread that waits has nothing else to do"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
