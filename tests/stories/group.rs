//! Heartbeats, commits and the end of a membership while parts of the cluster do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_protocol::delivery::{Budget, Input};
use forebay_protocol::kafka::error::ErrorCode;
use forebay_tests::fake_kafka::{ConnectionId, Fault, GroupChange};
use forebay_tests::story::{Story, consumer_config, succeeded};
use kafka_protocol::messages::ApiKey;

/// Remembers the connection that the last request of that API came on.
fn watch(story: &mut Story, api: ApiKey) -> Arc<AtomicU64> {
    let last = Arc::new(AtomicU64::new(0));
    let seen_last = Arc::clone(&last);
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.api == api {
            seen_last.store(seen.connection.0, Ordering::Relaxed);
        }
        Fault::Serve
    })));
    last
}

fn refusing_commits(story: &mut Story, error: ErrorCode) {
    story.kafka.set_hook(Some(Box::new(move |seen| {
        if seen.api == ApiKey::OffsetCommit {
            Fault::Error(error.0)
        } else {
            Fault::Serve
        }
    })));
}

#[test]
fn member_stays_though_its_connection_for_joining_cannot_be_made() {
    let mut story = Story::of_cluster(1, 1);
    let joined_on = watch(&mut story, ApiKey::JoinGroup);
    story.join(consumer_config(), Budget::new(64 << 20));
    story.until("it owns its partition", |story| story.owned(0) == [0]);
    let connection = ConnectionId(joined_on.load(Ordering::Relaxed));
    story.refuse(|_| true);
    story.close(connection);
    story.play(Duration::from_secs(60));
    let has_left = |story: &Story| {
        let events = story.kafka.group_events().iter();
        events
            .filter(|event| matches!(event.change, GroupChange::Left { .. }))
            .count()
    };
    assert_eq!(has_left(&story), 0, "its session was renewed all the time");
    story.refuse(|_| false);
    story.produce(0, "after");
    story.until("it works on", |story| story.committed(0) == Some(1));
}

/// A quota on requests counts heartbeats too (KIP-124).
#[test]
fn coordinator_that_throttles_a_heartbeat_is_left_alone_for_so_long() {
    let mut story = Story::new(1, 1);
    story.until("it owns its partition", |story| story.owned(0) == [0]);
    let joins = story.kafka.requests(ApiKey::JoinGroup);
    let throttles = |story: &Story| story.consumer(0).status().counters.broker_throttles;
    let throttle = [Fault::Throttle(Duration::from_secs(5))];
    story.kafka.script(ApiKey::Heartbeat, throttle);
    story.until("it is throttled", |story| throttles(story) == 1);
    story.produce(0, "a");
    story.until("it is called", |story| story.values(0) == ["a"]);
    story.play(Duration::from_secs(4));
    assert_eq!(story.committed(0), Some(0), "the commit waits, too");
    let heartbeats = story.kafka.requests(ApiKey::Heartbeat);
    story.until("it is committed", |story| story.committed(0) == Some(1));
    story.play(Duration::from_secs(1));
    assert!(story.kafka.requests(ApiKey::Heartbeat) > heartbeats);
    assert_eq!(throttles(&story), 1);
    assert_eq!(story.kafka.requests(ApiKey::JoinGroup), joins);
}

#[test]
fn goodbye_that_is_throttled_is_said_once() {
    let mut story = Story::new(1, 1);
    story.until("it owns its partition", |story| story.owned(0) == [0]);
    let throttle = [Fault::Throttle(Duration::from_secs(5))];
    story.kafka.script(ApiKey::LeaveGroup, throttle);
    story.tell(0, Input::Stop);
    story.until("it has stopped", |story| story.has_ended(0));
    assert_eq!(story.kafka.requests(ApiKey::LeaveGroup), 1);
    assert_eq!(story.consumer(0).status().counters.broker_throttles, 1);
}

#[test]
fn broker_that_forgets_two_apis_at_once_is_named_and_survived() {
    let mut story = Story::new(1, 1);
    story.until("it owns its partition", |story| story.owned(0) == [0]);
    story.kafka.hide_api(ApiKey::Metadata);
    story.kafka.hide_api(ApiKey::FindCoordinator);
    story.kafka.stop_broker(1);
    story.kafka.start_broker(1);
    story.until("the status names what is missing", |story| {
        let fault = format!("{:?}", story.consumer(0).status().fault);
        fault.contains("it does not have Metadata")
    });
    story.play(Duration::from_secs(10));
}

#[test]
fn stop_while_a_rebalance_is_under_way_commits_first() {
    let mut story = Story::new(1, 1);
    story.until("it owns its partition", |story| story.owned(0) == [0]);
    story.hold_calls();
    story.produce(0, "a");
    story.until("a call is open", |story| story.open_calls.len() == 1);
    story
        .kafka
        .script(ApiKey::SyncGroup, [Fault::Delay(Duration::from_secs(4))]);
    let rebalance = ErrorCode::REBALANCE_IN_PROGRESS.0;
    story
        .kafka
        .script(ApiKey::Heartbeat, [Fault::Error(rebalance)]);
    story.play(Duration::from_secs(2));
    story.tell(0, Input::Stop);
    story.end_call(succeeded());
    story.until("it has stopped", |story| story.has_ended(0));
    assert_eq!(story.committed(0), Some(1));
}

#[test]
fn stop_does_not_wait_for_a_commit_that_is_refused() {
    let mut story = Story::new(1, 1);
    refusing_commits(&mut story, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    story.produce(0, "a");
    story.until("it is delivered", |story| story.values(0) == ["a"]);
    story.tell(0, Input::Stop);
    story.play(Duration::from_secs(5));
    assert!(story.has_ended(0));
    assert!(story.was_said(
        "Commit is refused; the partition is given up without it, and its records will come again"
    ));
}

#[test]
fn rebalance_does_not_wait_for_a_commit_that_is_refused() {
    let mut story = Story::new(2, 1);
    refusing_commits(&mut story, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    story.produce(0, "a");
    story.produce(1, "b");
    story.until("all is delivered", |story| story.delivered.len() == 2);
    let second = story.join(consumer_config(), Budget::new(64 << 20));
    story.play(Duration::from_secs(20));
    assert_eq!(story.owned(0).len(), 1);
    assert_eq!(story.owned(second).len(), 1);
    story.kafka.set_hook(None);
    story.until("what is committed again", |story| {
        story.committed(0) == Some(1) && story.committed(1) == Some(1)
    });
}

#[test]
fn commit_that_stays_refused_is_said_once_and_asked_for_ever_less_often() {
    let mut story = Story::new(1, 1);
    refusing_commits(&mut story, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    story.produce(0, "a");
    story.until("it is delivered", |story| story.values(0) == ["a"]);
    let before = story.kafka.requests(ApiKey::OffsetCommit);
    story.play(Duration::from_secs(60));
    let asked = story.kafka.requests(ApiKey::OffsetCommit) - before;
    assert!((5..=15).contains(&asked), "{asked} commits in a minute");
    let message = "Commit failed; it is tried again";
    let said = story
        .notices
        .iter()
        .filter(|notice| notice.message == message);
    assert_eq!(said.count(), 1);
    story.kafka.set_hook(None);
    story.until("it is committed once it may be", |story| {
        story.committed(0) == Some(1)
    });
}
