//! Brokers that Forebay has no version in common with, and what is said of them.

use std::time::Duration;

use forebay_protocol::delivery::{Budget, Fault as Trouble};
use forebay_tests::fake_kafka::Fault;
use forebay_tests::story::{Story, consumer_config};
use kafka_protocol::messages::ApiKey;

/// The fault of the only member.
fn fault(story: &Story) -> Option<Trouble> {
    story.consumer(0).status().fault
}

/// A cluster of one broker that speaks Fetch in these versions alone, and what the mapping says of it.
fn told(versions: (i16, i16), said: &str) {
    let mut story = Story::of_cluster(1, 1);
    story.kafka.tell_versions(ApiKey::Fetch, Some(versions));
    story.join(consumer_config(), Budget::new(64 << 20));
    let said = Trouble::Incompatible(format!("broker fake-1:9092: {said}"));
    story.until("it says so", |story| fault(story) == Some(said.clone()));
    // Whatever was tried meanwhile: it is said all the time.
    for _ in 0..60 {
        story.play(Duration::from_secs(1));
        assert_eq!(fault(&story), Some(said.clone()));
    }
    let notice = "Broker does not speak a version that is needed; it is tried again";
    assert!(story.was_said(notice));
    let times = story.notices.iter().filter(|it| it.message == notice);
    assert!(times.count() < 6, "at growing intervals");

    story.kafka.tell_versions(ApiKey::Fetch, None);
    story.produce(0, "a");
    story.until("it works", |story| story.committed(0) == Some(1));
    assert_eq!(fault(&story), None);
}

#[test]
fn a_broker_that_is_too_old_is_told_with_both_sides_and_used_once_it_is_upgraded() {
    told(
        (0, 1),
        "it is too old: of Fetch it speaks version 0 to 1, and 2 to 18 is needed; Kafka has it from 0.10.1 on",
    );
}

#[test]
fn a_broker_that_is_too_new_is_told_with_both_sides() {
    told(
        (19, 21),
        "it is too new: of Fetch it speaks version 19 to 21, and Forebay 2 to 18; a newer Forebay is needed",
    );
}

/// Does that to whoever asks for versions, until it is upgraded.
fn untold(fault_of: Fault, said: &str) {
    let mut story = Story::of_cluster(1, 1);
    story
        .kafka
        .set_hook(Some(Box::new(move |seen| match seen.api {
            ApiKey::ApiVersions => fault_of.clone(),
            _ => Fault::Serve,
        })));
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("it says so", |story| {
        matches!(fault(story), Some(Trouble::ClusterUnreachable(text)) if text.contains(said))
    });
    story.kafka.set_hook(None);
    story.produce(0, "a");
    story.until("it works", |story| story.committed(0) == Some(1));
    assert_eq!(fault(&story), None);
}

#[test]
fn a_broker_that_hangs_up_when_asked_for_its_versions_is_told() {
    untold(
        Fault::Drop,
        "when asked for its versions, as Kafka 0.8 does, which is too old",
    );
}

#[test]
fn a_broker_that_is_silent_when_asked_for_its_versions_is_told() {
    untold(
        Fault::Silence,
        "silent when asked for its versions: it hangs, or is Kafka 0.9, which is too old",
    );
}
