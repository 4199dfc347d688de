//! What Forebay wants to be beside its peers, and whether it is.

use serde::Serialize;

use super::roster::{FOREBAY, Json, Peer};
use super::throughput::Measured;

/// Times the best peer whose JSON is written by hand, by bytes of a value.
const OVER_BY_HAND: [(usize, f64); 3] = [(100, 2.0), (1024, 1.7), (10 * 1024, 1.4)];

/// Times the usual Rust.
const OVER_RUST: [(usize, f64); 3] = [(100, 4.0), (1024, 3.0), (10 * 1024, 2.0)];

/// Times these, at one size.
const OVER_OTHERS: (usize, f64) = (1024, 8.0);

/// One goal.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    /// What is wanted.
    what: String,
    /// What is there.
    measured: f64,
    /// The least, or for memory the bound that is to be stayed below.
    wanted: f64,
    pub(crate) is_met: bool,
}

impl Goal {
    pub(crate) fn line(&self) -> String {
        let verdict = if self.is_met { "met" } else { "MISSED" };
        format!(
            "goal {verdict}: {}: {:.2}, goal {:.2}",
            self.what, self.measured, self.wanted
        )
    }

    fn at_least(what: String, measured: f64, wanted: f64) -> Self {
        Self {
            what,
            measured,
            wanted,
            is_met: measured >= wanted,
        }
    }
}

/// The goals for which there are figures.
pub(crate) fn judged(measured: &[Measured], peers: &[&Peer]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let find = |consumer: &str, value_bytes: usize| {
        measured
            .iter()
            .find(|it| it.consumer == consumer && it.value_bytes == value_bytes)
    };
    for (value_bytes, wanted) in OVER_BY_HAND {
        let by_hand = peers.iter().filter(|peer| peer.json == Json::ByHand);
        let found = by_hand.filter_map(|peer| find(peer.name, value_bytes));
        if let Some(best) = found.min_by(|a, b| a.forebay_ratio.total_cmp(&b.forebay_ratio)) {
            let what = format!(
                "times the best by hand ({}) at {value_bytes} B",
                best.consumer
            );
            goals.push(Goal::at_least(what, best.forebay_ratio, wanted));
        }
    }
    let others = ["python", "java"].map(|name| (name, OVER_OTHERS));
    let one_by_one = OVER_RUST.map(|goal| ("rust", goal)).into_iter();
    for (name, (value_bytes, wanted)) in one_by_one.chain(others) {
        if let Some(peer) = find(name, value_bytes) {
            let what = format!("times {name} at {value_bytes} B");
            goals.push(Goal::at_least(what, peer.forebay_ratio, wanted));
        }
    }
    let ours = measured.iter().filter(|it| it.consumer == FOREBAY);
    for ours in ours {
        let theirs = measured
            .iter()
            .filter(|it| it.value_bytes == ours.value_bytes && it.consumer != FOREBAY);
        if let Some(least) = theirs.min_by(|a, b| a.peak_megabytes.total_cmp(&b.peak_megabytes)) {
            goals.push(Goal {
                what: format!(
                    "MB resident at most at {} B, below the least of the peers ({})",
                    ours.value_bytes, least.consumer
                ),
                measured: ours.peak_megabytes,
                wanted: least.peak_megabytes,
                is_met: ours.peak_megabytes < least.peak_megabytes,
            });
        }
    }
    goals
}
