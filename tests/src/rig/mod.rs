//! Real servers around a real `forebay`: Apache Kafka with its own clients, librdkafka, and a function
//! that keeps a ledger.
//!
//! `tests/run` fetches what is needed and says where it is; [`Rig::here`] is `None` without that.
//!
//! Invariant: whatever is started here is ended by its own process id, and dies with the test.

mod broker;
mod clients;
mod cluster;
mod judge;
mod process;
mod sink;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use broker::{Broker, file_uri};
pub use clients::{Claim, Load, Member, Produced, Producer, Said};
pub use cluster::{Cluster, Cut, NODES, Site};
pub use judge::{Document, Expected, Redelivery, Verdict, skips};
pub use process::{Forebay, Settings};
pub use sink::{Call, Ledger, Sink};

/// Where the real things are.
#[derive(Clone, Debug)]
pub struct Rig {
    /// The scripts and programs of `tests/rig`.
    scripts: PathBuf,
    /// What `tests/run` has fetched.
    fetched: PathBuf,
    /// The `forebay` under test.
    pub forebay: PathBuf,
}

impl Rig {
    /// The rig that `tests/run` has set up, if it has.
    pub fn here() -> Option<Self> {
        let fetched = PathBuf::from(std::env::var_os("FOREBAY_RIG")?);
        let forebay = PathBuf::from(std::env::var_os("FOREBAY_BIN")?);
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("rig");
        Some(Self {
            scripts,
            fetched,
            forebay,
        })
    }

    /// Librdkafka's Python.
    fn python(&self) -> PathBuf {
        self.fetched.join("venv/bin/python")
    }

    /// The class path of the rig's Java programs with that version's clients. The jars are first, as [`Self::archived`] wants them.
    fn class_path(&self, version: &str) -> String {
        let classes = self.fetched.join("classes").join(version);
        let jars = self.jars(&format!("kafka-{version}"));
        format!("{jars}:{}", classes.display())
    }

    /// Options for a Java whose class path begins with that version's jars, as in `kafka.py`: with their classes as they were
    /// loaded once it starts for less, where they are kept.
    fn archived(&self, version: &str) -> Vec<String> {
        let name = format!("kafka-{version}.jsa");
        let archive = self.fetched.join("jars").join(name);
        if !archive.exists() {
            return Vec::new();
        }
        let shared = format!("-XX:SharedArchiveFile={}", archive.display());
        let quiet = ["-Xlog:disable", "-Xlog:all=error:stderr"].map(str::to_owned);
        [vec![shared], quiet.to_vec()].concat()
    }

    /// The class path of what one of `tests/rig/poms` brings.
    fn jars(&self, name: &str) -> String {
        format!("{}/*", self.fetched.join("jars").join(name).display())
    }
}

/// Asks again and again until the answer is there; panics with `what` at the deadline.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {within:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until every expected record was processed at least once; the verdict then.
pub async fn await_all(sink: &mut Sink, expected: &Expected, within: Duration) -> Verdict {
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

/// Milliseconds since 1970, as the foreign members say them.
pub fn unix_millis() -> u64 {
    u64::try_from(forebay::clock::unix_now().as_millis()).unwrap_or(u64::MAX)
}
