//! The delivery core against a simulated cluster, function, network and clock: seeded schedules, the four
//! rules checked at every step, and deliberate faults that the rules must find.
//!
//! `FOREBAY_SCHEDULES=N` plays N schedules (default 2,000; `tests/run` plays 60,000), from
//! `FOREBAY_FIRST_SEED` on. A failure names its seed: put it into `REGRESSIONS` once it is mended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use forebay_protocol::sigv4::PayloadHash;
use forebay_tests::world::{Failure, Mutation, Report, Schedule, World};

/// Seeds that once failed.
const REGRESSIONS: &[u64] = &[2290, 2509, 5408, 6546, 6915, 9184, 19_973, 25_727];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text:?} is not a number: {error}"))
    })
}

fn play(seed: u64) -> Result<Report, Failure> {
    World::new(Schedule::from_seed(seed)).run()
}

#[test]
fn seeds_that_once_failed_hold() {
    for seed in REGRESSIONS {
        if let Err(failure) = play(*seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn rules_hold_in_every_schedule() {
    let count = from_env("FOREBAY_SCHEDULES", 2_000);
    let first = from_env("FOREBAY_FIRST_SEED", 1);
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let totals: Vec<(Vec<Failure>, Report)> = thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            let mut total = Report::default();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count || failures.len() > 10 {
                    return (failures, total);
                }
                match play(first + at) {
                    Ok(report) => total += report,
                    Err(failure) => failures.push(failure),
                }
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("no schedule panics"))
            .collect()
    });
    let failures: Vec<String> = totals
        .iter()
        .flat_map(|(failures, _)| failures)
        .map(ToString::to_string)
        .collect();
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    let sum = |part: fn(&Report) -> u64| totals.iter().map(|(_, report)| part(report)).sum::<u64>();
    let (records, calls, faults) = (sum(|r| r.records), sum(|r| r.calls), sum(|r| r.faults));
    if count < 100 {
        return;
    }
    // A simulator in which nothing happens proves nothing.
    assert!(
        records > count * 5 && calls > count * 5 && faults > count,
        "{records} {calls} {faults}"
    );
    let vanished = sum(|r| r.vanished);
    assert!(vanished > count / 20, "{vanished}");
    let (diverted, dropped) = (sum(|r| r.diverted), sum(|r| r.dropped));
    assert!(
        diverted > count / 2 && dropped > count / 1000,
        "{diverted} {dropped}"
    );
    let skipped = sum(|r| r.skipped);
    assert!(skipped > count / 500, "{skipped}");
    let together = sum(|r| r.heard_together);
    assert!(together > count * 5, "{together}");
    let (let_in, refused) = (sum(|r| r.authentications), sum(|r| r.refusals));
    assert!(
        let_in > 2 * count && refused > count / 20,
        "{let_in} {refused}"
    );
    let (along, can) = (sum(|r| r.hashed_along), hash_can_follow());
    assert_eq!(
        along > 0,
        can,
        "{along} bodies were hashed while they were written"
    );
}

/// Whether this CPU hashes what it writes.
fn hash_can_follow() -> bool {
    PayloadHash::new(Vec::new()).has_company_for_free()
}

#[test]
fn same_seed_plays_the_same_schedule() {
    for seed in [3, 77, 4242] {
        assert_eq!(play(seed), play(seed));
    }
}

#[test]
fn deliberate_faults_are_found() {
    for mutation in Mutation::ALL {
        let found = (1..=500).find_map(|seed| {
            World::new(Schedule::from_seed(seed).with(mutation))
                .run()
                .err()
        });
        assert!(
            found.is_some(),
            "{mutation:?} is not found in 500 schedules"
        );
    }
}
