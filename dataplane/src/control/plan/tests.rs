use std::path::Path;

use super::*;
use crate::config::{Machine, Surroundings};
use crate::mapping;

/// A mapping named `name` into function `f`, with what else the text says.
fn demand(dir: &Path, cap: Option<u32>, name: &str, more: &str) -> Demand {
    demand_of("f", dir, cap, name, more)
}

fn demand_of(function: &str, dir: &Path, cap: Option<u32>, name: &str, more: &str) -> Demand {
    let cap = cap.map_or(String::new(), |cap| format!("max_in_flight = {cap}\n"));
    let text = format!(
        "mappings_dir = \".\"\nendpoint_url = \"http://127.0.0.1:1\"\n[functions.f]\nsigning = \"none\"\n{cap}"
    );
    let around = Surroundings::without_environment(Machine::here());
    let config = Config::parse(&text, &dir.join(name).join("forebay.conf"), &around).unwrap();
    std::fs::create_dir_all(dir.join(name)).unwrap();
    let mapping = format!(
        "FunctionName = \"{function}\"\nTopics = [\"{name}\"]\n{more}\n[SelfManagedEventSource.Endpoints]\n\
         KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
    );
    std::fs::write(dir.join(name).join(format!("{name}.toml")), mapping).unwrap();
    let reading = mapping::read(&config);
    assert_eq!(reading.problems, []);
    Demand {
        mapping: Arc::clone(&reading.declared[0].mapping),
        call_deadline: Duration::from_secs(1),
        access: Arc::default(),
        partitions: None,
        skips: Arc::default(),
    }
}

fn permits(planner: &Planner) -> Vec<u32> {
    let shards = planner.shards.iter();
    shards
        .map(|shard| shard.plan.consumers.iter().map(|it| it.permits).sum())
        .collect()
}

#[test]
fn an_on_demand_mapping_uses_every_shard_until_partitions_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut demand = demand(dir.path(), None, "orders", "");
    let mut planner = Planner::new(3);
    assert_eq!(planner.plan(std::slice::from_ref(&demand)).len(), 3);
    demand.partitions = Some(2);
    let changed = planner.plan(&[demand]);
    assert_eq!(changed.len(), 1, "only the shard that loses a consumer");
    assert!(changed[0].1.consumers.is_empty());
}

#[test]
fn provisioned_pollers_are_dealt_round() {
    let dir = tempfile::tempdir().unwrap();
    let demand = demand(
        dir.path(),
        None,
        "orders",
        "ProvisionedPollerConfig.MinimumPollers = 5",
    );
    let mut planner = Planner::new(2);
    let plans = planner.plan(&[demand]);
    let counts: Vec<_> = plans.iter().map(|(_, plan)| plan.consumers.len()).collect();
    assert_eq!(counts, [3, 2]);
}

#[test]
fn a_disabled_mapping_has_no_consumer() {
    let dir = tempfile::tempdir().unwrap();
    let demand = demand(dir.path(), None, "orders", "Enabled = false");
    let mut planner = Planner::new(2);
    let plans = planner.plan(&[demand]);
    assert!(plans.iter().all(|(_, plan)| plan.consumers.is_empty()));
}

#[test]
fn permits_move_only_after_the_old_shard_has_applied_its_plan() {
    let dir = tempfile::tempdir().unwrap();
    let first = demand(dir.path(), Some(2), "orders", "");
    let second = demand(dir.path(), Some(2), "events", "");
    let mut planner = Planner::new(2);
    planner.plan(std::slice::from_ref(&first));
    assert_eq!(permits(&planner), [1, 1]);
    // The second mapping needs one of the two permits: the first gives up a consumer.
    planner.plan(&[first.clone(), second.clone()]);
    let granted: u32 = permits(&planner).iter().sum();
    assert_eq!(granted, 1, "the other is not given back yet");
    for shard in 0..2 {
        planner.acknowledge(shard, planner.shards[shard].plan.generation);
    }
    planner.plan(&[first, second]);
    let granted: u32 = permits(&planner).iter().sum();
    assert_eq!(granted, 2);
}

#[test]
fn what_is_the_same_is_not_published_again() {
    let dir = tempfile::tempdir().unwrap();
    let demand = demand(dir.path(), None, "orders", "");
    let mut planner = Planner::new(1);
    assert_eq!(planner.plan(std::slice::from_ref(&demand)).len(), 1);
    assert!(planner.plan(&[demand]).is_empty());
}

#[test]
fn names_of_one_function_share_its_permits() {
    let dir = tempfile::tempdir().unwrap();
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:live";
    let demands: Vec<Demand> = [("f", "orders"), ("f:1", "bills"), (arn, "events")]
        .into_iter()
        .map(|(function, name)| demand_of(function, dir.path(), Some(2), name, ""))
        .collect();
    let mut planner = Planner::new(1);
    planner.plan(&demands);
    assert_eq!(permits(&planner), [2]);
}

/// The consumers of all shards, and where they are.
fn consumers(planner: &Planner) -> Vec<(usize, bool, u32)> {
    let shards = planner.shards.iter().enumerate();
    shards
        .flat_map(|(shard, it)| it.plan.consumers.iter().map(move |it| (shard, it)))
        .map(|(shard, it)| (shard, it.mapping.enabled, it.permits))
        .collect()
}

#[test]
fn a_disabled_mapping_whose_start_must_be_kept_has_one_consumer_without_a_permit() {
    let dir = tempfile::tempdir().unwrap();
    for (name, start) in [
        ("latest", "StartingPosition = \"LATEST\""),
        (
            "time",
            "StartingPosition = \"AT_TIMESTAMP\"\nStartingPositionTimestamp = 1",
        ),
    ] {
        let more = format!("Enabled = false\n{start}");
        let demand = demand(dir.path(), Some(1), name, &more);
        let mut planner = Planner::new(3);
        planner.plan(std::slice::from_ref(&demand));
        let planned = consumers(&planner);
        assert_eq!(planned.len(), 1, "{name}");
        let (_, enabled, permits) = planned[0];
        assert_eq!((enabled, permits), (false, 0));
        assert!(planner.plan(&[demand]).is_empty(), "it is left in peace");
    }
}

#[test]
fn a_kept_place_takes_neither_a_permit_nor_a_place_of_those_that_serve() {
    let dir = tempfile::tempdir().unwrap();
    let latest = "StartingPosition = \"LATEST\"\nEnabled = false";
    let mut demands = vec![demand(dir.path(), Some(2), "orders", "")];
    for name in ["bills", "clicks", "events", "visits"] {
        demands.push(demand(dir.path(), Some(2), name, latest));
    }
    let mut planner = Planner::new(2);
    planner.plan(&demands);
    let serving: Vec<_> = consumers(&planner)
        .into_iter()
        .filter(|(_, enabled, _)| *enabled)
        .collect();
    assert_eq!(serving, [(0, true, 1), (1, true, 1)]);
    assert_eq!(permits(&planner), [1, 1]);
}

#[test]
fn an_enabled_mapping_begins_where_its_place_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    let latest = "StartingPosition = \"LATEST\"\n";
    let keeper = demand(
        dir.path(),
        None,
        "orders",
        &format!("{latest}Enabled = false"),
    );
    let mut server = demand(dir.path(), None, "orders", latest);
    server.partitions = Some(1);
    let mut planner = Planner::new(7);
    planner.plan(std::slice::from_ref(&keeper));
    let (home, ..) = consumers(&planner)[0];
    planner.plan(std::slice::from_ref(&server));
    assert_eq!(consumers(&planner), [(home, true, PERMITS_UNCAPPED)]);
    planner.plan(&[keeper]);
    assert_eq!(consumers(&planner), [(home, false, 0)]);
    planner.plan(&[]);
    assert_eq!(consumers(&planner), []);
}
