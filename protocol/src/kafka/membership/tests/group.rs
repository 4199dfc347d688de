//! Several members in one world, calm and not.

use super::world::World;
use super::*;

/// Runs until the group rests, for so long at most.
fn settle(world: &mut World, within: Duration) {
    let until = world.now + within;
    while !world.is_settled() {
        assert!(world.now < until, "the group does not come to rest");
        world.run_for(Duration::from_millis(500));
    }
}

#[test]
fn a_newcomer_is_handed_its_share_and_nothing_is_lost() {
    let mut world = World::new(1, 6);
    world.start(None);
    settle(&mut world, Duration::from_secs(20));
    world.start(None);
    settle(&mut world, Duration::from_secs(20));
    world.start(None);
    settle(&mut world, Duration::from_secs(20));
    world.stop(0);
    settle(&mut world, Duration::from_secs(20));
    assert_eq!((world.machines.len(), world.losses), (2, 0));
}

#[test]
fn an_eager_group_hands_over_without_a_loss() {
    let mut world = World::new(2, 6);
    world.eager = true;
    for _ in 0..3 {
        world.start(None);
        settle(&mut world, Duration::from_secs(20));
    }
    world.stop(0);
    settle(&mut world, Duration::from_secs(20));
    assert_eq!(world.losses, 0);
}

#[test]
fn a_topic_that_grows_is_shared_out_anew() {
    let mut world = World::new(3, 2);
    world.start(None);
    world.start(None);
    settle(&mut world, Duration::from_secs(20));
    world.partitions = 5;
    let counts = BTreeMap::from([(TOPIC.to_owned(), 5)]);
    for machine in &mut world.machines {
        machine.member.set_partition_counts(&counts, world.now);
    }
    settle(&mut world, Duration::from_secs(20));
    assert_eq!(world.losses, 0);
}

#[test]
fn a_static_member_that_restarts_makes_no_rebalance() {
    let mut world = World::new(4, 4);
    world.start(Some("a"));
    world.start(Some("b"));
    settle(&mut world, Duration::from_secs(20));
    let generation = world.coordinator.generation;
    for (at, name) in [(0, "a"), (0, "b")] {
        world.kill(at);
        world.run_for(Duration::from_secs(1));
        world.start(Some(name));
        settle(&mut world, Duration::from_secs(5));
    }
    assert_eq!(
        (world.coordinator.generation, world.losses),
        (generation, 0)
    );
}

#[test]
fn a_machine_that_died_is_replaced_after_the_session_timeout() {
    let mut world = World::new(5, 4);
    world.start(None);
    world.start(None);
    settle(&mut world, Duration::from_secs(20));
    world.kill(0);
    assert!(!world.is_settled());
    settle(&mut world, Duration::from_secs(20));
}

/// Something that happens to a group.
fn mishap(world: &mut World) {
    let seconds = |world: &mut World, most| world.random.jitter(Duration::from_secs(most));
    let count = u64::try_from(world.machines.len()).unwrap();
    let at = usize::try_from(world.random.below(count)).unwrap();
    match world.random.below(10) {
        0 | 1 if count < 6 => world.start(None),
        2 if count > 1 => world.stop(at),
        3 if count > 1 => world.kill(at),
        4 | 5 => {
            let outage = seconds(world, 10);
            world.cut_off(at, outage);
        }
        6 => world.cut_off(at, Duration::ZERO),
        7 => world.machines[at].asleep_until = world.now + seconds(world, 15),
        8 => {
            let codes = [
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ];
            let code = codes[usize::try_from(world.random.below(3)).unwrap()];
            world.coordinator.refusing = Some(code);
            let outage = seconds(world, 3);
            world.run_for(outage);
            world.coordinator.refusing = None;
        }
        _ => {
            world.partitions += 1;
            let counts = BTreeMap::from([(TOPIC.to_owned(), world.partitions)]);
            for machine in &mut world.machines {
                machine.member.set_partition_counts(&counts, world.now);
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a failing test shows its seed")]
fn storm(seed: u64, eager: bool) {
    println!("seed {seed}");
    let mut world = World::new(seed, 5);
    world.eager = eager;
    world.start(None);
    for _ in 0..40 {
        if world.machines.is_empty() {
            world.start(None);
        }
        mishap(&mut world);
        let pause = world.random.jitter(Duration::from_secs(4));
        world.run_for(pause);
    }
    if world.machines.is_empty() {
        world.start(None);
    }
    // Metadata is refreshed now and then: a leader learns what it missed.
    for _ in 0..24 {
        world.run_for(Duration::from_secs(5));
        let counts = BTreeMap::from([(TOPIC.to_owned(), world.partitions)]);
        for machine in &mut world.machines {
            machine.member.set_partition_counts(&counts, world.now);
        }
        if world.machines.is_empty() {
            world.start(None);
        }
    }
    assert!(world.is_settled(), "seed {seed} does not come to rest");
}

/// `FOREBAY_SEEDS` plays more of them.
fn seeds() -> impl Iterator<Item = u64> {
    let more = std::env::var("FOREBAY_SEEDS").ok();
    let count = more.and_then(|count| count.parse().ok()).unwrap_or(30);
    1..=count
}

#[test]
fn no_partition_ever_has_two_workers_and_the_group_comes_to_rest() {
    for seed in seeds() {
        storm(seed, false);
    }
}

#[test]
fn nor_in_an_eager_group() {
    for seed in seeds() {
        storm(seed, true);
    }
}
