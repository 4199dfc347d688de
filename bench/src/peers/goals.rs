//! What Forebay wants to be beside its peers, and whether it is.

use super::latency;
use super::roster::{FOREBAY, Json, PEERS, is_build};
use super::throughput::Measured;
use crate::goal::Goal;

/// Times the best peer whose JSON is written by hand, by bytes of a value.
const OVER_BY_HAND: [(usize, f64); 3] = [(100, 2.0), (1024, 1.7), (10 * 1024, 1.4)];

/// Times the usual Rust.
const OVER_RUST: [(usize, f64); 3] = [(100, 4.0), (1024, 3.0), (10 * 1024, 2.0)];

/// Times these, at one size.
const OVER_OTHERS: (usize, f64) = (1024, 8.0);

/// The goals for which there are figures.
pub(crate) fn judged(measured: &[Measured]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let find = |consumer: &str, value_bytes: usize| {
        measured
            .iter()
            .find(|it| it.consumer == consumer && it.value_bytes == value_bytes)
    };
    for (value_bytes, wanted) in OVER_BY_HAND {
        let by_hand = PEERS.iter().filter(|peer| peer.json == Json::ByHand);
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
            .filter(|it| it.value_bytes == ours.value_bytes && !is_build(&it.consumer));
        if let Some(least) = theirs.min_by(|a, b| a.peak_megabytes.total_cmp(&b.peak_megabytes)) {
            let what = format!(
                "peak MB at {} B, beside the least of the peers ({})",
                ours.value_bytes, least.consumer
            );
            goals.push(Goal::at_most(
                what,
                ours.peak_megabytes,
                least.peak_megabytes,
            ));
        }
    }
    goals
}

/// Those of a trickle.
pub(crate) fn of_latency(measured: &[latency::Measured]) -> Vec<Goal> {
    let ours = measured.iter().find(|it| it.consumer == FOREBAY);
    let theirs = || measured.iter().filter(|it| !is_build(&it.consumer));
    let quickest = theirs().min_by(|a, b| a.p50_milliseconds.total_cmp(&b.p50_milliseconds));
    let (Some(ours), Some(quickest)) = (ours, quickest) else {
        return Vec::new();
    };
    let beside = format!("beside the quickest of the peers ({})", quickest.consumer);
    let p50 = Goal::at_most(
        format!("p50 in ms, {beside}"),
        ours.p50_milliseconds,
        quickest.p50_milliseconds,
    );
    let core = Goal::at_most(
        format!("share of a core, {beside}"),
        ours.share_of_a_core,
        quickest.share_of_a_core,
    );
    vec![p50.by_wall_clock(), core]
}
