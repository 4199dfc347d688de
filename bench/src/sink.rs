//! The function alone, in a process of its own; the broker is another's.
//!
//! The parent reads one line, [`Address`], and may then ask for what has [`Arrived`] or for the [`Latency`] of
//! the records since it last asked for it.

use forebay_tests::fake_lambda::FakeLambda;
use forebay_tests::fake_lambda::lean::Lean;
use serde::{Deserialize, Serialize};

use crate::helper::{Helper, tell};
use crate::stage::Arrived;

/// Asks for what has [`Arrived`].
pub(crate) const ARRIVED: &str = "arrived";
/// Asks for the [`Latency`] of the records since it was last asked for.
pub(crate) const LATENCY: &str = "latency";

#[derive(Debug, Serialize, Deserialize)]
struct Address {
    url: String,
}

/// From the time that is stamped into a value to its arrival.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Records with a stamp.
    pub(crate) records: u64,
    /// The median, in microseconds.
    pub(crate) p50_micros: u64,
    /// The 90th percentile, in microseconds.
    pub(crate) p90_micros: u64,
    /// The 99th percentile, in microseconds.
    pub(crate) p99_micros: u64,
    /// The 99.9th percentile, in microseconds.
    pub(crate) p999_micros: u64,
    /// The most, in microseconds.
    pub(crate) max_micros: u64,
}

/// The child's side.
pub(crate) fn serve() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let lambda = FakeLambda::start_lean().map_err(|error| format!("loopback: {error}"))?;
    tell(&Address { url: lambda.url() })?;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        runtime.block_on(lambda.with(move |functions| {
            let lean = functions.lean().ok_or("the function keeps no count")?;
            answer(&line, lean)
        }))?;
    }
    Ok(())
}

/// Answers what may be asked of a function that counts.
pub(crate) fn answer(question: &str, lean: &mut Lean) -> Result<(), String> {
    match question {
        ARRIVED => tell(&Arrived::of(lean)),
        LATENCY => {
            let taken = lean.take_latency();
            tell(&Latency {
                records: taken.len(),
                p50_micros: taken.value_at_quantile(0.5),
                p90_micros: taken.value_at_quantile(0.9),
                p99_micros: taken.value_at_quantile(0.99),
                p999_micros: taken.value_at_quantile(0.999),
                max_micros: taken.max(),
            })
        }
        _ => Err(format!("the sink does not know {question:?}")),
    }
}

/// The parent's side. It ends the child when it is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    helper: Helper,
    /// The function's endpoint.
    pub(crate) url: String,
}

impl Sink {
    /// A function that has seen nothing yet.
    pub(crate) fn start() -> Result<Self, String> {
        let mut helper = Helper::start(&["sink".to_owned()])?;
        let Address { url } = helper.hear()?;
        Ok(Self { helper, url })
    }

    /// What has arrived by now.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        self.helper.ask(ARRIVED)
    }

    /// The latencies since this was last asked.
    pub(crate) fn take_latency(&mut self) -> Result<Latency, String> {
        self.helper.ask(LATENCY)
    }
}
