//! The real `forebay` between a real Apache Kafka and a function: what `tests/run real_kafka` runs.
//!
//! Invariant: without the rig of `tests/run` every test here says aloud that it was skipped.

mod authorization;
mod cluster;
mod consumer_group;
mod equality;
mod giving_up;
mod keys;
mod kill;
mod node;
mod rebalance;
mod rotation;
mod security;
mod start;

use std::io::Write;

use forebay_tests::rig::Rig;

/// The newest Kafka, and one that many run; `tests/versions` has the others.
const NEWEST: &str = "4.4.0";
const OLDER: &str = "2.8.2";
/// The oldest that is spoken with.
const OLDEST: &str = "0.10.1.0";

const PARTITIONS: u32 = 8;

/// The rig; `None` and a word on the terminal without it.
fn rig(test: &str) -> Option<Rig> {
    let rig = Rig::here();
    if rig.is_none() {
        // Past the capture of the test harness: a skipped test must not look like a passed one.
        let line = format!("SKIPPED {test}: needs a real Kafka; run tests/run real_kafka\n");
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
    rig
}

/// Says what was seen, for the log of the run.
fn say(text: &str) {
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .ok();
}
