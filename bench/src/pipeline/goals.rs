//! What is asked of the appliance.

use super::{Measured, case};
use crate::goal::Goal;
use crate::load::Load;
use crate::rig::Signing;

/// What the appliance is to reach of the bare loop's rate, from 1 KB on, in large calls.
const SHARE_OF_FLOOR: f64 = 0.85;

/// The same under TLS, of the bare loop under TLS.
const SHARE_OF_TLS_FLOOR: f64 = 0.80;

/// Smaller calls are judged by [`SMALL_TRAFFIC`] instead.
pub(super) const LARGE_BATCH: u32 = 10_000;

/// Small traffic: how many times the CPU of a record in a call of a thousand one in a call of ten may take, by
/// values of that size.
const SMALL_TRAFFIC: f64 = 3.0;
const SMALL_BATCH: u32 = 10;
const USUAL_BATCH: u32 = 1_000;
const SMALL_TRAFFIC_VALUE_BYTES: usize = 1024;

/// How many times the CPU of a record with a few partitions one with a thousand may take, in such small calls: what a turn
/// costs for each partition shows most in them.
const MANY_PARTITIONS: f64 = 2.0;
const MANY: i32 = 1_000;
const FEW: i32 = 8;

pub(super) fn of(all: &[Measured]) -> Vec<Goal> {
    let shares = all.iter().filter_map(|it| share_of_floor(all, it));
    let shares = shares.chain(small_traffic(all));
    shares.chain(many_partitions(all)).collect()
}

/// Of large calls in the usual shape.
fn share_of_floor(all: &[Measured], it: &Measured) -> Option<Goal> {
    let usual = Load {
        mappings: 1,
        shards: 1,
        signing: Signing::Sigv4,
        ..it.load
    };
    let is_judged =
        it.load == usual && usual.value_bytes >= 1024 && usual.batch_size >= LARGE_BATCH;
    let what = format!("share of the floor at {}", case(all, &it.load));
    let least = match it.load.tls {
        false => SHARE_OF_FLOOR,
        true => SHARE_OF_TLS_FLOOR,
    };
    is_judged.then(|| Goal::at_least(what, it.share_of_floor, least))
}

/// For each pair of cases that differ in the size of their calls alone.
fn small_traffic(all: &[Measured]) -> impl Iterator<Item = Goal> {
    let what = format!("in a call of {SMALL_BATCH} over one of {USUAL_BATCH}");
    let usual = |small: Load| Load {
        batch_size: USUAL_BATCH,
        ..small
    };
    small_calls_over(all, what, SMALL_TRAFFIC, move |small| Some(usual(small)))
}

/// For each pair of cases with small calls that differ in their partitions alone.
fn many_partitions(all: &[Measured]) -> impl Iterator<Item = Goal> {
    let what = format!("with {MANY} partitions over one with {FEW}");
    let few = |many: Load| Load {
        partitions: FEW,
        ..many
    };
    small_calls_over(all, what, MANY_PARTITIONS, move |many| {
        (many.partitions == MANY).then(|| few(many))
    })
}

/// The CPU of a record in each case with small calls over that in the other case that it is judged by, where that was
/// measured.
fn small_calls_over(
    all: &[Measured],
    what: String,
    most: f64,
    other: impl Fn(Load) -> Option<Load>,
) -> impl Iterator<Item = Goal> {
    let small = all.iter().filter(|it| {
        it.load.batch_size == SMALL_BATCH && it.load.value_bytes == SMALL_TRAFFIC_VALUE_BYTES
    });
    small.filter_map(move |small| {
        let load = other(small.load)?;
        let other = all.iter().find(|it| it.load == load)?;
        let ratio = small.cpu_microseconds_per_record() / other.cpu_microseconds_per_record();
        let what = format!("CPU of a record {what}, {}", case(all, &small.load));
        Some(Goal::at_most(what, ratio, most))
    })
}

#[cfg(test)]
mod tests {
    use super::super::measured;
    use super::*;

    #[test]
    fn small_traffic_is_judged_where_its_pair_was_measured() {
        let pair = vec![
            measured(1024, 10, 8.0),
            measured(1024, 1000, 2.0),
            measured(100, 10, 8.0),
        ];
        let goals: Vec<Goal> = small_traffic(&pair).collect();
        assert_eq!(goals.len(), 1);
        let [what, ratio, ..] = goals[0].cells();
        assert!(what.ends_with("1 KB, batches of 10"), "{what}");
        assert_eq!(ratio, "4.000");
        assert_eq!(small_traffic(&pair[..1]).count(), 0);
    }

    #[test]
    fn many_partitions_are_judged_in_small_calls() {
        let many = |batch_size, microseconds| {
            let mut many = measured(1024, batch_size, microseconds);
            many.load.partitions = 1_000;
            many
        };
        let few = [measured(1024, 10, 2.0), measured(1024, 1000, 2.0)];
        let all: Vec<Measured> = few
            .into_iter()
            .chain([many(10, 3.0), many(1000, 3.0)])
            .collect();
        let goals: Vec<Goal> = many_partitions(&all).collect();
        assert_eq!(goals.len(), 1);
        let [what, ratio, ..] = goals[0].cells();
        assert!(what.contains("1000 partitions over one with 8"), "{what}");
        assert_eq!(ratio, "1.500");
        assert_eq!(many_partitions(&all[1..]).count(), 0);
    }

    #[test]
    fn only_large_calls_are_held_to_the_floor() {
        let all = vec![measured(1024, 10, 8.0), measured(1024, 10_000, 2.0)];
        let goals = of(&all);
        assert_eq!(goals.len(), 1);
        assert!(goals[0].cells()[0].ends_with("1 KB, batches of 10000"));
        assert_eq!(
            of(&[measured(1024, 10_000, 2.0)])[0].cells()[0],
            "share of the floor at 1 KB"
        );
    }
}
