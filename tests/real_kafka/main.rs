//! The real `forebay` between a real Apache Kafka and a function: what `tests/run real_kafka` runs.
//!
//! Invariant: without the rig of `tests/run` every test here says aloud that it was skipped.

mod cluster;
mod consumer_group;
mod equality;
mod kill;
mod node;
mod rebalance;
mod security;
mod start;

use std::io::Write;
use std::time::Duration;

use forebay_tests::rig::{Expected, Rig, Sink, Verdict, eventually};

/// The newest Kafka, and the oldest that this suite runs.
const NEWEST: &str = "4.4.0";
const OLDER: &str = "2.8.2";

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

/// Waits until every expected record was processed at least once; the verdict then.
async fn await_all(sink: &mut Sink, expected: &Expected, within: Duration) -> Verdict {
    let mut calls_seen = usize::MAX;
    eventually("every record has arrived", within, async || {
        // Why only when it is quiet: judging takes as long as some deliveries.
        let calls = sink.ledger().calls.len();
        let quiet = std::mem::replace(&mut calls_seen, calls) == calls;
        tokio::time::sleep(Duration::from_millis(450)).await;
        let ledger = sink.ledger();
        if !quiet || ledger.calls.len() != calls {
            return None;
        }
        let verdict = expected.judge(&ledger.calls, &[]);
        (verdict.lost == 0).then_some(verdict)
    })
    .await
}
