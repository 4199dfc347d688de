//! Reading from the replica in one's own rack (KIP-392).

use forebay_protocol::delivery::{Budget, ConsumerConfig};
use forebay_tests::fake_kafka::{Config, Fault};
use forebay_tests::story::{Story, TOPIC, consumer_config};
use kafka_protocol::messages::ApiKey;

use super::requests::Requests;

/// One partition, led by broker 1 in rack `a`; broker 2 in rack `b` follows; the consumer is in `b`.
fn consumer_beside_a_follower() -> (Story, Requests) {
    let mut config = Config::new(2);
    config.follower_fetching = true;
    config.brokers[0].rack = Some("a".to_owned());
    config.brokers[1].rack = Some("b".to_owned());
    let mut story = Story::of_cluster_with(config, 1);
    let requests = Requests::watch(&mut story.kafka);
    story.join(
        ConsumerConfig {
            rack_id: "b".to_owned(),
            ..consumer_config()
        },
        Budget::new(64 << 20),
    );
    story.until("the follower is read", |_| {
        requests.of(ApiKey::Fetch, 2) > 0
    });
    (story, requests)
}

#[test]
fn records_come_from_the_replica_in_the_same_rack() {
    let (mut story, requests) = consumer_beside_a_follower();
    let from_leader = requests.of(ApiKey::Fetch, 1);
    story.produce(0, "a");
    story.until("it is delivered", |story| story.committed(0) == Some(1));
    assert_eq!(story.values(0), ["a"]);
    assert_eq!(
        requests.of(ApiKey::Fetch, 1),
        from_leader,
        "the leader is left alone"
    );
}

#[test]
fn leader_is_read_when_the_replica_is_gone() {
    let (mut story, _) = consumer_beside_a_follower();
    story.kafka.stop_broker(2);
    story.produce(0, "a");
    story.until("it is delivered", |story| story.values(0) == ["a"]);
}

#[test]
fn replica_that_lags_behind_is_no_reason_to_go_back() {
    let (mut story, requests) = consumer_beside_a_follower();
    story.produce(0, "a");
    story.until("it is delivered", |story| story.committed(0) == Some(1));
    // OFFSET_OUT_OF_RANGE from the follower: it has not got so far.
    let before = requests.of(ApiKey::Fetch, 2);
    story.kafka.script(ApiKey::Fetch, [Fault::Error(1)]);
    story.until("it was asked", |_| requests.of(ApiKey::Fetch, 2) > before);
    story.produce(0, "b");
    story.until("it is delivered", |story| story.committed(0) == Some(2));
    assert_eq!(story.values(0), ["a", "b"]);
    assert_eq!(
        requests.of(ApiKey::ListOffsets, 1),
        1,
        "only where it started"
    );
    assert_eq!(story.kafka.bounds(TOPIC, 0), (0, 2));
}
