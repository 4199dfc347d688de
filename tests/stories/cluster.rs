//! Brokers that fall silent, that cannot be reached where the cluster says they are, and topics whose epochs begin
//! anew.
//!
//! Invariant: records go on within seconds of the cluster's own recovery, and what stands still is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_protocol::delivery::{Budget, Fault as Shown, Input};
use forebay_tests::fake_kafka::{Config, Fault};
use forebay_tests::story::{GROUP, Story, TOPIC, consumer_config};
use kafka_protocol::messages::ApiKey;

/// How long after its cluster a consumer may need.
const SECONDS: Duration = Duration::from_secs(10);

/// Two brokers, each of which leads a partition; the group is with the second.
fn two_brokers() -> Story {
    let mut story = Story::of_cluster(2, 2);
    story.kafka.move_coordinator(GROUP, 2);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.produce(0, "before");
    story.produce(1, "before");
    story.until("both partitions are at work", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
    story
}

/// From now on a broker answers nothing, like one that is frozen: under TLS no connection to it comes about either.
fn freeze(story: &mut Story, node: i32) {
    story.stall(move |endpoint| endpoint.host == format!("fake-{node}"));
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.node == node {
            Fault::Silence
        } else {
            Fault::Serve
        }
    })));
}

#[test]
fn partitions_of_a_frozen_leader_go_on_seconds_after_they_have_another() {
    let mut story = two_brokers();
    story.kafka.move_coordinator(GROUP, 1);
    story.play(SECONDS);
    freeze(&mut story, 2);
    story.play(Duration::from_secs(4));
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.produce(1, "after");
    story.play(SECONDS);
    assert_eq!(story.values(1), ["before", "after"]);
}

#[test]
fn a_frozen_seed_is_not_waited_for() {
    let mut story = two_brokers();
    // It is the one that views are asked of, and leads a partition.
    freeze(&mut story, 1);
    story.play(Duration::from_secs(4));
    story.kafka.move_leader(TOPIC, 0, Some(2));
    story.produce(0, "after");
    story.play(SECONDS);
    assert_eq!(story.values(0), ["before", "after"]);
}

/// What lets us in has changed: the seed's connection is the first to be made anew, and it is not to be had.
#[test]
fn a_frozen_seed_is_not_waited_for_where_its_connection_is_made_anew() {
    let mut story = two_brokers();
    freeze(&mut story, 1);
    story.tell(0, Input::MakeAnew);
    story.play(Duration::from_secs(4));
    story.kafka.move_leader(TOPIC, 0, Some(2));
    story.produce(0, "after");
    story.play(SECONDS);
    assert_eq!(story.values(0), ["before", "after"]);
}

#[test]
fn a_coordinator_that_froze_is_left_when_there_is_another() {
    let mut story = two_brokers();
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.play(SECONDS);
    freeze(&mut story, 2);
    // It is still said to be the coordinator when it is looked up: the next connection waits for it again. By then no
    // lease lets a call start.
    story.play(Duration::from_secs(12));
    story.kafka.move_coordinator(GROUP, 1);
    story.produce(1, "after");
    story.play(SECONDS);
    // Perhaps twice: what was not committed before the session ended comes again.
    assert_eq!(story.values(1).last().map(String::as_str), Some("after"));
}

#[test]
fn a_cluster_that_is_slow_to_answer_is_waited_for() {
    let mut story = Story::of_cluster(1, 2);
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::Metadata | ApiKey::FindCoordinator => Fault::Delay(Duration::from_secs(15)),
        _ => Fault::Serve,
    })));
    story.produce(0, "slow");
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("the record is delivered", |story| {
        story.values(0).len() == 1
    });
}

#[test]
fn a_join_at_a_coordinator_that_is_one_no_more_is_not_waited_for() {
    let mut story = Story::of_cluster(1, 2);
    story.kafka.move_coordinator(GROUP, 2);
    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::JoinGroup if seen.node == 2 => Fault::Silence,
        _ => Fault::Serve,
    })));
    story.produce(0, "late");
    story.join(consumer_config(), Budget::new(64 << 20));
    story.play(Duration::from_secs(5));
    story.kafka.move_coordinator(GROUP, 1);
    story.play(Duration::from_secs(20));
    assert_eq!(story.values(0), ["late"]);
}

#[test]
fn a_lookup_that_is_answered_ends_the_trouble_of_one_that_was_not() {
    let mut story = Story::of_cluster(1, 1);
    let hour = Duration::from_secs(3600);
    story.kafka.script(ApiKey::JoinGroup, [Fault::Delay(hour)]);
    // While the join waits its coordinator is looked up again and again.
    story
        .kafka
        .script(ApiKey::FindCoordinator, [Fault::Serve, Fault::Silence]);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("the lookup is missed", |story| {
        shown(story).contains("no answer in time")
    });
    story.play(SECONDS);
    assert_eq!(shown(&story), "");
}

fn shown(story: &Story) -> String {
    let fault = story.consumer(0).status().fault;
    fault.map_or_else(String::new, |fault| fault.to_string())
}

/// Broker 2 cannot be reached where the cluster says that it is, until it can.
fn unreachable(coordinator: i32) {
    let mut story = Story::of_cluster(2, 2);
    story.kafka.move_coordinator(GROUP, coordinator);
    let is_shut = Arc::new(AtomicBool::new(true));
    let shut = Arc::clone(&is_shut);
    story.refuse(move |endpoint| endpoint.host == "fake-2" && shut.load(Ordering::Relaxed));
    story.produce(0, "reached");
    story.produce(1, "unreached");
    story.join(consumer_config(), Budget::new(64 << 20));
    story.play(2 * SECONDS);
    let fault = story.consumer(0).status().fault;
    assert!(
        matches!(fault, Some(Shown::BrokerUnreachable(_))),
        "{fault:?}"
    );
    assert!(shown(&story).contains("fake-2:9092"), "{}", shown(&story));
    assert!(shown(&story).contains("advertise"), "{}", shown(&story));
    assert!(story.was_said("Broker cannot be reached where the cluster says that it is"));
    is_shut.store(false, Ordering::Relaxed);
    story.play(SECONDS);
    assert_eq!(shown(&story), "");
    assert_eq!(story.values(1), ["unreached"]);
}

#[test]
fn a_leader_that_cannot_be_reached_where_it_is_advertised_is_named() {
    unreachable(1);
}

#[test]
fn a_coordinator_that_cannot_be_reached_where_it_is_advertised_is_named() {
    unreachable(2);
}

#[test]
fn a_topic_without_an_id_whose_epochs_begin_anew_is_read_from_its_beginning() {
    // As Kafka 2.1 to 2.7 have it: epochs, and no ids.
    let config = Config::new(2)
        .with_max_version(ApiKey::Metadata, 9)
        .with_max_version(ApiKey::Fetch, 11);
    let mut story = Story::of_cluster_with(config, 1);
    story.join(consumer_config(), Budget::new(64 << 20));
    for round in 0..4 {
        story.kafka.move_leader(TOPIC, 0, Some(1 + round % 2));
        story.produce(0, &format!("old {round}"));
        story.play(Duration::from_secs(3));
    }
    assert_eq!(story.values(0).len(), 4);
    story.kafka.recreate_topic(TOPIC);
    for round in 0..6 {
        story.produce(0, &format!("new {round}"));
    }
    story.play(Duration::from_secs(60));
    let mut values = story.values(0);
    values.retain(|value| value.starts_with("new"));
    assert_eq!(
        values,
        ["new 0", "new 1", "new 2", "new 3", "new 4", "new 5"]
    );
}

#[test]
fn what_the_cluster_itself_lacks_is_named() {
    let mut story = two_brokers();
    story.kafka.move_leader(TOPIC, 1, None);
    story.play(Duration::from_secs(25));
    assert!(
        shown(&story).contains("partition 1 has no leader"),
        "{}",
        shown(&story)
    );
    story.kafka.move_leader(TOPIC, 1, Some(1));
    story.play(SECONDS);
    assert_eq!(shown(&story), "");

    story.kafka.set_hook(Some(Box::new(|seen| match seen.api {
        ApiKey::Heartbeat => Fault::Error(16),
        ApiKey::FindCoordinator => Fault::Error(15),
        _ => Fault::Serve,
    })));
    story.play(Duration::from_secs(25));
    assert!(
        shown(&story).contains("__consumer_offsets"),
        "{}",
        shown(&story)
    );
    story.kafka.set_hook(None);
    story.play(SECONDS);
    assert_eq!(shown(&story), "");
}
